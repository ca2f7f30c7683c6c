"""The example of a store of one's own keeps to the whole contract; keys and sagas hold on it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from examples.own_store.sqlalchemy_store import SqlAlchemyStore
from mesh.errors import Refused
from mesh.execution import in_transaction
from mesh.runtime.clock import Runtime
from mesh.saga.v1.saga_pb2 import Saga
from mesh.storage.migrate import Migration, own_migrations
from mesh.storage.port import Store, Tx
from mesh.testing.loop import run_virtual
from tests.contract.test_store import *  # noqa: F403  # the suite, on the database below
from tests.contract.test_store_statements import *  # noqa: F403
from tests.contract.test_store_work import *  # noqa: F403
from tests.support.coins import COINS
from tests.support.echo import ADD, EchoReply, EchoRequest, call_of
from tests.unit.mesh.saga.world import World, no


class OwnDatabase:
    engine = "sqlite"
    sql_error: type[Exception] = DBAPIError

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(
        self, schema: Sequence[Migration], name: str = "test", runtime: Runtime | None = None
    ) -> Store:
        url = f"sqlite:///{self._folder / name}.db"
        return SqlAlchemyStore(url, runtime or Runtime(), schema)

    async def rows(self, query: str, name: str = "test") -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._folder / f"{name}.db")) as database:
            return database.execute(query).fetchall()


@pytest.fixture
def database(tmp_path: Path) -> OwnDatabase:
    return OwnDatabase(tmp_path)


async def test_a_key_has_one_answer_on_it(database: OwnDatabase) -> None:
    store = await database.open([*own_migrations(), COINS])
    granted = 0

    async def grant(tx: Tx, request: Any) -> Any:
        nonlocal granted
        granted += 1
        if request.number > 5:
            await tx.execute("INSERT INTO coins VALUES ($1, $2)", "nobody", request.number)
            raise Refused("too many", reason="TOO_MANY")
        await tx.execute("INSERT INTO coins VALUES ($1, $2)", request.text, request.number)
        return EchoReply(number=request.number)

    handle = in_transaction(grant, store)
    one = call_of(ADD, key="one", request=EchoRequest(text="ann", number=3))
    much = call_of(ADD, key="two", request=EchoRequest(text="bob", number=9))
    for _ in range(2):
        assert (await handle(one)).number == 3
        with pytest.raises(Refused, match="TOO_MANY"):
            await handle(much)
    assert granted == 2, "the second answers come from the keys"
    assert await database.rows("SELECT * FROM coins") == [("ann", 3)]
    await store.close()


class OwnWorld(World):
    """An engine whose journal is in the store of one's own."""

    def open(self) -> None:
        url = f"sqlite:///{self.folder / 'sagas.db'}"
        self.store: Any = SqlAlchemyStore(url, self.runtime, own_migrations())
        self.engine = self.another("first")
        self._up = False


def test_a_saga_is_journalled_on_it_and_undone_from_it(tmp_path: Path) -> None:
    world = OwnWorld(tmp_path)
    assert run_virtual(world.run()).state == Saga.COMPLETED
    (tmp_path / "again").mkdir()
    again = OwnWorld(tmp_path / "again")
    again.to.confirm.answers.append(no("TOO_LATE"))
    assert run_virtual(again.run()).state == Saga.FAILED
    assert again.log[3:] == ["RefundPayment", "ReleaseStock"]
