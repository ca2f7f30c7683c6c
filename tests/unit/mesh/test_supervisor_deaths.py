"""Who dies while the system is up: a child, the supervisor itself, and who comes next."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from mesh.runtime import supervisor as supervisor_module
from mesh.runtime.config import Config, ConfigError
from mesh.runtime.supervisor import EXIT_INTERRUPTED, Supervisor
from tests.support.waiting import eventually

from .programs import Folder


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


def left_behind(folder: Folder) -> int | None:
    """Kill a supervisor whose one process is slow to stop; return that one's id."""
    (folder.path / "slow.py").write_text(SLOW_TO_STOP)
    folder.process("slow", command=["{python}", "slow.py", "slow", "{slow}"])
    up = folder.up()
    folder.until_said("1 processes serve")
    pid = folder.pid("slow")
    up.kill()
    up.wait()
    return pid


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a parent's death")
def test_the_next_one_waits_for_the_processes_of_one_that_was_killed(folder: Folder) -> None:
    pid = left_behind(folder)
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
    pid = left_behind(folder)
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
