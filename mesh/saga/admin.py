"""`mesh.saga.v1.SagaService`: what sagas there are and where they stand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from ..call import Method
from ..errors import InvalidArgument, NotFound
from ..scope import parse_traceparent
from ..service import Context, Service
from .records import SagaRow, StepRow
from .v1 import saga_pb2 as pb

PAGE_SIZE = 50
PAGE_SIZE_MAX = 1000


def saga_service() -> Service[Any]:
    """Return the service; the process that runs an engine serves it."""
    service: Service[Any] = Service(pb.DESCRIPTOR.services_by_name["SagaService"])
    for function in (get_saga, list_sagas, watch_saga):
        service.call(function)
    return service


async def get_saga(ctx: Context[Any], request: pb.GetSagaRequest) -> pb.Saga:
    """Return one saga with its steps."""
    return describe(await _find(ctx, request.saga_id))


async def list_sagas(ctx: Context[Any], request: pb.ListSagasRequest) -> pb.ListSagasResponse:
    """Return sagas, newest first, without steps."""
    if not 0 <= request.page_size <= PAGE_SIZE_MAX:
        raise InvalidArgument(violations=[("page_size", f"must be 0 to {PAGE_SIZE_MAX}")])
    size = request.page_size or PAGE_SIZE
    if request.key:
        return await _list_by_key(ctx, request)
    rows = await ctx.sagas.journal.list(request.name, request.state, request.page_token, size + 1)
    more = len(rows) > size
    return pb.ListSagasResponse(
        sagas=[describe(row) for row in rows[:size]],
        next_page_token=rows[size - 1].saga_id if more else "",
    )


async def watch_saga(
    ctx: Context[Any], request: pb.WatchSagaRequest
) -> AsyncIterator[pb.WatchSagaResponse]:
    """Send the saga now and whenever it changes, until it ends."""
    last = None
    while True:
        changed = ctx.changed()
        row = await _find(ctx, request.saga_id)
        saga = describe(row)
        if saga != last:
            yield pb.WatchSagaResponse(saga=saga, final=row.ended)
        if row.ended:
            return
        last = saga
        await changed


async def _list_by_key(ctx: Context[Any], request: pb.ListSagasRequest) -> pb.ListSagasResponse:
    if not request.name:
        raise InvalidArgument(violations=[("key", "needs the `name` of the kind of saga as well")])
    row = await ctx.sagas.journal.find(request.name, request.key)
    if row is None or request.state not in (pb.Saga.STATE_UNSPECIFIED, row.state):
        return pb.ListSagasResponse()
    row.steps = []
    return pb.ListSagasResponse(sagas=[describe(row)])


async def _find(ctx: Context[Any], saga_id: str) -> SagaRow:
    row = await ctx.sagas.journal.get(saga_id)
    if row is None:
        raise NotFound("there is no such saga", reason="SAGA_NOT_FOUND")
    return row


def describe(row: SagaRow) -> pb.Saga:
    """Return what may be told of a saga: no requests and no replies."""
    root = parse_traceparent(row.traceparent)
    saga = pb.Saga(
        saga_id=row.saga_id,
        name=row.name,
        version=row.version,
        key=row.key,
        state=row.state,
        steps=[_describe_step(step) for step in row.steps],
        failed_step=row.failed_step,
        trace_id=f"{root.trace_id:032x}" if root else "",
        correlation_id=row.correlation_id,
        resumes=row.resumes,
        create_time=_timestamp(row.created_at),
        update_time=_timestamp(row.updated_at or row.created_at),
        deadline=_timestamp(row.deadline_at),
    )
    if error := row.error():
        saga.refusal.CopyFrom(pb.Refusal(reason=error.reason, message=error.message))
    return saga


def _describe_step(row: StepRow) -> pb.SagaStep:
    step = pb.SagaStep(
        position=row.position,
        method=Method.at(row.method).full_name,
        state=row.state,
        attempts=row.attempts,
        undo_method=row.undo_method.removeprefix("/"),
        undo_state=row.undo_state,
        undo_attempts=row.undo_attempts,
        start_time=_timestamp(row.started_at),
    )
    if row.ended_at is not None:
        step.end_time.CopyFrom(_timestamp(row.ended_at))
    if row.state == pb.SagaStep.REFUSED:
        error = row.refusal()
        step.refusal.CopyFrom(pb.Refusal(reason=error.reason, message=error.message))
    return step


def _timestamp(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e6) * 1000)
