"""The command: read the file, load, place, wait, read back, compare, report."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console

from replay.expected import expected_books
from replay.gateway import Gateway, GatewayError, UnreachableError
from replay.invoices import FileError, Invoices, read_file
from replay.loading import LoadingError, Services, load
from replay.options import Options, read_options
from replay.placing import Placed, place_all
from replay.plan import Plan, PlannedOrder, make_plan
from replay.progress import Progress
from replay.readback import order_states, read_books, settle
from replay.report import Report, compare, print_remarks, print_report, to_json
from replay.showcase import choose, show_order
from replay.welcome import welcome

OK, DIFFERENT, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
FIRST_ANSWER_S: Final = 5.0
_ENDED: Final = ("CONFIRMED", "CANCELLED")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Exit status: 0 as expected, 1 not, 2 could not be run, 130 interrupted."""
    options = read_options(arguments)
    console = Console(stderr=options.json)
    if options.limit == 0:
        welcome(options.addresses, has_orders=False, console=console)
        return OK
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


async def _run(options: Options, invoices: Invoices, placed: Placed, console: Console) -> Report:
    plan = make_plan(
        invoices, options.failures, only_first_day=options.first_day, limit=options.limit
    )
    gateway = Gateway(options.addresses.gateway, concurrency=options.concurrency)
    async with gateway, Services(options.addresses.services) as services:
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
            already_placed=len(plan.orders) - len(_new(plan, before)),
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
            saga_id = placed.sagas.get(shown.order.order_id)
            await show_order(gateway, shown, console, options.addresses.traces, saga_id)
            welcome(options.addresses, console=console)
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
    before: Mapping[str, str],
    placed: Placed,
    concurrency: int,
) -> None:
    """Load for the orders that are not at their end yet, and place them."""
    progress = Progress()
    new = _new(plan, before)
    if len(new) < len(plan.orders):
        progress.say(f"{len(plan.orders) - len(new):,} of {len(plan.orders):,} already placed")
    if new:
        await load(services, plan, progress, concurrency=concurrency)
        with progress.task("orders", len(new)) as done:
            await place_all(gateway, new, placed, done, concurrency=concurrency)


def _new(plan: Plan, before: Mapping[str, str]) -> list[PlannedOrder]:
    return [planned for planned in plan.orders if before.get(planned.order.order_id) not in _ENDED]


def _so_far(placed: Placed) -> str:
    if not placed.count:
        return "No order was placed."
    states = ", ".join(f"{count} {state}" for state, count in sorted(placed.states.items()))
    return (
        f"{placed.count} orders were brought to their end ({states}). What was under way goes on"
        " by itself; the same command goes on from there."
    )
