"""What is secret in a saga's rows, sealed for the journal and opened to run it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from ..call import Method
from ..storage.seal import Seal, is_secret
from .records import SagaRow, StepRow
from .v1 import saga_pb2 as pb


def place(saga_id: str, step: StepRow | None = None, what: str = "request") -> str:
    """Return what a sealed message of a saga, or of one of its steps, is bound to."""
    return f"{saga_id}/{step.position}.{step.branch} {what}" if step else f"{saga_id} {what}"


def close(seal: Seal, saga_id: str, step: StepRow) -> StepRow:
    """Return *step* as it may be kept. A refusal is a status, and no secret."""
    (request, reply), (undo, _) = _secrets(step.method), _secrets(step.undo_method)
    if not (request or reply or undo):
        return step
    kept = replace(step)
    if request:
        kept.request = seal.close(step.request, place(saga_id, step))
    if undo:
        kept.undo_request = seal.close(step.undo_request, place(saga_id, step, "undo"))
    if reply and step.state != pb.SagaStep.REFUSED:
        kept.answer = seal.close(step.answer, place(saga_id, step, "answer"))
    return kept


def open_all(seal: Seal, saga: SagaRow) -> None:
    """Open what is sealed in *saga* and its steps.

    Raises:
        SealError: it cannot be opened.
    """
    saga.request = seal.open(saga.request, place(saga.saga_id))
    for step in saga.steps:
        step.request = seal.open(step.request, place(saga.saga_id, step))
        step.undo_request = seal.open(step.undo_request, place(saga.saga_id, step, "undo"))
        step.answer = seal.open(step.answer, place(saga.saga_id, step, "answer"))


@lru_cache(maxsize=4096)
def _secrets(path: str) -> tuple[bool, bool]:
    """Whether requests and replies of the method at *path* can hold a secret."""
    if not path:
        return False, False
    try:
        method = Method.at(path)
    except KeyError:
        return True, True  # nobody here can tell
    return is_secret(method.request_type), is_secret(method.reply_type)
