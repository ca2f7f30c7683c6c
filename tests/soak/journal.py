"""Looks into the orchestrator's journal from outside, while it runs and while it is dead."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from mesh.saga.v1.saga_pb2 import Saga, SagaStep

_UNFINISHED: Final = (Saga.PENDING, Saga.EXECUTING, Saga.COMPENSATING)


class Step(NamedTuple):
    """A call that a saga is making: a step, or a step's undo, at the service called *target*."""

    saga_id: str
    position: int
    target: str
    method: str
    undoes: bool = False

    @property
    def kind(self) -> str:
        """What it is for people, such as `undo inventory ReleaseStock`."""
        return f"{'undo' if self.undoes else 'do'} {self.target} {self.method.rpartition('/')[2]}"


class Journal:
    """The journal of the system in a folder."""

    def __init__(self, data: Path) -> None:
        self._path = data / "orchestrator.db"

    def unfinished(self) -> int:
        """How many sagas have not ended."""
        states = ", ".join(str(int(state)) for state in _UNFINISHED)
        ((count,),) = self._read(f"SELECT COUNT(*) FROM mesh_sagas WHERE state IN ({states})")
        return int(count)

    def running(self) -> set[Step]:
        """The calls that sagas are making: the intents, and of those that undo the newest."""
        doing = self._read(
            "SELECT saga_id, position, target, step.method FROM mesh_sagas AS saga"
            " JOIN mesh_saga_steps AS step USING (saga_id)"
            f" WHERE saga.state = {int(Saga.EXECUTING)} AND step.state = {int(SagaStep.INTENT)}"
        )
        undoing = self._read(
            "SELECT saga_id, MAX(position), target, undo_method FROM mesh_sagas AS saga"
            " JOIN mesh_saga_steps AS step USING (saga_id)"
            f" WHERE saga.state = {int(Saga.COMPENSATING)}"
            f" AND undo_state = {int(SagaStep.UNDO_PENDING)} GROUP BY saga_id"
        )
        return {Step(*row) for row in doing} | {Step(*row)._replace(undoes=True) for row in undoing}

    def _read(self, query: str) -> list[Any]:
        database = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            database.set_busy_timeout(2000)
            return database.execute(query).fetchall()
        finally:
            database.close()
