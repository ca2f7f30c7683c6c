"""An event as headers and payload, the same on every broker.

The headers are CloudEvents' (https://github.com/cloudevents/spec, binary mode), all of them ASCII;
the payload is the protobuf message.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from ..metadata import CORRELATION_ID, TRACEPARENT
from .port import Event


def to_headers(event: Event) -> dict[str, str]:
    """Return all of *event* but its payload."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": event.event_id,
        "ce-type": event.topic,
        "ce-source": quote(event.source),
        "ce-subject": quote(event.aggregate),
        "ce-time": datetime.fromtimestamp(event.time, UTC).isoformat(),
        "ce-sequence": str(event.version),
        "content-type": "application/protobuf",
    }
    if event.traceparent:
        headers[TRACEPARENT] = event.traceparent
    if event.correlation_id:
        headers[CORRELATION_ID] = quote(event.correlation_id)
    return headers


def from_headers(headers: Mapping[str, str], payload: bytes) -> Event:
    """Return the event that `to_headers` was given."""
    return Event(
        topic=headers["ce-type"],
        aggregate=unquote(headers["ce-subject"]),
        version=int(headers["ce-sequence"]),
        event_id=headers["ce-id"],
        payload=payload,
        source=unquote(headers["ce-source"]),
        time=datetime.fromisoformat(headers["ce-time"]).timestamp(),
        correlation_id=unquote(headers.get(CORRELATION_ID, "")),
        traceparent=headers.get(TRACEPARENT, ""),
    )
