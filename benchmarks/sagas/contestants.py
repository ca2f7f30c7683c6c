"""Who runs, how each is started, and what it promises when it says that a step is done."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.sagas import order, servers
from benchmarks.sagas.processes import Process, module

SYNCED = "each step, fsync"


@dataclass(frozen=True)
class Contestant:
    """Its workers, and the other processes that work when they work.

    `at_once` is how many sagas all its workers have under way.
    """

    at_once: int
    durability: str
    workers: tuple[Process, ...]
    others: tuple[Process, ...] = ()

    @property
    def pids(self) -> list[int]:
        """Return every process whose CPU, with all below it, is its own."""
        return [process.pid for process in (*self.workers, *self.others)]


class Ground:
    """What contestants stand on: the folder of this run, and the servers that they share."""

    def __init__(self, folder: Path, opened: AsyncExitStack) -> None:
        self.folder = folder
        self._opened = opened
        self._servers: dict[str, tuple[Process, Any]] = {}

    async def server(
        self, name: str, opened: Callable[[], AbstractAsyncContextManager[tuple[Process, Any]]]
    ) -> tuple[Process, Any]:
        """Return the server called *name* and what it says of itself; start it if need be."""
        if name not in self._servers:
            self._servers[name] = await self._opened.enter_async_context(opened())
        return self._servers[name]

    async def echo(self, kind: str) -> tuple[Process, str]:
        """Return the echo service of this kind, and its address."""
        within = self.folder / f"echo-{kind}"
        serving, port = await self.server(
            within.name, lambda: module("echo", within, kind, "--folder", str(within))
        )
        return serving, f"127.0.0.1:{port}"

    async def postgres(self, name: str) -> tuple[Process, str]:
        """Return the PostgreSQL, and the URL of a database in it."""
        within = self.folder / "postgres"
        serving, url = await self.server(
            within.name, lambda: servers.postgres(within, "orchestrator,dbos")
        )
        return serving, url.format(name=name)

    async def worker(
        self, name: str, within: str, *arguments: str, environment: Mapping[str, str] = os.environ
    ) -> Process:
        """Start a worker."""
        opened = module(name, self.folder / within, *arguments, environment=environment)
        worker, _ = await self._opened.enter_async_context(opened)
        return worker


#: Starts a contestant.
Start: TypeAlias = Callable[[Ground], Awaitable[Contestant]]


def raw(*arguments: str) -> Start:
    """The same calls and nothing else."""

    async def begin(ground: Ground) -> Contestant:
        echo, address = await ground.echo("stock")
        worker = await ground.worker("raw", "raw", "--echo", address, *arguments)
        return Contestant(50, "none", (worker,), (echo,))

    return begin


def ours(kind: str = "mesh", durability: str = SYNCED) -> Start:
    """The saga on this mesh, its journal in SQLite."""

    async def begin(ground: Ground) -> Contestant:
        echo, address = await ground.echo(kind)
        database = ground.folder / f"ours-{kind}.db"
        worker = await ground.worker("ours", "ours", "--echo", address, "--database", str(database))
        return Contestant(50, durability, (worker,), (echo,))

    return begin


async def ours_postgres(ground: Ground) -> Contestant:
    """The saga on this mesh, its journal in PostgreSQL."""
    echo, address = await ground.echo("mesh")
    server, url = await ground.postgres("orchestrator")
    worker = await ground.worker("ours", "ours", "--echo", address, "--database", url)
    return Contestant(50, SYNCED, (worker,), (echo, server))


def dbos(at_once: int, workers: int = 1, *options: str, postgres: bool = False) -> Start:
    """DBOS, in one process or several; each has its part of what is *at_once*."""

    async def begin(ground: Ground) -> Contestant:
        echo, address = await ground.echo("stock")
        others: tuple[Process, ...] = (echo,)
        url = f"sqlite:///{ground.folder / f'dbos-{at_once}-{workers}.db'}"
        if postgres:
            server, url = await ground.postgres("dbos")
            others = (echo, server)
        where = ("--echo", address, "--database", url)
        made = [
            await ground.worker(
                "peer_dbos", "dbos", *where, "--executor", f"{at_once}-{number}", *options
            )
            for number in range(workers)
        ]
        return Contestant(at_once, SYNCED, tuple(made), others)

    return begin


def temporal(at_once: int, *arguments: str) -> Start:
    """Temporal's development server as it is by default: in memory."""

    async def begin(ground: Ground) -> Contestant:
        echo, address = await ground.echo("stock")
        server, where = await ground.server(
            "temporal", lambda: servers.temporal(ground.folder / "temporal")
        )
        worker = await ground.worker(
            "peer_temporal", "temporal", "--echo", address, "--server", where, *arguments
        )
        return Contestant(at_once, "none: in memory", (worker,), (echo, server))

    return begin


def full_order(name: str, *leave_out: str) -> Start:
    """Real orders through the order system; some of it can be left out."""

    async def begin(ground: Ground) -> Contestant:
        folder = ground.folder / name
        system, environment = await ground.server(
            name, lambda: servers.order_system(folder, leave_out)
        )
        worker = await ground.worker("order", f"{name}-orders", environment=environment)
        return Contestant(50, f"{SYNCED}; each service too", (worker,), (system,))

    return begin


RAW, OURS, ORDER = "raw chain of 5 calls", "ours, SQLite", "full order"
OURS_POSTGRES = "ours, PostgreSQL"
#: What orders do not go through.
BESIDE = ("traces", "gateway", "reconcile")
#: What hears of them afterwards, in events.
LISTENERS = ("notification", "mailbox", "analytics")
RAW_ORDER = f"raw chain of {order.CALLS} calls"
CONTESTANTS: dict[str, Start] = {
    RAW: raw(),
    OURS: ours(),
    "ours, SQLite, steps durable too": ours("durable", f"{SYNCED}; each service too"),
    OURS_POSTGRES: ours_postgres,
    "DBOS SQLite, default": dbos(50),
    "DBOS SQLite, tuned": dbos(8, 1, "--wal", "--threads", "8"),
    "DBOS PostgreSQL, default": dbos(50, postgres=True),
    "DBOS PostgreSQL, tuned": dbos(32, 2, "--threads", "16", postgres=True),
    "Temporal dev server, default": temporal(25),
    "Temporal dev server, tuned": temporal(25, "--tuned"),
    "Temporal, local activities": temporal(25, "--tuned", "--local"),
    RAW_ORDER: raw("--calls", str(order.CALLS)),
    ORDER: full_order("orders", *BESIDE, *LISTENERS),
    "full order, all that listens to it": full_order("system", *BESIDE),
}
