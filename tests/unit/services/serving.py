"""One service as it runs: its own database, both stacks, and a network in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc

from mesh.call import Call, Method, Principal
from mesh.client import Channel, Policy
from mesh.events.port import Bus
from mesh.layers.identity import Identities
from mesh.node import LOCAL, Node
from mesh.runtime.clock import Runtime
from mesh.server import Application
from mesh.service import Service
from mesh.storage.migrate import migrations, own_migrations
from mesh.transport.memory import MemoryNetwork
from mesh.transport.port import Route
from tests.support.databases import Database

#: What its database is called.
SERVED = "service"
Fake = Callable[[Any], Awaitable[Any]]


@asynccontextmanager
async def serving(
    service: Service[Any],
    database: Database,
    *,
    caller: Principal = LOCAL,
    others: Mapping[str, Fake] | None = None,
    bus: Bus | None = None,
    runtime: Runtime | None = None,
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve *service* and yield a channel to it.

    Args:
        service: what is served.
        database: where its data is.
        caller: who the service takes its callers for.
        others: the methods it calls, by path, replaced by functions of their request.
        bus: where its events come from and go to.
        runtime: what it runs on, if not on the machine's.
    """
    node = Node(runtime=runtime or Runtime(), identities=Identities(anonymous=caller))
    network = MemoryNetwork(node.runtime)

    def connect(target: str) -> Channel:
        return Channel(node, target, [target], network, Policy(retry=None))

    network.serve("user", _fakes(others or {}))
    network.serve("inventory", _fakes(others or {}))
    assert service.schema
    schema = [*own_migrations(), *migrations(service.schema)]
    store = await database.open(schema, SERVED, node.runtime)
    application = Application(node, service, store, connect, connect, bus)
    network.serve("served", application.routes)
    if bus:
        await application.resume()
    try:
        yield cast("grpc.aio.Channel", connect("served"))
    finally:
        if bus:
            await application.stop()
        await store.close()


def _fakes(others: Mapping[str, Fake]) -> dict[str, Route]:
    def route(path: str, fake: Fake) -> Route:
        async def handle(call: Call) -> Any:
            return await fake(call.request)

        return Route(Method.at(path), unary=handle)

    return {path: route(path, fake) for path, fake in others.items()}
