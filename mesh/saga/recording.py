"""A saga's journal as readable JSON: what a later version of its function is tested against.

::

    {"name": "place_order", "version": 1, "saga_id": "0190…", "state": "COMPLETED",
     "created_at": 1764583200.5, "request": {…},
     "steps": [{"position": 1, "target": "user", "method": "shop.user.v1.UserService/GetUser",
                "request": {…}, "reply": {…}, "ended_at": 1764583200.75}, …]}

A step may have a `branch`, an `undo` (`method` and `request`), and instead of a `reply` a
`refusal`, or neither if it was not answered; a saga that was undone or parked says why in
`refusal`. Messages are as https://protobuf.dev/programming-guides/json says, under the names of
their contract and without what that marks `debug_redact`. Times are in seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from grpc import StatusCode

from ..call import Method
from ..errors import MeshError, Refused
from ..redaction import clear_secrets
from ..status import from_status, to_status
from .records import SagaRow, StepRow
from .v1 import saga_pb2 as pb


class RecordingError(ValueError):
    """This is no recording, or not one that can be read with the contracts of today."""


def write_recording(row: SagaRow, request_type: type[Message]) -> str:
    """Return the recording of *row*, in which nothing is sealed."""
    saga: dict[str, Any] = {
        "name": row.name,
        "version": row.version,
        "saga_id": row.saga_id,
        "state": pb.Saga.State.Name(row.state),
        "created_at": row.created_at,
        "request": _shown(request_type, row.request),
    }
    if error := row.error():
        saga["refusal"] = _shown_error(error)
    saga["steps"] = [_shown_step(step) for step in row.steps]
    return json.dumps(saga, indent=2, ensure_ascii=False) + "\n"


def read_recording(saga: Mapping[str, Any], request_type: type[Message]) -> SagaRow:
    """Return what *saga*, a recording parsed from JSON, was made of.

    Raises:
        RecordingError: there is something missing, or unknown to the contracts.
    """
    try:
        row = SagaRow(
            saga_id=saga["saga_id"],
            name=saga["name"],
            version=saga["version"],
            key="",
            request=_kept(request_type, saga["request"]),
            correlation_id="",
            traceparent="",
            created_at=saga["created_at"],
            deadline_at=saga["created_at"],
            state=pb.Saga.State.Value(saga["state"]),
            steps=[_kept_step(step) for step in saga["steps"]],
        )
        if "refusal" in saga:
            row.refuse("", _kept_error(saga["refusal"]))
    except (KeyError, TypeError, ValueError, ParseError) as error:
        raise RecordingError(f"{type(error).__name__}: {error}") from error
    return row


def _shown_step(step: StepRow) -> dict[str, Any]:
    method = Method.at(step.method)
    shown: dict[str, Any] = {"position": step.position}
    if step.branch:
        shown["branch"] = step.branch
    shown |= {"target": step.target, "method": method.full_name}
    shown["request"] = _shown(method.request_type, step.request)
    if step.undo_method:
        undo = Method.at(step.undo_method)
        request = _shown(undo.request_type, step.undo_request)
        shown["undo"] = {"method": undo.full_name, "request": request}
    if step.ended_at is None:  # whatever it is by now: it may have been undone unanswered
        return shown
    if step.state == pb.SagaStep.REFUSED:
        shown["refusal"] = _shown_error(step.refusal())
    else:
        shown["reply"] = _shown(method.reply_type, step.answer)
    return {**shown, "ended_at": step.ended_at}


def _kept_step(shown: Mapping[str, Any]) -> StepRow:
    method = Method.at(f"/{shown['method']}")
    undo = Method.at(f"/{shown['undo']['method']}") if "undo" in shown else None
    step = StepRow(
        position=shown["position"],
        branch=shown.get("branch", 0),
        target=shown["target"],
        method=method.path,
        request=_kept(method.request_type, shown["request"]),
        undo_method=undo.path if undo else "",
        undo_request=_kept(undo.request_type, shown["undo"]["request"]) if undo else b"",
        started_at=0.0,
        ended_at=shown.get("ended_at"),
    )
    if "reply" in shown:
        step.state, step.answer = pb.SagaStep.DONE, _kept(method.reply_type, shown["reply"])
    elif "refusal" in shown:
        status = to_status(_kept_error(shown["refusal"]))
        step.state, step.answer = pb.SagaStep.REFUSED, status.SerializeToString()
    return step


def _shown(kind: type[Message], kept: bytes) -> dict[str, Any]:
    message = kind.FromString(kept)
    clear_secrets(message)
    shown: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return shown


def _kept(kind: type[Message], shown: dict[str, Any]) -> bytes:
    return ParseDict(shown, kind()).SerializeToString(deterministic=True)


def _shown_error(error: MeshError) -> dict[str, Any]:
    shown = {"status": error.status.name, "reason": error.reason, "message": error.message}
    return {**shown, "info": error.info} if error.info else shown


def _kept_error(shown: Mapping[str, Any]) -> MeshError:
    """Return the error as its class: only a refusal is told apart by status."""
    refused = Refused(
        shown["message"],
        reason=shown["reason"],
        status=StatusCode[shown["status"]],
        info=shown.get("info"),
    )
    return from_status(to_status(refused))
