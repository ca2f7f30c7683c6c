"""The command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.runtime.config import ConfigError
from replay.addresses import Addresses, find
from replay.loading import DIRECT
from replay.plan import Failures

DECEMBER: Final = Path(__file__).parent / "data" / "online_retail_2010-12.csv.gz"


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be done. limit: place only the first so many orders; None is all of them."""

    file: Path
    concurrency: int
    failures: Failures
    first_day: bool
    limit: int | None
    json: bool
    addresses: Addresses


def read_options(arguments: Sequence[str] | None = None) -> Options:
    """The options, complete and consistent. Exits with status 2 if they are not."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.decline + given.short_stock > 1:
        parser.error("--decline and --short-stock are more than 1 together")
    limit = given.limit
    if limit is None and given.first_day:
        limit = _limit_from_environment(parser)
    try:
        addresses = find(
            given.host, gateway=given.gateway, traces=given.traces, services=given.service
        )
    except ConfigError as error:
        parser.error(str(error))
    if not addresses.gateway.startswith(("http://", "https://")):
        parser.error(f"--gateway: {addresses.gateway!r} is not an http address")
    return Options(
        file=given.file,
        concurrency=given.concurrency,
        failures=Failures(given.decline, given.short_stock, given.seed),
        first_day=given.first_day,
        limit=limit,
        json=given.json,
        addresses=addresses,
    )


def _limit_from_environment(parser: argparse.ArgumentParser) -> int | None:
    text = os.environ.get("ORDERS", "")
    try:
        return _count(text) if text else None
    except argparse.ArgumentTypeError as error:
        parser.error(f"ORDERS: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m replay",
        description="Send a file of real orders through the running system, then check its books.",
        epilog="Exit status: 0 all as expected, 1 not, 2 could not be run, 130 interrupted.",
    )
    add = parser.add_argument
    add(
        "file",
        type=Path,
        nargs="?",
        default=DECEMBER,
        metavar="FILE",
        help="CSV in the format of UCI Online Retail, or CSV.gz (default: its December 2010)",
    )
    add("--concurrency", type=_positive, default=32, metavar="N", help="orders at a time (32)")
    add("--decline", type=_share, default=0.0, metavar="P", help="share whose payment is declined")
    add("--short-stock", type=_share, default=0.0, metavar="P", help="share that lacks stock")
    add("--seed", type=int, default=0, metavar="N", help="picks the orders that shall fail (0)")
    add("--limit", "--orders", type=_count, metavar="N", help="only the first N orders")
    add(
        "--first-day",
        action="store_true",
        help="only the first trading day, of which ORDERS in the environment is another --limit;"
        " then show one order, and what to try next",
    )
    add("--json", action="store_true", help="the report as JSON, the table to standard error")
    _add_addresses(parser)
    return parser


def _add_addresses(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where the system is (ports: mesh.toml, MESH_PORT_OFFSET)")
    add = group.add_argument
    add("--host", default="127.0.0.1", help="the machine it runs on (127.0.0.1)")
    add("--gateway", metavar="URL", help="where orders go, if elsewhere")
    add("--traces", metavar="URL", help="where traces are read, if elsewhere")
    add(
        "--service",
        type=_address,
        action="append",
        default=[],
        metavar="NAME=HOST:PORT",
        help=f"one of {', '.join(DIRECT)}, if elsewhere",
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def _positive(text: str) -> int:
    if _count(text) == 0:
        raise argparse.ArgumentTypeError("0 is too few")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return share


def _address(text: str) -> tuple[str, str]:
    name, _, address = text.partition("=")
    if name not in DIRECT or not address:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=HOST:PORT")
    return name, address
