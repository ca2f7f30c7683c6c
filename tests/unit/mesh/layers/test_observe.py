"""Observe: every call is measured under its own status; what failed is said in the log."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing
from typing import Any

import pytest
from grpc import StatusCode

from mesh.call import Call
from mesh.errors import Internal, MeshError, NotFound, Unavailable
from mesh.layers.observe import Observe
from mesh.runtime.metrics import Metrics
from mesh.scope import Scope, scope
from tests.support.echo import COUNT, READ, EchoReply, call_of, requests_of
from tests.support.runtime import FakeRuntime
from tests.support.target import Target, forever


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def counted(metrics: Metrics, side: str = "server") -> dict[tuple[str, str], float]:
    """Return how many calls were measured, by (method's name, status)."""
    return {
        (
            sample.labels["rpc_method"].rpartition("/")[2],
            sample.labels["rpc_response_status_code"],
        ): sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == f"rpc_{side}_call_duration_seconds_count"
    }


@pytest.mark.parametrize("side", ["server", "client"])
async def test_calls_are_counted_by_method_and_status(
    metrics: Metrics, runtime: FakeRuntime, side: str
) -> None:
    send = Observe(metrics, runtime, side)(Target(EchoReply(), NotFound(), ValueError()).unary)
    await send(call_of())
    for error in (NotFound, ValueError):
        with pytest.raises(error):
            await send(call_of())
    expected = {("Read", "OK"): 1.0, ("Read", "NOT_FOUND"): 1.0, ("Read", "UNKNOWN"): 1.0}
    assert counted(metrics, side) == expected


async def test_the_time_is_that_of_the_call(metrics: Metrics, runtime: FakeRuntime) -> None:
    async def slow(_: Call) -> Any:
        runtime.clock.advance(1.5)
        return EchoReply()

    await Observe(metrics, runtime, "server")(slow)(call_of())
    total = metrics.registry.get_sample_value(
        "rpc_server_call_duration_seconds_sum",
        {"rpc_method": READ.full_name, "rpc_response_status_code": "OK"},
    )
    assert total == 1.5


async def test_a_cancelled_call_is_counted_as_such(metrics: Metrics, runtime: FakeRuntime) -> None:
    task = asyncio.ensure_future(Observe(metrics, runtime, "client")(forever)(call_of()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counted(metrics, "client") == {("Read", "CANCELLED"): 1.0}


async def test_a_stream_is_measured_once_at_its_end(metrics: Metrics, runtime: FakeRuntime) -> None:
    layer = Observe(metrics, runtime, "server")
    target = Target([EchoReply(), EchoReply()], [EchoReply(), Unavailable()], [EchoReply()] * 2)
    assert len([r async for r in layer.stream(target.stream)(call_of(COUNT), requests_of())]) == 2
    with pytest.raises(Unavailable):
        [_ async for _ in layer.stream(target.stream)(call_of(COUNT), requests_of())]
    left: Any = layer.stream(target.stream)(call_of(COUNT), requests_of())
    async with aclosing(left):
        await anext(left)
    assert counted(metrics) == {
        ("Count", "OK"): 1.0,
        ("Count", "UNAVAILABLE"): 1.0,
        ("Count", "CANCELLED"): 1.0,
    }
    assert target.left.is_set()


async def lines(
    caplog: pytest.LogCaptureFixture, level: int, runtime: FakeRuntime, *answers: Any
) -> list[dict[str, Any]]:
    caplog.set_level(level, "mesh")
    send = Observe(Metrics(), runtime, "server")(Target(*answers).unary)
    for _ in answers:
        try:
            await send(call_of())
        except MeshError:
            continue
    return [json.loads(record.message) for record in caplog.records]


async def test_success_is_worth_a_line_only_when_debugging(
    caplog: pytest.LogCaptureFixture, runtime: FakeRuntime
) -> None:
    assert await lines(caplog, logging.INFO, runtime, EchoReply()) == []
    [line] = await lines(caplog, logging.DEBUG, runtime, EchoReply())
    assert (line["level"], line["status"], line["method"]) == ("debug", "OK", READ.full_name)


async def test_a_refusal_is_news_and_a_fault_is_a_warning(
    caplog: pytest.LogCaptureFixture, runtime: FakeRuntime
) -> None:
    found = await lines(caplog, logging.INFO, runtime, NotFound(reason="NO_ORDER"), Internal())
    assert [(line["level"], line["status"], line["reason"]) for line in found] == [
        ("info", "NOT_FOUND", "NO_ORDER"),
        ("warning", StatusCode.INTERNAL.name, "INTERNAL"),
    ]


async def test_a_line_names_correlation_and_attempt(
    caplog: pytest.LogCaptureFixture, runtime: FakeRuntime
) -> None:
    token = scope.set(Scope(correlation_id="order-7", attempt=3))
    [line] = await lines(caplog, logging.INFO, runtime, NotFound())
    scope.reset(token)
    assert (line["correlation_id"], line["attempt"]) == ("order-7", 3)


async def test_clients_leave_the_log_to_the_servers(
    caplog: pytest.LogCaptureFixture, runtime: FakeRuntime
) -> None:
    caplog.set_level(logging.DEBUG, "mesh")
    with pytest.raises(Internal):
        await Observe(Metrics(), runtime, "client")(Target(Internal()).unary)(call_of())
    assert not caplog.records
