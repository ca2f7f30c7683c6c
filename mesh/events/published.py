"""`mesh.events.v1.OutboxService`: which events a service has published."""

from __future__ import annotations

from typing import Any

from ..runtime.clock import timestamp
from ..scope import trace_id_of
from ..service import Service
from ..storage.port import Tx
from .v1 import outbox_pb2 as pb

#: Of a correlation id under which more was published, the first events are shown.
EVENTS_MAX = 200


def outbox_service() -> Service[Any]:
    """Return the service; every process serves it of its own database."""
    service: Service[Any] = Service(pb.DESCRIPTOR.services_by_name["OutboxService"])
    service.rpc(list_events)
    return service


async def list_events(tx: Tx, request: pb.ListEventsRequest) -> pb.ListEventsResponse:
    """Return the events that were written under a correlation id."""
    if not request.correlation_id:
        return pb.ListEventsResponse()
    rows = await tx.execute(
        "SELECT topic, aggregate, version, created_at, published_at, traceparent"
        " FROM mesh_outbox WHERE correlation_id = $1 ORDER BY event_id LIMIT $2",
        request.correlation_id,
        EVENTS_MAX,
    )
    return pb.ListEventsResponse(events=[_event(*row) for row in rows])


def _event(
    topic: str,
    aggregate: str,
    version: int,
    created_at: float,
    published_at: float | None,
    traceparent: str,
) -> pb.PublishedEvent:
    return pb.PublishedEvent(
        topic=topic,
        aggregate=aggregate,
        version=version,
        create_time=timestamp(created_at),
        publish_time=None if published_at is None else timestamp(published_at),
        trace_id=trace_id_of(traceparent),
    )
