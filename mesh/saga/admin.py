"""`mesh.saga.v1.SagaService`: what sagas there are, where they stand, and what to do about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from ..errors import InvalidArgument, Refused
from ..layers.identity import OPERATOR, require
from ..service import Context, Service
from . import timeline
from .actions import resolve_saga, retry_saga, skip_step
from .describe import describe
from .recording import write_recording
from .records import SagaRow, found
from .v1 import saga_pb2 as pb

PAGE_SIZE = 50
PAGE_SIZE_MAX = 1000


def saga_service(connect: Callable[[str], Any]) -> Service[Any]:
    """Return the service; the process that runs an engine serves it.

    *connect* opens channels to those that the sagas call: a timeline asks them for their events.
    """
    service: Service[Any] = Service(pb.DESCRIPTOR.services_by_name["SagaService"])
    for call in (get_saga, list_sagas, watch_saga, export_saga):
        service.call(call)
    for rpc in (retry_saga, skip_step, resolve_saga):
        service.rpc(rpc)

    @service.call
    async def get_timeline(ctx: Context[Any], request: pb.GetTimelineRequest) -> pb.Timeline:
        return await timeline.get_timeline(ctx, request, connect)

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


async def export_saga(ctx: Context[Any], request: pb.ExportSagaRequest) -> pb.ExportSagaResponse:
    """Return the recording of one saga, to test later versions of its function against."""
    require(ctx.principal, OPERATOR)
    kept, _ = await ctx.sagas.journal.open(request.saga_id)
    row = found(kept)
    saga = ctx.sagas.known.get((row.name, row.version))
    if saga is None:
        raise Refused(f"{row.name} v{row.version} is not known here", reason="VERSION_UNKNOWN")
    return pb.ExportSagaResponse(recording=write_recording(row, saga.request_type))


async def _list_by_key(ctx: Context[Any], request: pb.ListSagasRequest) -> pb.ListSagasResponse:
    if not request.name:
        raise InvalidArgument(violations=[("key", "needs the `name` of the kind of saga as well")])
    row = await ctx.sagas.journal.find(request.name, request.key)
    if row is None or request.state not in (pb.Saga.STATE_UNSPECIFIED, row.state):
        return pb.ListSagasResponse()
    row.steps = []
    return pb.ListSagasResponse(sagas=[describe(row)])


async def _find(ctx: Context[Any], saga_id: str) -> SagaRow:
    return found(await ctx.sagas.journal.get(saga_id))
