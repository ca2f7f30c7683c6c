"""The saga on this mesh: a journal with one commit a step, and the whole stack on both sides."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from google.protobuf.wrappers_pb2 import StringValue

from benchmarks.sagas.contract import STEPS, TEXT, EchoStub, check
from benchmarks.sagas.identities import node
from benchmarks.sagas.worker import Run, work
from mesh.client import Channel, Policy
from mesh.dial import Dial, dialled
from mesh.runtime.clock import Runtime
from mesh.saga import Steps, Undo, saga
from mesh.saga.engine import SagaEngine
from mesh.saga.v1 import saga_pb2 as pb
from mesh.scope import Scope, scope
from mesh.storage.migrate import own_migrations
from mesh.storage.port import Store
from mesh.storage.postgres.store import PostgresStore
from mesh.storage.sqlite import SqliteStore
from mesh.transport.grpc_client import GrpcTransport

#: How long a saga may take here.
PATIENCE_S = 60.0


class Clients:
    """The echo and its undo."""

    def __init__(self, dial: Dial) -> None:
        self.echo = EchoStub(dial("echo", "Echo", "TakeBack"))


@saga(version=1)
async def five_echoes(step: Steps, to: Clients, it: StringValue) -> None:
    """Five calls, each of which could be taken back."""
    for _ in range(STEPS):
        reply = await step(to.echo.Echo, it, undo=Undo(to.echo.TakeBack, it))
        check(reply.value)


async def open_store(database: str, runtime: Runtime) -> Store:
    """Open the journal: a PostgreSQL at a URL, or a SQLite file."""
    if "://" in database:
        return await PostgresStore.open(database, "orchestrator", runtime, own_migrations())
    return SqliteStore(Path(database), runtime, own_migrations())


@asynccontextmanager
async def engine_on(echo: str, database: str) -> AsyncIterator[SagaEngine]:
    """An engine that has taken up what its journal in *database* holds."""
    here = node("orchestrator")
    store = await open_store(database, here.runtime)
    transport = GrpcTransport(here.runtime)
    once = Policy(retry=None)  # the engine owns the retries of steps
    clients, dial = dialled(Clients, lambda to: Channel(here, to, [echo], transport, once))
    engine = SagaEngine(here, store, [five_echoes], clients, dial.remotes)
    await engine.resume()
    yield engine
    await engine.stop()
    await transport.close()
    await store.close()


@asynccontextmanager
async def ours(echo: str, database: str, wait: bool) -> AsyncIterator[Run]:
    """Start a saga; with *wait*, see it to its end."""
    request = StringValue(value=TEXT)
    new_id = Runtime().new_id
    async with engine_on(echo, database) as engine:

        async def run() -> None:
            scope.set(Scope(correlation_id=new_id()))  # as that of a call that asked for it
            saga_id = await engine.start(five_echoes, request, new_id())
            if not wait:
                return
            row = await engine.wait(saga_id, PATIENCE_S)
            if row.state != pb.Saga.COMPLETED:
                raise AssertionError(f"a saga is {pb.Saga.State.Name(row.state)}: {row.error()}")

        yield run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--echo", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--no-wait", action="store_true")
    options = parser.parse_args()
    work(ours(options.echo, options.database, not options.no_wait))
