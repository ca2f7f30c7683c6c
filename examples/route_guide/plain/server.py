"""A guide on a stock sync server: python -m examples.route_guide.plain.server ADDRESS."""

import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from examples.route_guide.guide import Guide
from examples.route_guide.route_guide_pb2_grpc import add_RouteGuideServicer_to_server


def main(address: str) -> None:
    """Serve at *address* until killed."""
    server = grpc.server(ThreadPoolExecutor(8))
    add_RouteGuideServicer_to_server(Guide(), server)
    server.add_insecure_port(address)
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "WARNING"), format="%(message)s")
    main(*sys.argv[1:])
