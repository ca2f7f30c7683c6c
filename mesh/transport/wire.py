"""What a server takes from the wire: how much, how many and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .port import METADATA_LIMIT_BYTES


@dataclass(frozen=True)
class WireConfig:
    """Limits of one server, which gRPC itself enforces. Times are in seconds.

    A larger message fails with RESOURCE_EXHAUSTED, larger metadata too. What is beyond
    `streams_max` calls of one connection waits at its client or is refused, UNAVAILABLE and not
    executed; connections beyond `connections_max` are closed. Each is asked to open anew after
    `connection_age_s`, so that new replicas get their share, and has `connection_age_grace_s` to
    finish its calls. One that is silent for `keepalive_s` is asked whether it lives, and has
    `keepalive_timeout_s` to say so; who asks us more often than every `ping_min_s` is sent away.
    """

    message_bytes_max: int = 4 * 1024 * 1024
    metadata_bytes_max: int = METADATA_LIMIT_BYTES
    streams_max: int = 5000
    connections_max: int = 10_000
    connection_age_s: float = 300.0
    connection_age_grace_s: float = 30.0
    keepalive_s: float = 60.0
    keepalive_timeout_s: float = 20.0
    ping_min_s: float = 10.0

    def __post_init__(self) -> None:
        if min(vars(self).values()) <= 0:
            raise ValueError("every limit is more than 0")

    @property
    def options(self) -> tuple[tuple[str, Any], ...]:
        """Return them as gRPC wants them."""
        return (
            ("grpc.so_reuseport", 0),  # else a second server silently shares the port
            ("grpc.max_receive_message_length", self.message_bytes_max),
            ("grpc.max_metadata_size", self.metadata_bytes_max),
            # Between the two gRPC refuses at random; above the second always.
            ("grpc.absolute_max_metadata_size", 2 * self.metadata_bytes_max),
            ("grpc.max_concurrent_streams", self.streams_max),
            ("grpc.max_allowed_incoming_connections", self.connections_max),
            ("grpc.max_connection_age_ms", _ms(self.connection_age_s)),
            ("grpc.max_connection_age_grace_ms", _ms(self.connection_age_grace_s)),
            ("grpc.keepalive_time_ms", _ms(self.keepalive_s)),
            ("grpc.keepalive_timeout_ms", _ms(self.keepalive_timeout_s)),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", _ms(self.ping_min_s)),
        )


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
