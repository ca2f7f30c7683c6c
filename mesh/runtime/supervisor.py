"""`mesh up`: the whole system on one machine, one process for each service.

Start: what must be first, then the services together, then the rest; each step waits until all
of it serves. Stop: the same steps backwards, so that nothing is asked of what is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from ..layers.identity import make_token
from . import beside, presence
from .child import STOP_TIMEOUT_S, Child, ChildError, Spec
from .clock import Runtime
from .config import Config, ConfigError, ProcessConfig
from .health import Health, probe, probe_url
from .ports import hold
from .tied import tied

EXIT_INTERRUPTED = 130
#: How long the welcome may take to end after Ctrl-C.
WELCOME_STOP_S = 10.0
#: The processes of a supervisor that was killed drain one beside the other.
ORPHANS_STOP_S = STOP_TIMEOUT_S + 5.0
POLL_S = 0.1


class Supervisor:
    """Runs the system of *config*. `say` gets a line for people whenever something happens."""

    def __init__(self, config: Config, say: Callable[[str], None], one_process: bool) -> None:
        self._config = config
        self._say = say
        self._one_process = one_process
        self._runtime = Runtime()
        self._secret = config.token_secret or secrets.token_hex(32)
        self._stages: list[list[Child]] = []
        self._stop = asyncio.Event()
        self._lock: int | None = None

    async def run(self, welcome: bool) -> int:
        """Start everything, welcome, stay up until asked to stop; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        await self._or_stop(self._claim())
        if self._lock is None:
            return EXIT_INTERRUPTED
        try:
            return await self._hold_and_run(welcome)
        finally:
            os.close(self._lock)

    async def _hold_and_run(self, welcome: bool) -> int:
        held = self._hold_ports()
        try:
            return await self._run(welcome)
        finally:
            self._say("stopping")
            for stage in reversed(self._stages):
                await asyncio.gather(*(child.stop() for child in stage))
            presence.forget_pids(self._config.data_dir)
            for keeper in held:
                keeper.close()
            self._say("stopped; the data stays in " + str(self._config.data_dir))

    async def _claim(self) -> None:
        """Take the data directory, once the processes of a supervisor that was killed have ended.

        Raises:
            ConfigError: another supervisor has it, or they do not end.
        """
        data_dir = self._config.data_dir
        ends = self._runtime.clock.monotonic() + ORPHANS_STOP_S
        waits = False
        while (lock := presence.claim(data_dir)) is None:
            if presence.supervisor_runs(data_dir):
                raise ConfigError(f"another `mesh up` runs on {data_dir}")
            if not waits:
                self._say("the last `mesh up` was killed: waiting until its processes have ended")
            if self._runtime.clock.monotonic() > ends:
                left = presence.running(data_dir).items()
                named = ", ".join(f"{name} ({pid})" for name, pid in left) or "unknown ones"
                raise ConfigError(
                    f"processes of the last `mesh up` on {data_dir} do not end: {named}."
                    " End them with kill -9"
                )
            waits = True
            await self._runtime.clock.sleep(POLL_S)
        self._lock = lock

    async def _run(self, welcome: bool) -> int:
        began = self._runtime.clock.monotonic()
        for specs in self._plan():
            self._say(f"starting {', '.join(spec.name for spec in specs)}")
            await self._or_stop(self._start(specs))
            if self._stop.is_set():
                return EXIT_INTERRUPTED
        took_s = self._runtime.clock.monotonic() - began
        count = sum(len(stage) for stage in self._stages)
        self._say(f"{count} processes serve after {took_s:.1f} s")
        if welcome and self._config.welcome:
            await self._or_stop(self._welcome())
        await self._stop.wait()
        return 0

    async def _or_stop(self, work: Awaitable[None]) -> None:
        """Do *work*, or leave off when asked to stop."""
        task = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _start(self, specs: Sequence[Spec]) -> None:
        stage = [Child(spec, self._runtime, self._report) for spec in specs]
        self._stages.append(stage)
        starts = [asyncio.ensure_future(child.start()) for child in stage]
        try:
            await asyncio.gather(*starts)
        finally:  # if one failed, no other may come up behind its back
            await beside.end(*starts)
        self._write_pids()

    def _report(self, line: str) -> None:
        """Tell other programs, then people, who may ask them; a full disk must not stop us."""
        try:
            self._write_pids()
        except OSError as error:
            self._say(f"`mesh ps` is out of date: {error}")
        self._say(line)

    def _plan(self) -> list[list[Spec]]:
        others = self._wanted()
        stages = [
            [self._process(p) for p in others if p.first],
            self._services(),
            [self._process(p) for p in others if not p.first],
        ]
        return [stage for stage in stages if stage]

    def _wanted(self) -> list[ProcessConfig]:
        return [p for p in self._config.processes.values() if p.wanted(os.environ)]

    def _services(self) -> list[Spec]:
        if self._one_process:
            if any(service.replicas > 1 for service in self._config.services.values()):
                raise ConfigError("replicas are processes: leave out --one-process, or them")
            return [self._service("all", list(self._config.services), 1)]
        return [
            self._service(name if replica == 1 else f"{name}-{replica}", [name], replica)
            for name, service in self._config.services.items()
            for replica in range(1, service.replicas + 1)
        ]

    def _service(self, called: str, names: list[str], replica: int) -> Spec:
        addresses = [self._config.address_of(name, replica) for name in names]

        async def ask(timeout_s: float) -> Health:
            heard = [await probe(address, timeout_s) for address in addresses]
            return next((one for one in heard if one is not Health.SERVES), Health.SERVES)

        return Spec(
            name=called,
            command=[sys.executable, "-m", "mesh", "run", *names, "--replica", str(replica)],
            environment={**os.environ, **self._tracing, "MESH_TOKEN_SECRET": self._secret},
            log=self._log(called),
            probe=ask,
            inherited=self._inherited,
        )

    def _process(self, process: ProcessConfig) -> Spec:
        words = self._config.words()
        url = process.ready.format_map(words)
        return Spec(
            name=process.name,
            command=[word.format_map(words) for word in process.command],
            environment={**os.environ, "MESH_TOKEN": make_token(self._secret, process.name)},
            log=self._log(process.name),
            probe=lambda timeout_s: probe_url(url, timeout_s),
            drain=[word.format_map(words) for word in process.drain],
            inherited=self._inherited,
        )

    async def _welcome(self) -> None:
        words = self._config.words()
        command = [word.format_map(words) for word in self._config.welcome]
        process = await asyncio.create_subprocess_exec(*tied(command), start_new_session=True)
        try:
            await process.wait()
        except asyncio.CancelledError:
            process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), WELCOME_STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()
            raise

    @property
    def _tracing(self) -> dict[str, str]:
        """Spans go to our own collector, and soon, unless the user wants it otherwise."""
        if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ or "otlp" not in self._config.ports:
            return {}
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._config.ports['otlp']}",
            "OTEL_BSP_SCHEDULE_DELAY": os.environ.get("OTEL_BSP_SCHEDULE_DELAY", "500"),
        }

    def _log(self, name: str) -> Path:
        return self._config.data_dir / "logs" / f"{name}.log"

    @property
    def _inherited(self) -> list[int]:
        return [] if self._lock is None else [self._lock]

    def _write_pids(self) -> None:
        pids = {c.spec.name: c.pid for stage in self._stages for c in stage if c.pid}
        presence.write_pids(self._config.data_dir, pids)

    def _hold_ports(self) -> list[socket.socket]:
        """Keep every port for its listener, also while that is being restarted."""
        used = "".join(text for p in self._wanted() for text in (*p.command, *p.drain, p.ready))
        held: list[socket.socket] = []
        taken: list[str] = []
        for port, name in self._config.listeners():
            if name not in self._config.ports or f"{{{name}}}" in used:
                keeper = hold(port)
                held.append(keeper) if keeper else taken.append(f"{port} ({name})")
        if taken:
            for keeper in held:
                keeper.close()
            raise ConfigError(
                f"in use: port {', '.join(taken)}. Stop what listens there, or move all ports"
                " with MESH_PORT_OFFSET=1000"
            )
        return held


async def up(config: Config, *, one_process: bool, welcome: bool) -> int:
    """Run the system; return the exit status."""
    supervisor = Supervisor(config, _print, one_process)
    try:
        return await supervisor.run(welcome)
    except ChildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _print(line: str) -> None:
    with contextlib.suppress(OSError):  # where it goes to is full, or gone
        print(line, flush=True)
