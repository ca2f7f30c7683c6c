"""The orchestrator: places and cancels orders, each as a durable saga."""

from __future__ import annotations

from mesh.errors import AlreadyExists, KeyExpired, Refused, Unavailable
from mesh.metadata import OUTSIDE_KEY
from mesh.saga.records import SagaRow
from mesh.saga.v1.saga_pb2 import Saga
from mesh.service import Context, Service
from services.orchestrator import cancel_order as cancelling
from services.orchestrator import domain
from services.orchestrator import place_order as placing
from services.orchestrator.clients import Clients
from shop.orchestrator.v1 import orchestrator_pb2 as pb
from shop.order.v1.order_pb2 import GetOrderRequest, Order

PLACE, CANCEL = placing.place_order, cancelling.cancel_order

service = Service(
    pb.DESCRIPTOR.services_by_name["OrchestratorService"],
    clients=Clients,
    sagas=[PLACE, CANCEL],
)


@service.call
async def place_order(
    ctx: Context[Clients], request: pb.PlaceOrderRequest
) -> pb.PlaceOrderResponse:
    """Start the saga; wait for its end if asked to, as long as the caller does."""
    outside_key = ctx.call.metadata.get(OUTSIDE_KEY, "")
    order_id = domain.order_id(request, outside_key, ctx.key or ctx.runtime.new_id())
    order = domain.to_place(request, order_id, may_price="sales" in ctx.principal.roles)
    domain.check_prices(order)
    saga_id = await ctx.sagas.start(PLACE, order, key=order_id)
    row = await ctx.sagas.wait(saga_id, ctx.time_left_s() if request.wait else 0)
    response = pb.PlaceOrderResponse
    states = {Saga.COMPLETED: response.CONFIRMED, Saga.FAILED: response.CANCELLED}
    return pb.PlaceOrderResponse(
        order_id=order_id,
        saga_id=saga_id,
        state=states.get(row.state, response.EXECUTING),
        refusal=refusal(row),
    )


@service.call
async def cancel_order(
    ctx: Context[Clients], request: pb.CancelOrderRequest
) -> pb.CancelOrderResponse:
    """Undo an order that is being placed, or take back one that is confirmed."""
    placed = await ctx.sagas.journal.find(PLACE.name, request.order_id)
    if placed is None:
        order = await ctx.to.order.GetOrder(GetOrderRequest(order_id=request.order_id))
        placed = await ctx.sagas.journal.find(PLACE.name, request.order_id)
        if placed is None:  # nor was it placed while we asked
            return await cancel_by_state(ctx, request, order)
    if not placed.ended:
        asked = await ctx.sagas.cancel(placed.saga_id, request.reason, ctx.principal.name)
        wait = request.wait or not asked  # past its pivot it is confirmed in a moment
        placed = await ctx.sagas.wait(placed.saga_id, ctx.time_left_s() if wait else 0)
    if placed.state == Saga.COMPLETED:
        return await take_back(ctx, request)
    check_moving(placed)
    if not placed.ended and placed.cancel_reason is None:
        raise Unavailable("the order is just being confirmed", reason="BUSY", retry_after_s=1.0)
    return cancelled(request, placed)


async def cancel_by_state(
    ctx: Context[Clients], request: pb.CancelOrderRequest, order: Order
) -> pb.CancelOrderResponse:
    """Cancel an order that no saga is known of: it was placed so long ago that it is forgotten.

    Raises:
        Refused: it cannot be cancelled.
    """
    if order.state == Order.CANCELLED:
        response = pb.CancelOrderResponse
        return response(order_id=order.order_id, state=response.CANCELLED)
    if order.state != Order.CONFIRMED:
        raise Refused("nobody is placing the order any more", reason="ORDER_NOT_CONFIRMED")
    try:
        return await take_back(ctx, request)
    except KeyExpired:
        raise Refused("its cancellation was refused long ago", reason="CANCEL_REFUSED") from None


async def take_back(
    ctx: Context[Clients], request: pb.CancelOrderRequest
) -> pb.CancelOrderResponse:
    """Cancel a confirmed order; refused once its parcel is on its way."""
    wanted = pb.CancelOrderRequest(order_id=request.order_id, reason=request.reason)
    try:
        saga_id = await ctx.sagas.start(CANCEL, wanted, request.order_id)
    except AlreadyExists:  # for another reason
        known = await ctx.sagas.journal.find(CANCEL.name, request.order_id)
        assert known is not None  # it is kept longer than anybody waits for it
        saga_id = known.saga_id
    row = await ctx.sagas.wait(saga_id, ctx.time_left_s() if request.wait else 0)
    if row.state == Saga.FAILED and (error := row.error()):
        raise error
    check_moving(row)
    return cancelled(request, row, done=Saga.COMPLETED)


def check_moving(row: SagaRow) -> None:
    """Fail if the saga stands still.

    Raises:
        Refused: it does.
    """
    if row.state == Saga.PARKED:
        raise Refused("the order stands still until an operator decides", reason="ORDER_PARKED")


def cancelled(
    request: pb.CancelOrderRequest, row: SagaRow, done: Saga.State.ValueType = Saga.FAILED
) -> pb.CancelOrderResponse:
    """Return how far the cancellation is; a saga that *row* shows as *done* has achieved it."""
    response = pb.CancelOrderResponse
    return response(
        order_id=request.order_id,
        saga_id=row.saga_id,
        state=response.CANCELLED if row.state == done else response.EXECUTING,
    )


def refusal(row: SagaRow) -> pb.Refusal | None:
    """Return which step refused, and why."""
    error = row.error() if row.state == Saga.FAILED else None
    if error is None:
        return None
    return pb.Refusal(step=row.failed_step, reason=error.reason, message=error.message)
