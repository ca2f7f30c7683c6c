"""Ten times more is asked of a server than it can do, counted in calls executed and refused.

The real layers of both sides, on a virtual clock. Handlers need something of which there is
little, for half a second or for a moment, so that 100 calls a second are all there can be.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

import pytest

from mesh.call import Call, Criticality, Principal, stack
from mesh.client import Channel, Policy
from mesh.errors import MeshError, Overloaded
from mesh.layers.circuit import CircuitConfig
from mesh.layers.identity import Identities, make_token
from mesh.layers.limit import LimitConfig
from mesh.node import LOCAL, Node
from mesh.runtime.clock import Runtime
from mesh.server import ServerSettings, server_layers
from mesh.testing.loop import VirtualClock, run_virtual
from mesh.transport.memory import MemoryNetwork
from tests.support.echo import Echo, EchoReply, EchoRequest, EchoStub

CAPACITY_PER_S = 100.0
#: What is asked: for 5 s half of what can be done, for 10 s ten times that, for 10 s half again.
CALM, STORM = 0.5 * CAPACITY_PER_S, 10.0 * CAPACITY_PER_S
BEGINS, ENDS, LAST = 5, 15, 25
#: One call in 40 is critical: in the storm, a quarter of what can be done.
CRITICAL_SHARE = 0.025


class Overload:
    """A server, its callers, and what became of every call.

    Args:
        at_once: so many handlers have at a time what they need.
        limit: how the server protects itself.
    """

    def __init__(self, at_once: int, limit: LimitConfig) -> None:
        self.random = Random(7)
        self.resource = asyncio.Semaphore(at_once)
        self.takes_s = at_once / CAPACITY_PER_S
        self.ends: Counter[tuple[int, Criticality, str]] = Counter()
        runtime = Runtime(clock=VirtualClock(), random=self.random)
        network = MemoryNetwork(runtime)
        identities = Identities("secret", {"peer": Principal("peer")}, anonymous=LOCAL)
        node = Node(runtime=runtime, identities=identities)
        layers = server_layers(node, ServerSettings(limit=limit))
        echo = Echo()
        echo.on_unary = self.work
        network.serve("server", echo.routes(lambda handler: stack(*layers, around=handler)))
        client = Node(runtime=runtime, token=make_token("secret", "peer"))
        patience_s = 1.0 + 10.0 * self.takes_s
        unbroken = CircuitConfig(failures=1_000_000)  # what protects here is the server alone
        self.stubs = {
            rank: EchoStub(
                Channel(
                    client,
                    "server",
                    ["server"],
                    network,
                    Policy(timeout_s=patience_s, criticality=rank, circuit=unbroken),
                )
            )
            for rank in Criticality
        }

    async def work(self, _: Call) -> Any:
        """Serve one call."""
        async with self.resource:
            await asyncio.sleep(self.takes_s * self.random.uniform(0.5, 1.5))
        return EchoReply()

    async def offer(self, per_s: float, until_s: float) -> None:
        """Let callers come, whether those before them have been served or not."""
        loop, tasks = asyncio.get_running_loop(), []
        while loop.time() < until_s:
            critical = self.random.random() < CRITICAL_SHARE
            rank = Criticality.CRITICAL if critical else Criticality.DEFAULT
            tasks.append(loop.create_task(self.call(rank)))
            await asyncio.sleep(self.random.expovariate(per_s))
        await asyncio.gather(*tasks)

    async def call(self, rank: Criticality) -> None:
        second = int(asyncio.get_running_loop().time())
        try:
            await self.stubs[rank].Read(EchoRequest())
            end = "served"
        except MeshError as error:
            end = "refused" if isinstance(error, Overloaded) else error.status.name
        self.ends[second, rank, end] += 1

    def count(self, begin: int, end: int, how: str = "", rank: Criticality | None = None) -> int:
        """Return how many calls that were made in [begin, end) seconds ended so."""
        return sum(
            n
            for (second, of, ended), n in self.ends.items()
            if begin <= second < end and how in ("", ended) and rank in (None, of)
        )

    @property
    def goodput(self) -> float:
        """Of what can be done in the storm, the share that was done while its caller waited."""
        return self.count(BEGINS, ENDS, "served") / (CAPACITY_PER_S * (ENDS - BEGINS))


def run(at_once: int, limit: LimitConfig) -> Overload:
    async def scenario() -> Overload:
        overload = Overload(at_once, limit)
        await overload.offer(CALM, BEGINS)
        await overload.offer(STORM, ENDS)
        await overload.offer(CALM, LAST)
        return overload

    return run_virtual(scenario())


@pytest.mark.parametrize("at_once", [5, 60])
def test_ten_times_too_much_leaves_the_goodput_and_what_is_critical(at_once: int) -> None:
    seen = run(at_once, LimitConfig())
    asked = seen.count(BEGINS, ENDS)
    assert asked > 9 * CAPACITY_PER_S * (ENDS - BEGINS)
    assert seen.goodput >= 0.85
    served, refused = seen.count(BEGINS, ENDS, "served"), seen.count(BEGINS, ENDS, "refused")
    assert served + refused >= 0.99 * asked, "who is not served is told so, and does not wait"
    critical = seen.count(BEGINS, ENDS, rank=Criticality.CRITICAL)
    assert seen.count(BEGINS, ENDS, "served", Criticality.CRITICAL) >= 0.99 * critical > 200
    since = ENDS + 3
    assert seen.count(since, LAST) == seen.count(since, LAST, "served") > 200, "back to normal"


@pytest.mark.parametrize(("at_once", "fixed"), [(5, 1000), (60, 20)])
def test_a_limit_that_does_not_adapt_is_too_high_or_too_low(at_once: int, fixed: int) -> None:
    seen = run(at_once, LimitConfig(initial=fixed, least=fixed, most=fixed))
    assert seen.goodput < 0.7
