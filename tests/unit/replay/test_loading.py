"""Loading over real gRPC, into services that remember what they were asked."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal

import grpc
import pytest
from google.protobuf.message import Message
from rich.console import Console

from replay import loading
from replay.loading import DIRECT, LoadingError, Services, load
from replay.plan import Item, Load, Plan, User
from replay.progress import Progress
from shop.inventory.v1 import inventory_pb2 as inventory
from shop.inventory.v1 import inventory_pb2_grpc as inventory_grpc
from shop.provider.v1 import provider_pb2 as provider
from shop.provider.v1 import provider_pb2_grpc as provider_grpc
from shop.user.v1 import user_pb2 as user
from shop.user.v1 import user_pb2_grpc as user_grpc

PLAN = Plan(
    orders=(),
    users=(User("17850", ("GB", "FR"), "d/17850/user"),),
    items=(Item("A", "an A", Decimal("2.55"), "d/A/item"),),
    loads=(Load("A", 6, "d/A/stock/first-day"),),
)


@dataclass
class Shop:
    """Remembers calls as (key, request); gives each method the status codes in `answers` first."""

    calls: list[tuple[str, Message]] = field(default_factory=list)
    answers: dict[str, list[grpc.StatusCode]] = field(default_factory=dict)

    async def take(self, request: Message, context: grpc.aio.ServicerContext) -> None:  # type: ignore[type-arg]
        metadata = dict(context.invocation_metadata() or ())
        self.calls.append((str(metadata.get("mesh-key", "")), request))
        codes = self.answers.get(type(request).__name__)
        if codes:
            await context.abort(codes.pop(0), "as told")

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.calls]


@pytest.fixture
async def shop() -> AsyncIterator[tuple[Shop, Services]]:
    shop = Shop()

    async def answer(request: Message, context: grpc.aio.ServicerContext) -> Message:  # type: ignore[type-arg]
        await shop.take(request, context)
        return {
            "CreateUserRequest": user.User(),
            "AddAddressRequest": user.User(),
            "GetTotalsRequest": provider.Totals(
                totals=[provider.CurrencyTotals(currency_code="GBP")]
            ),
        }.get(type(request).__name__, inventory.Item())

    server = grpc.aio.server()
    for name, add in (
        ("UserService", user_grpc.add_UserServiceServicer_to_server),
        ("InventoryService", inventory_grpc.add_InventoryServiceServicer_to_server),
        ("PaymentProviderService", provider_grpc.add_PaymentProviderServiceServicer_to_server),
    ):
        base = getattr(
            {"U": user_grpc, "I": inventory_grpc, "P": provider_grpc}[name[0]], f"{name}Servicer"
        )
        methods = [method for method in dir(base) if method[0].isupper()]
        servicer = type(name, (base,), {m: staticmethod(answer) for m in methods})
        add(servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    addresses = dict.fromkeys(DIRECT, f"127.0.0.1:{port}")
    async with Services(addresses, patience_s=1.0) as services:
        yield shop, services
    await server.stop(None)


async def run(services: Services) -> None:
    await load(services, PLAN, Progress(Console(file=io.StringIO())), concurrency=4)


async def test_everything_is_loaded_under_its_key(shop: tuple[Shop, Services]) -> None:
    seen, services = shop
    await run(services)
    account, item, restock = (request for _, request in seen.calls)
    assert seen.keys == ["d/17850/user", "d/A/item", "d/A/stock/first-day"]
    assert isinstance(account, user.CreateUserRequest)
    assert account.email == "customer-17850@example.com"
    assert [(a.address_id, a.postal_address.region_code) for a in account.addresses] == [
        ("gb", "GB"),
        ("fr", "FR"),
    ]
    assert isinstance(item, inventory.CreateItemRequest)
    assert (item.quantity, item.unit_price.units, item.unit_price.nanos) == (0, 2, 550_000_000)
    assert restock == inventory.RestockItemRequest(sku="A", quantity=6)


async def test_what_is_there_already_is_left_alone(shop: tuple[Shop, Services]) -> None:
    seen, services = shop
    exists = grpc.StatusCode.ALREADY_EXISTS
    seen.answers = {
        "CreateUserRequest": [exists],
        "AddAddressRequest": [exists],
        "CreateItemRequest": [exists],
    }
    await run(services)
    assert seen.keys == [
        "d/17850/user",
        "d/17850/user/gb",
        "d/17850/user/fr",
        "d/A/item",
        "d/A/stock/first-day",
    ]


async def test_a_call_is_repeated_under_the_same_key(
    shop: tuple[Shop, Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "FIRST_DELAY_S", 0.001)
    seen, services = shop
    seen.answers = {
        "RestockItemRequest": [
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ]
    }
    await services.restock(PLAN.loads[0])
    assert seen.keys == ["d/A/stock/first-day"] * 4


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (grpc.StatusCode.NOT_FOUND, "RestockItemRequest: NOT_FOUND: as told"),
        (grpc.StatusCode.ALREADY_EXISTS, "d/A/stock/first-day: the key was used for another"),
    ],
)
async def test_a_refusal_is_told(
    shop: tuple[Shop, Services], code: grpc.StatusCode, message: str
) -> None:
    seen, services = shop
    seen.answers = {"RestockItemRequest": [code]}
    with pytest.raises(LoadingError, match=message):
        await services.restock(PLAN.loads[0])
    assert len(seen.calls) == 1


async def test_the_providers_totals_are_read(shop: tuple[Shop, Services]) -> None:
    _, services = shop
    assert (await services.provider_totals()).totals[0].currency_code == "GBP"
