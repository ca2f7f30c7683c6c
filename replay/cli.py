"""The command: read the file, load, place, wait, read back, compare, report."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from replay.expected import expected_books
from replay.gateway import Gateway, GatewayError, UnreachableError
from replay.invoices import FileError, Invoices, read_file
from replay.loading import PORTS, LoadingError, Services, load
from replay.placing import Placed, place_all
from replay.plan import Failures, Plan, make_plan
from replay.progress import Progress
from replay.readback import order_states, read_books, settle
from replay.report import Report, compare, print_remarks, print_report, to_json
from replay.showcase import choose, show_order

OK, DIFFERENT, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
FIRST_ANSWER_S: Final = 5.0
_ENDED: Final = ("CONFIRMED", "CANCELLED")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Exit status: 0 as expected, 1 not, 2 could not be run, 130 interrupted."""
    options = _parser().parse_args(arguments)
    if options.decline + options.short_stock > 1:
        _parser().error("--decline and --short-stock are more than 1 together")
    console = Console(stderr=options.json)
    try:
        invoices = read_file(options.file)
    except FileError as error:
        print(error, file=sys.stderr)
        return UNUSABLE
    print_remarks(invoices, Console(stderr=True))
    placed = Placed()
    try:
        report = asyncio.run(_run(options, invoices, placed, console))
    except KeyboardInterrupt:
        print(f"\ninterrupted: {_so_far(placed)}", file=sys.stderr)
        return INTERRUPTED
    except (UnreachableError, GatewayError, LoadingError) as error:
        print(f"{error}\n{_so_far(placed)}", file=sys.stderr)
        return UNUSABLE
    if options.json:
        print(json.dumps(to_json(report), indent=2))
    return OK if report.is_ok else DIFFERENT


async def _run(
    options: argparse.Namespace, invoices: Invoices, placed: Placed, console: Console
) -> Report:
    failures = Failures(options.decline, options.short_stock, options.seed)
    plan = make_plan(invoices, failures, only_first_day=options.first_day, limit=options.limit)
    gateway = Gateway(options.gateway, concurrency=options.concurrency)
    async with gateway, Services(_addresses(options)) as services:
        before = await _states_before(gateway)
        await _place_new(gateway, services, plan, before, placed, options.concurrency)
        is_settled = await settle(gateway)
        actual = await read_books(gateway, services)
        expected = expected_books(plan, actual, before)
        report = Report(
            file=str(options.file),
            invoices=invoices,
            orders=len(plan.orders),
            placed=placed.count,
            already_placed=_count_ended(plan, before),
            failures=placed.failures,
            duration_s=placed.duration_s,
            is_settled=is_settled,
            actual=actual,
            expected=expected,
            differences=compare(actual, expected),
        )
        print_report(report, console)
        if options.first_day:
            shown = choose(plan.orders)
            await show_order(gateway, shown, console, placed.sagas.get(shown.order.order_id))
    return report


async def _states_before(gateway: Gateway) -> dict[str, str]:
    try:
        await gateway.get("/v1/orders", pageSize=1, patience_s=FIRST_ANSWER_S)
    except UnreachableError as error:
        raise UnreachableError(f"{error}\nIs the system running? `make run` starts it.") from error
    return await order_states(gateway)


async def _place_new(
    gateway: Gateway,
    services: Services,
    plan: Plan,
    before: dict[str, str],
    placed: Placed,
    concurrency: int,
) -> None:
    """Load for the orders that are not at their end yet, and place them."""
    progress = Progress()
    new = [planned for planned in plan.orders if before.get(planned.order.order_id) not in _ENDED]
    if len(new) < len(plan.orders):
        progress.say(f"{len(plan.orders) - len(new):,} of {len(plan.orders):,} already placed")
    if new:
        await load(services, plan, progress, concurrency=concurrency)
        with progress.task("orders", len(new)) as done:
            await place_all(gateway, new, placed, done, concurrency=concurrency)


def _count_ended(plan: Plan, before: dict[str, str]) -> int:
    return sum(before.get(planned.order.order_id) in _ENDED for planned in plan.orders)


def _so_far(placed: Placed) -> str:
    states = ", ".join(f"{count} {state}" for state, count in sorted(placed.states.items()))
    return (
        f"{placed.count} orders were brought to their end{f' ({states})' if states else ''}."
        " What was under way goes on by itself; the same command goes on from there."
    )


def _addresses(options: argparse.Namespace) -> dict[str, str]:
    return {name: f"{options.host}:{port}" for name, port in PORTS.items()} | dict(options.service)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m replay",
        description="Send a file of real orders through the running system, then check its books.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="CSV in the format of UCI Online Retail, or CSV.gz")
    add("--concurrency", type=_positive, default=32, metavar="N", help="orders at a time")
    add("--decline", type=_share, default=0.0, metavar="P", help="share whose payment is declined")
    add("--short-stock", type=_share, default=0.0, metavar="P", help="share that lacks stock")
    add("--seed", type=int, default=0, metavar="N", help="picks the orders that shall fail")
    add("--first-day", action="store_true", help="the first trading day only, and show one order")
    add("--limit", "--orders", type=_positive, metavar="N", help="only the first N orders")
    add("--json", action="store_true", help="the report as JSON, the table to standard error")
    add("--gateway", default="http://127.0.0.1:8080", metavar="URL", help="where orders go")
    add("--host", default="127.0.0.1", help="where the services listen that are loaded directly")
    add(
        "--service",
        type=_address,
        action="append",
        default=[],
        metavar="NAME=HOST:PORT",
        help=f"one of {', '.join(PORTS)}, if elsewhere",
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
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
    if name not in PORTS or not address:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=HOST:PORT")
    return name, address
