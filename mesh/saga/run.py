"""One run of one saga: forward through its function, or backward through its journal.

One commit for each step: the answer of step k and the intent of step k+1 together, before step
k+1 is called. A definite refusal compensates; an unknown outcome is asked again until it is
known, or until the saga is abandoned, and is then undone like a done step.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from ..call import Call, Method
from ..dial import Remote
from ..errors import CircuitOpenError, MeshError, Refused, to_status
from ..layers.backoff import Backoff
from ..metadata import UNDO_OF
from ..runtime.clock import Runtime
from ..runtime.logs import log
from .journal import Journal
from .records import AbandonedError, SagaRow, StepRow
from .steps import Saga, Steps
from .v1 import saga_pb2 as pb

#: An undo that was answered with an error this often is given up; silence is never counted.
UNDO_ANSWERS_MAX = 10

#: A saga that waits to ask again looks this often whether it was cancelled or lost its lease.
HEED_S = 5.0


class DivergedError(RuntimeError):
    """The function does not do what its journal says it did."""


@dataclass
class Run:
    """A saga being run in this process. `expires` is its deadline on the monotonic clock."""

    row: SagaRow
    saga: Saga[Any, Any]
    clients: Any
    remotes: dict[tuple[str, str], Remote]
    journal: Journal
    runtime: Runtime
    backoff: Backoff
    expires: float

    def __post_init__(self) -> None:
        self._unsaved: list[StepRow] = []
        self._last: StepRow | None = None

    async def to_the_end(self) -> None:
        """Go on from where the journal stands.

        Raises:
            FencedError: another engine has the saga.
            Exception: the function has a bug.
        """
        if self.row.state == pb.Saga.COMPENSATING:
            return await self._compensate()
        request = self.saga.request_type.FromString(self.row.request)
        self.row.state = pb.Saga.EXECUTING
        try:
            await self.saga.function(Steps(self.row.saga_id, self), self.clients, request)
        except AbandonedError as abandoned:
            await self._fail(abandoned.refusal)
        except Refused as refused:
            await (self._park(refused) if self.row.pivoted else self._fail(refused))
        else:
            self.row.state = pb.Saga.COMPLETED
            await self._save()

    async def note_failure(self, *, park: bool) -> None:
        """The function has a bug: keep what it learnt, count, and perhaps leave it to a person."""
        self.row.resumes += 1
        if park:
            self.row.state = pb.Saga.PARKED
        await self._save()

    def now(self) -> float:
        """Return when the last answered step ended."""
        ended = self._last.ended_at if self._last else None
        return self.row.created_at if ended is None else ended

    async def make(
        self,
        position: int,
        remote: Remote,
        request: Message,
        undo: tuple[Method, Message] | None,
        pivot: bool,
    ) -> Any:
        """Make the step at *position*, unless the journal has its answer."""
        step = self._recorded(position, remote, request)
        if step is None:
            step = StepRow(
                position=position,
                target=remote.target,
                method=remote.method.path,
                request=request.SerializeToString(deterministic=True),
                started_at=self.runtime.clock.wall(),
                undo_method=undo[0].path if undo else "",
                undo_request=undo[1].SerializeToString(deterministic=True) if undo else b"",
            )
            await self._save(step, heed=True, pivot=pivot)
            self.row.steps.append(step)
        self._last = step
        if step.answered:
            await self.runtime.clock.sleep(0)  # so that overlapping steps overlap in a replay too
        else:
            await self._ask(step, remote, request)
            if pivot and step.state == pb.SagaStep.REFUSED:
                self.row.pivoted = False
        return step.give()

    def _recorded(self, position: int, remote: Remote, request: Message) -> StepRow | None:
        if position > len(self.row.steps):
            return None
        step = self.row.steps[position - 1]
        method = remote.method
        same_place = (step.target, step.method) == (remote.target, method.path)
        if not same_place or method.request_type.FromString(step.request) != request:
            raise DivergedError(
                f"{self.saga.name} v{self.saga.version}: step {position} was {step.method},"
                f" is now {method.path}, or goes elsewhere, or has another request."
                " Raise the saga's version."
            )
        return step

    async def _save(self, *steps: StepRow, heed: bool = False, pivot: bool = False) -> None:
        """Commit what became known and what is to be done next."""
        late = self.runtime.clock.monotonic() >= self.expires
        await self.journal.save(self.row, *self._unsaved, *steps, heed=heed, late=late, pivot=pivot)
        self._unsaved.clear()

    async def _ask(self, step: StepRow, remote: Remote, request: Message) -> None:
        """Call until the outcome is known; note it."""
        key = f"{self.row.saga_id}/{step.position}"
        for tries in itertools.count(1):
            step.attempts += 1
            try:
                reply = await remote.send(_call(remote, request, key))
            except Refused as refused:
                self._answer(step, pb.SagaStep.REFUSED, to_status(refused))
                return
            except MeshError as error:
                await self._pause(tries, step, error)
            else:
                self._answer(step, pb.SagaStep.DONE, reply)
                return

    def _answer(self, step: StepRow, state: pb.SagaStep.State.ValueType, answer: Message) -> None:
        step.state = state
        step.answer = answer.SerializeToString(deterministic=True)
        step.ended_at = self.runtime.clock.wall()
        self._unsaved.append(step)

    async def _fail(self, refusal: Refused) -> None:
        self.row.refuse(Method.at(self._last.method).full_name if self._last else "", refusal)
        self.row.state = pb.Saga.COMPENSATING
        for step in self.row.steps:
            if step.state == pb.SagaStep.INTENT:
                step.state = pb.SagaStep.UNKNOWN
            made = step.state in (pb.SagaStep.DONE, pb.SagaStep.UNKNOWN)
            if step.undo_method and made:
                step.undo_state = pb.SagaStep.UNDO_PENDING
        self._unsaved = list(self.row.steps)
        if any(step.undo_state for step in self.row.steps):
            await self._save()
        await self._compensate()

    async def _compensate(self) -> None:
        """Undo, newest first, from the journal alone."""
        pending = [s for s in self.row.steps if s.undo_state == pb.SagaStep.UNDO_PENDING]
        for step in reversed(pending):
            if self._unsaved:
                await self._save()
            await self._undo(step)
            self._unsaved.append(step)
        failed = any(s.undo_state == pb.SagaStep.UNDO_FAILED for s in self.row.steps)
        self.row.state = pb.Saga.PARKED if failed else pb.Saga.FAILED
        await self._save()

    async def _undo(self, step: StepRow) -> None:
        """Call the undo until it is answered. A failed one does not stop the others."""
        remote = self.remotes[step.target, step.undo_method]
        request = remote.method.request_type.FromString(step.undo_request)
        do = f"{self.row.saga_id}/{step.position}"
        answers = 0
        for tries in itertools.count(1):
            step.undo_attempts += 1
            try:
                await remote.send(_call(remote, request, f"{do}/undo", f"{step.method} {do}"))
            except MeshError as error:
                answers += error.reason == "INTERNAL"
                # A refusal is final: the key has its answer for ever.
                if isinstance(error, Refused) or answers >= UNDO_ANSWERS_MAX:
                    step.undo_state = pb.SagaStep.UNDO_FAILED
                    log.error("undo failed", saga_id=self.row.saga_id, step=step.method)
                    return
                await self._pause(tries, step, error)
            else:
                step.undo_state = pb.SagaStep.UNDO_DONE
                step.state = pb.SagaStep.UNDONE
                return

    async def _park(self, refused: Refused) -> None:
        assert self._last is not None  # a pivot was made
        self.row.refuse(Method.at(self._last.method).full_name, refused)
        self.row.state = pb.Saga.PARKED
        log.error("saga parked", saga_id=self.row.saga_id, reason=refused.reason)
        await self._save()

    async def _pause(self, tries: int, step: StepRow, error: MeshError) -> None:
        """Wait until *step* may be asked again; commit that it was asked in vain.

        A long wait, for a breaker, is made in pieces: whoever cancels need not wait as long.
        """
        delay_s = self.backoff.delay_s(tries, self.runtime.random)
        if isinstance(error, CircuitOpenError):
            delay_s += error.retry_after_s or 0.0
        log.info(
            "saga waits to ask again",
            saga_id=self.row.saga_id,
            step=step.method,
            reason=error.reason,
            tries=tries,
        )
        while delay_s > 0:
            await self.runtime.clock.sleep(min(delay_s, HEED_S))
            delay_s -= HEED_S
            await self._save(step, heed=self.row.state == pb.Saga.EXECUTING)


def _call(remote: Remote, request: Message, key: str, undo_of: str = "") -> Call:
    metadata = {UNDO_OF: undo_of} if undo_of else {}
    return Call(remote.method, request, deadline=float("inf"), metadata=metadata, key=key)
