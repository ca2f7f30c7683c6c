"""The command line: reconcile once and report, or again and again as a metric."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from reconcile.run import Report, Tell

OK, FOUND, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
MAX_LISTED: Final = 20
MESH_TOML: Final = Path(__file__).parents[1] / "mesh.toml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Exit status: 0 all agrees, 1 it does not, 2 could not be run, 130 interrupted."""
    given = parser().parse_args(arguments)
    try:
        if given.every_s:
            from reconcile.watch import watch

            return watch(given.every_s, given.metrics_port, given.metrics_host)
        return _once(given)
    except KeyboardInterrupt:
        print("interrupted: nothing was changed, it only reads", file=sys.stderr)
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    cli = argparse.ArgumentParser(
        prog="python -m reconcile",
        description="Hold what the services say of each order (order, payment, ledger, provider,"
        " stock, shipment, sagas) against one another, on the running system. It only reads.",
        epilog="Exit status: 0 all agrees, 1 it does not, 2 could not be run, 130 interrupted."
        " Ports: mesh.toml, MESH_PORT_OFFSET, MESH_ADDRESS.",
    )
    add = cli.add_argument
    add("--json", action="store_true", help="the report as JSON; what people read to stderr")
    add("--quiet", action="store_true", help="no progress")
    add("--every-line", action="store_true", help="compare the lines of each order too: slower")
    add(
        "--stuck-after-s",
        type=float,
        default=900.0,
        metavar="S",
        help="report a saga that has not ended after so long (%(default)s)",
    )
    add("--every-s", type=_positive, metavar="S", help="stay, and do it again after so long")
    add(
        "--metrics-port",
        type=int,
        default=9464,
        metavar="PORT",
        help="for Prometheus (%(default)s)",
    )
    add("--metrics-host", default="127.0.0.1", metavar="HOST", help="(%(default)s)")
    return cli


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number


def _once(given: argparse.Namespace) -> int:
    import mesh
    from mesh.runtime import config
    from reconcile.services import NAMES

    try:
        found = config.load({"MESH_CONFIG": str(MESH_TOML), **os.environ})
        addresses = {name: found.address_of(name) for name in NAMES}
        report = asyncio.run(_reconcile(addresses, given))
    except config.ConfigError as error:
        print(error, file=sys.stderr)
        return UNUSABLE
    except mesh.MeshError as error:
        print(f"a service does not answer: {error}", file=sys.stderr)
        print("Is the system running? `make run` starts it.", file=sys.stderr)
        return UNUSABLE
    if given.json:
        print(json.dumps(to_json(report), indent=2))
    _print_for_people(report, sys.stderr if given.json else sys.stdout)
    return OK if report.is_ok else FOUND


async def _reconcile(addresses: Mapping[str, str], given: argparse.Namespace) -> Report:
    from reconcile.run import reconcile
    from reconcile.services import Services

    async with Services(addresses) as services:
        with _progress(given.quiet) as tell:
            return await reconcile(
                services, tell, stuck_after_s=given.stuck_after_s, every_line=given.every_line
            )


@contextmanager
def _progress(quiet: bool) -> Iterator[Tell]:
    if quiet:
        yield lambda what, count: None
    else:
        from replay.progress import Progress

        with Progress().counters() as tell:
            yield tell


def to_json(report: Report) -> dict[str, Any]:
    """What programs read: every finding."""
    return {
        "ok": report.is_ok,
        "orders": report.orders,
        "in_flight": report.in_flight,
        "unsure": report.unsure,
        "began_at": report.began_at,
        "duration_s": round(report.duration_s, 3),
        "findings": [finding._asdict() for finding in report.findings],
    }


def _print_for_people(report: Report, out: Any) -> None:
    from reconcile.catalogue import RULES

    for rule, remedy in RULES.items():
        broken = [finding for finding in report.findings if finding.rule == rule]
        if broken:
            print(f"{rule} ({len(broken)}). {remedy}", file=out)
        for finding in broken[:MAX_LISTED]:
            print(f"  {finding.subject}: {finding.text}", file=out)
        if len(broken) > MAX_LISTED:
            print(f"  and {len(broken) - MAX_LISTED:,} more: --json has them all", file=out)
    counts = [f"{report.orders:,} orders in {report.duration_s:.1f} s"]
    if report.in_flight:
        counts.append(f"{report.in_flight:,} on their way")
    if report.unsure:
        counts.append(f"{report.unsure:,} seem wrong and did not hold still: run it again")
    found = len(report.findings)
    counts.append(
        f"{found:,} findings" if found else "no findings" if report.unsure else "all agrees"
    )
    print("; ".join(counts), file=out)
