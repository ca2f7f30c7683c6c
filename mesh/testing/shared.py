"""One database for several processes of a cluster, as those of a service share PostgreSQL."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..storage.group_commit import GroupCommit
from ..storage.sqlite import SqliteStore

if TYPE_CHECKING:
    from .life import Life


class Turns:
    """Whose turn it is to write. The dead have none."""

    def __init__(self) -> None:
        self._writing: Life | None = None
        self._waiting: deque[tuple[Life, asyncio.Future[None]]] = deque()

    async def take(self, life: Life) -> None:
        """Wait until it is *life*'s turn."""
        if self._writing is None:
            self._writing = life
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((life, turn))
        await turn

    def leave(self, life: Life) -> None:
        """Let the next one have its turn, if it was that of *life*."""
        if self._writing is not life:
            return
        self._writing = None
        while self._waiting and self._writing is None:
            after, turn = self._waiting.popleft()
            if not after.dead:
                self._writing = after
                turn.set_result(None)


class SharedStore(SqliteStore):
    """A SQLite file that other lives have open too; transactions of all are one after the other."""

    shared = True

    def __init__(self, path: Path, life: Life, turns: Turns, *args: Any) -> None:
        self._in_turn = functools.partial(_InTurn, life, turns)
        super().__init__(path, *args)

    def _hold(self, path: Path) -> int | None:
        return None

    def _group_commit(self) -> GroupCommit:
        return self._in_turn(self._name, self._file, self._runtime, self._run)


class _InTurn(GroupCommit):
    def __init__(self, life: Life, turns: Turns, *args: Any) -> None:
        super().__init__(*args)
        self._life = life
        self._turns = turns
        life.mourners.append(functools.partial(turns.leave, life))

    async def _run_group(self) -> None:
        await self._turns.take(self._life)
        try:
            await super()._run_group()
        finally:
            self._turns.leave(self._life)
