"""What sync stacks have of their own: driving, refusals at construction, threads."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import grpc
import pytest

import mesh
from mesh.call import stack
from mesh.errors import Unavailable
from mesh.layers.breaker import Breaker
from mesh.layers.budget import Budget, BudgetConfig
from mesh.layers.bulkhead import BulkheadConfig, Slots
from mesh.layers.circuit import CircuitConfig, State
from mesh.layers.hedge import HedgeConfig
from mesh.runtime.clock import Runtime
from mesh.runtime.driven import SuspendedError, blocking, drive, iterate
from tests.support.echo import POUR, READ, EchoReply, EchoRequest, EchoStub, call_of
from tests.support.runtime import FakeClock
from tests.support.threads import served_by_threads

THREADS, TURNS = 8, 2_000
PATIENCE_S = 30.0


async def nothing() -> str:
    return "done"


class TestDriving:
    def test_what_never_suspends_is_driven_to_its_end(self) -> None:
        async def layer() -> str:
            return await nothing()

        assert drive(layer()) == "done"

    def test_what_it_raises_is_raised(self) -> None:
        async def layer() -> None:
            raise Unavailable("gone")

        with pytest.raises(Unavailable, match="gone"):
            drive(layer())

    def test_what_suspends_is_refused_and_closed(self) -> None:
        closed = []

        async def layer() -> None:
            try:
                await asyncio.sleep(0)
            finally:
                closed.append(True)

        with pytest.raises(SuspendedError, match="only its clock"):
            drive(layer())
        assert closed

    def test_a_stream_left_early_is_closed(self) -> None:
        closed = []

        async def stream() -> AsyncIterator[int]:
            try:
                async for number in blocking(range(10)):
                    yield number
            finally:
                closed.append(True)

        numbers: Iterator[int] = iterate(stream())
        assert [next(numbers), next(numbers)] == [0, 1]
        numbers.close()  # type: ignore[attr-defined]
        assert closed


class TestConstruction:
    def test_a_queue_is_refused(self) -> None:
        with pytest.raises(ValueError, match="Bulkhead waits for other calls"):
            mesh.sync.interceptors("echo", policy=mesh.Policy(bulkhead=BulkheadConfig(queue_max=1)))

    def test_hedging_is_refused(self) -> None:
        with pytest.raises(ValueError, match="Hedge waits for other calls"):
            mesh.sync.interceptors("echo", policy=mesh.Policy(hedge=HedgeConfig()))

    def test_one_that_is_left_out_is_not(self) -> None:
        policy = mesh.Policy(hedge=HedgeConfig())
        assert len(mesh.sync.interceptors("echo", policy=policy, only=[Breaker])) == 4

    def test_a_bulkhead_without_one_is_not(self) -> None:
        assert len(mesh.sync.interceptors("echo")) == 4

    def test_each_kind_has_an_object_of_its_own(self) -> None:
        kinds = (
            grpc.UnaryUnaryClientInterceptor,
            grpc.UnaryStreamClientInterceptor,
            grpc.StreamUnaryClientInterceptor,
            grpc.StreamStreamClientInterceptor,
        )
        found = [[isinstance(one, kind) for kind in kinds] for one in mesh.sync.interceptors()]
        assert found == [[position == n for position in range(4)] for n in range(4)]


def in_threads(turn: Any) -> list[Any]:
    """Run *turn* many times in each of several threads that start at once."""
    barrier = threading.Barrier(THREADS)

    def run(number: int) -> list[Any]:
        barrier.wait(PATIENCE_S)
        return [turn(number) for _ in range(TURNS)]

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # or a thread is hardly ever interrupted where it hurts
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            return [result for results in pool.map(run, range(THREADS)) for result in results]
    finally:
        sys.setswitchinterval(interval_s)


class TestThreads:
    def test_a_budget_pays_what_it_has_and_no_more(self) -> None:
        clock = FakeClock()
        config = BudgetConfig(share=0.0, per_s=0.0, burst=1000.0)
        budget = Budget(config, clock.monotonic)
        assert sum(in_threads(lambda _: budget.withdraw())) == 1000

    def test_a_bulkhead_never_lets_more_through_and_gives_every_place_back(self) -> None:
        slots = Slots(BulkheadConfig(concurrent_max=3))
        inside = threading.Semaphore(3)

        def turn(_: int) -> bool | None:
            if not slots.take():
                return None
            there_was_room = inside.acquire(blocking=False)
            if there_was_room:
                inside.release()
            slots.give_back()
            return there_was_room

        let_through = [room for room in in_threads(turn) if room is not None]
        assert let_through
        assert all(let_through)
        assert slots.taken == 0

    def test_a_circuit_counts_every_failure_and_lets_as_many_probes_through(self) -> None:
        """Whoever brings the failures, and whoever asks for a probe."""
        clock = FakeClock()
        config = CircuitConfig(failures=50, open_s=1.0, jitter=0.0, probes=4)
        runtime = Runtime(clock, Random(7))
        breaker = Breaker(config, runtime)
        reached = []

        async def target(_: Any) -> Any:
            reached.append(True)
            raise Unavailable

        guarded = stack(breaker, around=target)

        def turn(_: int) -> bool:
            try:
                drive(guarded(call_of(READ)))
            except mesh.CircuitOpenError:
                return False
            except Unavailable:
                return True
            raise AssertionError

        let_through = sum(in_threads(turn))
        circuit = breaker.circuit(call_of(READ))
        assert circuit.state is State.OPEN
        # Those that were inside when it opened got in too: at most one for each other thread.
        assert config.failures <= let_through == len(reached) < config.failures + THREADS
        clock.advance(1.5)
        probes = [circuit.acquire() for _ in range(10)]
        assert sum(probe is not None for probe in probes) == config.probes

    def test_calls_of_many_threads_on_one_channel(self) -> None:
        """Every caller gets the answer to its own request, and the circuit stays closed."""

        def read(request: Any, _: Any) -> Any:
            return EchoReply(number=request.number)

        interceptors = mesh.sync.server_interceptors()
        with served_by_threads(READ, read, *interceptors, threads=THREADS) as port:
            channel = grpc.intercept_channel(
                grpc.insecure_channel(f"127.0.0.1:{port}"), *mesh.sync.interceptors("echo")
            )
            stub = EchoStub(channel)

            def ask(number: int) -> list[int]:
                blocked = [stub.Read(EchoRequest(number=number)).number for _ in range(25)]
                begun = [stub.Read.future(EchoRequest(number=number)) for _ in range(25)]
                return blocked + [future.result(PATIENCE_S).number for future in begun]

            with ThreadPoolExecutor(THREADS) as pool:
                answers = list(pool.map(ask, range(THREADS)))
            assert answers == [[number] * 50 for number in range(THREADS)]
            channel.close()


class TestStreamsLeftEarly:
    """Who leaves a stream without reading on has ended it, with all that the layers hold for it."""

    @pytest.fixture
    def server(self) -> Iterator[int]:
        def pour(_: Any, context: Any) -> Iterator[Any]:
            while context.is_active():
                yield EchoReply()

        with served_by_threads(POUR, pour) as port:
            yield port

    @pytest.mark.parametrize("way", ["cancelled", "dropped"])
    @pytest.mark.parametrize("read", [0, 1])
    def test_it_is_over_at_once(self, server: int, way: str, read: int) -> None:
        node = mesh.Node()
        with grpc.insecure_channel(f"127.0.0.1:{server}") as plain:
            channel = grpc.intercept_channel(plain, *mesh.sync.interceptors("echo", node=node))
            call = EchoStub(channel).Pour(EchoRequest())
            for _ in range(read):
                next(call)
            if way == "cancelled":
                call.cancel()
                assert call.cancelled()
            del call
            gc.collect()
            counted = {
                sample.labels["rpc_response_status_code"]: sample.value
                for family in node.metrics.registry.collect()
                for sample in family.samples
                if sample.name == "rpc_client_call_duration_seconds_count"
            }
            assert counted == {"CANCELLED": 1}
