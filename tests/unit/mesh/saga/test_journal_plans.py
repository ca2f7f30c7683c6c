"""What the engine asks again and again costs as much on a journal of a million ended sagas."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from mesh.saga.journal import Journal
from mesh.saga.leases import Leases
from mesh.saga.records import SagaRow
from mesh.storage.port import Store, Tx
from mesh.storage.retention import Retention
from mesh.testing.loop import run_virtual
from tests.unit.mesh.saga.world import World

#: Of a table that grows for ever: an index of what is unfinished, or of one saga, is looked into.
NARROW = ("(state=?)", "(saga_id=?)", "(owner=?)", "mesh_sagas_unfinished")


class Listening:
    """A store that remembers what was asked of it."""

    shared = False

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    async def write(self, work: Any) -> Any:
        return await self._store.write(lambda tx: self._listen(tx, work))

    async def read(self, work: Any) -> Any:
        return await self._store.read(lambda tx: self._listen(tx, work))

    async def _listen(self, tx: Tx, work: Any) -> Any:
        execute = tx.execute

        async def heard(sql: str, *params: Any) -> list[Any]:
            self.asked.append((sql, params))
            return await execute(sql, *params)

        tx.execute = heard  # type: ignore[method-assign]
        return await work(tx)


def every_plan(database: Path, asked: list[tuple[str, tuple[Any, ...]]]) -> list[str]:
    """How SQLite goes about each of them."""
    with closing(apsw.Connection(str(database))) as connection:
        return [
            row[3]
            for sql, params in asked
            for row in connection.execute(f"EXPLAIN QUERY PLAN {sql.replace('$', '?')}", params)
        ]


def plans(database: Path, asked: list[tuple[str, tuple[Any, ...]]]) -> list[str]:
    """How it looks into the table of sagas."""
    return [plan for plan in every_plan(database, asked) if "mesh_sagas " in plan]


@pytest.mark.parametrize("known", [[("buy", 1)], [("buy", 1), ("buy", 2), ("sell", 1)]])
def test_what_has_ended_is_not_looked_at(tmp_path: Path, known: list[tuple[str, int]]) -> None:
    world = World(tmp_path)
    listening = Listening(world.store)

    async def story() -> None:
        leases = Leases(listening, known)  # type: ignore[arg-type]
        await leases.enter("engine", "")
        row = SagaRow("s", "buy", 1, "k", b"", "", "", created_at=1.0, deadline_at=2.0)
        await world.engine.journal.add(row, owner="")
        assert len(await leases.claim("engine", 9)) == 1
        await leases.let_go("engine", ())
        await Journal(listening).census()  # type: ignore[arg-type]

    run_virtual(story())
    found = plans(tmp_path / "sagas.db", listening.asked)
    assert len(found) >= 4
    assert all(any(narrow in plan for narrow in NARROW) for plan in found), found


@pytest.mark.parametrize(
    "asked",
    [("buy", 0, ""), ("buy", 6, ""), ("", 6, "s"), ("", 0, ""), ("buy", 3, "s")],
)
def test_a_page_of_many_is_not_sorted(tmp_path: Path, asked: tuple[str, int, str]) -> None:
    world = World(tmp_path)
    listening = Listening(world.store)
    run_virtual(Journal(listening).list(*asked, 50))  # type: ignore[arg-type]
    assert not sorts(tmp_path / "sagas.db", listening.asked)


def test_what_is_forgotten_is_not_searched_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    listening = Listening(world.store)

    async def sweep() -> None:
        await Retention(listening, world.runtime, 30 * 24 * 3600.0).sweep()  # type: ignore[arg-type]

    run_virtual(sweep())
    assert len(plans(tmp_path / "sagas.db", listening.asked)) >= 2
    assert not sorts(tmp_path / "sagas.db", listening.asked)


def sorts(database: Path, asked: list[tuple[str, tuple[Any, ...]]]) -> list[str]:
    return [plan for plan in every_plan(database, asked) if "TEMP B-TREE" in plan]
