"""The service that is overloaded: the server stack on a real socket, a process of its own.

What its handlers need bounds what it can do: places of a pool (`pool`), as of a database's
connections, or the processor that everything else in the process needs as well (`cpu`).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Any

import uvloop

from mesh.call import Call, Principal, door, stack
from mesh.layers.identity import Identities
from mesh.layers.limit import LimitConfig
from mesh.node import LOCAL, Node
from mesh.server import ServerSettings, server_layers
from mesh.transport.grpc_server import GrpcServer
from mesh.transport.port import Route
from tests.support.echo import READ, Echo, EchoReply

SECRET, PEER = "bench", "load"
PLACES, HOLDS_S = 5, 0.1
BURNS_S = 0.01


async def serve(work: str, limit: LimitConfig) -> None:
    """Serve until nobody asks any more; say the port."""
    logging.getLogger("mesh").setLevel(logging.ERROR)  # what is late is counted, not told
    executed = 0
    places = asyncio.Semaphore(PLACES)

    async def pool(_: Call) -> Any:
        nonlocal executed
        async with places:
            await asyncio.sleep(HOLDS_S)
        executed += 1
        return EchoReply()

    async def cpu(_: Call) -> Any:
        nonlocal executed
        ends = time.thread_time() + BURNS_S
        while time.thread_time() < ends:
            pass
        executed += 1
        return EchoReply()

    echo = Echo()
    echo.on_unary = {"pool": pool, "cpu": cpu}[work]
    identities = Identities(SECRET, {PEER: Principal(PEER)}, anonymous=LOCAL)
    node = Node("service", identities=identities)
    layers = server_layers(node, ServerSettings(limit=limit))
    route = Route(READ, stack(*layers, around=echo.unary), door=door(layers, READ))
    server = GrpcServer(node.runtime)
    server.add({READ.path: route})
    print(await server.start("127.0.0.1:0"), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):  # each asks how many calls were executed
        print(executed, flush=True)
    await server.stop(0.0)


if __name__ == "__main__":
    kind, adapts = sys.argv[1:]
    fixed = LimitConfig(initial=1000, least=1000)
    uvloop.run(serve(kind, LimitConfig() if adapts == "adapts" else fixed))
