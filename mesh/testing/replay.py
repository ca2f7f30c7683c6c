"""Replay: whether today's saga functions still do what recorded journals say was done.

A saga in flight when its function is deployed anew goes on in the new one, answered from its
journal. A recording of such a journal, kept beside the tests, shows in a unit test what would
otherwise be found out in production::

    mesh saga export SAGA_ID > tests/recordings/confirmed.json

    def test_sagas_in_flight_go_on() -> None:
        replay(service, "tests/recordings/confirmed.json")

(Temporal's `Replayer` is the model: https://docs.temporal.io/develop/python/testing-suite#replay.)
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from ..call import NEVER, Call, Method
from ..dial import dialled
from ..errors import Refused
from ..layers.backoff import Backoff
from ..redaction import clear_secrets
from ..runtime.clock import Runtime
from ..runtime.metrics import SagaMetrics
from ..saga.diverged import DivergedError
from ..saga.journal import Journal
from ..saga.progress import Progress
from ..saga.recording import RecordingError, read_recording
from ..saga.records import SagaRow, StepRow
from ..saga.run import Run
from ..saga.steps import Ask, Saga
from ..saga.v1 import saga_pb2 as pb
from ..service import Service
from .loop import VirtualClock, run_virtual

__all__ = ["DivergedError", "RecordingError", "replay"]

#: Why a saga is undone that was not refused: its function may have been anywhere.
INTERRUPTED = ("CANCELLED", "SAGA_DEADLINE", "RESOLVED")


def replay(service: Service[Any], recording: str | Path) -> None:
    """Run the function of a recorded saga against the recorded answers: nobody is called.

    *service* declares the saga, in `sagas`, and its clients. A saga that was recorded in flight
    is replayed as far as it was.

    Raises:
        DivergedError: the function asks for other steps, or ends elsewhere; or there is none.
        RecordingError: the file is no recording, or does not fit the contracts.
        Exception: the function has a bug.
    """
    recorded, name, version = _parsed(Path(recording))
    told = f"{name} v{version}"
    saga = next((s for s in service.sagas if (s.name, s.version) == (name, version)), None)
    if saga is None:
        raise DivergedError(
            f"{service.descriptor.name} has no {told}: those in flight would stay where they are."
            " Keep it in `sagas`, or remove the recording once the last of them has ended"
        )
    row = read_recording(recorded, saga.request_type)
    state, refusal = row.state, row.error()
    row.state = pb.Saga.EXECUTING
    row.forgive()
    end = _run(service, saga, row)
    refused = isinstance(refusal, Refused) and refusal.reason not in INTERRUPTED
    if state == pb.Saga.COMPLETED and end.did != "returned":
        raise DivergedError(f"{told}: the journal was completed, {end}")
    if refused and refusal and end.did != "refused":
        raise DivergedError(f"{told}: the journal was refused with {refusal.reason}, {end}")


def _parsed(path: Path) -> tuple[dict[str, Any], str, int]:
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        return recorded, recorded["name"], recorded["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise RecordingError(f"{path} is no recording of a saga: {error!r}") from error


def _run(service: Service[Any], saga: Saga[Any, Any], row: SagaRow) -> _End:
    """Run the function as far as it is recorded; return what it did then."""
    clients, dial = dialled(service.clients, _Nowhere)
    runtime = Runtime(VirtualClock(), Random(0))  # noqa: S311  # the same at every replay
    metrics = SagaMetrics(CollectorRegistry())
    progress = Progress(row, _ReadOnly(), runtime, Backoff(), metrics, expires=NEVER)

    async def until_the_end() -> _End:
        try:
            await _Replay(progress, saga, clients, dial.remotes).to_the_end()
        except _End as end:
            return end
        raise AssertionError("a run ends with a commit, which is never taken")

    return run_virtual(until_the_end())


class _End(BaseException):
    """The function is beyond what was recorded: what it *did*, and what is known of that."""

    def __init__(self, did: str, detail: str) -> None:
        super().__init__(f"the function {did} {detail}".rstrip())
        self.did = did


class _Replay(Run):
    """A run whose function may know secrets that the recording does not."""

    async def make(self, position: int, asks: Sequence[Ask], pivot: bool) -> list[Message]:
        return await super().make(position, [_without_secrets(ask) for ask in asks], pivot)


class _ReadOnly(Journal):
    """A journal that takes nothing: whatever is to be written lies beyond the recording."""

    def __init__(self) -> None:
        pass

    async def save(self, saga: SagaRow, steps: Collection[StepRow], **how: bool) -> NoReturn:
        if saga.state == pb.Saga.EXECUTING:
            step, *_ = steps
            raise _End("asks", f"{step.full_name} as step {step.position}")
        if saga.state == pb.Saga.COMPLETED:
            raise _End("returned", "")
        error = saga.error()
        raise _End("refused", f"with {error.reason}" if error else "")


class _Nowhere:
    """A channel that calls nobody: a step that was not answered has no answer here either."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __getattr__(self, kind: str) -> Any:
        return lambda path, *_, **__: _Unanswered(Method.at(path), self.target)


class _Unanswered:
    def __init__(self, method: Method, target: str) -> None:
        self.method, self.target = method, target

    async def send(self, call: Call) -> NoReturn:
        raise _End("waits", f"for {call.method.full_name}")


def _without_secrets(ask: Ask) -> Ask:
    return replace(
        ask,
        request=_cleared(ask.request),
        undo=(ask.undo[0], _cleared(ask.undo[1])) if ask.undo else None,
    )


def _cleared(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    clear_secrets(copy)
    return copy
