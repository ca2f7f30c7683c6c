"""A guide on a stock aio server: python -m examples.route_guide.plain.aio_server ADDRESS."""

import asyncio
import logging
import os
import sys

import grpc

import mesh
from examples.route_guide.guide import AioGuide
from examples.route_guide.route_guide_pb2_grpc import add_RouteGuideServicer_to_server


async def main(address: str) -> None:
    """Serve at *address* until killed."""
    server = grpc.aio.server(interceptors=mesh.server_interceptors())
    add_RouteGuideServicer_to_server(AioGuide(), server)
    server.add_insecure_port(address)
    await server.start()
    print("serving", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "WARNING"), format="%(message)s")
    asyncio.run(main(*sys.argv[1:]))
