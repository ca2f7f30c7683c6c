"""The embedded trace store answers as a real Jaeger does: same spans in, same API answers out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from opentelemetry import trace as otel
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from observability.jaeger.build import Ports, start_command
from observability.trace_store import Config, running
from tests.support.jaeger import built_jaeger
from tests.support.ports import free_ports

START_S = 30.0
EVER = "query.start_time_min=2000-01-01T00:00:00Z&query.start_time_max=2100-01-01T00:00:00Z"
T0_NS = 1_767_225_600_123_456_789  # 2026-01-01T00:00:00.123456789Z
MS = 1_000_000


@pytest.fixture
async def servers() -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """(ours, Jaeger's), both holding the same spans."""
    built_jaeger()
    ports = Ports(*free_ports(4))
    async with (
        jaeger(ports),
        running(Config(otlp_port=0, http_port=0)) as store,
        httpx.AsyncClient(base_url=store.http_url) as ours,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports.query}") as theirs,
    ):
        assert store.otlp_port is not None
        await asyncio.to_thread(export_orders, [store.otlp_port, ports.otlp])
        await wait_until_stored(theirs, ours)
        yield ours, theirs


@contextlib.asynccontextmanager
async def jaeger(ports: Ports) -> AsyncIterator[None]:
    command, environment = start_command("127.0.0.1", ports, max_traces=10_000)
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient() as client, asyncio.timeout(START_S):
            while True:
                assert process.returncode is None, "Jaeger ended at its start"
                with contextlib.suppress(httpx.TransportError):
                    health = await client.get(f"http://127.0.0.1:{ports.health}/status")
                    if health.status_code == 200:
                        break
                await asyncio.sleep(0.1)
        yield
    finally:
        process.terminate()
        await process.wait()


def export_orders(ports: list[int]) -> None:
    """Two orders over two services, one of them declined, sent to every receiver."""
    exporters = [
        OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}", insecure=True) for port in ports
    ]
    providers = []
    for service in ("gateway", "payment"):
        provider = TracerProvider(
            resource=Resource.create({"service.name": service}), shutdown_on_exit=False
        )
        for exporter in exporters:
            provider.add_span_processor(SimpleSpanProcessor(exporter))
        providers.append(provider)
    gateway, payment = (provider.get_tracer("mesh", "1.0") for provider in providers)
    for number, declined in enumerate((False, True)):
        export_order(gateway, payment, T0_NS + number * 3600 * 1000 * MS, declined=declined)
    for provider in providers:
        provider.shutdown()


def export_order(
    gateway: otel.Tracer, payment: otel.Tracer, start_ns: int, *, declined: bool
) -> None:
    caller = otel.SpanContext(0xABCDEF, 0x12345, is_remote=True)
    root = gateway.start_span(
        "POST /v1/orders",
        kind=otel.SpanKind.SERVER,
        start_time=start_ns,
        links=[otel.Link(caller, {"reason": "caller"})],
        attributes={
            "text": '<b> & "quoted" é',
            "int": -(2**53) - 1,
            "zero": 0,
            "float": 1.5,
            "tiny": 1e-9,
            "huge": 1e21,
            "flag": False,
            "list": ["a", "b"],
            "numbers": [1, 2],
            "empty": "",
        },
    )
    context = otel.set_span_in_context(root)
    charge = payment.start_span(
        "Charge", context, kind=otel.SpanKind.CLIENT, start_time=start_ns + MS
    )
    inner = payment.start_span(
        "commit", otel.set_span_in_context(charge), start_time=start_ns + 2 * MS
    )
    inner.end(start_ns + 3 * MS)
    if declined:
        charge.add_event("declined", {"reason": "limit"}, timestamp=start_ns + 4 * MS)
        charge.set_status(otel.StatusCode.ERROR, "card declined")
    charge.end(start_ns + 40 * MS)
    root.end(start_ns + 50 * MS)


async def wait_until_stored(theirs: httpx.AsyncClient, ours: httpx.AsyncClient) -> None:
    wanted = spans_of((await ours.get(f"/api/v3/traces?query.num_traces=10&{EVER}")).json())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        answer = await theirs.get(f"/api/v3/traces?query.num_traces=10&{EVER}")
        if answer.status_code == 200 and len(spans_of(answer.json())) == len(wanted) == 6:
            return
        await asyncio.sleep(0.1)
    pytest.fail("Jaeger did not store what was exported to it")


def spans_of(body: dict[str, Any]) -> list[str]:
    """Each span with its resource and scope, as text, sorted: order is ignored."""
    flat = []
    for group in body["result"]["resourceSpans"]:
        for scope in group["scopeSpans"]:
            rest = {key: value for key, value in group.items() if key != "scopeSpans"}
            rest |= {key: value for key, value in scope.items() if key != "spans"}
            flat += [json.dumps(in_order([rest, span]), sort_keys=True) for span in scope["spans"]]
    return sorted(flat)


def in_order(value: Any) -> Any:
    """The value with its attributes by key."""
    if isinstance(value, dict):
        return {
            key: sorted((in_order(item) for item in content), key=lambda item: str(item["key"]))
            if key == "attributes"
            else in_order(content)
            for key, content in value.items()
        }
    return [in_order(item) for item in value] if isinstance(value, list) else value


def comparable(answer: httpx.Response) -> tuple[int, object]:
    body = answer.json()
    if "error" in body:
        message = str(body["error"]["message"])
        head, colon, _ = message.partition(": ")  # what follows it is Go's, or Python's, own words
        return answer.status_code, (body["error"]["httpCode"], head if colon else message)
    if "result" in body:
        return answer.status_code, spans_of(body)
    return answer.status_code, {
        key: sorted(json.dumps(item, sort_keys=True) for item in items)
        for key, items in body.items()
    }


async def test_the_same_spans_give_the_same_answers(
    servers: tuple[httpx.AsyncClient, httpx.AsyncClient],
) -> None:
    ours, theirs = servers
    body = (await ours.get(f"/api/v3/traces?query.num_traces=1&{EVER}")).json()
    trace_id = body["result"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"]
    search = f"/api/v3/traces?{EVER}"
    first_hour = (
        "query.start_time_min=2026-01-01T00:00:00Z"
        "&query.start_time_max=2026-01-01T01:30:00.5%2B01:00"
    )
    paths = [
        "/api/v3/services",
        "/api/v3/operations",
        "/api/v3/operations?service=payment",
        "/api/v3/operations?service=payment&span_kind=client",
        "/api/v3/operations?service=nobody",
        f"/api/v3/traces/{trace_id}",
        f"/api/v3/traces/{trace_id.upper()}",
        f"/api/v3/traces/{trace_id.lstrip('0')}?raw_traces=true",
        f"/api/v3/traces/{trace_id}?raw_traces=maybe",
        f"/api/v3/traces/{trace_id}?start_time=yesterday",
        "/api/v3/traces/7",
        "/api/v3/traces/zz",
        f"/api/v3/traces/{'7' * 33}",
        "/api/v3/traces",
        "/api/v3/traces?query.start_time_min=2020-01-01T00:00:00Z",
        search,
        f"{search}&query.num_traces=0",
        f"{search}&query.num_traces=-1",
        f"{search}&query.num_traces=10001",
        f"{search}&query.num_traces=many",
        f"{search}&query.search_depth=10",
        *(
            f"{search}&query.num_traces=10{more}"
            for more in (
                "",
                "&query.service_name=payment",
                "&query.service_name=nobody",
                "&query.operation_name=commit",
                "&query.service_name=gateway&query.operation_name=commit",
                "&query.duration_min=45ms",
                "&query.duration_min=51ms",
                "&query.duration_max=0.9ms",
                "&query.duration_min=1ms&query.duration_max=1000us",
                "&query.duration_min=1x",
                "&query.duration_min=1",
                "&query.raw_traces=true",
            )
        ),
        f"/api/v3/traces?query.num_traces=10&{first_hour}",
        "/api/v3/traces?query.num_traces=1&query.start_time_min=2026-01-01&query.start_time_max=x",
    ]
    for path in paths:
        assert comparable(await ours.get(path)) == comparable(await theirs.get(path)), path
    # Which one it gives of several, Jaeger leaves open.
    one = [(await server.get(f"{search}&query.num_traces=1")).json() for server in servers]
    assert len(spans_of(one[0])) == len(spans_of(one[1]))


async def test_the_page_in_front_of_the_real_jaeger(
    servers: tuple[httpx.AsyncClient, httpx.AsyncClient],
) -> None:
    ours, theirs = servers
    config = replace(Config(), http_port=0, jaeger_url=str(theirs.base_url))
    async with running(config) as page, httpx.AsyncClient(base_url=page.http_url) as client:
        assert (await client.get("/healthz")).status_code == 200
        search = f"/api/v3/traces?query.num_traces=10&{EVER}"
        assert comparable(await client.get(search)) == comparable(await ours.get(search))
        assert comparable(await client.get("/api/v3/traces/7"))[0] == 404
