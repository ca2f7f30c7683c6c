"""The command line of the audit."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import Progress

import mesh
from mesh.errors import MeshError
from shop.payment.v1.payment_pb2_grpc import PaymentServiceStub

from . import show
from .reading import check_books, read_trail

RIGHT, WRONG, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
#: Columns of a table that goes to no terminal.
FILE_COLUMNS: Final = 200


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="python -m services.payment.audit",
        description="Read what happened to the payment of ORDER, and the money it moved. Without"
        " an ORDER: hold every list and balance of the payment service against its events.",
        epilog="Exit status: 0 the books are right, 1 they are not, 2 they could not be read.",
    )
    parser.add_argument("order", nargs="?", help="an order's id")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="the payment service (default: as in mesh.toml)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    options = parser().parse_args(arguments)
    try:
        return asyncio.run(_run(options))
    except (MeshError, ValueError) as error:  # ValueError: configuration, or an event of the future
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        return INTERRUPTED


async def _run(options: argparse.Namespace) -> int:
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_COLUMNS)
    addresses = [options.address] if options.address else []
    async with mesh.channel("payment", *addresses) as channel:
        to = PaymentServiceStub(channel)
        if options.order:
            records = await read_trail(to, options.order)
            if options.json:
                print(json.dumps(show.trail_json(records), indent=2))
            else:
                show.trail(records, console)
            return RIGHT
        with _progress() as progress:
            report = await check_books(to, progress)
    if options.json:
        print(json.dumps(show.report_json(report), indent=2))
    else:
        show.report(report, console)
    return WRONG if report.faults.count else RIGHT


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """Count on the terminal, if there is one, what was read so far."""
    with Progress(
        "{task.description}", "{task.completed:,}", console=Console(stderr=True), transient=True
    ) as bars:
        tasks = {name: bars.add_task(name, total=None) for name in ("entries", "events")}
        yield lambda name, count: bars.update(tasks[name], completed=count)


if __name__ == "__main__":
    sys.exit(main())
