"""One child of the supervisor: drained, found frozen, restarted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from mesh.layers.backoff import Backoff
from mesh.runtime import child as child_module
from mesh.runtime.child import Child, ChildError, Spec
from mesh.runtime.clock import Runtime
from mesh.runtime.health import Health, probe, probe_http

from .programs import free_port


class Said(list[str]):
    """What a child says, and a way to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.append(line)
        self._more.set()

    async def until(self, text: str) -> None:
        while not any(text in line for line in self):
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), 60)


StartChild = Callable[..., Child]

Probe = Callable[[float], Awaitable[Health]]


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
async def child(tmp_path: Path, said: Said) -> AsyncIterator[StartChild]:
    """Make children that run a script and are ready when a file is there, or at once."""
    made: list[Child] = []

    def make(script: str, probe: Probe | None = None) -> Child:
        async def at_once(timeout_s: float) -> Health:
            return Health.SERVES

        command = [sys.executable, "-c", script]
        spec = Spec("one", command, dict(os.environ), tmp_path / "one.log", probe or at_once)
        made.append(Child(spec, Runtime(), said))
        return made[-1]

    yield make
    for one in made:
        await one.stop()


SLEEP = "import time; time.sleep(3600)"


async def test_a_child_that_ignores_the_drain_is_killed(
    child: StartChild, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "STOP_TIMEOUT_S", 0.05)
    there = tmp_path / "there"

    async def ready(timeout_s: float) -> Health:
        return Health.SERVES if there.exists() else Health.NOT_YET

    ignore = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(there)!r}, 'w')"
    one = child(f"import signal; {ignore}; {SLEEP}", ready)
    await one.start()
    await one.stop()
    assert said == ["one: did not stop in 0 s, killed"]
    assert one.pid is None


@pytest.mark.parametrize(
    ("drain", "expected"),
    [
        (["no-such-program"], "one cannot be run: [Errno 2]"),
        ([sys.executable, "-c", "import time; time.sleep(3600)"], "one: did not drain in 0 s"),
    ],
)
async def test_a_drain_that_fails_does_not_keep_a_child_from_being_stopped(
    child: StartChild, said: Said, monkeypatch: pytest.MonkeyPatch, drain: list[str], expected: str
) -> None:
    one = child(SLEEP)
    await one.start()
    one.spec = replace(one.spec, drain=drain)
    monkeypatch.setattr(child_module, "STOP_TIMEOUT_S", 0.05)
    await one.stop()
    assert any(expected in line for line in said)
    assert one.pid is None


async def test_starting_children_beside_busy_grpc_crashes_none(child: StartChild) -> None:
    """A fork, unlike this, starts gRPC's threads in the child: here one in seven crashed."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    done = False

    async def ask(port: int) -> None:
        while not done:
            await probe(f"127.0.0.1:{port}")

    asking = [asyncio.create_task(ask(n)) for n in (port, port, port, free_port(), free_port())]
    one = child("")
    statuses = {await (await one._run(["true"])).wait() for _ in range(60)}
    done = True
    await asyncio.gather(*asking)
    await server.stop(None)
    assert statuses == {0}


# --- frozen ---------------------------------------------------------------------------------------


async def test_a_child_that_is_silent_for_long_is_killed_and_restarted(
    child: StartChild, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "PROBE_EVERY_S", 0.01)
    monkeypatch.setattr(child_module, "RESTART", Backoff(base_s=0.01, max_s=0.01))
    # Refusing to serve is an answer, and an answer starts the count anew.
    silent, other = [Health.SILENT] * 3, [Health.NOT_YET, Health.SERVES]
    heard = iter([Health.SERVES, *silent, *other, *silent, *other, *silent, Health.SILENT])
    asked = 0

    async def probe(timeout_s: float) -> Health:
        nonlocal asked
        asked += 1
        return next(heard, Health.SERVES)

    one = child(SLEEP, probe)
    await one.start()
    pid = one.pid
    await said.until("one serves again")
    assert said[:2] == [
        "one does not answer any more, killed",
        "one was killed by SIGKILL; restarting in 0.0 s",
    ]
    assert asked >= 15
    assert one.pid != pid


@pytest.mark.parametrize("ask", [probe_http, probe])
async def test_who_takes_connections_and_says_nothing_is_silent(
    ask: Callable[[str, float], Awaitable[Health]],
) -> None:
    with socket.socket() as frozen:
        frozen.bind(("127.0.0.1", 0))
        frozen.listen()
        address = f"127.0.0.1:{frozen.getsockname()[1]}"
        where = f"http://{address}/" if ask is probe_http else address
        assert await ask(where, 0.2) is Health.SILENT
    assert await ask(where, 5.0) is Health.NOT_YET  # nobody is there


# --- starts and restarts --------------------------------------------------------------------------


async def test_a_child_that_never_serves(
    child: StartChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(timeout_s: float) -> Health:
        return Health.NOT_YET

    monkeypatch.setattr(child_module, "READY_TIMEOUT_S", 0.0)
    one = child(SLEEP, never)
    with pytest.raises(ChildError, match=r"one does not serve after 0 s; the end of .*one\.log:$"):
        await one.start()
    assert one.pid  # it is left to `stop`


async def test_delays_between_restarts_double_up_to_a_limit(
    child: StartChild, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "RESTART", Backoff(base_s=0.01, max_s=0.04))
    delays: list[float] = []

    class Spy(Backoff):
        def ceiling_s(self, attempt: int) -> float:
            delays.append(super().ceiling_s(attempt))
            return delays[-1]

    monkeypatch.setattr(child_module, "RESTART", Spy(base_s=0.01, max_s=0.04))
    one = child("raise SystemExit(3)")
    await one.start()
    while one.restarts < 5:
        before = len(said)
        await said.until("one ended with status 3")
        if len(said) == before:
            del said[:]
    assert delays[:5] == [0.01, 0.02, 0.04, 0.04, 0.04]


async def test_a_child_that_lived_long_is_restarted_soon(
    child: StartChild, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "RESTART", Backoff(base_s=0.01, max_s=60.0))
    monkeypatch.setattr(child_module, "HEALTHY_AFTER_S", -1.0)
    one = child("raise SystemExit(3)")
    await one.start()
    while one.restarts < 12:  # else the next delays would be 5, 10, 20 s …
        del said[:]
        await said.until("one ended with status 3; restarting in 0.0 s")


async def test_a_child_that_was_asked_to_end_is_restarted_soon(
    child: StartChild, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "RESTART", Backoff(base_s=0.01, max_s=60.0))
    one = child("raise SystemExit(0)")
    await one.start()
    while one.restarts < 12:
        del said[:]
        await said.until("one ended with status 0; restarting in 0.0 s")


async def test_a_child_whose_program_is_gone_at_a_restart_is_tried_again(
    child: StartChild, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "RESTART", Backoff(base_s=0.01, max_s=0.01))
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 3600\n")
    program.chmod(0o755)
    one = child("")
    one.spec = replace(one.spec, command=[str(program)], environment={})
    await one.start()
    assert one.pid
    program.rename(tmp_path / "away")
    os.kill(one.pid, signal.SIGKILL)
    await said.until("one cannot be run: [Errno 2]")
    (tmp_path / "away").rename(program)
    await said.until("one serves again")
    assert one.pid


async def test_stopped_while_it_is_restarted_nothing_is_left(
    child: StartChild, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "RESTART", Backoff(base_s=0.0, max_s=0.0))
    for turns in range(6):
        one = child(SLEEP)
        await one.start()
        pid = one.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        await said.until("one was killed by SIGKILL")
        del said[:]
        for _ in range(turns):
            await asyncio.sleep(0)
        await one.stop()
        assert one.pid is None
        assert one._keeper
        assert one._keeper.done()


async def test_readiness_over_http() -> None:
    assert await probe_http(f"http://127.0.0.1:{free_port()}/") is Health.NOT_YET

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).split()[1]
        status = b"200 OK" if path == b"/ready" else b"503 Not yet"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await probe_http(f"http://127.0.0.1:{port}/ready") is Health.SERVES
    assert await probe_http(f"http://127.0.0.1:{port}/other") is Health.NOT_YET
    server.close()
    await server.wait_closed()
