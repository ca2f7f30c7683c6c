"""InventoryService on its own database, through the whole stack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money

from mesh.errors import AlreadyExists, InvalidArgument, NotFound, Refused
from mesh.metadata import KEY
from mesh.storage.keys import REPLY_LIMIT_BYTES
from services.inventory.service import service
from services.shared.money import to_money
from shop.inventory.v1 import inventory_pb2 as pb
from shop.inventory.v1.inventory_pb2_grpc import InventoryServiceStub
from tests.support.databases import Database
from tests.support.old_data import dump
from tests.unit.services.serving import serving

if TYPE_CHECKING:
    from shop.inventory.v1.inventory_pb2_grpc import InventoryServiceAsyncStub as Inventory

HELD, COMMITTED = pb.Reservation.HELD, pb.Reservation.COMMITTED
RELEASED, RETURNED = pb.Reservation.RELEASED, pb.Reservation.RETURNED


@pytest.fixture
async def inventory(database: Database) -> AsyncIterator[Inventory]:
    async with serving(service, database) as channel:
        yield InventoryServiceStub(channel)


async def create(inventory: Inventory, sku: str, quantity: int, minor: int = 255) -> pb.Item:
    return await inventory.CreateItem(
        pb.CreateItemRequest(
            sku=sku, description=sku.title(), unit_price=to_money("GBP", minor), quantity=quantity
        )
    )


async def reserve(
    inventory: Inventory, order_id: str, *lines: tuple[str, int], key: str = ""
) -> pb.Reservation:
    request = pb.ReserveStockRequest(
        order_id=order_id, lines=[pb.StockLine(sku=sku, quantity=n) for sku, n in lines]
    )
    return await inventory.ReserveStock(request, metadata=((KEY, key),) if key else ())


async def release(inventory: Inventory, order_id: str) -> pb.Reservation:
    return await inventory.ReleaseStock(pb.ReleaseStockRequest(order_id=order_id))


async def commit(inventory: Inventory, order_id: str) -> pb.Reservation:
    return await inventory.CommitReservation(pb.CommitReservationRequest(order_id=order_id))


async def give_back(inventory: Inventory, order_id: str) -> pb.Reservation:
    return await inventory.ReturnStock(pb.ReturnStockRequest(order_id=order_id))


async def counts(inventory: Inventory, sku: str) -> tuple[int, int, int]:
    stock = (await inventory.GetItem(pb.GetItemRequest(sku=sku))).stock
    assert stock.free + stock.reserved + stock.shipped == stock.received
    return stock.free, stock.reserved, stock.shipped


async def test_an_item_and_its_stock(inventory: Inventory) -> None:
    created = await create(inventory, "BANK CHARGES", 7)
    assert created.unit_price == Money(currency_code="GBP", units=2, nanos=550_000_000)
    assert created.stock == pb.Stock(sku="BANK CHARGES", free=7, received=7)
    assert await inventory.GetItem(pb.GetItemRequest(sku="BANK CHARGES")) == created
    restocked = await inventory.RestockItem(
        pb.RestockItemRequest(sku="BANK CHARGES", quantity=74_215)
    )
    assert (restocked.stock.free, restocked.stock.received) == (74_222, 74_222)
    assert restocked.update_time == created.update_time


async def test_a_sku_is_given_once(inventory: Inventory) -> None:
    await create(inventory, "A", 1)
    with pytest.raises(AlreadyExists) as refused:
        await create(inventory, "A", 5)
    assert refused.value.reason == "SKU_TAKEN"
    assert await counts(inventory, "A") == (1, 0, 0)


async def test_what_is_unknown_is_not_found(inventory: Inventory) -> None:
    price = pb.UpdateItemRequest(
        item=pb.Item(sku="Z", description="new"), update_mask=FieldMask(paths=["description"])
    )
    for call in (
        inventory.GetItem(pb.GetItemRequest(sku="Z")),
        inventory.RestockItem(pb.RestockItemRequest(sku="Z", quantity=1)),
        inventory.UpdateItem(price),
        inventory.GetReservation(pb.GetReservationRequest(order_id="o9")),
        release(inventory, "o9"),
        commit(inventory, "o9"),
        give_back(inventory, "o9"),
    ):
        with pytest.raises(NotFound):
            await call


async def test_an_item_is_updated_by_its_mask(inventory: Inventory) -> None:
    created = await create(inventory, "A", 3)
    values = pb.Item(sku="A", description="New", unit_price=to_money("EUR", 100))
    request = pb.UpdateItemRequest(item=values, update_mask=FieldMask(paths=["unit_price"]))
    changed = await inventory.UpdateItem(request)
    assert (changed.description, changed.unit_price) == ("A", values.unit_price)
    assert (changed.stock, changed.create_time) == (created.stock, created.create_time)
    assert await inventory.UpdateItem(request) == changed


async def test_a_price_of_half_a_penny_is_refused(inventory: Inventory) -> None:
    half = Money(currency_code="GBP", nanos=5_000_000)
    with pytest.raises(InvalidArgument) as refused:
        await inventory.CreateItem(pb.CreateItemRequest(sku="A", unit_price=half))
    assert refused.value.violations[0][0] == "unit_price.nanos"


async def test_several_items_at_once(inventory: Inventory) -> None:
    for sku in ("A", "B"):
        await create(inventory, sku, 1)
    found = await inventory.BatchGetItems(pb.BatchGetItemsRequest(skus=["B", "Y", "A", "B", "Y"]))
    assert [item.sku for item in found.items] == ["B", "A"]
    assert found.missing_skus == ["Y"]


async def test_an_order_s_units_are_held_then_shipped_then_returned(inventory: Inventory) -> None:
    await create(inventory, "A", 5)
    held = await reserve(inventory, "o1", ("A", 2))
    assert (held.state, await counts(inventory, "A")) == (HELD, (3, 2, 0))
    shipped = await commit(inventory, "o1")
    assert (shipped.state, await counts(inventory, "A")) == (COMMITTED, (3, 0, 2))
    returned = await give_back(inventory, "o1")
    assert (returned.state, await counts(inventory, "A")) == (RETURNED, (5, 0, 0))
    assert returned.lines == held.lines
    assert await inventory.GetReservation(pb.GetReservationRequest(order_id="o1")) == returned


async def test_a_move_made_twice_moves_once(inventory: Inventory) -> None:
    await create(inventory, "A", 5)
    await reserve(inventory, "o1", ("A", 2))
    await reserve(inventory, "o2", ("A", 1))
    assert await release(inventory, "o1") == await release(inventory, "o1")
    assert await commit(inventory, "o2") == await commit(inventory, "o2")
    assert await counts(inventory, "A") == (4, 0, 1)


async def test_moves_out_of_turn_are_refused(inventory: Inventory) -> None:
    await create(inventory, "A", 5)
    for order_id in ("held", "committed", "released"):
        await reserve(inventory, order_id, ("A", 1))
    await commit(inventory, "committed")
    await release(inventory, "released")
    for call, state in (
        (give_back(inventory, "held"), "HELD"),
        (release(inventory, "committed"), "COMMITTED"),
        (commit(inventory, "released"), "RELEASED"),
        (give_back(inventory, "released"), "RELEASED"),
    ):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.reason == f"RESERVATION_{state}"
    assert await counts(inventory, "A") == (3, 1, 1)


async def test_lines_of_one_sku_are_added_up(inventory: Inventory) -> None:
    await create(inventory, "A", 5)
    await create(inventory, "B", 5)
    held = await reserve(inventory, "o1", ("B", 1), ("A", 2), ("A", 3))
    assert [(line.sku, line.quantity) for line in held.lines] == [("A", 5), ("B", 1)]
    with pytest.raises(Refused):
        await reserve(inventory, "o2", ("B", 2), ("B", 3))
    assert await counts(inventory, "B") == (4, 1, 0)


@pytest.mark.parametrize(
    ("line", "reason"), [(("B", 6), "OUT_OF_STOCK"), (("Z", 1), "UNKNOWN_SKU")]
)
async def test_all_lines_or_none(inventory: Inventory, line: tuple[str, int], reason: str) -> None:
    await create(inventory, "A", 5)
    await create(inventory, "B", 5)
    with pytest.raises(Refused) as refused:
        await reserve(inventory, "o1", ("A", 1), line)
    assert refused.value.reason == reason
    assert refused.value.info["sku"] == line[0]
    assert await counts(inventory, "A") == (5, 0, 0)
    with pytest.raises(NotFound):
        await inventory.GetReservation(pb.GetReservationRequest(order_id="o1"))


async def test_a_refusal_is_the_key_s_answer_for_ever(inventory: Inventory) -> None:
    await create(inventory, "A", 1)
    with pytest.raises(Refused):
        await reserve(inventory, "o1", ("A", 2), key="k1")
    await inventory.RestockItem(pb.RestockItemRequest(sku="A", quantity=9))
    with pytest.raises(Refused) as again:
        await reserve(inventory, "o1", ("A", 2), key="k1")
    assert again.value.info["free"] == "1"
    assert (await reserve(inventory, "o1", ("A", 2), key="k2")).state == HELD


async def test_the_same_key_reserves_once(inventory: Inventory) -> None:
    await create(inventory, "A", 5)
    first = await reserve(inventory, "o1", ("A", 2), key="k1")
    assert await reserve(inventory, "o1", ("A", 2), key="k1") == first
    assert await counts(inventory, "A") == (3, 2, 0)


async def test_an_order_has_one_reservation(inventory: Inventory) -> None:
    await create(inventory, "A", 2)
    await reserve(inventory, "o1", ("A", 2))
    with pytest.raises(AlreadyExists) as refused:
        await reserve(inventory, "o1", ("A", 2))
    assert refused.value.reason == "ALREADY_RESERVED"


async def test_stock_of_before_it_was_counted_in_was_received_too(database: Database) -> None:
    await database.restore(dump("inventory", 1), "service")
    async with serving(service, database):
        query = "SELECT free, reserved, shipped, received FROM stock"
        found = await database.rows(query, "service")
    assert len(found) == 12
    assert all(received == sum(places) > 0 for *places, received in found)


async def test_one_of_many_gets_the_last_unit(inventory: Inventory) -> None:
    await create(inventory, "A", 1)
    answers = await asyncio.gather(
        *(reserve(inventory, f"o{n}", ("A", 1)) for n in range(20)), return_exceptions=True
    )
    assert sum(isinstance(answer, pb.Reservation) for answer in answers) == 1
    reasons = {answer.reason for answer in answers if isinstance(answer, Refused)}
    assert reasons == {"OUT_OF_STOCK"}
    assert await counts(inventory, "A") == (0, 1, 0)


async def test_the_largest_order_fits_into_a_kept_reply(inventory: Inventory) -> None:
    skus = [f"{n:064d}" for n in range(500)]
    for some in range(0, len(skus), 20):  # more at once and the server has enough to do
        await asyncio.gather(*(create(inventory, s, 10_000_000) for s in skus[some : some + 20]))
    held = await reserve(inventory, "o1", *((sku, 10_000_000) for sku in skus))
    assert len(held.lines) == 500
    assert held.ByteSize() < REPLY_LIMIT_BYTES
    assert (await release(inventory, "o1")).state == RELEASED


async def test_stock_by_pages(inventory: Inventory) -> None:
    for sku in ("C", "A", "D", "B"):
        await create(inventory, sku, 0 if sku == "B" else 1)
    request = pb.ListStockRequest(page_size=2)
    first = await inventory.ListStock(request)
    assert [stock.sku for stock in first.stock] == ["A", "B"]
    request.page_token = first.next_page_token
    second = await inventory.ListStock(request)
    assert [stock.sku for stock in second.stock] == ["C", "D"]
    assert second.next_page_token == ""
    request.in_stock = True
    with pytest.raises(InvalidArgument):
        await inventory.ListStock(request)


async def test_stock_of_some_items(inventory: Inventory) -> None:
    for sku in ("A", "B", "C"):
        await create(inventory, sku, 0 if sku == "B" else 1)
    request = pb.ListStockRequest(skus=["C", "B", "A", "Z"], in_stock=True, page_size=1)
    first = await inventory.ListStock(request)
    request.page_token = first.next_page_token
    second = await inventory.ListStock(request)
    assert [stock.sku for stock in (*first.stock, *second.stock)] == ["A", "C"]


async def test_reservations_newest_first(inventory: Inventory) -> None:
    await create(inventory, "A", 5)
    for n in range(4):
        await reserve(inventory, f"o{n}", ("A", 1))
        await asyncio.sleep(0.002)  # ids are in order from one millisecond to the next
    await release(inventory, "o2")
    request = pb.ListReservationsRequest(page_size=2, state=HELD)
    first = await inventory.ListReservations(request)
    request.page_token = first.next_page_token
    second = await inventory.ListReservations(request)
    pages = [[r.order_id for r in page.reservations] for page in (first, second)]
    assert pages == [["o3", "o1"], ["o0"]]
    assert first.reservations[0].lines == [pb.StockLine(sku="A", quantity=1)]
    assert not (
        await inventory.ListReservations(pb.ListReservationsRequest(state=RETURNED))
    ).reservations
