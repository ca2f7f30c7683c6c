"""Greets whom it reads, on a stock aio channel: python -m examples.helloworld.plain.aio_client."""

import asyncio
import sys

import grpc

import mesh
from examples.helloworld.helloworld_pb2 import HelloRequest
from examples.helloworld.helloworld_pb2_grpc import GreeterStub


async def main(address: str = "127.0.0.1:50061") -> None:
    """For each line of the input, a name, ask the greeter at *address*."""
    channel = grpc.aio.insecure_channel(address, interceptors=mesh.interceptors("greeter"))
    stub = GreeterStub(channel)
    while name := await asyncio.to_thread(sys.stdin.readline):
        metadata = (("x-correlation-id", f"greeting-{name.strip()}"),)
        try:
            reply = await stub.SayHello(HelloRequest(name=name.strip()), metadata=metadata)
            print(reply.message, flush=True)
        except grpc.aio.AioRpcError as error:
            print(error.code().name, flush=True)
    await channel.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
