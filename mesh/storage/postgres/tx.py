"""A transaction on PostgreSQL, and what a work may do in it."""

from __future__ import annotations

import re
import types
from collections.abc import Coroutine, Generator
from contextvars import Context
from functools import lru_cache
from typing import Any, TypeVar, cast

from ...runtime.cancelling import is_stopped
from ...runtime.clock import Runtime
from ..port import ForeignAwaitError, Tx, check_texts
from ..waiting import Waiting, refuse
from .database import CONFLICTS, Connection, is_lost, is_trouble, not_stored

T = TypeVar("T")

_FIRST_WORD = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*(\w*)", re.DOTALL)
#: What works may run; the rest would reach beyond them. The server takes one statement at a time.
_STATEMENTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "VALUES", "CREATE", "ALTER", "DROP")


@lru_cache(maxsize=4096)
def check_statement(sql: str) -> None:
    """Refuse what a work may not run.

    Raises:
        ValueError: the statement could end the transaction, or change its session.
    """
    found = _FIRST_WORD.match(sql)
    if not found or found[1].upper() not in _STATEMENTS:
        raise ValueError(f"a transaction may run {', '.join(_STATEMENTS)}: {sql}")


class PostgresTx(Tx):
    """A work's part of a transaction; `waits` while the server has the turn."""

    row_id = "ctid"

    def __init__(self, connection: Connection, runtime: Runtime, now: float) -> None:
        self._connection = connection
        self._runtime = runtime
        self._now = now
        self.waits = False
        self.doomed: BaseException | None = None

    async def execute(self, sql: str, *params: Any) -> list[Any]:
        """Run one statement, prepared at its first use."""
        check_texts(params)
        try:
            check_statement(sql)
        except ValueError as error:
            self.doomed = self.doomed or error
        rows: list[Any] = await self._wait_for(self._connection.fetch(sql, *params))
        return rows

    async def rollback(self) -> None:
        """Go back to this work's savepoint."""
        if not self.doomed:
            await self._wait_for(self._connection.execute("ROLLBACK TO work"))

    async def _wait_for(self, answer: Coroutine[Any, Any, Any]) -> Any:
        if self.waits:  # a task of the work's making has a statement under way
            self.doomed = ForeignAwaitError("a statement beside another one")
        if self.doomed:
            answer.close()
            raise self.doomed
        self.waits = True
        try:
            return await answer
        except BaseException as error:
            self.doomed = self.doomed or error
            raise
        finally:
            self.waits = False

    def is_lost(self) -> bool:
        """Whether what doomed it is the end of its connection."""
        return self.doomed is not None and is_lost(self._connection, self.doomed)

    def end(self) -> None:
        """Let no task that it left behind use it any more."""
        self.doomed = self.doomed or RuntimeError("this transaction is over")

    def now(self) -> float:
        """Return when the transaction began, by the server's clock."""
        return self._now

    def new_id(self) -> str:
        """Return a new UUIDv7."""
        return self._runtime.new_id()


async def run_work(waiting: Waiting, tx: PostgresTx) -> BaseException | None:
    """Run a work in *tx*, and keep its result; return what its caller is to be told instead.

    Raises:
        Exception: what ended the transaction as a whole, the connection perhaps.
    """
    try:
        work = cast("Coroutine[Any, Any, Any]", waiting.context.run(waiting.work, tx))
        waiting.result = await _drive(work, tx, waiting.context)
    except BaseException as error:  # noqa: BLE001  # its caller gets it
        cause = tx.doomed or error
        if isinstance(cause, CONFLICTS) or tx.is_lost() or is_stopped(error):
            raise cause from None
        return not_stored(cause) if is_trouble(cause) else error
    finally:
        tx.end()
    return None


@types.coroutine
def _drive(
    work: Coroutine[Any, Any, T], tx: PostgresTx, context: Context
) -> Generator[Any, Any, T]:
    """Run *work* in *context* to its end. It may wait for its *tx*, and for nothing else.

    Raises:
        ForeignAwaitError: it waited for something else.
        Exception: what the work raised, or what doomed its transaction.
    """
    thrown: BaseException | None = None
    while True:
        try:
            awaited = context.run(work.throw, thrown) if thrown else context.run(work.send, None)
        except StopIteration as stop:
            if tx.doomed:
                raise tx.doomed from None
            result: T = stop.value
            return result
        if not tx.waits:
            tx.doomed = ForeignAwaitError(awaited)
            raise context.run(refuse, work, awaited)
        try:
            yield awaited
            thrown = None
        except BaseException as error:  # noqa: BLE001  # the work's to handle
            thrown = error
