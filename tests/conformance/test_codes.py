"""What spans and metrics say of a call is what went over the wire, for each of the 17 codes."""

from __future__ import annotations

import pytest
from grpc import StatusCode
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from opentelemetry.trace import StatusCode as SpanStatus

from mesh.call import Method
from mesh.layers.tracing import SERVER_FAULTS
from tests.conformance.conftest import World
from tests.conformance.servicers import SAID, End
from tests.conformance.ways import FOUR

FAILURES = [code for code in StatusCode if code is not StatusCode.OK]
CODE = "rpc.response.status_code"


def said(span: ReadableSpan) -> object:
    assert span.attributes is not None
    return span.attributes[CODE]


@FOUR
@pytest.mark.parametrize("how", ["abort", "set_code"])
async def test_spans_and_metrics_have_the_status_of_the_wire(
    world: World, method: Method, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    for position, code in enumerate(FAILURES, 1):
        # A success between two failures keeps the circuit closed.
        world.script.ends[:] = [End(how, code)]
        ended = await world.send(method)
        assert ended.status is code
        assert ended.meant.status is code
        assert ended.meant.message == SAID
        served = await world.server_span()
        [called] = world.client.spans
        assert (called.kind, served.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
        assert said(called) == said(served) == code.name
        assert called.status.status_code is SpanStatus.ERROR
        faulty = code in SERVER_FAULTS
        assert served.status.status_code is (SpanStatus.ERROR if faulty else SpanStatus.UNSET)
        assert called.context and served.parent
        assert served.parent.span_id == called.context.span_id
        assert world.client.measured("client")[code.name] == 1
        await world.until(lambda: code.name in world.server.measured("server"))  # noqa: B023

        world.client.forget()
        world.server.forget()
        assert (await world.send(method)).status is StatusCode.OK
        served = await world.server_span()
        [called] = world.client.spans
        assert said(called) == said(served) == "OK"
        assert called.status.status_code is served.status.status_code is SpanStatus.UNSET
        assert world.client.measured("client")["OK"] == position
        world.client.forget()
        world.server.forget()
    assert "handler failed" not in caplog.text, "what a servicer says by itself is no bug of it"
