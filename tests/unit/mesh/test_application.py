"""An application, before anybody has called it."""

from pathlib import Path

from mesh.client import Channel
from mesh.node import Node
from mesh.runtime.clock import Runtime
from mesh.server import Application
from mesh.storage.port import Tx
from mesh.storage.sqlite import SqliteStore
from mesh.testing.databases import schema_of
from mesh.transport.memory import MemoryNetwork
from services.payment.service import service


async def test_what_a_crash_left_open_is_taken_up_before_anybody_asks(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "payment.db", Runtime(), schema_of(service))
    node, network = Node("payment"), MemoryNetwork(Runtime())

    def connect(target: str) -> Channel:
        return Channel(node, target, [target], network)

    application = Application(node, service, store, connect, connect)
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
    await store.close()
    assert taken_up == 1
    assert not application.effects.orphans
