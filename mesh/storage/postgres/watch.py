"""What a process hears from its database beside answers: commits of other processes, and the time.

One connection listens. A process that commits says so on it, once for many commits and after they
are durable: with NOTIFY inside them, transactions would commit one after the other
(https://www.postgresql.org/docs/current/sql-notify.html). What a crash left unsaid is made up for
by the beat, at which every watcher looks again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any

from ...layers.backoff import Backoff
from ...runtime.clock import Runtime
from ...runtime.logs import log
from ..changes import Changes
from .database import Connection, Database

CHANNEL = "mesh_changed"
#: A commit of another process is heard of after this long at the latest.
BEAT_S = 5.0
#: Commits that follow one another this closely are told together.
TOGETHER_S = 0.02
CLOSE_S = 2.0
AGAIN = Backoff(base_s=0.1, max_s=5.0)

_TIME = "SELECT extract(epoch FROM clock_timestamp())::float8"


class Watch:
    """Listens, tells, and keeps the server's time."""

    def __init__(self, database: Database, runtime: Runtime) -> None:
        self._database = database
        self._runtime = runtime
        self._ahead_s: float | None = None  # the server's clock, of our monotonic one
        self._changes = Changes()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    async def start(self, connection: Connection) -> None:
        """Listen on *connection*, which is ours from now on, and ask it for the time."""
        await self._ask_time(connection)
        await self._listen(connection)
        self._task = asyncio.create_task(self._keep_listening(connection))

    async def close(self) -> None:
        """Say what is unsaid, and stop."""
        self._closing = True
        self._wake.set()
        if self._task:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._task, CLOSE_S)

    def now(self) -> float:
        """Return the server's time, in seconds since the epoch."""
        assert self._ahead_s is not None
        return self._runtime.clock.monotonic() + self._ahead_s

    def changed(self) -> Awaitable[None]:
        """Return what resolves at anybody's next commit, or at the next beat."""
        return self._changes.wait()

    def committed(self) -> None:
        """Tell watchers here at once, and those in other processes soon."""
        self._changes.tell()
        self._wake.set()

    async def _listen(self, connection: Connection) -> None:
        own_pid = connection.get_server_pid()

        def heard(connection: Any, pid: int, channel: str, payload: object) -> None:
            if pid != own_pid:
                self._changes.tell()

        await connection.add_listener(CHANNEL, heard)
        connection.add_termination_listener(lambda _: self._wake.set())

    async def _keep_listening(self, connection: Connection) -> None:
        attempt = 0
        while not self._closing:
            try:
                if connection.is_closed():
                    connection = await self._database.connect()
                    await self._listen(connection)
                    self._changes.tell()  # of what nobody heard
                await self._beat(connection)
                await self._ask_time(connection)
                self._changes.tell()
                attempt = 0
            except Exception as error:  # noqa: BLE001  # whatever it is, listening goes on
                connection.terminate()
                attempt += 1
                log.warning("not listening to the database", error=str(error), attempt=attempt)
                self._changes.tell()
                self._wake.set()  # what was to be said may not have been
                await self._runtime.clock.sleep(AGAIN.delay_s(attempt, self._runtime.random))
        connection.terminate()

    async def _beat(self, connection: Connection) -> None:
        """Pass a beat; say at once if somebody commits here."""
        monotonic = self._runtime.clock.monotonic
        ends = monotonic() + BEAT_S
        while (left_s := ends - monotonic()) > 0 and not self._closing:
            try:
                await asyncio.wait_for(self._wake.wait(), left_s)
            except TimeoutError:
                return
            if not self._closing:
                await self._runtime.clock.sleep(TOGETHER_S)
            self._wake.clear()
            await connection.execute(f"NOTIFY {CHANNEL}")

    async def _ask_time(self, connection: Connection) -> None:
        """Compare the clocks; an answer that took long says little, and changes little."""
        monotonic = self._runtime.clock.monotonic
        asked = monotonic()
        server_s = float(await connection.fetchval(_TIME))
        answered = monotonic()
        ahead_s, unsure_s = server_s - (asked + answered) / 2, (answered - asked) / 2
        if self._ahead_s is None or abs(ahead_s - self._ahead_s) > unsure_s:
            self._ahead_s = ahead_s
