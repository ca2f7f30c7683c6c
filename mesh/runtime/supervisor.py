"""`mesh up`: the whole system on one machine, one process for each service.

Start: what must be first, then the services together, then the rest; each step waits until all
of it serves. Stop: the same steps backwards, so that nothing is asked of what is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from ..layers.identity import make_token
from .child import Child, ChildError, Spec, answers_http, die_with_parent
from .clock import Runtime
from .config import Config, ConfigError, ProcessConfig
from .health import serves
from .ports import hold

EXIT_INTERRUPTED = 130
#: How long the welcome may take to end after Ctrl-C.
WELCOME_STOP_S = 10.0


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

    async def run(self, welcome: bool) -> int:
        """Start everything, welcome, stay up until asked to stop; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        with only_one(self._config.data_dir):
            held = self._hold_ports()
            try:
                return await self._run(welcome)
            finally:
                self._say("stopping")
                for stage in reversed(self._stages):
                    await asyncio.gather(*(child.stop() for child in stage))
                self._pids_file.unlink(missing_ok=True)
                for keeper in held:
                    keeper.close()
                self._say("stopped; the data stays in " + str(self._config.data_dir))

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
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
        self._write_pids()

    def _report(self, line: str) -> None:
        self._say(line)
        self._write_pids()

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
        names = list(self._config.services)
        groups = [names] if self._one_process else [[name] for name in names]
        return [self._service(group) for group in groups]

    def _service(self, names: list[str]) -> Spec:
        name = names[0] if len(names) == 1 else "all"
        addresses = [self._config.address_of(n) for n in names]

        async def ready() -> bool:
            return all([await serves(address) for address in addresses])

        return Spec(
            name=name,
            command=[sys.executable, "-m", "mesh", "run", *names],
            environment={**os.environ, **self._tracing, "MESH_TOKEN_SECRET": self._secret},
            log=self._log(name),
            ready=ready,
        )

    def _process(self, process: ProcessConfig) -> Spec:
        words = self._config.words()
        return Spec(
            name=process.name,
            command=[word.format_map(words) for word in process.command],
            environment={**os.environ, "MESH_TOKEN": make_token(self._secret, process.name)},
            log=self._log(process.name),
            ready=functools.partial(answers_http, process.ready.format_map(words)),
        )

    async def _welcome(self) -> None:
        words = self._config.words()
        command = [word.format_map(words) for word in self._config.welcome]
        process = await asyncio.create_subprocess_exec(
            *command, start_new_session=True, preexec_fn=die_with_parent()
        )
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
    def _pids_file(self) -> Path:
        return pids_file(self._config.data_dir)

    def _write_pids(self) -> None:
        pids = {c.spec.name: c.pid for stage in self._stages for c in stage if c.pid}
        fresh = self._pids_file.with_suffix(".new")
        fresh.write_text(json.dumps(pids, indent=1))
        fresh.replace(self._pids_file)

    def _hold_ports(self) -> list[socket.socket]:
        """Keep every port for its listener, also while that is being restarted."""
        used = "".join(text for p in self._wanted() for text in (*p.command, p.ready))
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


def pids_file(data_dir: Path) -> Path:
    """Return where the supervisor keeps name -> process id, as JSON."""
    return data_dir / "pids.json"


@contextlib.contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data directory; another supervisor on it is an error."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"another `mesh up` runs on {data_dir}") from None
        yield


async def up(config: Config, *, one_process: bool, welcome: bool) -> int:
    """Run the system; return the exit status."""
    supervisor = Supervisor(config, lambda line: print(line, flush=True), one_process)
    try:
        return await supervisor.run(welcome)
    except ChildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
