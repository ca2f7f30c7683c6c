"""What all of them call: an echo, and what would take it back.

The messages are protobuf's own wrappers, so there is nothing to generate.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodOptions
from google.protobuf.wrappers_pb2 import StringValue

#: Calls in a saga.
STEPS = 5
#: What each of them sends, and gets back.
TEXT = "x" * 100


def _register() -> ServiceDescriptor:
    text = f".{StringValue.DESCRIPTOR.full_name}"
    file = FileDescriptorProto(
        name="benchmarks/echo.proto",
        package="benchmarks.echo.v1",
        syntax="proto3",
        dependency=[StringValue.DESCRIPTOR.file.name],
    )
    service = file.service.add(name="EchoService")
    for name in ("Echo", "TakeBack"):
        method = service.method.add(name=name, input_type=text, output_type=text)
        method.options.idempotency_level = MethodOptions.IDEMPOTENT
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindServiceByName("benchmarks.echo.v1.EchoService")


ECHO_SERVICE = _register()


class EchoStub:
    """What protoc would generate."""

    Echo: grpc.aio.UnaryUnaryMultiCallable[StringValue, StringValue]
    TakeBack: grpc.aio.UnaryUnaryMultiCallable[StringValue, StringValue]

    def __init__(self, channel: Any) -> None:
        for method in ECHO_SERVICE.methods:
            remote = channel.unary_unary(
                f"/{ECHO_SERVICE.full_name}/{method.name}",
                request_serializer=StringValue.SerializeToString,
                response_deserializer=StringValue.FromString,
            )
            setattr(self, method.name, remote)


def check(echoed: str) -> None:
    """Fail unless *echoed* is what was sent: nobody is fast by doing less."""
    if echoed != TEXT:
        raise AssertionError(f"the echo said {echoed!r}")
