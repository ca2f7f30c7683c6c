"""Prometheus metrics of one process, named by OpenTelemetry's semantic conventions."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from .durations import Durations

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The registry of a process and what the mesh records in it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.call_duration = cache(self._call_duration)
        self.sagas = Gauge(
            "mesh_sagas_running", "Sagas in flight in this process", registry=self.registry
        )

        self.spans_dropped = Counter(
            "mesh_spans_dropped", "Spans that were lost", ("reason",), registry=self.registry
        )
        self.events_published = self._counter("mesh_events_published", "Events the bus confirmed")
        self.events_applied = self._counter("mesh_events_applied", "Events applied")
        self.events_failed = self._counter("mesh_events_failed", "Failed attempts at events")
        self.outbox_oldest = Gauge(
            "mesh_outbox_oldest_seconds",
            "Age of the oldest event that waits for the bus",
            registry=self.registry,
        )
        self.inbox = Gauge(
            "mesh_inbox_events",
            "Events that have arrived and are not applied",
            ("state",),
            registry=self.registry,
        )
        self.bus_lag = Gauge(
            "mesh_bus_lag_events",
            "Events that the bus still has for this service",
            registry=self.registry,
        )
        self.database_failing = Gauge(
            "mesh_database_failing",
            "1 while the last transaction was not stored",
            registry=self.registry,
        )
        self.breaker_state = Gauge(
            "mesh_breaker_state",
            "Circuit breakers: 0 closed, 1 half-open, 2 open",
            ("address", "rpc_method"),
            registry=self.registry,
        )

    def _counter(self, name: str, what: str) -> Counter:
        return Counter(name, what, ("topic",), registry=self.registry)

    def _call_duration(self, side: str) -> Durations:
        return Durations(
            f"rpc_{side}_call_duration_seconds",
            f"Duration of RPCs, {side} side",
            ("rpc_method", "rpc_response_status_code"),
            BUCKETS_S,
            self.registry,
        )

    def serve(self, host: str, port: int) -> None:
        """Answer ``/metrics`` on *port*."""
        start_http_server(port, addr=host, registry=self.registry)
