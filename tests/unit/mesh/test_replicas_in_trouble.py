"""Two replicas of which one is in trouble, on virtual time: the other one's callers feel little."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mesh.call import Call
from mesh.client import Channel, Policy
from mesh.discovery import Reach
from mesh.errors import Internal, MeshError, Overloaded, Unavailable
from mesh.layers.budget import BudgetConfig
from mesh.layers.circuit import CircuitConfig
from mesh.layers.retry import RetryPolicy
from mesh.metadata import CORRELATION_ID
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.testing.loop import VirtualClock, run_virtual
from tests.support.echo import EchoReply, EchoRequest, EchoStub

SERVICE_S = 0.05
NO_CIRCUIT = CircuitConfig(failures=1_000_000)


class Replicas:
    """A transport to two of them: a is healthy, b does what `b` does.

    `went` holds the addresses of the attempts of each call.
    """

    def __init__(self, b: Callable[[], Any], policy: Policy) -> None:
        self.went: dict[str, list[str]] = defaultdict(list)
        self.ends: Counter[str] = Counter()
        self._b = b
        self.node = Node(runtime=Runtime(VirtualClock(), random.Random(5)))
        self.stub = EchoStub(Channel(self.node, "echo", ["a", "b"], self, policy))

    @property
    def sent(self) -> Counter[str]:
        return Counter(address for where in self.went.values() for address in where)

    async def unary(self, call: Call) -> Any:
        self.went[call.metadata[CORRELATION_ID]].append(call.address)
        if call.address == "b":
            await self._b()
        await asyncio.sleep(SERVICE_S)
        return EchoReply()

    async def stream(self, call: Call, _: AsyncIterator[Any]) -> AsyncIterator[Any]:
        yield await self.unary(call)

    def reach(self, _: str) -> Reach:
        return Reach.READY

    def forget(self, _: str) -> None:
        pass

    async def close(self) -> None:
        pass

    async def _one(self, streams: bool) -> None:
        try:
            if streams:
                [reply async for reply in self.stub.Count(EchoRequest())]
            else:
                await self.stub.Read(EchoRequest())
            self.ends["OK"] += 1
        except MeshError as error:
            self.ends[error.reason] += 1

    async def offer(self, calls: int, per_s: float, streams: bool = False) -> None:
        tasks = []
        for _ in range(calls):
            tasks.append(asyncio.ensure_future(self._one(streams)))
            await asyncio.sleep(1.0 / per_s)
        for task in tasks:
            await task


async def sheds() -> None:
    await asyncio.sleep(0.001)
    raise Overloaded("enough", retry_after_s=1.0)


async def fails() -> None:
    await asyncio.sleep(0.001)
    raise Unavailable("no")


@pytest.mark.parametrize("streams", [False, True])
def test_one_that_sheds_all_its_load_does_not_attract_the_others(streams: bool) -> None:
    async def story() -> None:
        replicas = Replicas(sheds, Policy())
        await replicas.offer(400, per_s=200.0, streams=streams)
        assert replicas.ends["OK"] >= 390
        assert replicas.sent["b"] <= 12, "it is asked about once for each second that it asked for"

    run_virtual(story())


@pytest.mark.parametrize("streams", [False, True])
def test_another_attempt_goes_to_another_replica(streams: bool) -> None:
    async def story() -> None:
        retry = RetryPolicy(attempts_max=2, budget=BudgetConfig(share=1.0, burst=100.0))
        replicas = Replicas(fails, Policy(retry=retry, circuit=NO_CIRCUIT))
        await replicas.offer(100, per_s=200.0, streams=streams)
        again = [where for where in replicas.went.values() if len(where) > 1]
        assert len(again) > 50, "b is the least busy"
        assert all(where == ["b", "a"] for where in again)
        assert replicas.ends == {"OK": 100}

    run_virtual(story())


@pytest.mark.parametrize("retry", [None, RetryPolicy()], ids=["once", "retry"])
@pytest.mark.parametrize(("hangs_s", "rounds"), [(0.9, 1), (2.0, 2)], ids=["short", "long"])
def test_one_that_is_being_probed_takes_no_call_from_the_other(
    retry: RetryPolicy | None, hangs_s: float, rounds: int
) -> None:
    """Beyond its probes, which are given up, and made anew, after as long as it was open."""

    async def story() -> None:
        hangs = asyncio.Event()

        async def b() -> None:
            if hangs.is_set():
                await asyncio.sleep(hangs_s)
            raise Internal("broken")

        circuit = CircuitConfig(failures=3, open_s=1.0, jitter=0.0)
        replicas = Replicas(b, Policy(retry=retry, circuit=circuit))
        await replicas.offer(10, per_s=10.0)
        assert replicas.ends.pop("INTERNAL") == circuit.failures
        hangs.set()
        await asyncio.sleep(1.0)
        await replicas.offer(150, per_s=100.0)
        probes = rounds * circuit.probes
        assert replicas.sent["b"] == circuit.failures + probes
        assert replicas.ends == {"OK": 157 - probes, "INTERNAL": probes}

    run_virtual(story())
