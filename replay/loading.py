"""Opens the accounts, puts the items on the price list and loads the stock: stock gRPC stubs.

Each call carries an idempotency key, so that loading again changes nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, TypeVar

import grpc
from google.protobuf.message import Message
from google.type.postal_address_pb2 import PostalAddress

from mesh.metadata import KEY
from replay.money import to_money
from replay.plan import Item, Load, Plan, User, address_id
from replay.pool import for_each
from replay.progress import Progress
from shop.inventory.v1 import inventory_pb2 as inventory
from shop.inventory.v1.inventory_pb2_grpc import InventoryServiceStub
from shop.provider.v1 import provider_pb2 as provider
from shop.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub
from shop.user.v1 import user_pb2 as user
from shop.user.v1.user_pb2_grpc import UserServiceStub

#: The services that a replay calls directly.
DIRECT: Final = ("user", "inventory", "provider")
PATIENCE_S: Final = 60.0  # for one call, with its repetitions: a service may be restarting
CALL_TIMEOUT_S: Final = 10.0
FIRST_DELAY_S: Final = 0.1
MAX_DELAY_S: Final = 2.0
#: Not answered, or not served because there is too much to do; under its key each may be repeated.
_RETRIED: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
_OPTIONS: Final = [("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 2000)]

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)
T = TypeVar("T")


class LoadingError(Exception):
    """A service refused a call of the set-up, or did not answer it."""


class Services:
    """Channels to the services that a replay calls directly, as an async context manager."""

    def __init__(self, addresses: Mapping[str, str], *, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._channels = {
            name: grpc.aio.insecure_channel(addresses[name], options=_OPTIONS) for name in DIRECT
        }
        self._user = UserServiceStub(self._channels["user"])
        self._inventory = InventoryServiceStub(self._channels["inventory"])
        self._provider = PaymentProviderServiceStub(self._channels["provider"])

    async def __aenter__(self) -> Services:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def open_account(self, wanted: User) -> None:
        """Open an account; to one that is there already, add the addresses that it lacks."""
        addresses = [_address(wanted, region) for region in wanted.regions]
        request = user.CreateUserRequest(
            user_id=wanted.user_id,
            email=f"customer-{wanted.user_id}@example.com",
            display_name=f"Customer {wanted.user_id}",
            addresses=addresses,
        )
        if await self._call(self._user.CreateUser, request, wanted.key):
            return
        for address in addresses:
            await self._call(
                self._user.AddAddress,
                user.AddAddressRequest(user_id=wanted.user_id, address=address),
                f"{wanted.key}/{address.address_id}",  # still short and plain
            )

    async def create_item(self, item: Item) -> None:
        """Put an item on the price list, unless it is there already."""
        request = inventory.CreateItemRequest(
            sku=item.sku, description=item.description, unit_price=to_money(item.unit_price)
        )
        await self._call(self._inventory.CreateItem, request, item.key)

    async def restock(self, load: Load) -> None:
        """Add to an item's stock, once for each key."""
        request = inventory.RestockItemRequest(sku=load.sku, quantity=load.quantity)
        if not await self._call(self._inventory.RestockItem, request, load.key):
            raise LoadingError(f"{load.key}: the key was used for another request")

    async def provider_totals(self) -> provider.Totals:
        """What the payment provider has charged and refunded."""
        totals = await self._call(self._provider.GetTotals, provider.GetTotalsRequest(), key="")
        return totals or provider.Totals()

    async def _call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Request, Reply], request: Request, key: str
    ) -> Reply | None:
        """Call, again if need be, under the same key; None if there was such a thing already."""
        give_up = time.monotonic() + self._patience_s
        delay_s = FIRST_DELAY_S
        metadata = ((KEY, key),) if key else ()
        while True:
            try:
                return await method(request, timeout=CALL_TIMEOUT_S, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.ALREADY_EXISTS:
                    return None
                pause_s = delay_s * random.uniform(0.5, 1)  # noqa: S311  # jitter
                if error.code() not in _RETRIED or time.monotonic() + pause_s > give_up:
                    raise LoadingError(_describe(request, error)) from error
            await asyncio.sleep(pause_s)
            delay_s = min(MAX_DELAY_S, delay_s * 2)


async def load(services: Services, plan: Plan, progress: Progress, *, concurrency: int) -> None:
    """Make everything there that the plan's orders need. Raises LoadingError."""
    await _each("accounts", plan.users, services.open_account, progress, concurrency)
    await _each("items", plan.items, services.create_item, progress, concurrency)
    await _each("stock", plan.loads, services.restock, progress, concurrency)


async def _each(
    name: str,
    things: Sequence[T],
    action: Callable[[T], Awaitable[None]],
    progress: Progress,
    concurrency: int,
) -> None:
    with progress.task(name, len(things)) as done:

        async def act(thing: T) -> None:
            await action(thing)
            done()

        await for_each(things, act, concurrency=concurrency)


def _address(of: User, region: str) -> user.Address:
    return user.Address(
        address_id=address_id(region),
        postal_address=PostalAddress(
            region_code=region,
            recipients=[f"Customer {of.user_id}"],
            address_lines=["Somewhere"],  # the file says no more than the country
        ),
    )


def _describe(request: Message, error: grpc.aio.AioRpcError) -> str:
    code, details = error.code().name, error.details()
    return f"{request.DESCRIPTOR.full_name}: {code}: {details}"
