"""Prometheus metrics of one process, named by OpenTelemetry's semantic conventions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Protocol
from weakref import WeakSet

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from .durations import Durations

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

#: The states that a saga does not stay in, and the one that needs somebody.
UNFINISHED_SAGAS = ("PENDING", "EXECUTING", "COMPENSATING")
PARKED_SAGAS = "PARKED"


class SagaMetrics:
    """What saga engines record. The gauges are of the whole database, whoever is asked."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.running = Gauge(
            "mesh_sagas_running", "Sagas in flight in this process", registry=registry
        )
        self.in_state = Gauge(
            "mesh_sagas", "Sagas that have not ended", ("state",), registry=registry
        )
        self.oldest = Gauge(
            "mesh_saga_oldest_unfinished_seconds",
            "Age of the oldest saga that is neither ended nor parked",
            registry=registry,
        )
        self.rested = Counter(
            "mesh_sagas_rested",
            "Sagas that this process brought to an end, or parked",
            ("saga", "state"),
            registry=registry,
        )
        self.undo_failures = Counter(
            "mesh_saga_undo_failures",
            "Undos that were refused or given up: each parks a saga",
            ("rpc_method",),
            registry=registry,
        )
        self.misconfigured = Counter(
            "mesh_saga_misconfigured",
            "Answers which say that the system is misconfigured; the step is asked again",
            ("rpc_method", "reason"),
            registry=registry,
        )

    def census(self, counts: Mapping[str, tuple[int, float]], now: float) -> None:
        """Record how many sagas there are in each state, and since when the oldest."""
        for state in (*UNFINISHED_SAGAS, PARKED_SAGAS):
            self.in_state.labels(state).set(counts.get(state, (0, now))[0])
        since = min(
            (counts[state][1] for state in UNFINISHED_SAGAS if state in counts), default=now
        )
        self.oldest.set(max(0.0, now - since))


class Limited(Protocol):
    """A limit of a server, and what it lets through now."""

    limit: float
    under_way: int
    streams: int


class LoadMetrics:
    """What is kept from being too much, on both sides."""

    def __init__(self, registry: CollectorRegistry) -> None:
        #: Methods with settings of their own have their own limit. It goes with its server.
        self.limits: WeakSet[Limited] = WeakSet()
        self.bulkhead_full = Counter(
            "mesh_bulkhead_full",
            "Calls that were not sent: too many of the method were under way",
            ("rpc_method",),
            registry=registry,
        )
        self.throttled = Counter(
            "mesh_throttled",
            "Calls that were not sent: their server refuses most of them",
            ("rpc_method", "criticality"),
            registry=registry,
        )
        self.degraded = Counter(
            "mesh_degraded",
            "Failed calls that were answered by a fallback",
            ("rpc_method",),
            registry=registry,
        )
        self.shed = Counter(
            "mesh_shed",
            "Calls that were not let in: the server had enough to do",
            ("rpc_method", "criticality"),
            registry=registry,
        )
        self.concurrency_limit = Gauge(
            "mesh_concurrency_limit",
            "How many calls the server works on at a time, as it finds by itself",
            registry=registry,
        )
        self.concurrency_limit.set_function(lambda: sum(one.limit for one in self.limits))
        self.under_way = Gauge(
            "mesh_calls_under_way", "Calls being served, streams included", registry=registry
        )
        self.under_way.set_function(lambda: sum(one.under_way + one.streams for one in self.limits))


class BreakerMetrics:
    """What circuit breakers record."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rejected = Counter(
            "mesh_breaker_rejected",
            "Calls that a circuit breaker refused",
            ("target", "address", "rpc_method"),
            registry=registry,
        )
        self.changes = Counter(
            "mesh_breaker_changes",
            "Changes of a circuit breaker, by the state after it",
            ("target", "address", "rpc_method", "state"),
            registry=registry,
        )
        self.state = Gauge(
            "mesh_breaker_state",
            "Circuit breakers: 0 closed, 1 half-open, 2 open",
            ("target", "address", "rpc_method"),
            registry=registry,
        )


class Metrics:
    """The registry of a process and what the mesh records in it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sagas = SagaMetrics(self.registry)
        self.load = LoadMetrics(self.registry)
        self.call_duration = cache(self._call_duration)
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
        self.inbox = self._of_subscription(
            "mesh_inbox_events", "Events that have arrived and are not applied", "state"
        )
        self.inbox_gap = self._of_subscription(
            "mesh_inbox_gap_seconds",
            "How long an event has waited for an earlier one that has not arrived",
        )
        self.bus_lag = self._of_subscription(
            "mesh_bus_lag_events", "Events that the bus still has for this service"
        )
        self.database_failing = Gauge(
            "mesh_database_failing",
            "1 while the last transaction was not stored",
            registry=self.registry,
        )
        self.retries = self._decided(
            "mesh_retries",
            "Failed attempts that a retry may help: sent again, or out of attempts or budget",
        )
        self.hedges = self._decided(
            "mesh_hedges", "Second attempts of hedged calls: sent, won, or out of budget"
        )
        self.effects_orphaned = Gauge(
            "mesh_effects_orphaned",
            "Open effects at start for whose method there is no code any more",
            ("rpc_method",),
            registry=self.registry,
        )
        self.breakers = BreakerMetrics(self.registry)
        self.faults = Counter(
            "mesh_faults",
            "Calls that met a fault that an operator asked for",
            ("rpc_method", "kind"),
            registry=self.registry,
        )
        self.operator_actions = Counter(
            "mesh_operator_actions",
            "Changes that operators made to this process",
            ("action", "by"),
            registry=self.registry,
        )

    def _of_subscription(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(name, what, ("subscription", *labels), registry=self.registry)

    def _counter(self, name: str, what: str) -> Counter:
        return Counter(name, what, ("topic",), registry=self.registry)

    def _decided(self, name: str, what: str) -> Counter:
        return Counter(name, what, ("rpc_method", "decision"), registry=self.registry)

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
