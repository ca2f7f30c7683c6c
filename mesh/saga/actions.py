"""What people do to sagas: previewed, confirmed by what the preview showed, and recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

from grpc import StatusCode

from ..errors import InvalidArgument, Refused
from ..layers.identity import OPERATOR, require
from ..scope import current_traceparent
from ..storage.port import Tx
from .describe import describe
from .journal import overwrite, read_saga
from .operators import Action, resolve, retry, skip
from .records import SagaRow, found
from .v1 import saga_pb2 as pb

REASON_MAX_CHARS = 500

Request: TypeAlias = pb.RetrySagaRequest | pb.SkipStepRequest | pb.ResolveSagaRequest


@dataclass(frozen=True)
class Recorded:
    """An action as it was recorded. Times are in seconds since the epoch."""

    acted_at: float
    action: str
    principal: str
    reason: str
    effects: str
    correlation_id: str
    traceparent: str


async def retry_saga(tx: Tx, request: pb.RetrySagaRequest) -> pb.OperatorAction:
    """Set a parked saga going again."""
    return await _act(tx, request, "RETRY", retry)


async def skip_step(tx: Tx, request: pb.SkipStepRequest) -> pb.OperatorAction:
    """Let a parked saga go on without a step, or without its undo."""
    if not (request.branch or "0").isdecimal():
        raise InvalidArgument(violations=[("branch", "is a number")])
    action = skip(request.position, int(request.branch or 0))
    return await _act(tx, request, "SKIP", action)


async def resolve_saga(tx: Tx, request: pb.ResolveSagaRequest) -> pb.OperatorAction:
    """End a saga that cannot end by itself."""
    if request.resolution not in pb.ResolveSagaRequest.Resolution.values()[1:]:
        raise InvalidArgument(violations=[("resolution", "COMPLETED, FAILED or UNDO")])
    name = pb.ResolveSagaRequest.Resolution.Name(request.resolution)
    return await _act(tx, request, f"RESOLVE {name}", resolve(request.resolution))


async def cancel(tx: Tx, saga_id: str, reason: str, principal: str) -> bool:
    """Ask for a saga to be undone; false if it has ended, is parked or has passed its pivot."""
    undecided = "saga_id = $1 AND state IN (1, 2) AND pivoted = 0"
    asked = await tx.execute(
        f"UPDATE mesh_sagas SET cancel_reason = $2 WHERE {undecided} AND cancel_reason IS NULL"
        " RETURNING saga_id",
        saga_id,
        reason,
    )
    if asked:
        await record(tx, saga_id, "CANCEL", principal, reason)
        return True
    return bool(await tx.execute(f"SELECT 1 FROM mesh_sagas WHERE {undecided}", saga_id))


async def _act(tx: Tx, request: Request, name: str, action: Action) -> pb.OperatorAction:
    """Do *action*, or say what it would come to.

    Raises:
        PermissionDenied: the caller is no operator.
        Refused: ABORTED, if the saga is no longer what the preview showed; or as *action*.
    """
    require(tx.principal, OPERATOR)
    if not 0 < len(request.reason) <= REASON_MAX_CHARS:
        raise InvalidArgument(violations=[("reason", f"is 1 to {REASON_MAX_CHARS} characters")])
    saga = found(await read_saga(tx, request.saga_id))
    etag = _etag(saga, request)
    if request.validate_only:
        before = describe(saga)
        return pb.OperatorAction(effects=action(saga), etag=etag, saga=before)
    if not request.etag:
        raise InvalidArgument(violations=[("etag", "is needed: ask with validate_only first")])
    if request.etag != etag:
        raise Refused(
            "the saga, or the request, is not what was previewed: look again",
            reason="CHANGED_SINCE",
            status=StatusCode.ABORTED,
        )
    effects = action(saga)
    await overwrite(tx, saga)
    await record(tx, saga.saga_id, name, tx.principal.name, request.reason, effects)
    return pb.OperatorAction(effects=effects, saga=describe(saga))


def _etag(saga: SagaRow, request: Request) -> str:
    """Return a digest of all that an action depends on: the request, and where the saga stands."""
    asked = type(request)()
    asked.CopyFrom(request)  # type: ignore[arg-type]
    asked.validate_only = False
    asked.etag = ""
    steps = [(s.place, s.state, s.undo_state, s.round, s.undo_round) for s in saga.steps]
    standing = repr((saga.epoch, saga.state, saga.pivoted, steps))
    digest = blake2b(asked.SerializeToString(deterministic=True), digest_size=8)
    digest.update(standing.encode())
    return digest.hexdigest()


async def record(
    tx: Tx, saga_id: str, action: str, principal: str, reason: str, effects: Sequence[str] = ()
) -> None:
    """Write down who did what to a saga, and why."""
    await tx.execute(
        "INSERT INTO mesh_saga_actions (action_id, saga_id, action, principal, reason, effects,"
        " correlation_id, traceparent, acted_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        tx.new_id(),
        saga_id,
        action,
        principal,
        reason,
        "\n".join(effects),
        tx.correlation_id,
        current_traceparent(),
        tx.now(),
    )


async def recorded(tx: Tx, saga_id: str) -> list[Recorded]:
    """Return what was done to a saga, the first first."""
    rows = await tx.execute(
        "SELECT acted_at, action, principal, reason, effects, correlation_id, traceparent"
        " FROM mesh_saga_actions WHERE saga_id = $1 ORDER BY action_id",
        saga_id,
    )
    return [Recorded(*row) for row in rows]
