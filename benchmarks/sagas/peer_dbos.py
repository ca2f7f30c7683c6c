"""The saga on DBOS: one transaction before the first step, one after each, one at the end.

``--threads`` takes its synchronous API, whose workflows run in threads, else the asynchronous one.
Several processes may share a database, each under an ``--executor`` of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
from dbos import DBOS
from google.protobuf.wrappers_pb2 import StringValue

from benchmarks.sagas.contract import STEPS, TEXT, EchoStub, check
from benchmarks.sagas.worker import Run, work

SQLITE = "sqlite:///"


def _threads(echo: str) -> Callable[[str], str]:
    """Declare the saga on the synchronous API."""
    stub: Any = EchoStub(grpc.insecure_channel(echo))

    @DBOS.step()
    def say(text: str) -> str:
        return str(stub.Echo(StringValue(value=text), timeout=10).value)

    @DBOS.step()
    def take_back(text: str) -> None:
        stub.TakeBack(StringValue(value=text), timeout=10)

    @DBOS.workflow()
    def five_echoes(text: str) -> str:
        made = []
        try:
            for _ in range(STEPS):
                made.append(say(text))
                check(made[-1])
        except Exception:
            for one in reversed(made):
                take_back(one)
            raise
        return made[-1]

    return five_echoes


def _coroutines(stub: EchoStub) -> Callable[[str], Any]:
    """Declare the saga on the asynchronous API."""

    @DBOS.step()
    async def say(text: str) -> str:
        return (await stub.Echo(StringValue(value=text), timeout=10)).value

    @DBOS.step()
    async def take_back(text: str) -> None:
        await stub.TakeBack(StringValue(value=text), timeout=10)

    @DBOS.workflow()
    async def five_echoes(text: str) -> str:
        made: list[str] = []
        try:
            for _ in range(STEPS):
                made.append(await say(text))
                check(made[-1])
        except Exception:
            for one in reversed(made):
                await take_back(one)
            raise
        return made[-1]

    return five_echoes


@asynccontextmanager
async def dbos(
    echo: str, database: str, executor: str, wal: bool, threads: int
) -> AsyncIterator[Run]:
    """DBOS on *database*, a URL of SQLAlchemy's."""
    if wal:  # a property of the file; commits are synced all the same
        with sqlite3.connect(database.removeprefix(SQLITE)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    DBOS(
        config={
            "name": "five-echoes",
            "system_database_url": database,
            "executor_id": executor,
            "log_level": "ERROR",
        }
    )
    if threads:
        synchronous = _threads(echo)
        pool = ThreadPoolExecutor(threads)
        loop = asyncio.get_running_loop()

        async def run() -> None:
            check(await loop.run_in_executor(pool, synchronous, TEXT))

        DBOS.launch()
        yield run
        pool.shutdown()
    else:
        async with grpc.aio.insecure_channel(echo) as channel:
            asynchronous = _coroutines(EchoStub(channel))

            async def run() -> None:
                check(await asynchronous(TEXT))

            DBOS.launch()
            yield run
    DBOS.destroy()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--echo", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--executor", default="local")
    parser.add_argument("--wal", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    work(dbos(options.echo, options.database, options.executor, options.wal, options.threads))
