"""The clock of a real system's services jumps an hour, forth and back, while orders are placed."""

from __future__ import annotations

from pathlib import Path
from random import Random

from mesh.runtime import config as configuration
from tests.e2e import december
from tests.e2e.books import check, read_books
from tests.e2e.changed import configure
from tests.e2e.system import ROOT, running

COUNT = 200
IN_FLIGHT = 10
HOUR_S = 3600
#: In place of each service's module: what time it is, the test says in a file.
MODULE = """
import time
from pathlib import Path

from mesh.runtime.clock import SystemClock
from services.{service}.service import service

AHEAD = Path({ahead!r})
SystemClock.wall = lambda self: time.time() + float(AHEAD.read_text())
"""


def test_no_order_notices(tmp_path: Path, turn: int) -> None:
    ahead = tmp_path / "ahead"
    ahead.write_text("0")
    services = configuration.load({"MESH_CONFIG": str(ROOT / "mesh.toml")}).services
    path = configure(tmp_path / "system", {name: f"clocked_{name}" for name in services})
    for name in services:
        module = MODULE.format(service=name, ahead=str(ahead))
        (path.parent / f"clocked_{name}.py").write_text(module)
    with running(tmp_path / "data", MESH_CONFIG=str(path)) as system:
        command = december.replay_command(f"--limit={COUNT}", "--concurrency=32")
        replay = system.start(command, tmp_path / "replay.log")
        try:
            for ahead_s in (*Random(turn).sample((HOUR_S, -HOUR_S), 2), 0):
                system.wait_in_flight(IN_FLIGHT)
                fresh = tmp_path / "fresh"
                fresh.write_text(str(ahead_s))
                fresh.replace(ahead)
            assert replay.wait(december.REPLAY_S) == 0, (tmp_path / "replay.log").read_text()
        finally:
            replay.kill()
            replay.wait()
    books = read_books(tmp_path / "data")
    check(books)
    assert books.states == {"CONFIRMED": COUNT}
