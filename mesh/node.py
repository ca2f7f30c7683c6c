"""A process of the mesh: what every layer of its stacks is given."""

from __future__ import annotations

import atexit
import os
import sys
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from opentelemetry.trace import NoOpTracer, Tracer

from .call import Principal
from .layers.faults import Faults
from .layers.identity import Identities
from .runtime.clock import Runtime
from .runtime.metrics import Metrics
from .storage.seal import CLEAR, Seal
from .target import Target

#: A developer on the same machine. May do what a person may: never undo.
LOCAL = Principal("local", frozenset({"sales", "operator", "auditor"}))


#: Takes everybody for that developer.
TRUSTING = Identities(anonymous=LOCAL)


@dataclass(frozen=True)
class Node:
    """One process: who it is, what it runs on, where it reports to.

    `token` is what it shows to others; `identities` is how it knows them. Without either it
    trusts whoever reaches it, which is right only in tests and on a developer's machine.
    `instance` tells it from the others that run at the same time, and outlives it: what replaces
    it has the same. "" if nothing does. `seal` is for what it keeps of others' secrets.
    """

    name: str = "local"
    runtime: Runtime = field(default_factory=Runtime)
    tracer: Tracer = field(default_factory=NoOpTracer)
    metrics: Metrics = field(default_factory=Metrics)
    identities: Identities = TRUSTING
    token: str = ""
    instance: str = ""
    seal: Seal = CLEAR
    targets: dict[str, Target] = field(default_factory=dict, init=False, repr=False, compare=False)

    @staticmethod
    def of_environment() -> Node:
        """Return a node for a process that brings no more than its environment.

        If OTEL_EXPORTER_OTLP_ENDPOINT says where to, its spans go there, until it exits.
        """
        return Node(tracer=_tracer_of_environment())

    @cached_property
    def faults(self) -> Faults:
        """What operators let go wrong with our calls."""
        return Faults(self.runtime, self.metrics)

    def target(self, name: str) -> Target:
        """Return what all our calls to *name* share; with "" for a name, something of its own."""
        target = self.targets.get(name) or Target(name, self.runtime, self.metrics)
        return self.targets.setdefault(name, target) if name else target


@cache
def _tracer_of_environment() -> Tracer:
    """Return the one tracer of this process; its spans have OTEL_SERVICE_NAME, or the program's."""
    if not any("OTLP" in name and name.endswith("ENDPOINT") for name in os.environ):
        return NoOpTracer()
    from .runtime.telemetry import Telemetry  # the exporter: a process without one need not wait

    telemetry = Telemetry(os.environ.get("OTEL_SERVICE_NAME") or Path(sys.argv[0]).stem)
    atexit.register(telemetry.flush)
    return telemetry.tracer
