"""`mesh up`: start in order, restart, drain, and end cleanly whenever it is asked to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from mesh.runtime import supervisor as supervisor_module
from mesh.runtime.config import Config
from mesh.runtime.supervisor import EXIT_INTERRUPTED, Supervisor
from tests.support.waiting import eventually, until

from .programs import PATIENCE_S, Folder

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


# --- drain --------------------------------------------------------------------------------------


def test_what_is_to_be_drained_is_drained_first(folder: Folder) -> None:
    drain = ["{python}", "-c", "open('journal', 'a').write('drained one\\n')"]
    folder.process("one", more=f"drain = {json.dumps(drain)}")
    up = folder.up()
    folder.until_said("1 processes serve")
    assert folder.stop(up) == 0
    assert folder.journal[-2:] == ["drained one", "stopped one"]
