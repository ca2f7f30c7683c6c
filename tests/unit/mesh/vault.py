"""A contract for tests, and a service's database behind it.

Its messages are protobuf's own wrappers, so there is nothing to generate.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodOptions
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int64Value

from mesh.call import Call, Method, Principal
from mesh.metadata import UNDO_OF
from mesh.runtime.clock import Runtime
from mesh.storage.migrate import Migration, own_migrations
from mesh.storage.port import Store, Tx
from mesh.storage.sqlite import SqliteStore

NUMBER, TEXT = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
METHODS = {  # name: request, reply, idempotency, who streams
    "Put": (NUMBER, NUMBER, MethodOptions.IDEMPOTENT, ""),
    "Take": (NUMBER, NUMBER, MethodOptions.IDEMPOTENT, ""),
    "Label": (TEXT, TEXT, MethodOptions.IDEMPOTENCY_UNKNOWN, ""),
    "Count": (TEXT, NUMBER, MethodOptions.NO_SIDE_EFFECTS, ""),
    "Watch": (TEXT, NUMBER, MethodOptions.NO_SIDE_EFFECTS, "server"),
    "Fill": (NUMBER, NUMBER, MethodOptions.IDEMPOTENT, "client"),
}


def _register() -> ServiceDescriptor:
    file = FileDescriptorProto(
        name="tests/vault.proto",
        package="tests.vault.v1",
        syntax="proto3",
        dependency=[Int64Value.DESCRIPTOR.file.name],
    )
    service = file.service.add(name="VaultService")
    for name, (request, reply, idempotency, streams) in METHODS.items():
        method = service.method.add(
            name=name,
            input_type=request,
            output_type=reply,
            client_streaming=streams == "client",
            server_streaming=streams == "server",
        )
        method.options.idempotency_level = idempotency
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindServiceByName("tests.vault.v1.VaultService")


VAULT = _register()
PUT, TAKE, LABEL, COUNT = (
    Method.of(VAULT.methods_by_name[name]) for name in ("Put", "Take", "Label", "Count")
)
ALICE, BOB = Principal("alice"), Principal("bob")


def call(
    method: Method,
    request: Message | int,
    key: str = "",
    *,
    undo_of: str = "",
    principal: Principal = ALICE,
    metadata: Mapping[str, str] | None = None,
) -> Call:
    """Return a call as it arrives at a handler. `undo_of` is the key of a call to Put."""
    undo = {UNDO_OF: f"{PUT.path} {undo_of}"} if undo_of else {}
    return Call(
        method=method,
        request=Int64Value(value=request) if isinstance(request, int) else request,
        deadline=float("inf"),
        key=key,
        principal=principal,
        metadata={**undo, **(metadata or {})},
    )


def open_vault(folder: Path, runtime: Runtime | None = None) -> SqliteStore:
    """Open the database: one row with what is in the vault, and a log."""
    tables = Migration(
        "0001_vault.sql",
        "CREATE TABLE vault (coins BIGINT NOT NULL CHECK (coins >= 0));"
        "INSERT INTO vault VALUES (0);"
        "CREATE TABLE log (line TEXT NOT NULL);",
    )
    return SqliteStore(folder / "vault.db", runtime or Runtime(), [*own_migrations(), tables])


async def add(tx: Tx, amount: int) -> int:
    """Add *amount* to the vault; return what is in it."""
    ((coins,),) = await tx.execute("UPDATE vault SET coins = coins + $1 RETURNING coins", amount)
    return int(coins)


async def note(tx: Tx, line: str) -> None:
    """Write *line* to the log."""
    await tx.execute("INSERT INTO log VALUES ($1)", line)


async def rows(store: Store, sql: str) -> list[Any]:
    """Return the rows of a query, each of one column as the column."""

    async def work(tx: Tx) -> list[Any]:
        return [row[0] if len(row) == 1 else tuple(row) for row in await tx.execute(sql)]

    return await store.read(work)


async def coins(store: Store) -> int:
    """Return what is in the vault."""
    (held,) = await rows(store, "SELECT coins FROM vault")
    return int(held)


async def log(store: Store) -> list[str]:
    """Return the lines of the log."""
    return await rows(store, "SELECT line FROM log ORDER BY rowid")


def number(reply: Any) -> int:
    """Return the number in a reply."""
    assert isinstance(reply, Int64Value)
    return reply.value
