"""`make run`, as the first page says, in a folder of its own that looks like this checkout."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.runtime.ports import hold
from tests.docs.fences import ROOT
from tests.e2e.system import OFFSETS
from tests.support.children import start
from tests.support.waiting import eventually

START_S: Final = 180.0
STOP_S: Final = 60.0
#: Not inherited: what would change the system, or tell `make` that it is below another one.
_OURS: Final = ("MESH_", "OTEL_", "MAKE", "MFLAGS", "ORDERS", "JAEGER", "VIRTUAL_ENV", "PYTHON")
#: Not linked: what a run writes.
_WRITTEN: Final = (".data", ".git")


@dataclass(frozen=True)
class FirstDay:
    """The running system. `checkout` is where the pages' commands are typed."""

    checkout: Path
    environment: Mapping[str, str]
    offset: int
    log: Path

    def printed(self) -> str:
        return self.log.read_text(errors="replace")

    def moved(self, text: str) -> str:
        """Return *text* with the pages' ports replaced by those of this run."""

        def move(found: re.Match[str]) -> str:
            port = int(found[1])
            return f"127.0.0.1:{port + self.offset if port >= 1024 else port}"

        return re.sub(r"127\.0\.0\.1:(\d+)", move, text)


@contextmanager
def make_run(folder: Path) -> Iterator[FirstDay]:
    """Run `make run`; yield when the first day's orders are placed; end it as Ctrl-C would."""
    checkout = folder / "checkout"
    checkout.mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in _WRITTEN:
            (checkout / entry.name).symlink_to(entry)
    day, make = _start(checkout, folder / "make-run.log")
    while not _is_up(day, make):
        assert "in use" in day.printed(), day.printed()
        day, make = _start(checkout, day.log)
    # The tutorial's services listen here later on: no outgoing connection may take their ports.
    kept = [hold(port + day.offset) for port in TUTORIAL_PORTS]
    try:
        yield day
    finally:
        for keeper in kept:
            if keeper:
                keeper.close()
        os.killpg(make.pid, signal.SIGINT)
        make.wait(STOP_S)


#: Of docs/write-a-service.md, write-a-saga.md, events.md and adopt.md: services, their /metrics,
#: brokers.
TUTORIAL_PORTS = (
    *(port + metrics for port in range(50061, 50068) for metrics in (0, 10_000)),
    *(4223, 8223, 4224, 8224),
)


def _start(checkout: Path, log: Path) -> tuple[FirstDay, subprocess.Popen[bytes]]:
    offset = random.choice(OFFSETS)
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(_OURS)}
    environment = {**inherited, "MESH_PORT_OFFSET": str(offset)}
    with log.open("wb") as output:
        make = start(
            ["make", "run"],
            cwd=checkout,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return FirstDay(checkout, environment, offset, log), make


def _is_up(day: FirstDay, make: subprocess.Popen[bytes]) -> bool:
    """Wait until it has placed its orders, or has ended; whether it is up."""
    try:
        eventually(
            lambda: make.poll() is not None or "Ctrl-C stops everything" in day.printed(),
            within_s=START_S,
        )
    except AssertionError:
        os.killpg(make.pid, signal.SIGINT)
        raise AssertionError(day.printed()) from None
    return make.poll() is None
