"""One run of one saga: forward through its function, or backward through its journal.

One commit for each step: the answer of step k and the intent of step k+1 together, before step
k+1 is called. A definite refusal compensates; an unknown outcome is asked again until it is
known, or until the saga is abandoned, and is then undone like a done step.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from ..call import NEVER
from ..dial import Remote
from ..errors import Internal, KeyExpired, MeshError, Refused
from ..scope import due_by
from ..status import to_status
from .diverged import DivergedError, check_finished, check_same
from .progress import Progress, step_call
from .records import AbandonedError, StepRow
from .steps import Ask, Saga, Steps
from .undo import compensate
from .v1 import saga_pb2 as pb


class Run:
    """A saga being run in this process."""

    def __init__(
        self,
        progress: Progress,
        saga: Saga[Any, Any],
        clients: Any,
        remotes: Mapping[tuple[str, str], Remote],
    ) -> None:
        self._progress = progress
        self._row = progress.row
        self._saga = saga
        self._clients = clients
        self._remotes = remotes
        self._last: Sequence[StepRow] = ()
        self._recorded: dict[int, list[StepRow]] = {}
        for step in self._row.steps:
            self._recorded.setdefault(step.position, []).append(step)

    async def to_the_end(self) -> None:
        """Go on from where the journal stands.

        Raises:
            FencedError: another engine has the saga.
            Exception: the function has a bug.
        """
        if self._row.state == pb.Saga.COMPENSATING:
            return await compensate(self._progress, self._remotes)
        request = self._saga.request_type.FromString(self._row.request)
        self._row.state = pb.Saga.EXECUTING
        try:
            await self._carry_out_skips()
            await self._saga.function(Steps(self._row.saga_id, self), self._clients, request)
            check_finished(self._saga, self._recorded)
        except AbandonedError as abandoned:
            await self._fail(abandoned.refusal)
        except KeyExpired as expired:  # it was parked for so long: nobody can know any more
            await self._park(expired)
        except Refused as refused:
            await (self._park(refused) if self._row.pivoted else self._fail(refused))
        else:
            await self._progress.rest(pb.Saga.COMPLETED)

    async def note_failure(self, error: BaseException, *, park: bool) -> None:
        """The function has a bug: keep what it learnt, count, and perhaps leave it to a person."""
        self._row.failures += 1
        if park:
            if not self._row.undoing:  # then it is known why
                self._row.refuse(self._blamed(), _told(error))
            await self._progress.rest(pb.Saga.PARKED)
        else:
            await self._progress.save()

    def now(self) -> float:
        """Return when the last answered step ended."""
        ended = [step.ended_at for step in self._last if step.ended_at is not None]
        return max(ended, default=self._row.created_at)

    async def make(self, position: int, asks: Sequence[Ask], pivot: bool) -> list[Message]:
        """Make the steps of *position*, unless the journal has their answers."""
        steps = self._recorded.pop(position, [])
        if steps:
            check_same(self._saga, position, steps, asks)
        else:
            steps = [self._intent(position, ask) for ask in asks]
            await self._progress.save(*steps, heed=True, pivot=pivot)
            self._row.steps.extend(steps)
        self._last = steps
        # Behind the pivot it goes on however long it takes.
        due_by(NEVER if self._row.pivoted else self._progress.expires)
        open_steps = [(s, ask) for s, ask in zip(steps, asks, strict=True) if not s.answered]
        if not open_steps:
            # So that overlapping steps overlap in a replay too.
            await self._progress.runtime.clock.sleep(0)
        elif len(open_steps) == 1:
            await self._ask(*open_steps[0])
        else:
            await _all(*(self._ask(step, ask) for step, ask in open_steps))
        if pivot and open_steps and steps[0].state == pb.SagaStep.REFUSED:
            self._row.pivoted = False
        return [step.give() for step in steps]

    def _intent(self, position: int, ask: Ask) -> StepRow:
        undo = ask.undo
        return StepRow(
            position=position,
            branch=ask.branch,
            target=ask.remote.target,
            method=ask.remote.method.path,
            request=ask.request.SerializeToString(deterministic=True),
            undo_method=undo[0].path if undo else "",
            undo_request=undo[1].SerializeToString(deterministic=True) if undo else b"",
            started_at=self._progress.runtime.clock.wall(),
        )

    async def _ask(self, step: StepRow, ask: Ask) -> None:
        """Call until the outcome is known; note it."""
        call = step_call(ask.remote, ask.request, step.key(self._row.saga_id))
        for tries in itertools.count(1):
            step.attempts += 1
            try:
                reply = await ask.remote.send(call)
            except Refused as refused:
                self._answer(step, pb.SagaStep.REFUSED, to_status(refused))
                return
            except KeyExpired as error:
                self._progress.give_up(step, error)
                raise
            except MeshError as error:
                await self._progress.pause(tries, step, error)
            else:
                self._answer(step, pb.SagaStep.DONE, reply)
                return

    def _answer(self, step: StepRow, state: pb.SagaStep.State.ValueType, answer: Message) -> None:
        step.state = state
        step.answer = answer.SerializeToString(deterministic=True)
        step.ended_at = self._progress.runtime.clock.wall()
        self._progress.learn(step)

    async def _carry_out_skips(self) -> None:
        """Keep the steps that an operator decided to skip from taking effect, unless they have."""
        for step in self._row.steps:
            if step.state != pb.SagaStep.SKIPPING:
                continue
            self._last = [step]
            remote = self._remotes[step.target, step.method]
            request = remote.method.request_type.FromString(step.request)
            call = step_call(remote, request, step.key(self._row.saga_id), void=True)
            for tries in itertools.count(1):
                try:
                    reply = await remote.send(call)
                except Refused:  # now, or already
                    self._answer(step, pb.SagaStep.SKIPPED, remote.method.reply_type())
                except KeyExpired as error:
                    self._progress.give_up(step, error)
                    raise
                except MeshError as error:
                    await self._progress.pause(tries, step, error)
                    continue
                else:
                    self._answer(step, pb.SagaStep.DONE, reply)
                break

    async def _fail(self, refusal: Refused) -> None:
        self._row.refuse(self._blamed(), refusal)
        self._row.state = pb.Saga.COMPENSATING
        self._progress.learn(*self._row.plan_undos())
        if self._row.undoing:
            await self._progress.save()
        await compensate(self._progress, self._remotes)

    async def _park(self, error: MeshError) -> None:
        self._row.refuse(self._blamed(), error)
        await self._progress.rest(pb.Saga.PARKED)

    def _blamed(self) -> str:
        """Return the method that the saga failed at."""
        refused = [step for step in self._last if step.state == pb.SagaStep.REFUSED]
        unknown = [step for step in self._last if not step.answered]
        blamed = [*refused, *unknown, *reversed(self._last)]
        return blamed[0].full_name if blamed else ""


def _told(error: BaseException) -> MeshError:
    """Return what may be told of a bug: of an unforeseen exception, its type."""
    if isinstance(error, DivergedError):
        return Internal(str(error), reason="DIVERGED")
    return Internal(f"{type(error).__name__}: see the log", reason="SAGA_BROKEN")


async def _all(*asked: Any) -> None:
    """Wait for the end of all; then raise what is most pressing of what was raised."""
    raised = [e for e in await asyncio.gather(*asked, return_exceptions=True) if e is not None]
    for error in sorted(raised, key=lambda e: isinstance(e, AbandonedError)):
        raise error
