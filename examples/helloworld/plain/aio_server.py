"""A greeter on a stock aio server: -m examples.helloworld.plain.aio_server ADDRESS [OTHER]."""

import asyncio
import logging
import os
import sys

import grpc

from examples.helloworld.greeter import AioGreeter
from examples.helloworld.helloworld_pb2_grpc import add_GreeterServicer_to_server


async def main(address: str, other: str = "") -> None:
    """Serve at *address* until killed; with *other*, have the greeter there greet."""
    channel = other and grpc.aio.insecure_channel(other)
    server = grpc.aio.server()
    add_GreeterServicer_to_server(AioGreeter(channel), server)
    server.add_insecure_port(address)
    await server.start()
    print("serving", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "WARNING"), format="%(message)s")
    asyncio.run(main(*sys.argv[1:]))
