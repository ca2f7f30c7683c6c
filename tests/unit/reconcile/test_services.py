"""How the services are asked."""

from __future__ import annotations

from typing import Any

import grpc

from mesh.metadata import TRACEPARENT
from reconcile.services import NAMES, Services


class Everything(grpc.GenericRpcHandler):
    """Answers any call with an empty message, and keeps what came with it."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str | bytes]] = []

    def service(self, details: Any) -> Any:
        async def answer(request: bytes, context: Any) -> bytes:
            self.asked.append(dict(context.invocation_metadata()))
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


async def test_nothing_of_it_is_traced() -> None:
    server, everything = grpc.aio.server(), Everything()
    server.add_generic_rpc_handlers((everything,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Services(dict.fromkeys(NAMES, f"127.0.0.1:{port}")) as services:
        await services.greet(10.0)
        async for _ in services.charges():
            pass
    await server.stop(None)
    assert [str(metadata[TRACEPARENT])[-3:] for metadata in everything.asked] == ["-00", "-00"]
