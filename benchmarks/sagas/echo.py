"""The echo services, each in a process of its own.

python -m benchmarks.sagas.echo stock    grpc.aio and nothing else
python -m benchmarks.sagas.echo mesh     behind the whole server stack
python -m benchmarks.sagas.echo durable  the same, one transaction a call, with its key kept
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path
from typing import Any

import grpc
import uvloop
from google.protobuf.wrappers_pb2 import StringValue

from benchmarks.sagas.contract import ECHO_SERVICE
from benchmarks.sagas.identities import node
from mesh.server import Application
from mesh.service import Context, Service
from mesh.storage.migrate import own_migrations
from mesh.storage.port import Tx
from mesh.storage.sqlite import SqliteStore
from mesh.transport.grpc_server import GrpcServer

stateless: Service[None] = Service(ECHO_SERVICE)
durable: Service[None] = Service(ECHO_SERVICE)


@stateless.call
async def echo(ctx: Context[Any], request: StringValue) -> StringValue:
    """Say it again."""
    return request


@stateless.call
async def take_back(ctx: Context[Any], request: StringValue) -> StringValue:
    """Say it again."""
    return request


def _declare_durable() -> None:
    @durable.rpc
    async def echo(tx: Tx, request: StringValue) -> StringValue:
        return request

    @durable.rpc
    async def take_back(tx: Tx, request: StringValue) -> StringValue:
        return request


_declare_durable()


async def serve_stock() -> tuple[grpc.aio.Server, int]:
    """Serve as grpc.aio does by itself; return the server and its port."""

    async def behaviour(request: StringValue, context: Any) -> StringValue:
        return request

    rpc = grpc.unary_unary_rpc_method_handler(
        behaviour,
        request_deserializer=StringValue.FromString,
        response_serializer=StringValue.SerializeToString,
    )
    rpcs = {method.name: rpc for method in ECHO_SERVICE.methods}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(ECHO_SERVICE.full_name, rpcs),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def serve_mesh(service: Service[None], folder: Path) -> tuple[GrpcServer, SqliteStore, int]:
    """Serve *service* behind the server stack, its database in *folder*."""
    here = node("echo")
    store = SqliteStore(folder / "echo.db", here.runtime, own_migrations())
    application = Application(here, service, store, connect=str, connect_once=str)
    server = GrpcServer(here.runtime)
    server.add(application.routes)
    return server, store, await server.start("127.0.0.1:0")


async def main(kind: str, folder: Path) -> None:
    """Serve until SIGTERM; print the port first."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if kind == "stock":
        stock, port = await serve_stock()
        print(port, flush=True)
        await stop.wait()
        await stock.stop(0)
        return
    server, store, port = await serve_mesh(durable if kind == "durable" else stateless, folder)
    print(port, flush=True)
    await stop.wait()
    await server.stop(0)
    await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["stock", "mesh", "durable"])
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    uvloop.run(main(options.kind, options.folder))
