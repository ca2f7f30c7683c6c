"""`mesh up`: start in order, restart, drain, and end cleanly whenever it is asked to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from mesh.layers.backoff import Backoff
from mesh.runtime import child as child_module
from mesh.runtime import supervisor as supervisor_module
from mesh.runtime.child import Child, ChildError, Spec
from mesh.runtime.clock import Runtime
from mesh.runtime.config import Config, ConfigError
from mesh.runtime.health import Health, probe, probe_http
from mesh.runtime.supervisor import EXIT_INTERRUPTED, Supervisor
from tests.support.waiting import eventually, until

from .programs import PATIENCE_S, Folder, free_port


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    yield folder
    folder.clean()


# --- start and stop -----------------------------------------------------------------------------


def test_each_step_waits_until_the_one_before_serves_and_the_drain_goes_backwards(
    folder: Folder,
) -> None:
    folder.process("late")
    folder.process("early", more="first = true")
    (folder.path / "early.closed").touch()
    up = folder.up()
    eventually(lambda: "started early" in folder.journal)
    assert folder.journal == ["started early"]
    (folder.path / "early.closed").unlink()
    folder.until_said("2 processes serve after")
    assert folder.stop(up) == 0
    assert folder.journal == [
        "started early",
        "serving early",
        "started late",
        "serving late",
        "stopped late",
        "stopped early",
    ]
    assert folder.said.endswith("stopping\nstopped; the data stays in .data\n")
    assert folder.pid("early") is None


def test_services_start_after_what_is_first_and_answer_for_their_health(folder: Folder) -> None:
    folder.process("early", more="first = true")
    folder.service("tiny")
    up = folder.up()
    folder.until_said("2 processes serve after")
    assert folder.mesh("health", "tiny").returncode == 0
    shown = folder.mesh("ps").stdout.split()
    assert shown == ["early", f"{folder.pid('early')}", "tiny", f"{folder.pid('tiny')}"]
    assert folder.stop(up, signal.SIGTERM) == 0
    assert folder.mesh("health", "tiny").returncode == 1


def test_all_services_in_one_process(folder: Folder) -> None:
    for name in ("one", "two"):
        folder.service(name)
    up = folder.up("--one-process")
    folder.until_said("1 processes serve after")
    assert folder.mesh("ps").stdout.split()[0] == "all"
    for name in ("one", "two"):
        assert folder.mesh("health", name).returncode == 0
    assert folder.stop(up) == 0


def test_what_depends_on_a_variable_that_is_not_set_is_left_out(folder: Folder) -> None:
    folder.process("always")
    unwanted = folder.process("extra", more='when = "EXTRA"')
    with socket.socket() as other:
        other.bind(("127.0.0.1", unwanted))  # nor is its port needed
        other.listen()
        up = folder.up()
        folder.until_said("1 processes serve")
        assert folder.stop(up) == 0


# --- Ctrl-C -------------------------------------------------------------------------------------


def test_ctrl_c_during_the_start(folder: Folder) -> None:
    folder.process("slow")
    folder.process("never", more="")
    (folder.path / "slow.closed").touch()
    up = folder.up()
    eventually(lambda: {"started slow", "started never"} <= set(folder.journal))
    assert folder.stop(up) == EXIT_INTERRUPTED
    assert {"stopped slow", "stopped never"} <= set(folder.journal)
    assert "Traceback" not in folder.said


def test_a_terminals_ctrl_c_reaches_the_supervisor_which_drains_the_rest(folder: Folder) -> None:
    folder.process("one")
    up = folder.up()
    folder.until_said("1 processes serve")
    os.killpg(up.pid, signal.SIGINT)  # a terminal sends it to the whole group
    assert up.wait(PATIENCE_S) == 0
    assert folder.journal == ["started one", "serving one", "stopped one"]


WELCOME = """
import signal, sys, time
print("welcome", flush=True)
try:
    time.sleep(3600)
except KeyboardInterrupt:
    print("goodbye", flush=True)
"""


def test_ctrl_c_during_the_welcome(folder: Folder) -> None:
    folder.process("one")
    folder.welcome(WELCOME)
    up = folder.up()
    folder.until_said("welcome")
    assert folder.stop(up) == 0
    assert folder.said.endswith("goodbye\nstopping\nstopped; the data stays in .data\n")


def test_after_the_welcome_it_stays_up(folder: Folder) -> None:
    folder.process("one")
    folder.welcome("print('welcome')")
    up = folder.up()
    folder.until_said("welcome")
    assert folder.pid("one")
    assert up.poll() is None
    assert folder.stop(up) == 0


def test_the_welcome_may_be_left_out(folder: Folder) -> None:
    folder.process("one")
    folder.welcome("print('welcome')")
    up = folder.up("--no-welcome")
    folder.until_said("1 processes serve")
    assert folder.stop(up) == 0
    assert "welcome" not in folder.said


async def test_a_welcome_that_will_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "WELCOME_STOP_S", 0.05)
    script = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"pathlib.Path({str(tmp_path / 'there')!r}).touch()\n"
        "time.sleep(3600)"
    )
    config = Config(services={}, welcome=("{python}", "-c", script), data_dir=tmp_path)
    welcome = asyncio.create_task(Supervisor(config, print, one_process=False)._welcome())
    await until((tmp_path / "there").exists)
    welcome.cancel()
    with pytest.raises(asyncio.CancelledError):
        await welcome


# --- what does not come up ----------------------------------------------------------------------


def test_a_child_that_dies_at_its_start_shows_the_end_of_its_log(folder: Folder) -> None:
    folder.process("good")
    lines = "; ".join(f"print('line {n}')" for n in range(20))
    folder.process("bad", command=["{python}", "-u", "-c", f"{lines}; raise SystemExit('no luck')"])
    up = folder.up()
    assert up.wait(60) == 1
    end = "".join(f"\n    line {n}" for n in range(13, 20))
    shown = f"error: bad ended with status 1; the end of .data/logs/bad.log:{end}\n    no luck\n"
    assert shown in folder.said
    assert "Traceback" not in folder.said
    assert folder.journal.count("started good") == folder.journal.count("stopped good")


def test_a_command_that_is_not_there(folder: Folder) -> None:
    folder.process("good")
    folder.process("bad", command=["./no-such-program"])
    assert folder.up().wait(60) == 1
    assert "error: bad cannot be run: [Errno 2] No such file or directory" in folder.said


def test_ports_in_use_are_named_with_their_owners_and_nothing_is_started(folder: Folder) -> None:
    gateway = folder.process("gateway")
    tiny = folder.service("tiny")
    with socket.socket() as one, socket.socket() as other:
        for probe, port in ((one, gateway), (other, tiny + 10_000)):
            probe.bind(("127.0.0.1", port))
            probe.listen()
        assert folder.up().wait(60) == 2
    assert (
        f"error: in use: port {tiny + 10_000} (/metrics of tiny), {gateway} (gateway)."
        in folder.said
    )
    assert "MESH_PORT_OFFSET" in folder.said
    assert folder.journal == []


def test_a_second_one_on_the_same_data_is_refused(folder: Folder) -> None:
    folder.process("one")
    up = folder.up()
    folder.until_said("1 processes serve")
    second = folder.mesh("up")
    assert second.returncode == 2
    assert second.stderr == "error: another `mesh up` runs on .data\n"
    assert up.poll() is None
    assert folder.pid("one")
    assert folder.stop(up) == 0


# --- deaths -------------------------------------------------------------------------------------


def test_a_child_that_is_killed_is_restarted_with_longer_and_longer_delays(folder: Folder) -> None:
    folder.process("one")
    up = folder.up()
    folder.until_said("1 processes serve")
    for delay in ("0.5", "1.0"):
        pid = folder.pid("one")
        assert pid
        os.kill(pid, signal.SIGKILL)
        folder.until_said(f"one was killed by SIGKILL; restarting in {delay} s")
        again = eventually(lambda: folder.pid("one"))
        assert again != pid
        folder.until_said(f"one serves again (pid {again})")
    assert folder.stop(up) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a parent's death")
def test_children_do_not_outlive_a_supervisor_that_is_killed(folder: Folder) -> None:
    folder.process("early", more="first = true")
    folder.process("late")
    folder.welcome(
        "import signal, sys, time\n"
        "def stop(*_):\n"
        "    open('journal', 'a').write('stopped welcome\\n')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('welcome', flush=True)\n"
        "time.sleep(3600)\n"
    )
    up = folder.up()
    folder.until_said("welcome")
    up.kill()
    up.wait()
    gone = {"stopped early", "stopped late", "stopped welcome"}
    eventually(lambda: gone <= set(folder.journal))
    eventually(lambda: folder.mesh("ps").returncode == 2)
    assert folder.mesh("ps").stderr == "error: nothing is up on .data\n"
    folder.up().poll()
    folder.until_said("2 processes serve")  # and the next one can start


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
def test_while_nothing_can_be_written_it_goes_on_restarting_what_dies(folder: Folder) -> None:
    folder.process("one")
    up = folder.up()
    folder.until_said("1 processes serve")
    resource.prlimit(up.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    for _ in range(2):
        (pid,) = eventually(lambda: children(up.pid))
        with contextlib.suppress(ProcessLookupError):  # it finds no room either
            os.kill(pid, signal.SIGKILL)
        eventually(lambda pid=pid: pid not in children(up.pid))  # type: ignore[misc]
    resource.prlimit(up.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    folder.until_said("one serves again")
    assert [folder.pid("one")] == children(up.pid)
    assert folder.stop(up) == 0


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


SLOW_TO_STOP = """
import pathlib, signal, sys, time
def stop(*_):
    while not pathlib.Path("may-stop").exists():
        time.sleep(0.01)
    sys.exit()
signal.signal(signal.SIGTERM, stop)
exec(open("fake.py").read().replace("signal.signal(signal.SIGTERM, stop)", ""))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a parent's death")
def test_the_next_one_waits_for_the_processes_of_one_that_was_killed(folder: Folder) -> None:
    (folder.path / "slow.py").write_text(SLOW_TO_STOP)
    folder.process("slow", command=["{python}", "slow.py", "slow", "{slow}"])
    up = folder.up()
    folder.until_said("1 processes serve")
    pid = folder.pid("slow")
    up.kill()
    up.wait()
    assert folder.mesh("ps").stdout.split() == ["slow", f"{pid}"]  # it is still there
    again = folder.up()
    folder.until_said("waiting until its processes have ended")
    assert folder.pid("slow") == pid
    (folder.path / "may-stop").touch()
    folder.until_said("1 processes serve")
    assert folder.pid("slow") != pid
    assert folder.stop(again) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a parent's death")
def test_processes_that_do_not_end_are_named_and_waiting_can_be_interrupted(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / "slow.py").write_text(SLOW_TO_STOP)
    folder.process("slow", command=["{python}", "slow.py", "slow", "{slow}"])
    up = folder.up()
    folder.until_said("1 processes serve")
    pid = folder.pid("slow")
    up.kill()
    up.wait()
    waiting = folder.up()
    folder.until_said("waiting until")
    assert folder.stop(waiting) == EXIT_INTERRUPTED
    assert "Traceback" not in folder.said

    monkeypatch.setattr(supervisor_module, "ORPHANS_STOP_S", 0.0)
    supervisor = Supervisor(Config(services={}, data_dir=folder.path / ".data"), print, False)
    with pytest.raises(ConfigError, match=rf"do not end: slow \({pid}\)\. End them with kill -9"):
        asyncio.run(supervisor.run(welcome=False))
    (folder.path / "may-stop").touch()
    eventually(lambda: folder.mesh("ps").returncode == 2)


# --- drain --------------------------------------------------------------------------------------


def test_what_is_to_be_drained_is_drained_first(folder: Folder) -> None:
    drain = ["{python}", "-c", "open('journal', 'a').write('drained one\\n')"]
    folder.process("one", more=f"drain = {json.dumps(drain)}")
    up = folder.up()
    folder.until_said("1 processes serve")
    assert folder.stop(up) == 0
    assert folder.journal[-2:] == ["drained one", "stopped one"]


# --- one child ----------------------------------------------------------------------------------


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


# --- frozen -------------------------------------------------------------------------------------


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
