"""The transports, each with an echo service behind it, and a store with coins."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest

from mesh.node import Node
from mesh.storage.port import Store
from tests.support.coins import COINS
from tests.support.databases import Database
from tests.support.wire import GrpcWire, MemoryWire, Wire


@pytest.fixture(params=[GrpcWire, MemoryWire], ids=["grpc", "memory"])
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Wire]:
    opened: Wire = request.param(Node())
    async with opened as wire:
        with socket.socket() as taken:  # bound, and nobody listens
            taken.bind(("127.0.0.1", 0))
            wire.nowhere = f"127.0.0.1:{taken.getsockname()[1]}"
            yield wire


@pytest.fixture
async def grpc_wire() -> AsyncIterator[GrpcWire]:
    async with GrpcWire(Node()) as wire:
        yield wire


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    store = await database.open([COINS])
    yield store
    await store.close()
