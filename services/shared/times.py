"""Times: seconds since the epoch in databases, `google.protobuf.Timestamp` on the wire."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp


def to_timestamp(seconds: float) -> Timestamp:
    """Return *seconds* since the epoch as a timestamp, to the microsecond."""
    timestamp = Timestamp()
    timestamp.FromMicroseconds(round(seconds * 1e6))
    return timestamp
