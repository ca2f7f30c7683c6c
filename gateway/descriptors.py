"""Which methods the outside may call: those that have a `google.api.http` annotation."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2

import shop
from mesh.saga.v1 import saga_pb2

#: Its wheel types it as any field, not as an extension.
_HTTP: Any = annotations_pb2.http
#: The library's own services that are exposed, and the service of ours that serves each.
_HOSTED = {"mesh.saga.v1.SagaService": "orchestrator"}


@dataclass(frozen=True)
class Exposed:
    """A method that the outside may call, over REST and over gRPC."""

    descriptor: MethodDescriptor
    rule: http_pb2.HttpRule

    @property
    def grpc_service(self) -> str:
        """Its gRPC service, such as `shop.order.v1.OrderService`."""
        return str(self.descriptor.containing_service.full_name)

    @property
    def full_name(self) -> str:
        """As traces call it, such as `shop.order.v1.OrderService/GetOrder`."""
        return f"{self.grpc_service}/{self.descriptor.name}"

    @property
    def path(self) -> str:
        """Its path in HTTP/2."""
        return f"/{self.full_name}"

    @property
    def streams(self) -> bool:
        """Whether it answers with a stream."""
        return bool(self.descriptor.server_streaming)

    @property
    def service(self) -> str:
        """Which of our services serves it: of `shop.order.v1` it is `order`."""
        hosted = _HOSTED.get(self.grpc_service)
        return hosted or str(self.descriptor.containing_service.file.package).split(".")[1]

    @cached_property
    def rest(self) -> str:
        """Verb and path template, such as `GET /v1/orders/{order_id}`."""
        verb = self.rule.WhichOneof("pattern") or ""
        return f"{verb.upper()} {getattr(self.rule, verb)}"


def exposed() -> tuple[Exposed, ...]:
    """Return every exposed method, by name."""
    methods = (
        Exposed(method, method.GetOptions().Extensions[_HTTP])
        for file in _files()
        for service in file.services_by_name.values()
        for method in service.methods
        if method.GetOptions().HasExtension(_HTTP)
    )
    return tuple(sorted(methods, key=lambda method: method.full_name))


def descriptor_set() -> FileDescriptorSet:
    """Return the files of every exposed method with all that they import.

    The details of errors are among them: Envoy writes an error's body only if it knows the types
    of its details.
    """
    wanted = [method.descriptor.containing_service.file for method in exposed()]
    ordered: dict[str, FileDescriptorProto] = {}
    _add([*wanted, error_details_pb2.DESCRIPTOR], ordered)
    return FileDescriptorSet(file=ordered.values())


def _add(files: Iterable[FileDescriptor], ordered: dict[str, FileDescriptorProto]) -> None:
    """Add *files* to *ordered*, each after what it imports, as a descriptor set wants it."""
    for file in sorted(files, key=lambda file: file.name):
        if file.name not in ordered:
            _add(file.dependencies, ordered)
            proto = FileDescriptorProto()
            file.CopyToProto(proto)
            ordered[file.name] = proto


def _files() -> Iterator[FileDescriptor]:
    for module in pkgutil.walk_packages(shop.__path__, "shop."):
        if module.name.endswith("_pb2"):
            yield importlib.import_module(module.name).DESCRIPTOR
    yield saga_pb2.DESCRIPTOR
