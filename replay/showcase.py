"""One order, looked at closely: the steps of its saga, and its trace as a tree."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from observability.trace_model import Span, link_spans, read_spans
from observability.trace_tree import TraceUnavailableError, fetch_trace, render_trace
from replay.gateway import Gateway
from replay.placing import place
from replay.plan import Outcome, PlannedOrder

TRACE_TIMEOUT_S: Final = 8.0  # exporters send a batch every few seconds
_POLL_S: Final = 0.5
_STYLES: Final = {"DONE": "green", "REFUSED": "red", "UNDONE": "yellow", "UNKNOWN": "red"}


def choose(orders: Sequence[PlannedOrder]) -> PlannedOrder:
    """The order to show: one that goes through, of a few lines, so that nothing is too long."""
    return min(
        orders,
        key=lambda planned: (
            planned.outcome is not Outcome.CONFIRMED,
            abs(len(planned.order.lines) - 4),
        ),
    )


async def show_order(
    gateway: Gateway,
    planned: PlannedOrder,
    console: Console,
    traces_url: str,
    saga_id: str | None = None,
    *,
    timeout_s: float = TRACE_TIMEOUT_S,
) -> None:
    """Print an order's saga and its trace. Without `saga_id` the order is placed again to learn it.

    A trace that cannot be read is said to be so; it fails nothing.
    """
    if saga_id is None:
        saga_id = (await place(gateway, planned))["sagaId"]
    saga = await gateway.get(f"/v1/sagas/{saga_id}")
    order = planned.order
    console.print(
        f"\n[bold]Order {order.order_id}[/]: {len(order.lines)} lines, £{order.total:,}. "
        f"Its saga {saga_id} is {saga['state']}:",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_steps_table(saga))
    trace_id = saga.get("traceId", "")
    console.print(f"\n[bold]Its trace[/] {trace_id}:", highlight=False)
    try:
        trace = await _complete_trace(traces_url, trace_id, timeout_s)
        text = render_trace(trace, color=console.is_terminal and not console.no_color)
    except (TraceUnavailableError, ValueError) as error:
        text = f"could not be read: {error}"
    console.out(text, highlight=False)


async def _complete_trace(url: str, trace_id: str, timeout_s: float) -> Mapping[str, Any]:
    """The trace, once every call in it was also served and every span has its parent.

    At the end of the time: as it is by then. Raises TraceUnavailableError if it is not there.
    """
    give_up = time.monotonic() + timeout_s
    while True:
        is_last = time.monotonic() + _POLL_S > give_up
        try:
            body = await asyncio.to_thread(fetch_trace, url, trace_id)
        except TraceUnavailableError:
            if is_last:
                raise
        else:
            if is_last or _is_complete(read_spans(body)):
                return body
        await asyncio.sleep(_POLL_S)


def _is_complete(spans: Sequence[Span]) -> bool:
    """Whether each call has what served it, a span or further attempts, and nothing lacks a parent.

    Exporters send every few seconds, each process in its own time.
    """
    link_spans(spans)
    calls = [span for span in spans if span.kind == "client"]
    return bool(calls) and not any(
        span.is_orphan or (span.kind == "client" and not span.children) for span in spans
    )


def _steps_table(saga: Mapping[str, Any]) -> Table:
    table = Table()
    for name in ("step", "call", "state", "attempts", "time", "undo"):
        table.add_column(name, justify="right" if name in ("attempts", "time") else "left")
    for step in saga.get("steps", ()):
        state = step.get("state", "")
        undo = step.get("undoState", "").removeprefix("UNDO_").removeprefix("STATE_UNSPECIFIED")
        table.add_row(
            f"{step['position']}{step.get('branch', '')}",
            step["method"].rpartition(".")[2].replace("Service/", " "),
            f"[{_STYLES.get(state, 'default')}]{state}[/]",
            str(step.get("attempts", 0)),
            _duration(step),
            undo,
        )
    return table


def _duration(step: Mapping[str, Any]) -> str:
    if not (step.get("startTime") and step.get("endTime")):
        return ""
    start, end = (datetime.fromisoformat(step[name]) for name in ("startTime", "endTime"))
    return f"{(end - start).total_seconds() * 1000:.1f} ms"
