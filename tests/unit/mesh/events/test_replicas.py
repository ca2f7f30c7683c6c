"""Replicas of a subscriber: what its outside part does is done by one of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import Internal
from mesh.events.consumer import ATTEMPTS_MAX, OUTSIDE_TIMEOUT_S
from mesh.events.inbox import WAIT_MAX_S, Inbox, State
from mesh.service import Context
from mesh.testing.loop import run_virtual
from tests.support.things import thing

from .world import World

LONG_S = 3600.0
THINGS = [f"{number}" for number in range(20)]


class Outside:
    """An outside part: it takes its time, and fails as often as it is told to."""

    def __init__(self, takes_s: float = 1.0, failures: int = 0) -> None:
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._takes_s, self._failures = takes_s, failures

    async def __call__(self, ctx: Context[Any], event: Any) -> str:
        await asyncio.sleep(self._takes_s)
        if self.failed[event.thing_id] < self._failures:
            self.failed[event.thing_id] += 1
            raise Internal("no")
        self.done[event.thing_id] += 1
        return "sent"


def play(folder: Path, story: Callable[[World, Outside], Awaitable[None]], **outside: Any) -> None:
    """Play *story* with two replicas, which share a database."""

    async def played() -> None:
        part = Outside(**outside)
        world = World(folder, outside=part)
        replica = world.replica()
        for consumer in (world.consumer, replica):
            await consumer.start()
        # Delivered to one just as it is being delivered to the other again.
        for name in THINGS:
            await asyncio.gather(world.consumer.receive(thing(name)), replica.receive(thing(name)))
        try:
            await story(world, part)
        finally:
            await replica.stop()
            await world.stop()

    run_virtual(played())


@pytest.mark.parametrize("takes_s", [0.0, 1.0, OUTSIDE_TIMEOUT_S - 1])
def test_each_event_is_seen_to_by_one_of_them(tmp_path: Path, takes_s: float) -> None:
    async def story(world: World, outside: Outside) -> None:
        await world.runtime.clock.sleep(LONG_S)
        assert outside.done == dict.fromkeys(THINGS, 1)
        assert [await world.notes(name) for name in THINGS] == [[1]] * len(THINGS)

    play(tmp_path, story, takes_s=takes_s)


def test_each_attempt_is_made_by_one_of_them_too(tmp_path: Path) -> None:
    async def story(world: World, outside: Outside) -> None:
        await world.runtime.clock.sleep(LONG_S)
        assert outside.failed == dict.fromkeys(THINGS, ATTEMPTS_MAX - 1)
        assert outside.done == dict.fromkeys(THINGS, 1)

    play(tmp_path, story, failures=ATTEMPTS_MAX - 1)


def test_an_answer_counts_once_whoever_got_it(tmp_path: Path) -> None:
    async def story(world: World, _: Outside) -> None:
        inbox = Inbox("another")
        await world.store.write(lambda tx: inbox.keep(tx, thing()))
        ((kept,), _later) = await world.store.read(lambda tx: inbox.due(tx, 9))
        counted = [
            await world.store.write(lambda tx: inbox.failed(tx, kept, "no", 0.5, dead=True))
            for _ in range(2)
        ]
        assert counted == [True, False]
        assert (await world.store.read(inbox.counts))[State.DEAD] == 1

    play(tmp_path, story)


def test_what_a_dead_process_saw_to_is_seen_to_by_its_successor_at_once(tmp_path: Path) -> None:
    async def played() -> None:
        world = World(tmp_path, outside=Outside())
        await world.consumer.start()
        await world.consumer.receive(thing())
        await world.runtime.clock.sleep(0.5)
        await world.crash()
        await world.runtime.clock.sleep(1.5)
        assert await world.notes() == [1]
        await world.stop()

    run_virtual(played())


def test_what_a_dead_replica_saw_to_is_seen_to_by_the_other_in_the_end(tmp_path: Path) -> None:
    async def story(world: World, outside: Outside) -> None:
        await world.consumer.stop()
        await world.runtime.clock.sleep(WAIT_MAX_S - 5)
        half = outside.done.total()
        assert 0 < half < len(THINGS)
        await world.runtime.clock.sleep(WAIT_MAX_S)
        assert outside.done == dict.fromkeys(THINGS, 1)

    play(tmp_path, story, takes_s=3.0)
