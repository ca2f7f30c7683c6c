"""What crosses the edge, and what does not: headers, deadlines, traces, rates, origins."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from shop.order.v1 import order_pb2, order_pb2_grpc
from tests.e2e.gateway_stub import ROOT, TOKEN, Edge, attributes, environment, running
from tests.support.waiting import eventually

OUTSIDE_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CONSOLE = "http://127.0.0.1:8081"


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running(tmp_path_factory.mktemp("gateway"), "--access-log") as edge:
        yield edge


def seen(edge: Edge, **headers: str) -> dict[str, str]:
    """Return the metadata that a request with such headers arrives with."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    assert edge.get("/v1/orders/1", headers=named).status_code == 200
    return edge.last.metadata


def test_the_outside_cannot_speak_as_the_mesh(edge: Edge) -> None:
    metadata = seen(
        edge,
        mesh_token="forged",
        mesh_key="k",
        mesh_attempt="2",
        mesh_undo_of="x y",
        Mesh_Whatever="1",
        tracestate="a=b",
        baggage="a=b",
        x_user_id="root",
        x_external_traceparent=OUTSIDE_TRACE,
        grpc_trace_bin="AAAA",
        x_client_trace_id="1",
        x_envoy_force_trace="1",
        x_envoy_retry_on="5xx",
        x_envoy_upstream_rq_timeout_ms="1",
        cookie="a=b",
    )
    assert {name: value for name, value in metadata.items() if name.startswith("mesh-")} == {
        "mesh-token": TOKEN
    }
    gone = ("baggage", "x-user-id", "x-external-traceparent", "grpc-trace-bin", "cookie")
    assert not set(gone) & set(metadata)
    assert not metadata.get("tracestate")
    assert not [name for name in metadata if re.match(r"x-envoy-(force|retry|upstream)", name)]


def test_a_traceparent_from_outside_is_handed_on_to_be_linked(edge: Edge) -> None:
    metadata = seen(edge, traceparent=OUTSIDE_TRACE, x_external_traceparent="forged")
    assert metadata["x-external-traceparent"] == OUTSIDE_TRACE
    assert OUTSIDE_TRACE.split("-")[1] not in metadata["traceparent"]


def test_the_idempotency_key_comes_through(edge: Edge) -> None:
    assert seen(edge, Idempotency_Key="k-1")["idempotency-key"] == "k-1"


@pytest.mark.parametrize("given", ["a", "A.z_0~9:-", "x" * 128])
def test_a_good_correlation_id_is_kept_and_echoed(edge: Edge, given: str) -> None:
    answer = edge.get("/v1/orders/1", headers={"x-correlation-id": given})
    assert answer.headers.get_list("x-correlation-id") == [given]
    assert edge.last.metadata["x-correlation-id"] == given


@pytest.mark.parametrize("given", [None, "", "a b", "a,b", "a\tb", "é", "x" * 129, "{}"])
def test_otherwise_one_is_made(edge: Edge, given: str | None) -> None:
    headers = {} if given is None else {"x-correlation-id": given.encode()}
    answer = edge.get("/v1/orders/1", headers={**headers, b"x-request-id": b"forged"})
    made = answer.headers["x-correlation-id"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made)
    assert edge.last.metadata["x-correlation-id"] == made


def test_what_the_gateway_answers_itself_has_the_id_too(edge: Edge) -> None:
    for path in ("/v1/nope", "/v1/users/1", "/v1/orders?nope=1"):
        answer = edge.get(path, headers={"x-correlation-id": "c-1"})
        assert answer.status_code >= 400
        assert answer.headers["x-correlation-id"] == "c-1"


def test_the_deadline_is_the_gateways(edge: Edge) -> None:
    assert "grpc-timeout" not in seen(edge, grpc_timeout="99H")
    assert edge.last.remaining_s is not None
    assert 9 < edge.last.remaining_s <= 10
    edge.post("/v1/orders", json={})
    assert edge.last.remaining_s is not None
    assert 29 < edge.last.remaining_s <= 30
    with grpc.insecure_channel(f"127.0.0.1:{edge.port}") as channel:
        stub = order_pb2_grpc.OrderServiceStub(channel)
        stub.GetOrder(order_pb2.GetOrderRequest(order_id="7"), timeout=600)
    assert edge.last.remaining_s <= 30


def test_a_stream_has_no_deadline_but_its_own(edge: Edge) -> None:
    edge.get("/v1/orders/7:watch", headers={"grpc-timeout": "5S"})
    assert edge.last.remaining_s is None or edge.last.remaining_s > 3600


def test_nothing_says_what_the_gateway_is_made_of(edge: Edge) -> None:
    for path in ("/v1/orders/1", "/v1/nope", "/v1/users/1"):
        headers = edge.get(path).headers
        assert "server" not in headers
        assert not [name for name in headers if name.startswith("x-envoy")]


def test_a_request_begins_a_trace_of_two_spans(edge: Edge) -> None:
    headers = {"x-correlation-id": "trace-1", "traceparent": OUTSIDE_TRACE}
    edge.post("/v1/orders", json={"orderId": "7"}, headers=headers)
    upstream = edge.last.metadata["traceparent"].split("-")
    root, call = edge.trace_of("trace-1", spans=2)
    assert (root.name, root.kind) == ("POST /v1/orders", Span.SPAN_KIND_SERVER)
    assert not root.parent_span_id
    assert call.name == "shop.orchestrator.v1.OrchestratorService/PlaceOrder"
    assert call.kind == Span.SPAN_KIND_CLIENT
    assert call.parent_span_id == root.span_id
    assert root.trace_id == call.trace_id
    assert upstream == ["00", call.trace_id.hex(), call.span_id.hex(), "01"]
    assert {name for name, _ in edge.outcome.spans} == {"gateway"}


def test_a_span_names_the_template_and_says_the_verb(edge: Edge) -> None:
    edge.get("/v1/orders/536365", headers={"x-correlation-id": "trace-2"})
    root, _ = edge.trace_of("trace-2", spans=2)
    assert root.name == "GET /v1/orders/{order_id}"
    assert attributes(root)["http.request.method"] == "GET"


def test_what_went_nowhere_is_one_span(edge: Edge) -> None:
    edge.get("/v1/nope", headers={"x-correlation-id": "trace-3"})
    (root,) = edge.trace_of("trace-3", spans=1)
    assert root.name == "unrouted"


def test_the_access_log_has_no_query_and_no_secret(edge: Edge) -> None:
    edge.get("/v1/orders/1?nope=secret-1", headers={"x-correlation-id": "log-1"})
    edge.post("/v1/orders", json={"paymentToken": "secret-2"})
    edge.get("/v1/orders/2", headers={"x-correlation-id": "log-2"})
    eventually(lambda: '"log-2"' in edge.log.read_text())
    text = edge.log.read_text()
    (line,) = (line for line in text.splitlines() if '"log-1"' in line)
    assert '"path":"/v1/orders/1"' in line
    assert "secret" not in text
    assert TOKEN not in text


def test_the_token_is_not_to_be_seen_on_the_admin_page(edge: Edge) -> None:
    for page in ("config_dump", "clusters", "server_info"):
        assert TOKEN not in httpx.get(f"{edge.admin_url}/{page}").text


def test_the_console_may_call_from_a_browser_and_others_may_not(edge: Edge) -> None:
    ask = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,idempotency-key",
    }
    url = f"{edge.base_url}/v1/orders"
    granted = httpx.options(url, headers={**ask, "origin": CONSOLE})
    assert granted.status_code == 200
    assert granted.headers["access-control-allow-origin"] == CONSOLE
    assert "idempotency-key" in granted.headers["access-control-allow-headers"]
    other = httpx.options(url, headers={**ask, "origin": "http://elsewhere"})
    assert other.status_code == 404
    for path in ("/v1/orders/1", "/v1/nope"):
        answer = edge.get(path, headers={"origin": CONSOLE})
        assert answer.headers["access-control-allow-origin"] == CONSOLE
        exposed = answer.headers["access-control-expose-headers"].replace(" ", "").split(",")
        assert {*exposed} == {"x-correlation-id", "mesh-degraded"}
        answer = edge.get(path, headers={"origin": "http://elsewhere"})
        assert "access-control-allow-origin" not in answer.headers


def test_over_the_rate_it_is_429_and_health_is_not_counted(tmp_path: Path) -> None:
    with running(tmp_path, "--rate-limit", "5") as edge, httpx.Client() as client:
        answers = [client.get(f"{edge.base_url}/v1/orders/1") for _ in range(30)]
        limited = [answer for answer in answers if answer.status_code == 429]
        assert len(limited) >= 15
        answer = limited[0]
        assert answer.json()["code"] == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert answer.json()["details"][0]["reason"] == "RATE_LIMITED"
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-ratelimit-limit"].startswith("5")
        assert answer.headers["x-ratelimit-remaining"] == "0"
        health = [client.get(f"{edge.base_url}/healthz") for _ in range(10)]
        assert {answer.status_code for answer in health} == {200}


def test_a_second_gateway_on_the_port_says_what_is_wrong(edge: Edge, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "gateway", "--data", str(tmp_path)),
        *("--port", str(edge.port), "--admin-port", "1"),
    ]
    run = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr == (
        f"gateway: 127.0.0.1:{edge.port} is in use: choose another port with --port\n"
    )


def test_a_signal_reaches_envoy(tmp_path: Path) -> None:
    with running(tmp_path) as edge:
        assert httpx.get(f"{edge.admin_url}/ready").text == "LIVE\n"
        edge.process.send_signal(signal.SIGTERM)
        assert edge.process.wait(10) == 0
