"""Whether a saga's function still does what its journal says it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from .records import StepRow
from .steps import Ask, Saga


class DivergedError(RuntimeError):
    """The function does not do what its journal says it did."""


def check_same(
    saga: Saga[Any, Any], position: int, steps: Sequence[StepRow], asks: Sequence[Ask]
) -> None:
    """Fail unless *asks* are what *steps* recorded.

    Raises:
        DivergedError: they are not; the message names fields, never what is in them.
    """
    if difference := _difference(steps, asks):
        _diverged(saga, position, difference)


def check_finished(saga: Saga[Any, Any], left: Mapping[int, Sequence[StepRow]]) -> None:
    """Fail if the function has returned and steps of its journal, *left*, were not asked for.

    Raises:
        DivergedError: there are some.
    """
    for position, steps in left.items():
        _diverged(saga, position, f"the journal has {_all_named(steps)}, the function has returned")


def _diverged(saga: Saga[Any, Any], position: int, difference: str) -> None:
    raise DivergedError(
        f"{saga.name} v{saga.version}, step {position}: {difference}. If its journals are to be"
        " finished, keep this version as it was, and give what changed a higher one"
    )


def _difference(steps: Sequence[StepRow], asks: Sequence[Ask]) -> str:
    was = _all_named(steps)
    now = _named([(a.remote.method.path, a.remote.target) for a in asks], asks[0].branch)
    if was != now:
        return f"the journal has {was}, the function asks {now}"
    for step, ask in zip(steps, asks, strict=True):
        recorded = ask.remote.method.request_type.FromString(step.request)
        if recorded != ask.request:
            fields = ", ".join(differing(recorded, ask.request))
            return f"the request of {step.full_name} is another: {fields}"
        undo_method = ask.undo[0].path if ask.undo else ""
        if step.undo_method != undo_method:
            return (
                f"the journal undoes {step.full_name} by {step.undo_method[1:] or 'nothing'},"
                f" the function by {undo_method[1:] or 'nothing'}"
            )
        if ask.undo and type(ask.undo[1]).FromString(step.undo_request) != ask.undo[1]:
            return f"the request of {step.undo_method[1:]}, its undo, is another"
    return ""


def _all_named(steps: Sequence[StepRow]) -> str:
    return _named([(step.method, step.target) for step in steps], steps[0].branch)


def _named(calls: Sequence[tuple[str, str]], branch: int) -> str:
    names = " beside ".join(f"{path[1:]} of {target!r}" for path, target in calls)
    return f"step.all of {names}" if branch else names


def differing(one: Message, other: Message, path: str = "") -> list[str]:
    """Return the paths of the fields in which two messages of one type differ."""
    found: list[str] = []
    for field in one.DESCRIPTOR.fields:
        here = f"{path}{field.name}"
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        both = _present(one, field) == _present(other, field)
        if mine == theirs and both:
            continue
        nested = field.message_type is not None and not field.is_repeated
        found.extend(differing(mine, theirs, f"{here}.") if nested and both else [here])
    return found


def _present(message: Message, field: Any) -> bool:
    return not field.has_presence or message.HasField(field.name)
