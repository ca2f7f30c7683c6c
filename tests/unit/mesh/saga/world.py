"""A saga of three steps on remotes that answer as a test tells them."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from google.protobuf.message import Message

from mesh.call import Call, Method
from mesh.dial import Remote
from mesh.errors import Refused
from mesh.metadata import UNDO_OF
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.saga import Saga, Steps, Undo, saga
from mesh.saga.engine import SagaEngine
from mesh.saga.records import SagaRow
from mesh.storage.migrate import own_migrations
from mesh.storage.sqlite import SqliteStore
from mesh.testing.loop import VirtualClock, run_virtual
from shop.inventory.v1 import inventory_pb2 as inventory
from shop.order.v1 import order_pb2 as order
from shop.payment.v1 import payment_pb2 as payment

Answer = Message | Exception | Callable[[], Awaitable[Any]]

INVENTORY = "/shop.inventory.v1.InventoryService/"
PAYMENT = "/shop.payment.v1.PaymentService/"
ORDER = "/shop.order.v1.OrderService/"


async def _inline(function: Callable[[], Any]) -> Any:
    return function()


class FakeRemote:
    """A remote method; gives the scripted answers, then its empty reply for ever."""

    def __init__(self, path: str, log: list[str], target: str = "fake") -> None:
        self.method = Method.at(path)
        self.target = target
        self.answers: deque[Answer] = deque()
        self.calls: list[Call] = []
        self._log = log

    async def send(self, call: Call) -> Any:
        self.calls.append(call)
        self._log.append(self.method.name)
        answer = self.answers.popleft() if self.answers else self.method.reply_type()
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Message) else await answer()


@saga(version=1)
async def buy(step: Steps, to: Any, it: order.GetOrderRequest) -> None:
    """Two steps that can be undone, the pivot, one step after it."""
    this = it.order_id
    await step(
        to.reserve,
        inventory.ReserveStockRequest(order_id=this),
        undo=Undo(to.release, inventory.ReleaseStockRequest(order_id=this)),
    )
    await step(
        to.charge,
        payment.ChargePaymentRequest(order_id=this),
        undo=Undo(to.refund, payment.RefundPaymentRequest(order_id=this)),
    )
    await step(to.confirm, order.ConfirmOrderRequest(order_id=this), pivot=True)
    await step(to.commit, inventory.CommitReservationRequest(order_id=this))


@dataclass
class World:
    """An engine with its journal, and everything it calls."""

    folder: Path
    sagas: list[Saga[Any, Any]] = field(default_factory=lambda: [buy])

    def __post_init__(self) -> None:
        self.log: list[str] = []
        self.ahead_s = 0.0  # by how much the wall clock is wrong
        self.runtime = Runtime(VirtualClock(lambda: self.ahead_s), Random(1), _inline)
        paths = {
            "reserve": INVENTORY + "ReserveStock",
            "release": INVENTORY + "ReleaseStock",
            "commit": INVENTORY + "CommitReservation",
            "charge": PAYMENT + "ChargePayment",
            "refund": PAYMENT + "RefundPayment",
            "confirm": ORDER + "ConfirmOrder",
        }
        self.to = SimpleNamespace(**{n: FakeRemote(p, self.log) for n, p in paths.items()})
        self.remotes: dict[tuple[str, str], Remote] = {
            (r.target, r.method.path): r for r in vars(self.to).values()
        }
        self.open()

    def two_places(self) -> None:
        """Let two targets speak the inventory's contract."""
        for place in ("north", "south"):
            remotes = {
                name: FakeRemote(INVENTORY + path, self.log, place)
                for name, path in (("reserve", "ReserveStock"), ("release", "ReleaseStock"))
            }
            setattr(self.to, place, SimpleNamespace(**remotes))
            self.remotes |= {(r.target, r.method.path): r for r in remotes.values()}

    def open(self) -> None:
        """Start an engine on the journal."""
        self.store = SqliteStore(self.folder / "sagas.db", self.runtime, own_migrations())
        self.engine = self.another("first")
        self._up = False

    def another(self, instance: str = "", ahead_s: float = 0.0) -> SagaEngine:
        """Return an engine on the same database; its own clock is *ahead_s* ahead of that one's."""
        clock = VirtualClock(lambda: self.ahead_s + ahead_s)
        node = Node(runtime=replace(self.runtime, clock=clock), instance=instance)
        return SagaEngine(node, self.store, self.sagas, self.to, self.remotes)

    async def up(self) -> int:
        """Let the engine run what there is; return how much it took up at once."""
        self._up = True
        return await self.engine.resume()

    async def crash(self) -> None:
        """End the engine where it stands, and start another one on the same journal."""
        await self.engine.stop()
        self.store.abandon()
        self.open()

    async def start(self, order_id: str = "o") -> str:
        """Start the saga."""
        if not self._up:
            await self.up()
        request = order.GetOrderRequest(order_id=order_id)
        return await self.engine.start(self.sagas[0], request, order_id)

    async def run(self) -> SagaRow:
        """Start the saga and return it when it has ended or stands still."""
        return await self.end(await self.start())

    async def end(self, saga_id: str) -> SagaRow:
        """Return the saga once nothing moves any more."""
        row = await self.engine.wait(saga_id, 1e6)
        assert row == await self.engine.journal.get(saga_id)  # it says what is kept
        return row

    def counts(self) -> dict[str, int]:
        """Return how often each method was called."""
        counted: dict[str, int] = defaultdict(int)
        for name in self.log:
            counted[name] += 1
        return dict(counted)


def no(reason: str = "NO") -> Refused:
    """Return a definite refusal."""
    return Refused("no", reason=reason)


def undo_of(call: Call) -> str:
    """Return what *call* says it undoes."""
    return call.metadata.get(UNDO_OF, "")


Story = Callable[[World], Awaitable[None]]


def tell(folder: Path, story: Story) -> None:
    async def told() -> None:
        await story(World(folder))

    run_virtual(told())


async def kill(engine: SagaEngine) -> None:
    """End *engine* as a crash would: it hands nothing over."""
    if engine._keeper:
        engine._keeper.cancel()
    await engine._flights.drop_all()


def never() -> Callable[[], Awaitable[Any]]:
    """Return an answer that does not come."""
    future = asyncio.get_running_loop().create_future()
    return lambda: future
