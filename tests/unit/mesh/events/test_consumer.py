"""Applied once and in order, whatever is delivered, fails or dies."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mesh.errors import Internal, Unavailable
from mesh.events.consumer import ATTEMPTS_MAX
from mesh.events.inbox import WAIT_MAX_S, State
from mesh.events.inbox import dead as list_dead
from mesh.service import Context
from mesh.testing.loop import run_virtual
from tests.support.things import TOPIC, thing

from .world import World

LONG_S = 3600.0
Story = Callable[[World], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    def run(story: Story, **settings: Any) -> None:
        async def played() -> None:
            world = World(tmp_path, **settings)
            await world.consumer.start()
            try:
                await story(world)
            finally:
                await world.stop()

        run_virtual(played())

    return run


@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])), ids=str)
def test_any_order_of_arrival_is_applied_in_order(play: Any, order: tuple[int, ...]) -> None:
    async def story(world: World) -> None:
        for version in order:
            await world.consumer.receive(thing(version=version))
        await world.runtime.clock.sleep(1.0)
        assert await world.notes() == [1, 2, 3]

    play(story)


def test_what_is_delivered_again_is_not_applied_again(play: Any) -> None:
    async def story(world: World) -> None:
        random = Random(5)
        for version in random.choices([1, 2, 3, 4], k=60):
            await world.consumer.receive(thing(version=version))
        await world.runtime.clock.sleep(1.0)
        assert await world.notes() == [1, 2, 3, 4]

    play(story)


def test_a_failed_event_is_taken_back_and_tried_again_before_its_followers(play: Any) -> None:
    async def story(world: World) -> None:
        for version in (1, 2, 3):
            await world.consumer.receive(thing(version=version))
        assert await world.notes() == [1]  # 2 failed and left nothing, 3 waits behind it
        await world.consumer.receive(thing("b"))
        assert await world.notes("b") == [1]  # its neighbour does not wait
        await world.runtime.clock.sleep(LONG_S)
        assert await world.notes() == [1, 2, 3]

    play(story, failures={("a", 2): 3})


@pytest.mark.parametrize("by_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_makes_no_event_wait_longer(play: Any, by_s: float) -> None:
    async def story(world: World) -> None:
        await world.consumer.receive(thing())
        world.runtime.clock._skew_s = lambda: by_s  # type: ignore[attr-defined]
        await world.runtime.clock.sleep(WAIT_MAX_S)
        assert await world.notes() == [1]

    play(story, failures={("a", 1): 3})


def test_what_fails_too_often_is_dead_with_what_follows_it_until_it_is_redriven(
    play: Any,
) -> None:
    async def story(world: World) -> None:
        inbox = world.consumer.inbox
        for version in (1, 2, 3):
            await world.consumer.receive(thing(version=version))
        await world.runtime.clock.sleep(LONG_S)
        assert await world.notes() == []
        ((_, dead, behind),) = await world.store.read(
            lambda tx: list_dead(tx, [inbox.subscription], ("", "", ""), 10)
        )
        assert (dead.event.version, dead.attempts, behind) == (1, ATTEMPTS_MAX, 2)
        assert dead.error.startswith("ValueError (error_id ")
        assert "a bug" not in dead.error  # a function's text may hold anything
        await world.consumer.receive(thing(version=1))  # delivered again: still dead
        assert (await world.store.read(inbox.counts))[State.DEAD] == 1

        assert await world.store.write(lambda tx: inbox.redrive(tx, TOPIC, "a"))
        assert not await world.store.write(lambda tx: inbox.redrive(tx, TOPIC, "b"))
        await world.runtime.clock.sleep(LONG_S)
        assert await world.notes() == [1, 2, 3]

    play(story, failures={("a", 1): ATTEMPTS_MAX})


@pytest.mark.parametrize(
    "error", [Unavailable("away"), ConnectionError(), TimeoutError()], ids=repr
)
def test_silence_is_never_counted(play: Any, error: Exception) -> None:
    async def story(world: World) -> None:
        await world.consumer.receive(thing())
        await world.runtime.clock.sleep(LONG_S)
        assert await world.notes() == [1]

    play(story, failures={("a", 1): 2 * ATTEMPTS_MAX}, error=error)


def test_an_answer_is_counted_from_behind_as_well(play: Any) -> None:
    async def story(world: World) -> None:
        await world.consumer.receive(thing())
        await world.runtime.clock.sleep(LONG_S)
        assert (await world.store.read(world.consumer.inbox.counts))[State.DEAD] == 1

    play(story, failures={("a", 1): ATTEMPTS_MAX}, error=Internal("a bug elsewhere"))


def test_what_was_kept_survives_a_crash(play: Any) -> None:
    async def story(world: World) -> None:
        await world.consumer.receive(thing(version=2))
        await world.crash()
        await world.consumer.receive(thing(version=1))
        await world.runtime.clock.sleep(1.0)
        assert await world.notes() == [1, 2]

    play(story)


def test_the_outside_part_comes_first_with_one_key_until_it_is_done(play: Any) -> None:
    asked: list[tuple[str, int]] = []

    async def outside(ctx: Context[Any], event: Any) -> str:
        asked.append((ctx.key, event.number))
        if len(asked) < 3:
            raise ConnectionError
        return "sent"

    async def story(world: World) -> None:
        await world.consumer.receive(thing(version=1))
        await world.consumer.receive(thing(version=2))
        await world.runtime.clock.sleep(LONG_S)
        assert await world.notes() == [1, 2]
        assert asked == [("a/1", 1), ("a/1", 1), ("a/1", 1), ("a/2", 2)]

    play(story, outside=outside)


def test_events_come_through_the_bus_from_the_very_first(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        for version in range(1, 20):
            await world.bus.publish(thing(version=version))
        await world.consumer.start()
        await world.runtime.clock.sleep(1.0)
        for version in range(15, 30):
            await world.bus.publish(thing(version=version))
        await world.runtime.clock.sleep(1.0)
        assert await world.notes() == list(range(1, 30))
        await world.stop()

    run_virtual(main())
