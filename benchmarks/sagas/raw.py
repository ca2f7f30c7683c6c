"""The same calls, one after the other, and nothing else: what is lost is lost."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from benchmarks.sagas.contract import STEPS, TEXT, EchoStub, check
from benchmarks.sagas.worker import Run, work


@asynccontextmanager
async def raw(echo: str, calls: int) -> AsyncIterator[Run]:
    """A chain of *calls* on a stock channel."""
    async with grpc.aio.insecure_channel(echo) as channel:
        stub = EchoStub(channel)

        async def run() -> None:
            for _ in range(calls):
                check((await stub.Echo(StringValue(value=TEXT), timeout=10)).value)

        yield run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--echo", required=True)
    parser.add_argument("--calls", type=int, default=STEPS)
    options = parser.parse_args()
    work(raw(options.echo, options.calls))
