"""The OTLP/gRPC trace receiver: what exporters talk to."""

from __future__ import annotations

import errno
import socket
from typing import Final

import grpc
import grpc.aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from observability.store import TraceStore

SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
MAX_CONCURRENT_EXPORTS: Final = 64


class PortInUseError(Exception):
    """A port we were told to listen on is taken by another process."""

    def __init__(self, host: str, port: int, detail: str) -> None:
        super().__init__(f"port {port} is in use: {detail} (host {host})")
        self.port = port


class Receiver:
    """Serves OTLP/gRPC on one port and puts what arrives into a store."""

    def __init__(self, store: TraceStore) -> None:
        self._store = store
        self._server: grpc.aio.Server | None = None
        self.serving = False

    async def start(self, host: str, port: int) -> int:
        """Listen; the bound port (another one only when `port` is 0). Raises PortInUseError."""
        listen(host, port).close()  # gRPC hides the reason of a failed bind in its debug log
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # on by default: a second server would share the port
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            ],
            maximum_concurrent_rpcs=MAX_CONCURRENT_EXPORTS,
        )
        export = grpc.unary_unary_rpc_method_handler(
            self._export,
            request_deserializer=ExportTraceServiceRequest.FromString,
            response_serializer=ExportTraceServiceResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"Export": export}),)
        )
        try:
            bound_port = server.add_insecure_port(join_address(host, port))
        except RuntimeError as error:
            raise PortInUseError(host, port, str(error)) from error
        await server.start()
        self._server = server
        self.serving = True
        return bound_port

    async def stop(self, grace_s: float) -> None:
        """Refuse new exports, give those in flight `grace_s`. Idempotent."""
        self.serving = False
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(grace_s)

    async def _export(
        self, request: ExportTraceServiceRequest, context: object
    ) -> ExportTraceServiceResponse:
        rejected = self._store.add(request.resource_spans)
        if not rejected.spans:
            return ExportTraceServiceResponse()
        return ExportTraceServiceResponse(
            partial_success=ExportTracePartialSuccess(
                rejected_spans=rejected.spans, error_message=rejected.reason
            )
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises PortInUseError; OSError for an address that is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(host, port, "another process listens there") from error
        raise


def join_address(host: str, port: int) -> str:
    """`host:port`, with the brackets an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
