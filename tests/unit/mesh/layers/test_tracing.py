"""Spans: whose child, of which kind, with which attributes, and which of them are errors."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any

import pytest
from grpc import StatusCode
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracer, SpanKind, Tracer
from opentelemetry.trace import StatusCode as SpanStatus

from mesh.call import Call, stack, stack_stream
from mesh.errors import CircuitOpenError, MeshError, NotFound, Unavailable
from mesh.layers.breaker import Breaker
from mesh.layers.budget import BudgetConfig
from mesh.layers.circuit import CircuitConfig
from mesh.layers.correlation import Correlate, EnterScope
from mesh.layers.faults import Fault, Faults
from mesh.layers.retry import Retry, RetryPolicy
from mesh.layers.tracing import SERVER_FAULTS, TraceAttempt, TraceCall, TraceServer
from mesh.metadata import CORRELATION_ID, OUTSIDE_TRACEPARENT, TRACEPARENT
from mesh.scope import current_traceparent, format_traceparent
from tests.support.echo import COUNT, READ, EchoReply, call_of, requests_of
from tests.support.runtime import FakeRuntime
from tests.support.target import Target, forever

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
REMOTE = f"00-{TRACE}-{SPAN}-01"

ALL_CODES = pytest.mark.parametrize(
    "code", [code for code in StatusCode if code is not StatusCode.OK], ids=lambda code: code.name
)


class Spans:
    """The spans that ended, oldest first."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer: Tracer = self._provider.get_tracer("test")

    @property
    def ended(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def only(self) -> ReadableSpan:
        [span] = self.ended
        return span


@pytest.fixture
def spans() -> Spans:
    return Spans()


def ids(span: ReadableSpan) -> tuple[str, str]:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    assert span.attributes is not None
    return span.attributes


async def alone(send: Callable[[], Awaitable[Any]]) -> Any:
    """Run *send* in a context of its own, as a server runs each call."""

    async def run() -> Any:
        return await send()

    task = asyncio.get_running_loop().create_task(run(), context=contextvars.Context())
    return await task


class TestServer:
    def handler(self, spans: Spans, target: Target) -> Any:
        return stack(EnterScope(FakeRuntime()), TraceServer(spans.tracer), around=target.unary)

    async def served(self, spans: Spans, target: Target, **metadata: str) -> ReadableSpan:
        call = call_of(metadata={k.replace("_", "-"): v for k, v in metadata.items()})
        with suppress(MeshError):
            await alone(lambda: self.handler(spans, target)(call))
        return spans.only

    async def test_it_is_named_as_the_conventions_say(self, spans: Spans) -> None:
        span = await self.served(spans, Target(), x_correlation_id="order-7")
        assert (span.name, span.kind) == ("tests.echo.v1.EchoService/Read", SpanKind.SERVER)
        assert dict(attributes(span)) == {
            "rpc.system.name": "grpc",
            "rpc.method": "tests.echo.v1.EchoService/Read",
            "rpc.response.status_code": "OK",
            "mesh.correlation_id": "order-7",
        }
        assert span.status.status_code is SpanStatus.UNSET

    async def test_it_continues_its_callers_trace(self, spans: Spans) -> None:
        span = await self.served(spans, Target(), traceparent=REMOTE)
        assert ids(span)[0] == TRACE
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == SPAN
        assert span.parent.is_remote

    @pytest.mark.parametrize(
        "garbage", ["", "x", REMOTE + "-more", REMOTE.upper(), f"00-{'0' * 32}-{SPAN}-01"]
    )
    async def test_what_is_no_traceparent_begins_a_trace(self, spans: Spans, garbage: str) -> None:
        assert (await self.served(spans, Target(), traceparent=garbage)).parent is None

    async def test_a_trace_from_outside_is_linked_and_no_parent(self, spans: Spans) -> None:
        span = await self.served(spans, Target(), x_external_traceparent=REMOTE)
        assert span.parent is None
        [link] = span.links
        assert f"{link.context.trace_id:032x}" == TRACE
        assert ids(span)[0] != TRACE

    async def test_it_is_current_while_the_handler_works(self, spans: Spans) -> None:
        seen = []

        async def handler(_: Call) -> Any:
            seen.append(current_traceparent())
            return EchoReply()

        await alone(lambda: TraceServer(spans.tracer)(handler)(call_of()))
        assert seen == [format_traceparent(spans.only.get_span_context())]  # type: ignore[arg-type]

    @ALL_CODES
    async def test_only_the_servers_own_faults_are_errors(
        self, spans: Spans, code: StatusCode
    ) -> None:
        span = await self.served(spans, Target(MeshError(status=code, reason="WHY")))
        faults = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE"}
        fault = code.name in faults | {"DATA_LOSS"}
        assert (span.status.status_code is SpanStatus.ERROR) == fault
        assert ("error.type" in attributes(span)) == fault
        assert attributes(span)["rpc.response.status_code"] == code.name
        assert (code in SERVER_FAULTS) == fault

    async def test_a_refusal_names_its_reason(self, spans: Spans) -> None:
        span = await self.served(spans, Target(NotFound(reason="NO_ORDER")))
        assert attributes(span)["mesh.refusal"] == "NO_ORDER"

    async def test_a_cancelled_call_is_ended_and_no_error(self, spans: Spans) -> None:
        task = asyncio.ensure_future(alone(lambda: TraceServer(spans.tracer)(forever)(call_of())))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert attributes(spans.only)["rpc.response.status_code"] == "CANCELLED"
        assert spans.only.status.status_code is SpanStatus.UNSET

    async def test_a_stream_is_one_span(self, spans: Spans) -> None:
        target = Target([EchoReply(), EchoReply()])
        replies = TraceServer(spans.tracer).stream(target.stream)(call_of(COUNT), requests_of())
        await alone(lambda: collect(replies))
        assert spans.only.name == "tests.echo.v1.EchoService/Count"


async def collect(replies: Any) -> list[Any]:
    return [reply async for reply in replies]


class TestClient:
    async def test_it_is_named_as_the_conventions_say(self, spans: Spans) -> None:
        target = Target()
        layers = (Correlate(FakeRuntime()), TraceCall(spans.tracer, "order"))
        await stack(*layers, around=target.unary)(call_of())
        span = spans.only
        assert (span.name, span.kind) == ("tests.echo.v1.EchoService/Read", SpanKind.CLIENT)
        assert dict(attributes(span)) == {
            "rpc.system.name": "grpc",
            "rpc.method": "tests.echo.v1.EchoService/Read",
            "rpc.response.status_code": "OK",
            "server.address": "order",
            "mesh.correlation_id": target.calls[0].metadata[CORRELATION_ID],
        }

    async def test_it_goes_over_the_wire(self, spans: Spans) -> None:
        target = Target()
        await TraceCall(spans.tracer, "order")(target.unary)(call_of())
        assert (
            target.calls[0].metadata[TRACEPARENT].startswith("00-{}-{}-".format(*ids(spans.only)))
        )

    async def test_it_is_a_child_of_what_is_current(self, spans: Spans) -> None:
        with spans.tracer.start_as_current_span("work") as work:
            await TraceCall(spans.tracer, "order")(Target().unary)(call_of())
        assert spans.ended[0].parent == work.get_span_context()

    async def test_a_parent_given_with_the_call_goes_first(self, spans: Spans) -> None:
        with spans.tracer.start_as_current_span("work"):
            call = call_of(metadata={TRACEPARENT: REMOTE})
            await TraceCall(spans.tracer, "order")(Target().unary)(call)
        assert ids(spans.ended[0])[0] == TRACE

    async def test_with_no_tracer_the_trace_passes_through(self) -> None:
        target = Target()
        layers = (TraceCall(NoOpTracer(), "order"), TraceAttempt(NoOpTracer()))
        await stack(*layers, around=target.unary)(call_of(metadata={TRACEPARENT: REMOTE}))
        assert target.calls[0].metadata[TRACEPARENT] == REMOTE

    @ALL_CODES
    async def test_whatever_is_not_ok_is_an_error(self, spans: Spans, code: StatusCode) -> None:
        send = TraceCall(spans.tracer, "order")(Target(MeshError(status=code)).unary)
        with pytest.raises(MeshError):
            await send(call_of())
        assert spans.only.status.status_code is SpanStatus.ERROR
        assert attributes(spans.only)["rpc.response.status_code"] == code.name

    async def test_the_kind_of_error_is_its_reason(self, spans: Spans) -> None:
        send = TraceCall(spans.tracer, "order")(Target(CircuitOpenError(), ValueError()).unary)
        for error in (CircuitOpenError, ValueError):
            with pytest.raises(error):
                await send(call_of())
        kinds = [attributes(span)["error.type"] for span in spans.ended]
        assert kinds == ["CIRCUIT_OPEN", "ValueError"]

    async def test_a_stream_that_its_reader_leaves_ends_cancelled(self, spans: Spans) -> None:
        target = Target([EchoReply(), EchoReply()])
        layers = (TraceCall(spans.tracer, "order"), TraceAttempt(spans.tracer))
        replies: Any = stack_stream(*layers, around=target.stream)(call_of(COUNT), requests_of())
        async with aclosing(replies):
            await anext(replies)
            assert not spans.ended
        assert attributes(spans.only)["rpc.response.status_code"] == "CANCELLED"
        assert target.left.is_set()


class TestAttempts:
    def layers(self, spans: Spans) -> tuple[Any, ...]:
        runtime = FakeRuntime()
        return (
            Correlate(runtime),
            TraceCall(spans.tracer, "order"),
            Retry(RetryPolicy(), runtime),
            TraceAttempt(spans.tracer),
        )

    def check(self, spans: Spans, target: Target) -> None:
        second, third, logical = spans.ended
        assert logical.parent is None
        for span, attempt in ((second, 1), (third, 2)):
            assert span.parent is not None
            assert (ids(span)[0], f"{span.parent.span_id:016x}") == ids(logical)
            assert span.kind is SpanKind.CLIENT
            assert attributes(span)["rpc.retry_count"] == attempt
            correlation_id = attributes(logical)["mesh.correlation_id"]
            assert attributes(span)["mesh.correlation_id"] == correlation_id != ""
        assert [s.status.status_code for s in (second, third, logical)] == [
            SpanStatus.ERROR,
            SpanStatus.UNSET,
            SpanStatus.UNSET,
        ]
        sent = [call.metadata[TRACEPARENT].split("-")[2] for call in target.calls]
        assert sent == [ids(span)[1] for span in (logical, second, third)]

    async def test_the_first_is_the_call_and_further_ones_are_its_children(
        self, spans: Spans
    ) -> None:
        target = Target(Unavailable(), Unavailable(), EchoReply())
        await stack(*self.layers(spans), around=target.unary)(call_of(READ))
        self.check(spans, target)

    async def test_what_policies_did_is_on_the_call_not_on_what_is_being_served(
        self, spans: Spans
    ) -> None:
        runtime = FakeRuntime()
        faults = Faults(runtime)
        faults.inject(READ.full_name, Fault(StatusCode.UNAVAILABLE))
        once = RetryPolicy(attempts_max=3, budget=BudgetConfig(share=0.0, per_s=0.0, burst=1.0))
        layers = (
            TraceCall(spans.tracer, "order"),
            Retry(once, runtime),
            Breaker(CircuitConfig(failures=2), runtime),
            TraceAttempt(spans.tracer),
            faults,
        )
        send = stack(*layers, around=Target().unary)
        with trace.use_span(spans.tracer.start_span("served"), end_on_exit=True):
            for error in (Unavailable, CircuitOpenError):
                with pytest.raises(error):
                    await send(call_of(READ))
        events = [(span.name, [event.name for event in span.events]) for span in spans.ended]
        assert events == [
            (READ.full_name, ["mesh.fault"]),
            (READ.full_name, ["mesh.fault", "mesh.retry", "mesh.breaker.changed", "mesh.retry"]),
            (READ.full_name, ["mesh.breaker.rejected", "mesh.retry"]),
            ("served", ["mesh.breaker.changed"]),  # which others of its calls may feel as well
        ]

    async def test_so_it_is_with_streams(self, spans: Spans) -> None:
        target = Target([Unavailable()], [Unavailable()], [EchoReply()])
        await collect(
            stack_stream(*self.layers(spans), around=target.stream)(call_of(COUNT), requests_of())
        )
        self.check(spans, target)


def test_the_names_in_the_metadata_are_lower_case() -> None:
    for name in (TRACEPARENT, OUTSIDE_TRACEPARENT, CORRELATION_ID):
        assert name == name.lower()
