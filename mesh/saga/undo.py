"""Compensation: what was, or may have been, done is undone, newest first.

It needs the journal and the remotes alone, never the function that made the steps. An undo that
fails never stops the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from google.protobuf.message import DecodeError, Message

from ..call import NEVER
from ..dial import Remote
from ..errors import Internal, KeyExpired, MeshError, Refused
from ..runtime.logs import log
from ..scope import due_by
from .progress import Progress, step_call, undo_call
from .records import StepRow
from .v1 import saga_pb2 as pb

#: An undo that was answered with an error this often is given up; silence is never counted.
UNDO_ANSWERS_MAX = 10

_CALLED_FOR = (pb.SagaStep.UNDO_PENDING, pb.SagaStep.UNDO_SKIPPING)


async def compensate(progress: Progress, remotes: Mapping[tuple[str, str], Remote]) -> None:
    """Undo what is marked to be undone; end the saga, or park it if an undo failed."""
    due_by(NEVER)
    steps = progress.row.steps
    for step in reversed(steps):
        if step.undo_state not in _CALLED_FOR:
            continue
        if progress.unsaved:
            await progress.save()
        await _undo(progress, step, remotes.get((step.target, step.undo_method)))
        progress.learn(step)
    failed = any(step.undo_state == pb.SagaStep.UNDO_FAILED for step in steps)
    await progress.rest(pb.Saga.PARKED if failed else pb.Saga.FAILED)


async def _undo(progress: Progress, step: StepRow, remote: Remote | None) -> None:
    """Call the undo of *step* until its outcome is known; note it."""
    clock = progress.runtime.clock
    step.undo_started_at = step.undo_started_at or clock.wall()
    try:
        if remote is None:
            raise Refused(
                f"clients.py no longer declares {step.undo_method[1:]} of {step.target!r}",
                reason="UNDECLARED_UNDO",
            )
        request = remote.method.request_type.FromString(step.undo_request)
        if step.undo_state == pb.SagaStep.UNDO_SKIPPING:
            await _skip(progress, step, remote, request)
        else:
            await _call(progress, step, remote, request)
            _done(step)
    except (MeshError, DecodeError) as error:
        failure = error if isinstance(error, MeshError) else Internal("it cannot be read")
        step.note_failure(failure, clock.wall(), undo=True)
        step.undo_state = pb.SagaStep.UNDO_FAILED
        progress.metrics.undo_failures.labels(step.undo_method[1:]).inc()
        log.error(
            "undo failed",
            saga_id=progress.row.saga_id,
            step=step.full_name,
            undo=step.undo_method[1:],
            reason=failure.reason,
        )
    step.undo_ended_at = clock.wall()


async def _call(progress: Progress, step: StepRow, remote: Remote, request: Message) -> None:
    """Call the undo until it is made.

    Raises:
        MeshError: it was refused, which is final, or it has failed too often.
    """
    saga_id = progress.row.saga_id
    do = f"{step.method} {step.key(saga_id)}"
    call = undo_call(remote, request, step.undo_key(saga_id), do)
    for tries in itertools.count(1):
        step.undo_attempts += 1
        try:
            await remote.send(call)
        except (Refused, KeyExpired):
            raise
        except MeshError as error:
            step.undo_answers += error.reason == Internal.reason
            if step.undo_answers >= UNDO_ANSWERS_MAX:
                raise
            await progress.pause(tries, step, error, undo=True)
        else:
            return


async def _skip(progress: Progress, step: StepRow, remote: Remote, request: Message) -> None:
    """Keep the undo from ever taking effect, unless it has."""
    call = step_call(remote, request, step.undo_key(progress.row.saga_id), void=True)
    for tries in itertools.count(1):
        step.undo_attempts += 1
        try:
            await remote.send(call)
        except Refused:  # now, or already
            step.undo_state, step.state = pb.SagaStep.UNDO_SKIPPED, pb.SagaStep.SKIPPED
            return
        except KeyExpired:
            raise
        except MeshError as error:
            await progress.pause(tries, step, error, undo=True)
        else:
            _done(step)
            return


def _done(step: StepRow) -> None:
    step.undo_state, step.state = pb.SagaStep.UNDO_DONE, pb.SagaStep.UNDONE
