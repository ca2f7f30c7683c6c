"""Looks into the orchestrator's journal from outside, while it runs and while it is dead."""

from __future__ import annotations

from typing import Final, NamedTuple

from mesh.saga.v1.saga_pb2 import Saga, SagaStep
from tests.e2e.system import System
from tests.soak.databases import Databases

ORCHESTRATOR: Final = "orchestrator"
_UNFINISHED: Final = ", ".join(map(str, (Saga.PENDING, Saga.EXECUTING, Saga.COMPENSATING)))
_STEPS: Final = "mesh_sagas AS saga JOIN mesh_saga_steps AS step USING (saga_id)"
_CALLER: Final = (
    "(SELECT instance FROM mesh_saga_engines AS engine WHERE engine.engine_id = saga.owner)"
)
_PENDING: Final = f"undo_state = {SagaStep.UNDO_PENDING}"


class Step(NamedTuple):
    """A call that a saga is making: a step, or a step's undo, at the service called *target*.

    caller: the orchestrator's process whose saga it is, "" while it is nobody's.
    """

    saga_id: str
    position: int
    target: str
    method: str
    caller: str
    undoes: bool = False

    @property
    def kind(self) -> str:
        """What it is for people, such as `undo inventory ReleaseStock`."""
        return f"{'undo' if self.undoes else 'do'} {self.target} {self.method.rpartition('/')[2]}"


class Journal:
    """The journal among the *databases* of *system*; all of it raises `databases.Away`."""

    def __init__(self, system: System, databases: Databases) -> None:
        self._databases = databases
        engines = [name for name in system.pids if service_of(name) == ORCHESTRATOR]
        self._names = {_port(system.address(name)): name for name in engines}

    async def unfinished(self) -> int:
        """How many sagas have not ended."""
        query = f"SELECT COUNT(*) FROM mesh_sagas WHERE state IN ({_UNFINISHED})"
        ((count,),) = await self._databases.rows(ORCHESTRATOR, query)
        return int(count)

    async def running(self) -> set[Step]:
        """The calls that sagas are making: the intents, and of those that undo the newest."""
        doing = await self._databases.rows(
            ORCHESTRATOR,
            f"SELECT saga_id, position, target, step.method, {_CALLER} FROM {_STEPS}"
            f" WHERE saga.state = {Saga.EXECUTING} AND step.state = {SagaStep.INTENT}",
        )
        undoing = await self._databases.rows(
            ORCHESTRATOR,
            f"SELECT saga_id, position, target, undo_method, {_CALLER} FROM {_STEPS}"
            f" WHERE saga.state = {Saga.COMPENSATING} AND {_PENDING} AND position ="
            " (SELECT MAX(position) FROM mesh_saga_steps AS one"
            f" WHERE one.saga_id = saga.saga_id AND one.{_PENDING})",
        )
        steps = [(Step(*row), False) for row in doing] + [(Step(*row), True) for row in undoing]
        return {
            step._replace(caller=self._process(step.caller), undoes=undoes)
            for step, undoes in steps
        }

    def _process(self, instance: str | None) -> str:
        """The name of a process, of the host and port by which the engine's lease names it."""
        return self._names.get(_port(instance or ""), "")


def service_of(process: str) -> str:
    """Whose replica it is: `orchestrator` of `orchestrator-2`."""
    return process.partition("-")[0]


def _port(address: str) -> str:
    return address.rpartition(":")[2]
