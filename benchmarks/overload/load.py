"""Callers who come whether those before them have been served or not."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.overload.service import PEER, SECRET
from mesh.call import Criticality
from mesh.client import Channel, Policy
from mesh.errors import MeshError, Overloaded
from mesh.layers.circuit import CircuitConfig
from mesh.layers.identity import make_token
from mesh.layers.throttle import ThrottleConfig
from mesh.node import Node
from mesh.transport.grpc_client import GrpcTransport
from tests.support.echo import EchoRequest, EchoStub

#: How long callers wait, with all attempts.
PATIENCE_S = 1.0
#: One call in 40 is critical: at ten times what can be done, a quarter of that.
CRITICAL_SHARE = 0.025
#: The server alone protects itself here.
UNBROKEN = CircuitConfig(failures=1_000_000)


@dataclass
class Phase:
    """What became of the calls that came in one phase."""

    name: str
    times_capacity: float
    lasts_s: float
    asked: int = 0
    served: int = 0
    refused: int = 0
    late: int = 0
    failed: int = 0
    critical_asked: int = 0
    critical_served: int = 0
    executed: int = 0
    took_ms: list[float] = field(default_factory=list, repr=False)
    #: Of the seconds of the phase, how many of those who came in each were not served.
    unserved_by_second: dict[int, int] = field(default_factory=dict, repr=False)

    @property
    def goodput_per_s(self) -> float:
        """How many were served while they waited."""
        return self.served / self.lasts_s

    def figures(self) -> dict[str, Any]:
        """Return what is kept."""
        cuts = statistics.quantiles(self.took_ms, n=100) if len(self.took_ms) > 1 else [0.0] * 99
        shown = {k: v for k, v in vars(self).items() if k not in ("took_ms", "unserved_by_second")}
        return {
            **shown,
            "goodput_per_s": round(self.goodput_per_s, 1),
            "p50_ms": round(cuts[49], 1),
            "p99_ms": round(cuts[98], 1),
        }


class Load:
    """Calls one service from this process."""

    def __init__(self, port: int, throttle: ThrottleConfig | None = None) -> None:
        node = Node("load", token=make_token(SECRET, PEER))
        self._transport = GrpcTransport(node.runtime)
        self._stubs = {
            rank: EchoStub(
                Channel(
                    node,
                    "service",
                    [f"127.0.0.1:{port}"],
                    self._transport,
                    Policy(
                        timeout_s=PATIENCE_S,
                        criticality=rank,
                        circuit=UNBROKEN,
                        throttle=throttle,
                    ),
                )
            )
            for rank in (Criticality.DEFAULT, Criticality.CRITICAL)
        }
        self._random = random.Random(7)  # noqa: S311  # when callers come
        self._waiting: set[asyncio.Task[None]] = set()

    async def capacity_per_s(self, lasts_s: float, callers: int = 10) -> float:
        """Return what the service does if *callers* always have one call under way."""
        ends = time.perf_counter() + lasts_s
        count = 0

        async def caller() -> None:
            nonlocal count
            while time.perf_counter() < ends:
                with suppress(MeshError):  # the first may come before the connection
                    await self._stubs[Criticality.CRITICAL].Read(EchoRequest())
                    count += 1

        await asyncio.gather(*(caller() for _ in range(callers)))
        return count / lasts_s

    async def offer(self, phase: Phase, per_s: float) -> None:
        """Let callers come for the phase's time, and wait for the last of them."""
        began = due = time.perf_counter()
        while due < began + phase.lasts_s:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self._call(phase, due - began))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
            due += self._random.expovariate(per_s)
        await asyncio.gather(*self._waiting)

    async def _call(self, phase: Phase, at_s: float) -> None:
        critical = self._random.random() < CRITICAL_SHARE
        phase.asked += 1
        phase.critical_asked += critical
        rank = Criticality.CRITICAL if critical else Criticality.DEFAULT
        began = time.perf_counter()
        try:
            await self._stubs[rank].Read(EchoRequest())
        except MeshError as error:
            phase.unserved_by_second[int(at_s)] = phase.unserved_by_second.get(int(at_s), 0) + 1
            if isinstance(error, Overloaded):
                phase.refused += 1
            elif error.status.name == "DEADLINE_EXCEEDED":
                phase.late += 1
            else:
                phase.failed += 1
            return
        phase.served += 1
        phase.critical_served += critical
        phase.took_ms.append((time.perf_counter() - began) * 1e3)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()
