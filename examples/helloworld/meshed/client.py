"""Greets whom it reads, on a stock sync channel: python -m examples.helloworld.plain.client."""

import sys

import grpc

import mesh
from examples.helloworld.helloworld_pb2 import HelloRequest
from examples.helloworld.helloworld_pb2_grpc import GreeterStub


def main(address: str = "127.0.0.1:50061") -> None:
    """For each line of the input, a name, ask the greeter at *address*."""
    channel = grpc.insecure_channel(address)
    channel = grpc.intercept_channel(channel, *mesh.sync.interceptors("greeter"))
    stub = GreeterStub(channel)
    for name in sys.stdin:
        metadata = (("x-correlation-id", f"greeting-{name.strip()}"),)
        try:
            reply = stub.SayHello(HelloRequest(name=name.strip()), metadata=metadata)
            print(reply.message, flush=True)
        except grpc.RpcError as error:
            print(error.code().name, flush=True)
    channel.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
