"""An application, before anybody has called it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mesh.call import Method
from mesh.client import Channel
from mesh.errors import Overloaded
from mesh.layers.limit import LimitConfig
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.server import Application, ServerSettings
from mesh.storage.port import Tx
from mesh.storage.sqlite import SqliteStore
from mesh.testing.databases import schema_of
from mesh.transport.memory import MemoryNetwork
from services.payment.service import service
from shop.payment.v1.payment_pb2 import RefundPaymentRequest
from tests.support.echo import call_of

REFUND = "/shop.payment.v1.PaymentService/RefundPayment"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "payment.db", Runtime(), schema_of(service))
    yield opened
    await opened.close()


def application_on(
    store: SqliteStore, settings: Callable[[Method], ServerSettings] = lambda _: ServerSettings()
) -> Application:
    node, network = Node("payment"), MemoryNetwork(Runtime())

    def connect(target: str) -> Channel:
        return Channel(node, target, [target], network)

    return Application(node, service, store, connect, connect, settings=settings)


async def test_what_a_crash_left_open_is_taken_up_before_anybody_asks(store: SqliteStore) -> None:
    application = application_on(store)
    (charge,) = (path for path in service.effects if path.endswith("/ChargePayment"))

    async def leave_open(tx: Tx) -> None:
        await tx.execute(
            "INSERT INTO mesh_effects"
            " (principal, method, key, request, correlation_id, traceparent, undo_of)"
            " VALUES ('orchestrator', $1, 'k', $2, '', '', '')",
            charge,
            b"",
        )

    await store.write(leave_open)
    taken_up = await application.effects.resume()
    await application.stop()
    assert taken_up == 1
    assert not application.effects.orphans


async def test_what_there_is_no_room_for_is_refused_at_the_door(store: SqliteStore) -> None:
    one = LimitConfig(initial=1, least=1, most=1)
    application = application_on(store, lambda _: ServerSettings(limit=one))
    refund = application.routes[REFUND]
    assert refund.unary and refund.door
    assert refund.door(()) is None
    request = RefundPaymentRequest(order_id="1")
    served = asyncio.ensure_future(refund.unary(call_of(refund.method, request=request, key="k")))
    await asyncio.sleep(0)
    refused = {path for path, route in application.routes.items() if route.door and route.door(())}
    assert refused == {path for path in application.routes if path.startswith("/shop.")}
    assert isinstance(refund.door(()), Overloaded)
    await asyncio.gather(served, return_exceptions=True)
    assert refund.door(()) is None
