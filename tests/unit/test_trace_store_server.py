"""The trace store as a server: OTLP from the real exporter in, query API v3 and the page out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from opentelemetry import trace as otel
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from observability.otlp import PortInUseError, Receiver
from observability.store import TraceStore
from observability.trace_store import Config, Limits, Running, running

ROOT = Path(__file__).resolve().parents[2]
EVER = {
    "query.start_time_min": "2000-01-01T00:00:00Z",
    "query.start_time_max": "2100-01-01T00:00:00Z",
}


@contextlib.asynccontextmanager
async def started(**options: object) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    config = Config(otlp_port=0, http_port=0, **options)  # type: ignore[arg-type]
    async with running(config) as server, httpx.AsyncClient(base_url=server.http_url) as client:
        yield server, client


async def export(port: int | None, service: str = "order", spans: int = 2) -> str:
    """A small trace by the SDK's own exporter; its id in hex."""

    def work() -> str:
        provider = TracerProvider(
            resource=Resource.create({"service.name": service}), shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}", insecure=True)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = provider.get_tracer("test")
        with tracer.start_as_current_span("PlaceOrder", kind=otel.SpanKind.SERVER) as root:
            root.set_attribute("order.lines", 169)
            for number in range(spans - 1):
                tracer.start_span(f"step {number}").end()
        provider.shutdown()
        return f"{root.get_span_context().trace_id:032x}"

    return await asyncio.to_thread(work)


async def test_what_an_exporter_sends_can_be_read() -> None:
    async with started() as (server, client):
        trace_id = await export(server.otlp_port)
        body = (await client.get(f"/api/v3/traces/{trace_id}")).json()
        (resource,) = body["result"]["resourceSpans"]
        names = {item["key"]: item["value"] for item in resource["resource"]["attributes"]}
        assert names["service.name"] == {"stringValue": "order"}
        spans = {span["name"]: span for span in resource["scopeSpans"][0]["spans"]}
        root, child = spans["PlaceOrder"], spans["step 0"]
        assert root["traceId"] == child["traceId"] == trace_id
        assert child["parentSpanId"] == root["spanId"]
        assert root["kind"] == 2
        assert root["attributes"] == [{"key": "order.lines", "value": {"intValue": "169"}}]
        assert int(root["endTimeUnixNano"]) > int(root["startTimeUnixNano"])
        assert root["status"] == {}

        assert (await client.get("/api/v3/services")).json() == {"services": ["order"]}
        operations = await client.get("/api/v3/operations", params={"service": "order"})
        assert {"name": "PlaceOrder", "spanKind": "server"} in operations.json()["operations"]
        found = await client.get("/api/v3/traces", params=EVER | {"query.num_traces": "5"})
        assert found.json() == body
        upper = await client.get(f"/api/v3/traces/{trace_id.upper()}")
        assert upper.json() == body


async def test_spans_beyond_the_limits_are_refused_and_counted() -> None:
    async with started(limits=Limits(traces=2, spans_per_trace=3)) as (server, client):
        ids = [await export(server.otlp_port, spans=5) for _ in range(3)]
        assert (await client.get(f"/api/v3/traces/{ids[0]}")).status_code == 404
        health = (await client.get("/healthz")).json()
        assert health["status"] == "serving"
        assert health["store"]["traces"] == 2
        assert health["store"]["evicted_traces"] == 1
        assert health["store"]["dropped_spans"] == 6


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/api/v3/traces/7", 404, "No traces found"),
        ("/api/v3/traces/zz", 400, "malformed parameter trace_id: "),
        ("/api/v3/traces/" + "0" * 33, 400, "malformed parameter trace_id: TraceID cannot be"),
        ("/api/v3/traces/7?raw_traces=maybe", 400, "malformed parameter raw_traces: "),
        ("/api/v3/traces/7?start_time=now", 400, "malformed parameter start_time: "),
        ("/api/v3/traces", 400, "query.start_time_min and query.start_time_max are required"),
    ],
)
async def test_errors_have_jaegers_body(path: str, status: int, message: str) -> None:
    async with started() as (_, client):
        answer = await client.get(path)
        assert answer.status_code == status
        error = answer.json()["error"]
        assert error["httpCode"] == status
        assert error["message"].startswith(message)


@pytest.mark.parametrize("which", ["otlp_port", "http_port"])
async def test_a_port_in_use_is_a_clear_error(which: str) -> None:
    async with started() as (server, _):
        taken = getattr(server, which)
        config = {"otlp_port": 0, "http_port": 0} | {which: taken}
        with pytest.raises(PortInUseError, match=f"port {taken} is in use"):
            async with running(Config(**config)):
                raise AssertionError("it started")


async def test_the_receiver_does_not_share_its_port() -> None:
    first, second = Receiver(TraceStore()), Receiver(TraceStore())
    port = await first.start("127.0.0.1", 0)
    with pytest.raises(PortInUseError):
        await second.start("127.0.0.1", port)
    await first.stop(0)
    assert await second.start("127.0.0.1", port) == port
    await second.stop(0)
    await second.stop(0)


async def test_an_unreadable_export_leaves_the_server_serving() -> None:
    async with started() as (server, client):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.otlp_port}") as channel:
            method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
            send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
            with pytest.raises(grpc.aio.AioRpcError):
                await send(b"\xff\xff\xff", timeout=5)
        assert await export(server.otlp_port)
        assert (await client.get("/healthz")).status_code == 200


async def test_every_answer_carries_the_security_headers() -> None:
    async with started() as (_, client):
        for path in ("/", "/trace/abc", "/static/main.js", "/api/v3/services", "/nope", "/healthz"):
            headers = (await client.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy, path
            assert "script-src 'self';" in policy, path
            assert "unsafe" not in policy, path
            assert headers["x-content-type-options"] == "nosniff"


async def test_a_foreign_host_name_is_refused() -> None:
    async with started(allowed_hosts=frozenset({"traces.example"})) as (_, client):
        for host, status in (
            ("evil.example", 421),
            ("traces.example:8081", 200),
            ("localhost", 200),
        ):
            answer = await client.get("/api/v3/services", headers={"host": host})
            assert answer.status_code == status, host


async def test_the_page_in_front_of_a_jaeger_shows_its_data() -> None:
    async with started() as (jaeger, direct):
        trace_id = await export(jaeger.otlp_port)
        async with started(jaeger_url=jaeger.http_url + "/") as (proxy, client):
            assert proxy.otlp_port is None
            assert (await client.get("/healthz")).status_code == 200
            query = f"/api/v3/traces?query.num_traces=5&{httpx.QueryParams(EVER)}"
            for path in (f"/api/v3/traces/{trace_id}", "/api/v3/services", query):
                assert (await client.get(path)).json() == (await direct.get(path)).json()
            assert (await client.get("/api/v3/traces/7")).status_code == 404
            assert (await client.get("/")).text.startswith("<!doctype html>")


async def test_a_jaeger_that_is_gone_is_said_so() -> None:
    async with started(jaeger_url="http://127.0.0.1:9") as (_, client):
        assert (await client.get("/healthz")).status_code == 503
        answer = await client.get("/api/v3/services")
        assert answer.status_code == 502
        assert "no answer from Jaeger at http://127.0.0.1:9" in answer.json()["error"]["message"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_stops_cleanly(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "observability.trace_store"]
    process = await asyncio.create_subprocess_exec(
        *command,
        "--otlp-port=0",
        "--http-port=0",
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(20):
        assert b"receiving OTLP/gRPC at 127.0.0.1:" in await process.stdout.readline()
        assert b"trace page: http://127.0.0.1:" in await process.stdout.readline()
        process.send_signal(number)
        assert await process.wait() == 0
        assert await process.stderr.read() == b""


async def test_the_command_line_explains_itself_and_a_port_in_use() -> None:
    async with started() as (server, _):
        command = [sys.executable, "-m", "observability.trace_store"]
        for arguments, status, text in (
            (["--help"], 0, b"--otlp-port"),
            ([f"--http-port={server.http_port}"], 1, f"port {server.http_port} is in use".encode()),
            (["--jaeger=nonsense"], 2, b"--jaeger takes a URL"),
            (["--max-traces=0"], 2, b"every limit must be positive"),
        ):
            process = await asyncio.create_subprocess_exec(
                *command,
                *arguments,
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()
            assert (process.returncode, text in output) == (status, True), output
