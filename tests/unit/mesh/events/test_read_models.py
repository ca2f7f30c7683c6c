"""A read model is made anew while the old one serves, and takes its place when it is as far."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from mesh.events.read_models import describe
from mesh.events.v1.read_models_pb2 import ReadModel
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
