"""What is old is forgotten, and what names it is refused: never executed, never voided."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mesh.errors import KeyExpired
from mesh.events import outbox
from mesh.execution import answer_once
from mesh.runtime.clock import Runtime
from mesh.storage import keys, retention, watermark
from mesh.storage.port import Tx
from mesh.storage.retention import Retention
from mesh.testing.loop import VirtualClock, run_virtual
from tests.support.things import ThingEvent
from tests.unit.mesh.vault import LABEL, PUT, TAKE, add, call, coins, number, open_vault, rows

DAY_S = 24 * 3600.0
KEEP_S = 30 * DAY_S


async def _inline(function: Callable[[], Any]) -> Any:
    return function()


class World:
    def __init__(self, folder: Path) -> None:
        self.skew_s = 0.0
        self.runtime = Runtime(VirtualClock(lambda: self.skew_s), Random(1), _inline)
        self.store = open_vault(folder, self.runtime)
        self.retention = Retention(self.store, self.runtime, KEEP_S)

    async def put(self, key: str, amount: int = 1) -> int:
        return number(await self._ask(call(PUT, amount, key)))

    async def undo(self, key: str) -> None:
        await self._ask(call(TAKE, 1, f"{key}/undo", undo_of=key))

    async def _ask(self, one: Any) -> Any:
        async def function(tx: Tx, request: Any) -> Any:
            return PUT.reply_type(value=await add(tx, request.value))

        answer = await self.store.write(lambda tx: answer_once(tx, one, function))
        return answer.give(one.method)

    def set_clock(self, ahead_s: float) -> None:
        self.skew_s = ahead_s

    async def pass_days(self, days: float) -> None:
        await self.runtime.clock.sleep(days * DAY_S)

    async def keys(self) -> list[str]:
        return await rows(self.store, "SELECT key FROM mesh_keys ORDER BY key")


def play(folder: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def played() -> None:
        world = World(folder)
        try:
            await story(world)
        finally:
            await world.store.close()

    run_virtual(played())


def test_old_keys_go_and_are_refused_from_then_on(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        old = world.runtime.new_id()
        assert await world.put(old) == 1
        await world.pass_days(31)
        young = world.runtime.new_id()
        assert await world.put(old) == 1  # known still
        await world.put(young)
        assert await world.retention.sweep() == 1
        assert await world.keys() == [young]
        with pytest.raises(KeyExpired):
            await world.put(old)
        with pytest.raises(KeyExpired):
            await world.put(f"{old}/3")  # a step of a saga as old
        assert await world.put(young) == 2
        assert await coins(world.store) == 2

    play(tmp_path, story)


def test_an_undo_of_what_is_forgotten_voids_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        old = world.runtime.new_id()
        await world.put(old)
        await world.pass_days(31)
        await world.retention.sweep()
        with pytest.raises(KeyExpired):
            await world.undo(old)
        assert await world.keys() == []
        assert await coins(world.store) == 1

    play(tmp_path, story)


def test_keys_that_do_not_tell_their_age_stay(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        names = ["0", "order-7", "ffffffff-ffff-4fff-8fff-ffffffffffff", "~"]
        for name in names:
            await world.put(name)
        await world.pass_days(400)
        await world.retention.sweep()
        assert sorted(await world.keys()) == sorted(names)
        assert await world.put("order-7") == 2

    play(tmp_path, story)


def test_more_than_a_batch_of_several_callers_goes(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for index in range(retention.BATCH + 10):
            await world.put(world.runtime.new_id() if index % 5 else f"0-{index}")
        await world.pass_days(31)
        await world.retention.sweep()
        assert all(key.startswith("0-") for key in await world.keys())

    play(tmp_path, story)


def test_an_open_effect_is_never_forgotten(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        key = world.runtime.new_id()
        await world.store.write(lambda tx: keys.claim(tx, call(LABEL, 1, key)))  # and not answered
        await world.pass_days(31)
        await world.retention.sweep()
        assert await world.keys() == [key]

    play(tmp_path, story)


def test_events_that_the_bus_has_go_and_others_wait(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        store = world.store
        for _ in range(3):
            await store.write(lambda tx: tx.publish(ThingEvent(thing_id="a")))
        (first,) = await store.read(lambda tx: outbox.heads(tx, "vault", 9))
        await store.write(lambda tx: outbox.mark_published(tx, [first]))
        await world.pass_days(31)
        await world.retention.sweep()
        assert await rows(store, "SELECT version FROM mesh_outbox ORDER BY version") == [2, 3]
        assert await store.write(lambda tx: tx.publish(ThingEvent(thing_id="a"))) == 4

    play(tmp_path, story)


def test_a_clock_set_back_makes_no_forgotten_key_look_young(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.retention._keep_s = watermark.RETENTION_MIN_S
        old = world.runtime.new_id()
        await world.put(old)
        await world.pass_days(1.001)
        await world.retention.sweep()
        assert await world.keys() == []
        world.set_clock(-3600.0)
        with pytest.raises(KeyExpired):
            await world.put(old)

    play(tmp_path, story)


def test_a_clock_that_was_far_ahead_leaves_what_is_young(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.set_clock(90 * DAY_S)
        await world.retention.sweep()
        world.set_clock(0.0)
        young = world.runtime.new_id()
        await world.put(young)
        await world.pass_days(0.5)
        await world.retention.sweep()
        assert await world.put(young) == 1
        assert await coins(world.store) == 1

    play(tmp_path, story)


def test_the_watermark_never_falls_nor_comes_near_to_now(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.pass_days(40)
        now = world.runtime.clock.wall()

        async def move(moment: float) -> float:
            return await world.store.write(lambda tx: watermark.raise_to(tx, moment))

        assert await move(now - 35 * DAY_S) == now - 35 * DAY_S
        assert await move(now - 36 * DAY_S) == now - 36 * DAY_S  # what is forgotten is older
        assert await world.store.read(watermark.low) == now - 35 * DAY_S
        assert await move(now + 1e9) == now - watermark.RETENTION_MIN_S

    play(tmp_path, story)


def test_while_one_sweeps_nobody_else_does(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        other = Retention(world.store, world.runtime, KEEP_S)
        await world.put(world.runtime.new_id())
        await world.pass_days(31)
        await world.retention.sweep()
        await world.put(world.runtime.new_id())
        await world.pass_days(0)
        assert await other.sweep() == 0

    play(tmp_path, story)


def test_who_was_slow_and_is_taken_for_dead_deletes_nothing_more(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for _ in range(retention.BATCH + 1):
            await world.put(world.runtime.new_id())
        await world.pass_days(31)
        sweep = asyncio.ensure_future(world.retention.sweep())
        await world.runtime.clock.sleep(retention.PAUSE_S / 2)  # after its first batch
        await world.store.write(_taken_over)
        assert await sweep == retention.BATCH
        assert len(await world.keys()) == 1

    play(tmp_path, story)


async def _taken_over(tx: Tx) -> None:
    await tx.execute("UPDATE mesh_leases SET holder = 'another'")


def test_less_than_a_day_is_refused(tmp_path: Path) -> None:
    store: Any = None
    with pytest.raises(ValueError, match="at least 86400 s"):
        Retention(store, Runtime(), 3600.0)


def test_a_key_tells_its_age_to_the_millisecond() -> None:
    runtime = Runtime(random=Random(1))
    before = runtime.clock.wall()
    born = watermark.born_at(f"{runtime.new_id()}/7/undo")
    assert born is not None
    assert before - 0.001 <= born <= runtime.clock.wall()
    assert watermark.first_key(born) <= runtime.new_id()
    assert watermark.born_at("a2f4e1b0-0000-4000-8000-000000000000") is None
