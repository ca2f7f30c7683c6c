"""Looks into the orchestrator's journal from outside, while it runs and while it is dead."""

from __future__ import annotations

from typing import Final, NamedTuple

from mesh.saga.v1.saga_pb2 import Saga, SagaStep
from tests.soak.databases import Databases

_SERVICE: Final = "orchestrator"
_UNFINISHED: Final = ", ".join(map(str, (Saga.PENDING, Saga.EXECUTING, Saga.COMPENSATING)))
_STEPS: Final = "mesh_sagas AS saga JOIN mesh_saga_steps AS step USING (saga_id)"
_PENDING: Final = f"undo_state = {SagaStep.UNDO_PENDING}"


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
    """The journal among *databases*; all of it raises `databases.Away`."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def unfinished(self) -> int:
        """How many sagas have not ended."""
        query = f"SELECT COUNT(*) FROM mesh_sagas WHERE state IN ({_UNFINISHED})"
        ((count,),) = await self._databases.rows(_SERVICE, query)
        return int(count)

    async def running(self) -> set[Step]:
        """The calls that sagas are making: the intents, and of those that undo the newest."""
        doing = await self._databases.rows(
            _SERVICE,
            f"SELECT saga_id, position, target, step.method FROM {_STEPS}"
            f" WHERE saga.state = {Saga.EXECUTING} AND step.state = {SagaStep.INTENT}",
        )
        undoing = await self._databases.rows(
            _SERVICE,
            f"SELECT saga_id, position, target, undo_method FROM {_STEPS}"
            f" WHERE saga.state = {Saga.COMPENSATING} AND {_PENDING} AND position ="
            " (SELECT MAX(position) FROM mesh_saga_steps AS one"
            f" WHERE one.saga_id = saga.saga_id AND one.{_PENDING})",
        )
        return {Step(*row) for row in doing} | {Step(*row)._replace(undoes=True) for row in undoing}
