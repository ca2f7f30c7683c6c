"""What tests start does not outlive them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = "run:\n\t@sleep 600 & echo $$! >>pids; echo $$$$ >>pids; wait\n"
STARTS_MAKE = """
import pathlib, time
from tests.support.children import start
start(["make", "run"], cwd={folder!r})
while True:
    time.sleep(1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a parent's death")
def test_killed_it_takes_its_make_and_what_that_runs_with_it(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    test = subprocess.Popen(
        [sys.executable, "-c", STARTS_MAKE.format(folder=str(tmp_path))], cwd=ROOT
    )
    pids = tmp_path / "pids"
    eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    sleep, shell = map(int, pids.read_text().split())
    test.send_signal(signal.SIGKILL)
    test.wait()
    eventually(lambda: not runs(shell))
    os.kill(sleep, signal.SIGKILL)  # a shell leaves its background jobs: not make's doing


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
