"""A work that reads: on a snapshot, which waits for no writer and which no writer waits for."""

from __future__ import annotations

from ...runtime.clock import Runtime
from ..port import NotStoredError
from ..waiting import Waiting
from .database import Connection, not_stored
from .pool import Pool
from .tx import PostgresTx, run_work
from .watch import Watch

#: What a restart of the server takes away is read again: that harms nobody.
TRIES_MAX = 3

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SAVEPOINT work"


async def read(waiting: Waiting, pool: Pool, runtime: Runtime, watch: Watch) -> None:
    """Run a work that reads, and tell its caller how it ended."""
    failed: BaseException | None = None
    for _ in range(TRIES_MAX):
        try:
            connection = await pool.take()
        except NotStoredError as error:
            waiting.fail(error)
            return
        try:
            await _read(connection, waiting, PostgresTx(connection, runtime, watch.now()))
        except Exception as error:  # noqa: BLE001  # nobody may wait for ever
            connection.terminate()
            failed = error
        finally:
            pool.give(connection)
        if waiting.future.done():
            return
    assert failed is not None
    waiting.fail(not_stored(failed))


async def _read(connection: Connection, waiting: Waiting, tx: PostgresTx) -> None:
    await connection.execute(_BEGIN)
    failed = await run_work(waiting, tx)
    if failed is None:
        waiting.succeed()
    else:
        waiting.fail(failed)
    await connection.execute("ROLLBACK")
