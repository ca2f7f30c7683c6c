"""Both ends of a way, with all that they recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import mesh
from mesh.call import Principal
from mesh.layers.backoff import Backoff
from mesh.layers.identity import Identities, make_token
from mesh.server import ServerSettings
from tests.conformance.servicers import Script
from tests.conformance.ways import WAYS, Outcome, Send, Setting
from tests.support.waiting import until

#: Longer than any machine takes: only a failure waits for it.
PATIENCE_S = 30.0
SECRET = "of these tests"
POLICY = mesh.Policy(
    retry=mesh.RetryPolicy(attempts_max=3, backoff=Backoff(base_s=0.0)),
    circuit=mesh.CircuitConfig(failures=4, open_s=3600.0),
    timeout_s=PATIENCE_S,
)
SERVED = ServerSettings()


class Side:
    """A node, and what it recorded."""

    def __init__(self, **facts: Any) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.node = mesh.Node(tracer=provider.get_tracer("test"), **facts)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def measured(self, side: str) -> dict[str, float]:
        """How many calls were measured, by status."""
        found: dict[str, float] = {}
        for family in self.node.metrics.registry.collect():
            for sample in family.samples:
                if sample.name == f"rpc_{side}_call_duration_seconds_count":
                    status = sample.labels["rpc_response_status_code"]
                    found[status] = found.get(status, 0.0) + sample.value
        return found

    def forget(self) -> None:
        self._exporter.clear()


class World:
    """A way, opened."""

    def __init__(self, name: str, script: Script, client: Side, server: Side, send: Send) -> None:
        self.name = name
        self.script = script
        self.client = client
        self.server = server
        self.begin = send

    async def send(self, *args: Any, **options: Any) -> Outcome:
        async with asyncio.timeout(PATIENCE_S):
            return await self.begin(*args, **options).outcome

    async def until(self, true: Callable[[], Any]) -> Any:
        """Wait until something that another thread or process does has come about."""
        return await until(true)

    async def server_span(self, number: int = 1) -> ReadableSpan:
        await self.until(lambda: len(self.server.spans) >= number)
        return self.server.spans[number - 1]


@asynccontextmanager
async def opened(
    name: str,
    token: str = make_token(SECRET, "echo-client"),
    anonymous: Principal | None = None,
    policy: mesh.Policy = POLICY,
    settings: ServerSettings = SERVED,
) -> AsyncIterator[World]:
    """Open the way called *name*; its client shows *token*, who shows none is *anonymous*."""
    known = {"echo-client": Principal("echo-client")}
    server = Side(identities=Identities(SECRET, known, anonymous))
    client = Side(token=token)
    script = Script()
    setting = Setting(script, server.node, client.node, policy, settings)
    async with WAYS[name](setting) as send:
        yield World(name, script, client, server, send)


@pytest.fixture(params=WAYS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with opened(request.param) as world:
        yield world
