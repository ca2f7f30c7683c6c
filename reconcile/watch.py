"""Reconciles again and again, and shows the last outcome to Prometheus.

Each run is a process of its own: what it needs of memory it gives back, and whatever happens to it,
the metrics stay. So nothing here may import the mesh, nor gRPC.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from reconcile.catalogue import RULES

#: Pauses last at least so many times as long as the run before: it is a guest.
REST: Final = 9.0
POLL_S: Final = 0.2
MAX_LOGGED: Final = 50
_FINISHED: Final = (0, 1)  # nothing found, something found


class Metrics:
    """What the last run found."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"mesh_reconcile_{name}", what, labels, registry=registry)

        self.findings = gauge("findings", "Findings of the last run", ("rule",))
        self.unsure = gauge("unsure", "Orders that seem wrong and did not hold still")
        self.orders = gauge("orders", "Orders looked at in the last run")
        self.in_flight = gauge("in_flight", "Orders on their way in the last run")
        self.last_run = gauge("last_run_timestamp_seconds", "When the last finished run began")
        self.duration = gauge("duration_seconds", "How long the last run took")
        self.failures = Counter(
            "mesh_reconcile_failures", "Runs that did not finish", registry=registry
        )
        for rule in RULES:  # there before anything is found, so that an alert sees it change
            self.findings.labels(rule).set(0)

    def show(self, report: dict[str, Any]) -> None:
        """Show a report, in the form that --json prints."""
        for rule in RULES:
            broken = [finding for finding in report["findings"] if finding["rule"] == rule]
            self.findings.labels(rule).set(len(broken))
        self.unsure.set(report["unsure"])
        self.orders.set(report["orders"])
        self.in_flight.set(report["in_flight"])
        self.last_run.set(report["began_at"])
        self.duration.set(report["duration_s"])


def watch(every_s: float, port: int, host: str) -> int:
    """Do it until SIGTERM or SIGINT. Exit status: 0, or 2 if the port is taken."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    try:
        start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        print(f"cannot serve /metrics on {host}:{port}: {error.strerror}", file=sys.stderr)
        return 2
    pause_s = every_s
    while not stop.wait(pause_s):
        began = time.monotonic()
        report = _run(stop)
        if report:
            metrics.show(report)
            _log(report)
        elif not stop.is_set():
            metrics.failures.inc()
        pause_s = max(every_s, REST * (time.monotonic() - began))
    return 0


def _run(stop: threading.Event) -> dict[str, Any] | None:
    """Reconcile once, in a process of its own; return its report, None if it did not finish."""
    command = [sys.executable, "-m", "reconcile", "--json", "--quiet"]
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output) as run:
            while run.poll() is None:
                if stop.wait(POLL_S):
                    run.terminate()
        if run.returncode not in _FINISHED:
            return None
        output.seek(0)
        report: dict[str, Any] = json.load(output)
        return report


def _log(report: dict[str, Any]) -> None:
    for finding in report["findings"][:MAX_LOGGED]:
        line = {"service": "reconcile", "event": "finding", "level": "error", **finding}
        print(json.dumps(line), file=sys.stderr, flush=True)
