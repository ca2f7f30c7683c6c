"""The smallest service that serves its whole contract, for tests of what is around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from mesh.service import Context, Service
from mesh.storage.port import Tx

from .vault import VAULT

service: Service[None] = Service(VAULT)


@service.rpc
async def put(tx: Tx, request: Int64Value) -> Int64Value:
    return request


@service.rpc
async def take(tx: Tx, request: Int64Value) -> Int64Value:
    return request


@service.rpc
async def label(tx: Tx, request: StringValue) -> StringValue:
    return request


@service.rpc
async def count(tx: Tx, request: StringValue) -> Int64Value:
    return Int64Value(value=len(request.value))


@service.call
async def watch(ctx: Context[Any], request: StringValue) -> AsyncIterator[Int64Value]:
    yield Int64Value(value=len(request.value))


@service.call
async def fill(ctx: Context[Any], request: AsyncIterator[Int64Value]) -> Int64Value:
    return Int64Value(value=sum([one.value async for one in request]))
