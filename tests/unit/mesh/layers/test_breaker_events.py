"""What a circuit's events reach: subscribers, metrics, the span being served; and its operator."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mesh import CircuitConfig, CircuitOpenError, circuit_breaker
from mesh.call import stack
from mesh.errors import Unavailable
from mesh.layers import breaker as module
from mesh.layers.breaker_events import CircuitEvent
from mesh.layers.circuit import Mode, State
from mesh.layers.tracing import TraceCall
from mesh.runtime.metrics import Metrics
from mesh.status import from_status, to_status
from mesh.target import Target as MeshTarget
from tests.support.echo import PUT, READ, call_of
from tests.support.runtime import FakeRuntime
from tests.support.target import Target

CONFIG = CircuitConfig(failures=2, open_s=30.0, jitter=0.0, probes=1)


class World:
    def __init__(self) -> None:
        self.runtime, self.metrics = FakeRuntime(), Metrics()
        self.target = MeshTarget("order", self.runtime, self.metrics)
        self.events: list[CircuitEvent] = []
        self.target.subscribers.append(self.events.append)
        self.breaker = self.target.breaker(CONFIG)

    async def fail(self, times: int = 2, address: str = "a:1") -> None:
        send = self.breaker(Target(*[Unavailable()] * times).unary)
        for _ in range(times):
            with pytest.raises(Unavailable):
                await send(call_of(address=address))

    async def refused(self, address: str = "a:1") -> CircuitOpenError:
        with pytest.raises(CircuitOpenError) as caught:
            await self.breaker(Target().unary)(call_of(address=address))
        return caught.value

    def metric(self, name: str, **labels: str) -> float | None:
        labels = {"target": "order", "address": "a:1", "rpc_method": READ.full_name, **labels}
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def world() -> World:
    return World()


async def test_changes_and_rejections_are_told(world: World) -> None:
    await world.fail()
    await world.refused()
    changed, rejected = world.events
    assert changed == CircuitEvent(
        "changed",
        "order",
        "a:1",
        READ.full_name,
        State.CLOSED,
        State.OPEN,
        Mode.NORMAL,
        "2 failures in a row",
    )
    assert (rejected.kind, rejected.state) == ("rejected", State.OPEN)
    assert world.metric("mesh_breaker_rejected_total") == 1.0
    assert world.metric("mesh_breaker_changes_total", state="open") == 1.0
    assert world.metric("mesh_breaker_state") == 2.0
    world.runtime.clock.advance(30.0)
    assert world.metric("mesh_breaker_state") == 1.0, "the next call would find it half-open"


async def test_a_subscriber_may_ask_the_circuit_and_may_fail(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def asks(event: CircuitEvent) -> None:
        [(_, _, circuit)] = world.target.circuits()
        assert circuit.state is event.state
        raise LookupError("not its day")

    world.target.subscribers.insert(0, asks)
    with caplog.at_level(logging.ERROR, "mesh"):
        await world.fail()
    assert len(world.events) == 1
    assert "not its day" in caplog.text


async def test_they_are_on_the_span_being_served(world: World) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("served"):
        await world.fail()
        await world.refused()
    [span] = exporter.get_finished_spans()
    assert [event.name for event in span.events] == [
        "mesh.breaker.changed",
        "mesh.breaker.rejected",
    ]


async def test_a_change_is_on_the_span_of_the_call_that_made_it_too(world: World) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    layers = TraceCall(tracer, "order"), world.breaker
    opens, probe = Target(Unavailable(), Unavailable()), Target()
    with tracer.start_as_current_span("served"):
        for _ in range(2):
            with pytest.raises(Unavailable):
                await stack(*layers, around=opens.unary)(call_of(address="a:1"))
        world.runtime.clock.advance(30.0)
        await stack(*layers, around=probe.unary)(call_of(address="a:1"))
        await world.fail()
    changes = [
        [(event.attributes or {})["mesh.breaker.state"] for event in span.events]
        for span in exporter.get_finished_spans()
    ]
    closed = ["half_open", "closed"]
    assert changes == [[], ["open"], closed, ["open", *closed, "open"]]


async def test_the_log_has_the_first_refusal_after_a_change_and_how_many_there_were(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def logged() -> list[tuple[str, Any]]:
        lines = [json.loads(record.getMessage()) for record in caplog.records]
        return [(line["event"], line.get("refused", line["state"])) for line in lines]

    refuses = ("circuit breaker refuses calls", "open")
    with caplog.at_level(logging.WARNING, "mesh"):
        await world.fail()
        for _ in range(50):
            await world.refused()
        assert logged() == [("circuit breaker", 0), refuses]
        world.runtime.clock.advance(30.0)
        await world.fail(1)
        await world.refused()
    assert logged()[2:] == [("circuit breaker", 50), ("circuit breaker", 0), refuses]


async def test_on_the_wire_a_rejection_says_when_to_try_again(world: World) -> None:
    await world.fail()
    world.runtime.clock.advance(10.0)
    told = from_status(to_status(await world.refused()))
    assert isinstance(told, CircuitOpenError)
    assert told.retry_after_s == 20.0
    assert told.code().name == "UNAVAILABLE"


async def test_an_operator_sets_circuits_that_are_and_that_are_to_come(world: World) -> None:
    await world.fail(1)
    assert world.target.set_mode(Mode.FORCED_OPEN, method=READ.full_name, why="drill") == 1
    assert world.events[-1].why == "drill"
    assert "forced open" in str(await world.refused())
    assert "forced open" in str(await world.refused("b:2"))
    await world.breaker(Target().unary)(call_of(PUT, address="a:1"))
    other = world.target.breaker(CircuitConfig(failures=9))
    with pytest.raises(CircuitOpenError):
        await other(Target().unary)(call_of(address="a:1"))
    assert world.target.set_mode(Mode.NORMAL) == 4
    await world.breaker(Target().unary)(call_of(address="c:3"))


async def test_circuits_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CIRCUITS_MAX", 10)
    for number in range(100):
        await world.breaker(Target().unary)(call_of(address=f"{number}:1"))
    assert len(list(world.target.circuits())) == 10
    assert world.metric("mesh_breaker_state", address="0:1") is None
    assert world.metric("mesh_breaker_state", address="99:1") == 0.0


async def test_with_an_address_go_its_circuits_and_all_their_series(world: World) -> None:
    await world.fail()
    await world.refused()
    await world.breaker(Target().unary)(call_of(PUT, address="a:1"))
    await world.breaker(Target().unary)(call_of(address="b:2"))
    gone = world.breaker.circuit(call_of(address="a:1"))
    world.target.forget("a:1")
    assert [address for address, *_ in world.target.circuits()] == ["b:2"]
    gone.set_mode(Mode.NORMAL)  # what a late call would do
    series = {
        sample.labels["address"]
        for metric in world.metrics.registry.collect()
        for sample in metric.samples
        if metric.name.startswith("mesh_breaker")
    }
    assert series == {"b:2"}


async def test_targets_whose_addresses_nobody_knows_do_not_share_a_series(world: World) -> None:
    await world.fail(address="")
    other = MeshTarget("user", world.runtime, world.metrics)
    await other.breaker(CONFIG)(Target().unary)(call_of())
    assert world.metric("mesh_breaker_state", address="") == 2.0
    assert world.metric("mesh_breaker_state", address="", target="user") == 0.0


@pytest.fixture
def decorated() -> Any:
    runtime = FakeRuntime()
    config = CircuitConfig(
        failures=9, slow_share=0.5, slow_s=1.0, calls_min=2, open_s=30.0, jitter=0.0
    )

    @circuit_breaker(config, runtime)
    def rates(takes_s: float) -> str:
        runtime.clock.advance(takes_s)
        return "1.2"

    return rates


def test_a_plain_function_has_the_same(decorated: Any) -> None:
    events: list[CircuitEvent] = []
    decorated.subscribers.append(events.append)
    assert decorated(0.1) == "1.2"
    assert decorated(1.1) == "1.2"
    with pytest.raises(CircuitOpenError) as caught:
        decorated(0.1)
    assert caught.value.retry_after_s == 30.0
    assert [event.kind for event in events] == ["changed", "rejected"]
    decorated.circuit.set_mode(Mode.DISABLED)
    assert decorated(5.0) == "1.2"
