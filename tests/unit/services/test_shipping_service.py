"""ShippingService on its own database, through the whole stack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from google.protobuf.message import Message
from google.type.postal_address_pb2 import PostalAddress

from mesh.errors import AlreadyExists, InvalidArgument, NotFound, Refused
from mesh.metadata import KEY
from mesh.storage.keys import REPLY_LIMIT_BYTES
from services.shipping.service import service
from shop.shipping.v1 import shipping_pb2 as pb
from shop.shipping.v1.shipping_pb2_grpc import ShippingServiceStub
from tests.support.databases import Database
from tests.unit.services.serving import serving

if TYPE_CHECKING:
    from shop.shipping.v1.shipping_pb2_grpc import ShippingServiceAsyncStub

STATES = pb.Shipment.State


@pytest.fixture
async def shipping(database: Database) -> AsyncIterator[ShippingServiceAsyncStub]:
    async with serving(service, database) as channel:
        yield ShippingServiceStub(channel)


def creation(
    order_id: str = "o1", user_id: str = "ann", region: str = "GB", postal_code: str = "N1 9GU"
) -> pb.CreateShipmentRequest:
    place = PostalAddress(
        region_code=region,
        postal_code=postal_code,
        address_lines=["1 Main Street"],
        recipients=["Ann Other"],
    )
    lines = [pb.ShipmentLine(sku="85123A", quantity=6), pb.ShipmentLine(sku="POST", quantity=1)]
    return pb.CreateShipmentRequest(order_id=order_id, user_id=user_id, address=place, lines=lines)


def get(order_id: str = "o1") -> pb.GetShipmentRequest:
    return pb.GetShipmentRequest(order_id=order_id)


def cancel(order_id: str = "o1", reason: str = "") -> pb.CancelShipmentRequest:
    return pb.CancelShipmentRequest(order_id=order_id, reason=reason)


def release(order_id: str = "o1") -> pb.ReleaseShipmentRequest:
    return pb.ReleaseShipmentRequest(order_id=order_id)


def dispatch(order_id: str = "o1", note: str = "") -> pb.DispatchShipmentRequest:
    return pb.DispatchShipmentRequest(order_id=order_id, note=note)


def deliver(order_id: str = "o1", note: str = "") -> pb.DeliverShipmentRequest:
    return pb.DeliverShipmentRequest(order_id=order_id, note=note)


async def test_a_new_shipment_has_a_copy_of_its_address(shipping: ShippingServiceAsyncStub) -> None:
    created = await shipping.CreateShipment(creation())
    assert (created.order_id, created.user_id) == ("o1", "ann")
    assert created.state == pb.Shipment.CREATED
    shipment = await shipping.GetShipment(get())
    assert shipment.address == creation().address
    assert list(shipment.lines) == list(creation().lines)
    assert [event.state for event in shipment.events] == [pb.Shipment.CREATED]
    assert shipment.create_time == shipment.update_time == shipment.events[0].time


async def test_only_get_returns_the_whole(shipping: ShippingServiceAsyncStub) -> None:
    for brief in (
        await shipping.CreateShipment(creation()),
        await shipping.ReleaseShipment(release()),
        await shipping.CancelShipment(cancel()),
        (await shipping.ListShipments(pb.ListShipmentsRequest())).shipments[0],
    ):
        assert not brief.HasField("address")
        assert not brief.lines
        assert not brief.events


async def test_an_order_has_one_shipment(shipping: ShippingServiceAsyncStub) -> None:
    await shipping.CreateShipment(creation())
    with pytest.raises(AlreadyExists) as refused:
        await shipping.CreateShipment(creation("o1", "bob"))
    assert refused.value.reason == "SHIPMENT_EXISTS"
    assert len((await shipping.GetShipment(get())).lines) == 2


async def test_a_repeated_creation_is_answered_as_the_first(
    shipping: ShippingServiceAsyncStub,
) -> None:
    first = await shipping.CreateShipment(creation(), metadata=((KEY, "k1"),))
    await shipping.ReleaseShipment(release())
    assert await shipping.CreateShipment(creation(), metadata=((KEY, "k1"),)) == first


async def test_tracking_tells_the_whole_way(shipping: ShippingServiceAsyncStub) -> None:
    await shipping.CreateShipment(creation())
    await shipping.ReleaseShipment(release())
    await shipping.DispatchShipment(dispatch(note="RM123456785GB"))
    delivered = await shipping.DeliverShipment(deliver(note="left with the neighbour"))
    assert delivered.state == pb.Shipment.DELIVERED
    shipment = await shipping.GetShipment(get())
    assert [(STATES.Name(event.state), event.note) for event in shipment.events] == [
        ("CREATED", ""),
        ("RELEASED", ""),
        ("DISPATCHED", "RM123456785GB"),
        ("DELIVERED", "left with the neighbour"),
    ]
    assert shipment.events[-1].time == shipment.update_time
    assert await shipping.DeliverShipment(deliver(note="again")) == delivered
    assert await shipping.ReleaseShipment(release()) == delivered
    assert (await shipping.GetShipment(get())).events == shipment.events


async def test_a_dispatched_shipment_cannot_be_called_off(
    shipping: ShippingServiceAsyncStub,
) -> None:
    await shipping.CreateShipment(creation())
    with pytest.raises(Refused) as refused:
        await shipping.DispatchShipment(dispatch())
    assert refused.value.reason == "NOT_RELEASED"
    await shipping.ReleaseShipment(release())
    await shipping.DispatchShipment(dispatch())
    with pytest.raises(Refused) as refused:
        await shipping.CancelShipment(cancel())
    assert refused.value.reason == "ALREADY_DISPATCHED"
    assert (await shipping.GetShipment(get())).state == pb.Shipment.DISPATCHED


async def test_a_shipment_called_off_stays_where_it_is(shipping: ShippingServiceAsyncStub) -> None:
    await shipping.CreateShipment(creation())
    cancelled = await shipping.CancelShipment(cancel(reason="payment refused"))
    assert cancelled.state == pb.Shipment.CANCELLED
    assert await shipping.CancelShipment(cancel(reason="again")) == cancelled
    with pytest.raises(Refused) as refused:
        await shipping.ReleaseShipment(release())
    assert refused.value.reason == "SHIPMENT_CANCELLED"
    events = (await shipping.GetShipment(get())).events
    assert [event.note for event in events] == ["", "payment refused"]


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetShipment", get("none")),
        ("CancelShipment", cancel("none")),
        ("ReleaseShipment", release("none")),
        ("DispatchShipment", dispatch("none")),
        ("DeliverShipment", deliver("none")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_order_without_shipment_is_not_found(
    shipping: ShippingServiceAsyncStub, method: str, request_: Message
) -> None:
    with pytest.raises(NotFound) as refused:
        await getattr(shipping, method)(request_)
    assert refused.value.reason == "SHIPMENT_NOT_FOUND"


async def test_a_refusal_does_not_repeat_an_endless_id(shipping: ShippingServiceAsyncStub) -> None:
    with pytest.raises(NotFound) as refused:
        await shipping.GetShipment(get("x" * 100_000))
    assert len(refused.value.message) < 100


REAL_ORDERS_GO_TO = (
    "GB FR DE AU IE NO NL CH ES PL PT IT BE LT JP IS SE CY DK FI AT GR SG LB AE IL SA CZ CA US BR"
    " MT BH ZA HK JE GG ZZ"
)


async def test_wherever_real_orders_go_can_be_sent_to(shipping: ShippingServiceAsyncStub) -> None:
    for region in REAL_ORDERS_GO_TO.split():
        for postal_code in ("", "95000"):
            await shipping.CreateShipment(
                creation(f"{region}{postal_code}", region=region, postal_code=postal_code)
            )


@pytest.mark.parametrize(("region", "postal_code"), [("KP", ""), ("SY", "12345"), ("UA", "95000")])
async def test_nothing_is_sent_to_places_on_the_list(
    shipping: ShippingServiceAsyncStub, region: str, postal_code: str
) -> None:
    with pytest.raises(Refused) as refused:
        await shipping.CreateShipment(creation(region=region, postal_code=postal_code))
    assert refused.value.reason == "UNSHIPPABLE_ADDRESS"
    assert refused.value.info["region_code"] == region
    assert "Main Street" not in f"{refused.value} {refused.value.info}"
    with pytest.raises(NotFound):
        await shipping.GetShipment(get())


async def test_the_list_may_name_a_part_of_a_region(shipping: ShippingServiceAsyncStub) -> None:
    await shipping.CreateShipment(creation(region="UA", postal_code="01001"))


async def test_an_address_without_region_is_invalid(shipping: ShippingServiceAsyncStub) -> None:
    with pytest.raises(InvalidArgument):
        await shipping.CreateShipment(creation(region=""))


async def ids_by_page(
    shipping: ShippingServiceAsyncStub, request: pb.ListShipmentsRequest
) -> list[list[str]]:
    pages = []
    while True:
        reply = await shipping.ListShipments(request)
        pages.append([shipment.order_id for shipment in reply.shipments])
        if not reply.next_page_token:
            return pages
        request.page_token = reply.next_page_token


async def test_shipments_are_listed_newest_first_page_by_page(
    shipping: ShippingServiceAsyncStub,
) -> None:
    for number in range(6):
        await shipping.CreateShipment(creation(f"o{number}", "ann" if number % 2 else "bob"))
        await asyncio.sleep(0.002)  # ids of one millisecond are in no order
    await shipping.ReleaseShipment(release("o3"))
    everything = pb.ListShipmentsRequest(page_size=4)
    assert await ids_by_page(shipping, everything) == [["o5", "o4", "o3", "o2"], ["o1", "o0"]]
    of_ann = pb.ListShipmentsRequest(page_size=2, user_id="ann")
    assert await ids_by_page(shipping, of_ann) == [["o5", "o3"], ["o1"]]
    planned = pb.ListShipmentsRequest(page_size=2, user_id="ann", state=pb.Shipment.CREATED)
    assert await ids_by_page(shipping, planned) == [["o5", "o1"]]
    released = pb.ListShipmentsRequest(state=pb.Shipment.RELEASED)
    assert await ids_by_page(shipping, released) == [["o3"]]


async def test_the_longest_shipment_can_be_kept_and_read(
    shipping: ShippingServiceAsyncStub,
) -> None:
    wide = "\N{CJK UNIFIED IDEOGRAPH-20000}"  # 4 bytes
    place = PostalAddress(region_code="GB", address_lines=[wide * 200] * 10)
    lines = [pb.ShipmentLine(sku=wide * 64, quantity=10_000_000)] * 500
    reply = await shipping.CreateShipment(
        pb.CreateShipmentRequest(order_id="o" * 64, user_id=wide * 64, address=place, lines=lines)
    )
    assert reply.ByteSize() < REPLY_LIMIT_BYTES / 64
    shipment = await shipping.GetShipment(get("o" * 64))
    assert shipment.address == place
    assert list(shipment.lines) == lines
    assert shipment.ByteSize() > REPLY_LIMIT_BYTES  # why replies to changes are brief
