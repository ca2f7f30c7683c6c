"""What code gains that adopts the mesh in at most three lines: both versions, as processes."""

from __future__ import annotations

import difflib

import pytest

from tests.examples.programs import ROOT, Collector, Program, Server, ended, free_port

EXAMPLES = ["helloworld", "route_guide"]
COLOURS = pytest.mark.parametrize("aio", ["", "aio_"], ids=["sync", "aio"])
EACH = pytest.mark.parametrize("example", EXAMPLES)
LINES_MAX = 3
GREETING = "Hello, ann!"
ANSWERS = [
    "place: mill",
    "nearby: lighthouse mill",
    "route: 3 points, 2 places",
    "said: closed closed open",
]
FIRST = {"helloworld": GREETING, "route_guide": ANSWERS[0]}


@EACH
@COLOURS
@pytest.mark.parametrize("program", ["server", "client"])
def test_at_most_three_lines_differ(example: str, aio: str, program: str) -> None:
    folder = ROOT / "examples" / example
    plain, meshed = (
        (folder / version / f"{aio}{program}.py").read_text().splitlines()
        for version in ("plain", "meshed")
    )
    changes = [line for line in difflib.ndiff(plain, meshed) if line.startswith("+ ")]
    assert 2 <= len(changes) <= LINES_MAX, changes


def names(example: str, version: str, aio: str) -> tuple[str, str]:
    return f"{example}.{version}.{aio}server", f"{example}.{version}.{aio}client"


@COLOURS
@pytest.mark.parametrize(
    "versions", [("plain", "meshed"), ("meshed", "plain"), ("meshed", "meshed")], ids=" to ".join
)
def test_whoever_adopts_first_loses_nothing(versions: tuple[str, str], aio: str) -> None:
    client_version, server_version = versions
    server = Server(names("route_guide", server_version, aio)[0], free_port())
    client = Program(names("route_guide", client_version, aio)[1], server.address)
    with ended(client, server):
        assert [client.ask(), *(client.hear() for _ in ANSWERS[1:])] == ANSWERS


@EACH
@COLOURS
def test_a_flaky_server(example: str, aio: str) -> None:
    outcomes = []
    for version in ("plain", "meshed"):
        serve, call = names(example, version, aio)
        server = Server(serve, free_port(), FAIL_FIRST="2")
        client = Program(call, server.address)
        with ended(client, server):
            outcomes.append(client.ask("ann"))
    assert outcomes == ["UNAVAILABLE", FIRST[example]]


@EACH
@COLOURS
def test_a_killed_server(example: str, aio: str) -> None:
    """The plain client fails at once; with the mesh it waits for whoever starts it again."""
    outcomes = []
    for version in ("plain", "meshed"):
        serve, call = names(example, version, aio)
        server = Server(serve, free_port())
        client = Program(call, server.address)
        with ended(client):
            assert client.ask("ann") == FIRST[example]
            while example == "route_guide" and client.hear() != ANSWERS[-1]:
                pass
            server.kill()
            client.say("ann")
            again = Server(serve, server.port) if version == "meshed" else None
            outcomes.append(client.hear())
            if again:
                again.end()
    assert outcomes == ["UNAVAILABLE", FIRST[example]]


@COLOURS
def test_one_trace_and_one_correlation_id_over_three_processes(aio: str) -> None:
    collector = Collector()
    serve, call = names("helloworld", "meshed", aio)
    environment = {**collector.environment, "LOG_LEVEL": "DEBUG"}
    far = Server(serve, free_port(), OTEL_SERVICE_NAME="far", **environment)
    near = Server(serve, free_port(), far.address, OTEL_SERVICE_NAME="near", **environment)
    client = Program(call, near.address, OTEL_SERVICE_NAME="caller", **collector.environment)
    with ended(client, near, far):
        assert client.ask("ann") == f"{GREETING} I was told to say."
        collector.until(lambda: len(collector.spans) >= 3)
    collector.until(lambda: len(collector.spans) >= 4)  # the client's is sent when it exits
    collector.close()
    assert len({span.trace_id for _, span in collector.spans}) == 1
    spans = {(name, span.kind): span for name, span in collector.spans}
    client_kind, server_kind = 3, 2
    chain = [
        ("caller", client_kind),
        ("near", server_kind),
        ("near", client_kind),
        ("far", server_kind),
    ]
    assert spans.keys() == {*chain}
    parents = [b"", *(spans[link].span_id for link in chain[:-1])]
    assert [spans[link].parent_span_id for link in chain] == parents
    [logged] = [line for line in far.log if '"event": "rpc"' in line]
    assert '"correlation_id": "greeting-ann"' in logged


def test_the_plain_ones_pass_nothing_on() -> None:
    collector = Collector()
    serve, call = names("helloworld", "plain", "")
    far = Server(serve, free_port(), LOG_LEVEL="DEBUG", **collector.environment)
    near = Server(serve, free_port(), far.address, **collector.environment)
    client = Program(call, near.address, **collector.environment)
    with ended(client, near, far):
        assert client.ask("ann").startswith("Hello")
    collector.close()
    assert not collector.spans
    assert not far.log
