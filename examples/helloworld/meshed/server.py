"""A greeter on a stock sync server: -m examples.helloworld.plain.server ADDRESS [OTHER]."""

import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

import mesh
from examples.helloworld.greeter import Greeter
from examples.helloworld.helloworld_pb2_grpc import add_GreeterServicer_to_server


def main(address: str, other: str = "") -> None:
    """Serve at *address* until killed; with *other*, have the greeter there greet."""
    channel = other and grpc.insecure_channel(other)
    channel = channel and grpc.intercept_channel(channel, *mesh.sync.interceptors("greeter"))
    server = grpc.server(ThreadPoolExecutor(8), interceptors=mesh.sync.server_interceptors())
    add_GreeterServicer_to_server(Greeter(channel), server)
    server.add_insecure_port(address)
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "WARNING"), format="%(message)s")
    main(*sys.argv[1:])
