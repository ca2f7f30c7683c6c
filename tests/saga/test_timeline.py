"""The timeline of a saga: with the events that its steps caused, all in one trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mesh.errors import Unavailable
from mesh.saga import show
from mesh.saga.v1 import saga_pb2 as pb
from mesh.saga.v1.saga_pb2_grpc import SagaServiceStub
from mesh.testing.cluster import Faults
from mesh.testing.loop import run_virtual
from mesh.testing.network import Message
from tests.saga.shop import SCENARIOS, Shop

EVENT = pb.TimelineEntry.EVENT


class Silent(Faults):
    """A service does not tell its events."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service

    async def deliver(self, message: Message, send: Callable[[], Awaitable[Any]]) -> Any:
        if (message.method, message.target) == ("ListEvents", self.service):
            raise Unavailable("nobody is there")
        return await send()


def timeline_of(folder: Path, faults: Faults) -> pb.Timeline:
    """Place two orders; return the timeline of the first."""

    async def told() -> pb.Timeline:
        async with Shop(folder, faults) as shop:
            for order_id in ("o-1", "o-2"):
                await shop.place(SCENARIOS[0], order_id)
            sagas = SagaServiceStub(shop.cluster.channel("orchestrator"))
            wanted = pb.ListSagasRequest(name="place_order", key="o-1")
            (saga,) = (await sagas.ListSagas(wanted)).sagas
            timeline: pb.Timeline = await sagas.GetTimeline(
                pb.GetTimelineRequest(saga_id=saga.saga_id)
            )
            return timeline

    return run_virtual(told())


def events(timeline: pb.Timeline) -> Counter[str]:
    """Return how many events of each type are in it."""
    told = (entry.subject for entry in timeline.entries if entry.kind == EVENT)
    return Counter(topic.rpartition(".")[2] for topic in told)


def test_the_events_of_all_whom_it_called_are_in_it(tmp_path: Path) -> None:
    timeline = timeline_of(tmp_path, Faults())
    assert events(timeline) == {"OrderEvent": 2, "PaymentEvent": 2, "ShipmentEvent": 2}
    assert not timeline.silent
    for entry in timeline.entries:
        if entry.kind == EVENT:
            assert entry.detail.startswith("o-1 version ")
    times = [entry.time.ToNanoseconds() for entry in timeline.entries]
    assert times == sorted(times)


def test_everything_in_it_is_of_the_saga_s_trace(tmp_path: Path) -> None:
    timeline = timeline_of(tmp_path, Faults())
    assert len(timeline.saga.trace_id) == 32
    assert {entry.trace_id for entry in timeline.entries} == {timeline.saga.trace_id}
    assert {entry.correlation_id for entry in timeline.entries} == {timeline.saga.correlation_id}


def test_who_does_not_tell_its_events_is_named(tmp_path: Path) -> None:
    timeline = timeline_of(tmp_path, Silent("shipping"))
    assert list(timeline.silent) == ["shipping"]
    assert events(timeline) == {"OrderEvent": 2, "PaymentEvent": 2}
    *_, last = show.story(timeline)
    assert last == "no answer from shipping: events of theirs are missing"
