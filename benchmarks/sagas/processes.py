"""The processes of the benchmark: started, asked, their CPU counted, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh.runtime.tied import tied

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0


class ProcessError(RuntimeError):
    """A process of the benchmark does not do what it should."""


class Process:
    """A running process whose first line of output says that it is ready, and perhaps where."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, log: Path) -> None:
        self._process = process
        self._name = name
        self._log = log
        self.pid = process.pid

    async def line(self, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
        """Return its next line.

        Raises:
            ProcessError: it has ended, or says nothing.
        """
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), timeout_s)
        except TimeoutError:
            raise ProcessError(f"{self._name} said nothing for {timeout_s:.0f} s") from None
        if not line:
            last = "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])
            raise ProcessError(f"{self._name} ended; the end of {self._log}:\n{last}")
        return line.decode().strip()

    async def ask(self, **request: Any) -> Any:
        """Send a line of JSON and return the one that comes back."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        return json.loads(await self.line())

    async def stop(self) -> None:
        """End it: asked first, killed after a while."""
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it at once, with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()


async def start(
    name: str,
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] = os.environ,
    *,
    heard: bool = True,
) -> Process:
    """Start *command* in a session of its own.

    What it says on standard error goes to a log, as does all else unless it is *heard*.
    """
    path = _log(folder, name)
    with path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *tied(command),
            cwd=ROOT,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if heard else log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the one who started all of them
        )
    return Process(process, name, path)


def _log(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.log"


@asynccontextmanager
async def running(
    name: str,
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] = os.environ,
    *,
    heard: bool = True,
) -> AsyncIterator[Process]:
    """A process that is ended when the block is."""
    process = await start(name, command, folder, environment, heard=heard)
    try:
        yield process
    finally:
        await process.stop()


@asynccontextmanager
async def module(
    name: str, folder: Path, *arguments: str, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[tuple[Process, str]]:
    """A module of this package as a process, and the first line it says."""
    command = [sys.executable, "-m", f"benchmarks.sagas.{name}", *arguments]
    async with running(name, command, folder, environment) as process:
        yield process, await process.line(START_TIMEOUT_S)


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU time of these processes and all below them, so far.

    It reads /proc; where there is none it is NaN.
    """
    if not Path("/proc/self/stat").exists():
        return float("nan")
    ticks: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        pid = int(stat.parent.name)
        children.setdefault(int(fields[1]), []).append(pid)
        # utime, stime, and those of the children it has waited for: proc(5), fields 14 to 17
        ticks[pid] = sum(map(int, fields[11:15]))
    seen, waiting = 0, list(pids)
    while waiting:
        pid = waiting.pop()
        seen += ticks.get(pid, 0)
        waiting += children.get(pid, [])
    return seen / os.sysconf("SC_CLK_TCK")
