"""Two processes of a service on one database, restarted in turn while customers call."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

import mesh
from shop.user.v1.user_pb2 import CreateUserRequest, GetUserRequest
from shop.user.v1.user_pb2_grpc import UserServiceStub
from tests.e2e import december
from tests.e2e.system import System, running
from tests.support.waiting import until

if TYPE_CHECKING:
    from shop.user.v1.user_pb2_grpc import UserServiceAsyncStub

AT_ONCE = 6
ORDERS = 120
#: So many make the p99 of a calm time.
CALM_CALLS = 500
REPLICATED = ("user", "order", "orchestrator")
#: Each replica is restarted so often: `RESTARTS=50` for a hundred of the user service's.
ROUNDS = int(os.environ.get("RESTARTS", "1"))
#: A call that is sent once: whatever goes wrong with it, its caller sees.
ONCE = mesh.Policy(retry=None, timeout_s=30.0)


class Customers:
    """Create users and read them, over the mesh's own channel; count what fails.

    took_s: how long their calls took, of those since somebody cleared it.
    """

    def __init__(self, system: System) -> None:
        self.calls = 0
        self.took_s: list[float] = []
        self.failures: Counter[str] = Counter()
        self._over = False
        self._addresses = system.config.addresses_of("user")

    def run(self) -> None:
        """Until `stop`."""
        asyncio.run(self._all())

    def stop(self) -> None:
        self._over = True

    async def _all(self) -> None:
        async with mesh.channel("user", *self._addresses, policy=ONCE) as channel:
            stub = UserServiceStub(channel)
            await asyncio.gather(*(self._one(stub, number) for number in range(AT_ONCE)))

    async def _one(self, stub: UserServiceAsyncStub, number: int) -> None:
        for count in itertools.count():
            if self._over:
                return
            name = f"u-{number}-{count}"
            asked = CreateUserRequest(user_id=name, email=f"{name}@example.com")
            await self._counted("CreateUser", stub.CreateUser(asked))
            await self._counted("GetUser", stub.GetUser(GetUserRequest(user_id=name)))

    async def _counted(self, name: str, answer: Awaitable[object]) -> None:
        self.calls += 1
        began = time.perf_counter()
        try:
            await answer
            self.took_s.append(time.perf_counter() - began)
        except grpc.RpcError as error:
            self.failures[f"{name}: {error}"] += 1


async def test_replicas_restarted_in_turn_fail_no_customer(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replicas = [name for service in REPLICATED for name in (service, f"{service}-2")]
    counts = ",".join(f"{service}=2" for service in REPLICATED)
    with running(data, STORE="postgres", MESH_REPLICAS=counts) as system:
        customers = Customers(system)
        calling = asyncio.create_task(asyncio.to_thread(customers.run))
        orders = december.replay_command(*december.FAILING, f"--limit={ORDERS}")
        replay: subprocess.Popen[bytes] | None = None
        try:
            for _ in ("warm up", "calm"):
                customers.took_s = []
                await until(lambda: len(customers.took_s) >= CALM_CALLS)
            calm_ms, customers.took_s = p99_ms(customers.took_s), []
            replay = system.start(orders, data / "replay.log")
            for _ in range(ROUNDS):
                for replica in replicas:
                    await asyncio.to_thread(restart, system, replica)
            assert await asyncio.to_thread(replay.wait, december.REPLAY_S) == 0, (
                data / "replay.log"
            ).read_text()
        finally:
            if replay is not None:
                replay.kill()
                replay.wait()
            customers.stop()
            await calling
        with capsys.disabled():
            print(
                f"\n{ROUNDS * len(replicas)} restarts, {customers.calls} calls of customers, p99"
                f" {calm_ms:.0f} ms before, {p99_ms(customers.took_s):.0f} ms meanwhile"
            )
        assert not customers.failures, f"of {customers.calls}"
        system.run(sys.executable, "-m", "reconcile")


def p99_ms(took_s: list[float]) -> float:
    """What 99 of 100 calls took at most, in milliseconds."""
    return statistics.quantiles(took_s, n=100)[98] * 1e3


def restart(system: System, replica: str) -> None:
    """Ask *replica* to end as an operator does; return once another serves in its place."""
    pid = system.pids[replica]
    os.kill(pid, signal.SIGTERM)
    system.wait_restarted(replica, pid, replica)
