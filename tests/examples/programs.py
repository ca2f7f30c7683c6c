"""The examples as processes, and a collector for their spans."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.support.children import start
from tests.support.ports import free_port
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


def _read(stream: Any, take: Callable[[str], object]) -> None:
    with stream:
        for line in stream:
            take(line.rstrip("\n"))


class Program:
    """One of them, with its standard input and output."""

    def __init__(self, module: str, *arguments: str, **environment: str) -> None:
        config = {"MESH_CONFIG": str(ROOT / "examples" / "mesh.toml")}
        self._process = start(
            [sys.executable, "-m", f"examples.{module}", *arguments],
            cwd=ROOT,
            env={**os.environ, **config, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._readers = [
            threading.Thread(target=_read, args=streams, daemon=True)
            for streams in (
                (self._process.stdout, self._lines.put),
                (self._process.stderr, self.log.append),
            )
        ]
        for reader in self._readers:
            reader.start()

    def say(self, text: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        return self._lines.get(timeout=PATIENCE_S)

    def ask(self, text: str = "") -> str:
        self.say(text)
        return self.hear()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self.end()

    def end(self) -> None:
        """Wait until it ends, as a client does that has no more to read."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)


class Server(Program):
    """One that has said that it serves."""

    def __init__(self, module: str, port: int, *arguments: str, **environment: str) -> None:
        super().__init__(module, f"127.0.0.1:{port}", *arguments, **environment)
        self.port = port
        assert self.hear() == "serving"

    def end(self) -> None:
        self._process.terminate()
        super().end()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def ended(*programs: Program) -> Iterator[None]:
    try:
        yield
    finally:
        for program in programs:
            program.end()


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans by OTLP. `spans` are (service, span)."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
        add(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_INSECURE": "true",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        for resource in request.resource_spans:
            [name] = [
                a.value.string_value
                for a in resource.resource.attributes
                if a.key == "service.name"
            ]
            self.spans += [(name, span) for scope in resource.scope_spans for span in scope.spans]
        return ExportTraceServiceResponse()

    def until(self, true: Callable[[], Any]) -> None:
        eventually(true, known=lambda: [(name, span.name) for name, span in self.spans])

    def close(self) -> None:
        self._server.stop(0.0).wait()


__all__ = ["ROOT", "Collector", "Program", "Server", "ended", "free_port"]
