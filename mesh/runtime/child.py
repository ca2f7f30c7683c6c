"""One supervised child process: started, found ready, restarted when it dies, drained."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..layers.backoff import Backoff
from . import beside
from .clock import Runtime
from .health import Health
from .tied import tied

#: Between a death and the restart; a child that lived this long starts over with short delays.
RESTART = Backoff(base_s=0.5, max_s=10.0)
HEALTHY_AFTER_S = 30.0
READY_TIMEOUT_S = 60.0
READY_POLL_S = 0.05
READY_PROBE_S = 1.0
STOP_TIMEOUT_S = 20.0
#: A child that serves is asked this often whether it still answers. One that is silent so many
#: times in a row is frozen, and killed: worse than dead, since its neighbours wait for it.
PROBE_EVERY_S = 5.0
PROBE_TIMEOUT_S = 3.0
SILENT_MAX = 4
#: How much of its log is shown when a child dies.
TAIL_LINES = 8


class ChildError(RuntimeError):
    """A child does not come up; the message says why, as far as it is known."""


@dataclass(frozen=True)
class Spec:
    """What to run.

    probe: asks it how it is, and waits for so many seconds. drain: a command that has it finish
    what is under way, run before it is asked to end. inherited: descriptors that it shall hold.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    probe: Callable[[float], Awaitable[Health]]
    drain: Sequence[str] = ()
    inherited: Sequence[int] = ()


class Child:
    """Keeps one process running. `say` gets a line for people whenever something happens."""

    def __init__(self, spec: Spec, runtime: Runtime, say: Callable[[str], None]) -> None:
        self.spec = spec
        self.restarts = 0
        self._runtime = runtime
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> None:
        """Start it, and return once it serves.

        Raises:
            ChildError: it cannot be run, died first, or took too long.
        """
        await self._spawn()
        await self._until_ready()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ask it to drain; kill it if it takes too long."""
        self._stopping = True
        await beside.end(self._keeper)  # it may be starting one
        if self.pid is None:
            return
        if self.spec.drain:
            await self._drain()
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            self._process.send_signal(signal.SIGTERM)
        await self._wait_for(self._process, "stop")

    async def _drain(self) -> None:
        try:
            await self._wait_for(await self._run(self.spec.drain), "drain")
        except ChildError as error:
            self._say(str(error))

    async def _wait_for(self, process: asyncio.subprocess.Process, what: str) -> None:
        """Wait until *process* has ended; kill it if it takes too long."""
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self._say(f"{self.spec.name}: did not {what} in {STOP_TIMEOUT_S:.0f} s, killed")
            process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        self._process = await self._run(self.spec.command)

    async def _run(self, command: Sequence[str]) -> asyncio.subprocess.Process:
        try:
            self.spec.log.parent.mkdir(parents=True, exist_ok=True)
            with self.spec.log.open("ab") as log:
                return await asyncio.create_subprocess_exec(
                    *tied([find(command[0], self.spec.environment), *command[1:]]),
                    env=dict(self.spec.environment),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=self.spec.inherited,
                    start_new_session=True,  # Ctrl-C is for the supervisor, which drains in order
                )
        except OSError as error:
            raise ChildError(f"{self.spec.name} cannot be run: {error}") from error

    async def _until_ready(self) -> None:
        process, monotonic = self._process, self._runtime.clock.monotonic
        assert process is not None
        ends = monotonic() + READY_TIMEOUT_S
        while await self.spec.probe(READY_PROBE_S) is not Health.SERVES:
            if process.returncode is not None:
                raise ChildError(f"{self.spec.name} {_how(process.returncode)}{self._tail()}")
            if monotonic() > ends:
                raise ChildError(
                    f"{self.spec.name} does not serve after {READY_TIMEOUT_S:.0f} s{self._tail()}"
                )
            await self._runtime.clock.sleep(READY_POLL_S)

    async def _keep(self) -> None:
        deaths = 0
        while True:
            began = self._runtime.clock.monotonic()
            code = await self._ended()
            if self._stopping:
                return
            lived_s = self._runtime.clock.monotonic() - began
            asked = code == 0  # with SIGTERM: an operator restarts it
            deaths = 1 if asked or lived_s > HEALTHY_AFTER_S else deaths + 1
            self.restarts += 1
            delay_s = RESTART.ceiling_s(deaths)
            self._say(f"{self.spec.name} {_how(code)}; restarting in {delay_s:.1f} s")
            await self._runtime.clock.sleep(delay_s)
            try:
                await self._spawn()
                await self._until_ready()
            except ChildError as error:
                self._say(str(error))
            else:
                self._say(f"{self.spec.name} serves again (pid {self.pid})")

    async def _ended(self) -> int:
        """Return the status it ended with; if it freezes, that is its end."""
        assert self._process is not None
        silent = 0
        while silent < SILENT_MAX:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self._process.wait(), PROBE_EVERY_S)
            heard = await self.spec.probe(PROBE_TIMEOUT_S)
            silent = silent + 1 if heard is Health.SILENT else 0
        self._say(f"{self.spec.name} {Health.SILENT.value} any more, killed")
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return await self._process.wait()

    def _tail(self) -> str:
        try:
            lines = self.spec.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        except OSError:
            return ""
        shown = "".join(f"\n    {line}" for line in lines)
        return f"; the end of {self.spec.log}:{shown}"


def _how(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code}"


def find(program: str, environment: Mapping[str, str]) -> str:
    """Return where *program* is.

    Raises:
        FileNotFoundError: it is nowhere.
    """
    found = shutil.which(program, path=environment.get("PATH"))
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    return found
