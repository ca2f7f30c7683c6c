"""A read model is made anew while the old one serves, and takes its place when it is as far."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path

from mesh.events.read_models import describe
from mesh.events.v1.read_models_pb2 import ReadModel
from mesh.storage.port import Tx
from mesh.storage.retention import BATCH, PAUSE_S
from mesh.storage.sqlite import SqliteStore
from mesh.testing.loop import run_virtual

from .reader import SCHEMA, Reader
from .world import virtual_runtime


def play(folder: Path, story: Callable[[Reader], Awaitable[None]]) -> None:
    async def played() -> None:
        runtime = virtual_runtime()
        reader = Reader(SqliteStore(folder / "r.db", runtime, SCHEMA), runtime)
        await reader.models.start()
        try:
            await story(reader)
        finally:
            await reader.models.stop()
            await reader.store.close()

    run_virtual(played())


def test_a_new_model_takes_over_and_the_old_one_goes(tmp_path: Path) -> None:
    async def story(reader: Reader) -> None:
        await reader.publish(1, 20)
        reader.sign = -1
        assert await reader.rebuild() == "seen-2"
        assert await reader.rebuild() == "seen-2"  # one at a time
        assert await reader.seen() == list(range(1, 21))
        await reader.runtime.clock.sleep(10.0)
        assert await reader.seen() == list(range(-1, -21, -1))
        assert await reader.all_models() == ["seen-2"]
        await reader.publish(21, 22)
        assert (await reader.seen())[-2:] == [-21, -22]
        (model,) = await reader.store.read(describe)
        assert (model.name, model.state, model.aggregate_count) == ("seen-2", ReadModel.SERVING, 1)

    play(tmp_path, story)


def test_until_it_is_as_far_the_old_one_serves_and_follows(tmp_path: Path) -> None:
    async def story(reader: Reader) -> None:
        await reader.publish(1, 5)
        reader.fails = True
        await reader.rebuild()
        await reader.publish(6, 8)
        await reader.runtime.clock.sleep(600.0)
        assert await reader.seen() == list(range(1, 9))
        reader.fails = False
        await reader.runtime.clock.sleep(600.0)
        assert await reader.all_models() == ["seen-2"]
        assert await reader.seen() == list(range(1, 9))

    play(tmp_path, story)


def test_a_restart_goes_on_building(tmp_path: Path) -> None:
    async def story(reader: Reader) -> None:
        await reader.publish(1, 5)
        reader.fails = True
        await reader.rebuild()
        await reader.runtime.clock.sleep(5.0)
        await reader.models.stop()
        reader.fails = False
        reader.models = reader._models()
        await reader.models.start()
        await reader.runtime.clock.sleep(60.0)
        assert await reader.all_models() == ["seen-2"]
        assert await reader.seen() == [1, 2, 3, 4, 5]

    play(tmp_path, story)


def test_it_starts_while_the_broker_is_away(tmp_path: Path) -> None:
    async def story(reader: Reader) -> None:
        await reader.publish(1, 5)
        reader.fails = True
        await reader.rebuild()
        await reader.runtime.clock.sleep(5.0)
        await reader.models.stop()
        reader.fails, reader.bus.away = False, True
        reader.models = reader._models()
        await reader.models.start()
        await reader.publish(6, 6)
        assert await reader.seen() == [1, 2, 3, 4, 5, 6]
        reader.bus.away = False
        await reader.runtime.clock.sleep(60.0)
        assert await reader.all_models() == ["seen-2"]

    play(tmp_path, story)


def test_one_that_cannot_be_forgotten_holds_up_no_other(tmp_path: Path) -> None:
    async def story(reader: Reader) -> None:
        await reader.publish(1, 5)
        await reader.models.stop()
        await reader.rebuild()
        changed = f"UPDATE mesh_read_models SET state = {ReadModel.DROPPED} - 2 * (number - 1)"
        await reader.store.write(lambda tx: tx.execute(changed))
        reader.bus.away = True
        reader.models = reader._models()
        await reader.models.start()
        await reader.publish(6, 6)
        assert await reader.seen() == [1, 2, 3, 4, 5, 6]

    play(tmp_path, story)


def test_a_replica_that_saw_nothing_of_the_change_follows_it(tmp_path: Path) -> None:
    async def story(reader: Reader) -> None:
        twin = reader._models()
        await reader.runtime.clock.sleep(0.5)  # it never looks when the other does
        await twin.start()
        await reader.publish(1, 5)
        await reader.rebuild()
        await reader.runtime.clock.sleep(10.0)
        await reader.publish(6, 8)
        await reader.runtime.clock.sleep(10.0)
        assert await reader.all_models() == ["seen-2"]
        assert await reader.seen() == list(range(1, 9))
        assert list(twin._fed) == list(reader.models._fed) == ["seen-2"]
        assert list(reader.bus._groups) == ["seen-2"]
        await twin.stop()

    play(tmp_path, story)


def test_an_old_model_is_deleted_a_few_rows_at_a_time(tmp_path: Path) -> None:
    async def story(reader: Reader) -> None:
        async def fill(tx: Tx) -> None:
            for number in range(2 * BATCH):
                await tx.execute("INSERT INTO seen VALUES ('seen', 'b', $1)", number)

        def count() -> Awaitable[int]:
            return reader.store.read(functools.partial(rows_of, model="seen"))

        await reader.publish(1, 1)
        await reader.store.write(fill)
        await reader.rebuild()
        counts = []
        while left := await count():
            counts.append(left)
            await reader.runtime.clock.sleep(PAUSE_S / 10)
        assert list(dict.fromkeys(counts)) == [2 * BATCH + 1, BATCH + 1, 1]

    play(tmp_path, story)


async def rows_of(tx: Tx, model: str) -> int:
    ((count,),) = await tx.execute("SELECT COUNT(*) FROM seen WHERE model = $1", model)
    return int(count)
