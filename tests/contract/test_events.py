"""From outbox to function, dead letters and read models; on each engine.

`tests/unit/mesh/events` has the stories in virtual time; here is what their SQL does.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mesh.call import Principal
from mesh.errors import Internal, NotFound
from mesh.events import outbox
from mesh.events.admin import dead_letter_service
from mesh.events.consumer import ATTEMPTS_MAX
from mesh.events.inbox import State
from mesh.events.port import Event
from mesh.events.read_models import describe
from mesh.events.relay import Relay
from mesh.events.v1 import dead_letters_pb2 as pb
from mesh.events.v1.read_models_pb2 import ReadModel
from mesh.runtime.clock import Runtime, SystemClock
from mesh.runtime.metrics import Metrics
from mesh.service import Context
from mesh.storage.port import Store, Tx
from tests.support.databases import Database
from tests.support.things import TOPIC, ThingEvent, thing
from tests.support.waiting import until
from tests.unit.mesh.events import reader
from tests.unit.mesh.events.reader import Reader
from tests.unit.mesh.events.world import SCHEMA, World

OPERATOR = Principal("olga", frozenset({"operator"}))
THINGS = [f"{number:02}" for number in range(30)]
VERSIONS = [1, 2, 3, 4]


class Hasty(SystemClock):
    """Sleeps a hundredth as long."""

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s / 100)


class AtOnce(Random):
    """Of all delays it draws the shortest: backoff is none."""

    def uniform(self, a: float, b: float) -> float:
        return a


def hasty() -> Runtime:
    return Runtime(Hasty(), AtOnce())


class OnStore(World):
    """The same service, on whatever is opened."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self._opened = store
        super().__init__(Path(), hasty(), **settings)

    def opened(self) -> Store:
        return self._opened

    async def publish(self, *things: tuple[str, int]) -> None:
        """Publish what happened, in one transaction."""

        async def work(tx: Tx) -> None:
            for of, number in things:
                await tx.publish(ThingEvent(thing_id=of, number=number))

        await self.store.write(work)

    def relay(self) -> Relay:
        return Relay(self.store, self.bus, self.runtime, Metrics(), "things")

    async def until_noted(self, of: str, numbers: list[int]) -> None:
        async def is_noted() -> bool:
            return await self.notes(of) == numbers

        await until(is_noted)

    async def dead(self) -> int:
        return (await self.store.read(self.consumer.inbox.counts))[State.DEAD]

    async def ask(self, method: str, request: Any) -> Any:
        """Call the service of dead letters."""
        function = dead_letter_service("notes").rpcs[f"/mesh.events.v1.DeadLetterService/{method}"]

        async def work(tx: Any) -> Any:
            tx.principal = OPERATOR
            return await function(tx, request)

        return await self.store.write(work)


@pytest.fixture
async def worlds(database: Database) -> AsyncIterator[Callable[..., Any]]:
    """Opens the service; it has ended when the next is opened."""
    opened: list[OnStore] = []

    async def end() -> None:
        while opened:
            await opened.pop().stop()

    async def open_world(**settings: Any) -> OnStore:
        await end()
        opened.append(OnStore(await database.open(SCHEMA), **settings))
        await opened[0].consumer.start()
        return opened[0]

    yield open_world
    await end()


async def test_what_was_committed_is_applied_and_nothing_else(worlds: Any) -> None:
    world = await worlds()

    async def fails(tx: Tx) -> None:
        await tx.publish(ThingEvent(thing_id="00", number=9))
        raise LookupError

    with pytest.raises(LookupError):
        await world.store.write(fails)
    first, second = world.relay(), world.relay()
    first.start()
    await asyncio.gather(*(world.publish((of, 1), (of, 2)) for of in THINGS))
    for of in THINGS:
        await world.until_noted(of, [1, 2])
    await first.stop()  # gives its lease back
    second.start()
    await asyncio.gather(*(world.publish((of, 3)) for of in THINGS))
    for of in THINGS:
        await world.until_noted(of, [1, 2, 3])

    async def all_marked() -> bool:
        return not await world.store.read(lambda tx: outbox.heads(tx, "things", 1))

    await until(all_marked)
    await second.stop()


async def test_whatever_is_delivered_how_often_at_once_is_applied_once_in_order(
    worlds: Any,
) -> None:
    world = await worlds()
    events = [thing(of, version) for of in THINGS[:10] for version in VERSIONS for _ in range(3)]
    Random(5).shuffle(events)
    await asyncio.gather(*map(world.consumer.receive, events))
    for of in THINGS[:10]:
        await world.until_noted(of, VERSIONS)
    assert set((await world.store.read(world.consumer.inbox.counts)).values()) == {0}


async def test_what_came_early_is_kept(worlds: Any) -> None:
    world = await worlds()
    await world.consumer.receive(thing(version=2))
    world = await worlds()
    assert (await world.store.read(world.consumer.inbox.counts))[State.EARLY] == 1
    await world.consumer.receive(thing(version=1))
    await world.until_noted("a", [1, 2])


async def test_an_outside_part_that_fails_is_tried_again_before_what_follows(worlds: Any) -> None:
    asked: list[int] = []

    async def outside(ctx: Context[Any], event: Any) -> str:
        asked.append(event.number)
        if len(asked) < 3:
            raise Internal("a bug elsewhere")
        return "sent"

    world = await worlds(outside=outside)
    await world.consumer.receive(thing(version=2))
    await world.consumer.receive(thing(version=1))
    await world.until_noted("a", [1, 2])
    assert asked == [1, 1, 1, 2]


async def test_of_two_replicas_one_does_the_outside_part(worlds: Any) -> None:
    done: Counter[str] = Counter()

    async def outside(ctx: Context[Any], event: Any) -> str:
        await asyncio.sleep(0.01)
        done[event.thing_id] += 1
        return "sent"

    world = await worlds(outside=outside)
    replica = world.replica()
    await replica.start()
    for of in THINGS:  # to both at once, as a broker may that is not sure
        await asyncio.gather(*(one.receive(thing(of)) for one in (world.consumer, replica)))
    for of in THINGS:
        await world.until_noted(of, [1])
    await replica.stop()
    assert done == Counter(THINGS)


async def test_dead_letters_are_listed_shown_and_redriven(worlds: Any) -> None:
    names = THINGS[:3]
    always = 1000  # a transaction that is run again fails again, and is one answer
    world = await worlds(failures={(name, 1): always for name in names})
    for name in names:
        for version in (1, 2):
            await world.consumer.receive(thing(name, version))

    async def all_dead() -> bool:
        return bool(await world.dead() == len(names))

    await until(all_dead)
    page = await world.ask("ListDeadLetters", pb.ListDeadLettersRequest(page_size=2))
    request = pb.ListDeadLettersRequest(page_size=2, page_token=page.next_page_token)
    letters = [*page.letters, *(await world.ask("ListDeadLetters", request)).letters]
    assert [(one.aggregate, one.version, one.attempts, one.waiting) for one in letters] == [
        (name, 1, ATTEMPTS_MAX, 1) for name in names
    ]
    of = {"topic": TOPIC, "aggregate": names[1]}
    shown = await world.ask("GetDeadLetter", pb.GetDeadLetterRequest(**of))
    assert [json.loads(event)["number"] for event in shown.events] == ["1", "2"]
    world.failures.clear()
    await world.ask("RedriveDeadLetter", pb.RedriveDeadLetterRequest(**of))
    await world.until_noted(names[1], [1, 2])
    assert await world.dead() == len(names) - 1
    with pytest.raises(NotFound):
        await world.ask("GetDeadLetter", pb.GetDeadLetterRequest(**of))


async def test_a_read_model_made_anew_takes_over_and_the_old_one_goes(database: Database) -> None:
    runtime = hasty()
    one = Reader(await database.open(reader.SCHEMA), runtime)
    await one.models.start()
    try:
        await send(one, [thing(version=version) for version in range(1, 6)])
        await until_seen(one, list(range(1, 6)))
        one.sign = -1
        assert await one.rebuild() == await one.rebuild() == "seen-2"
        await until_seen(one, list(range(-1, -6, -1)))

        async def old_is_gone() -> bool:
            return await one.all_models() == ["seen-2"]

        await until(old_is_gone)
        await send(one, [thing(version=6)])
        await until_seen(one, list(range(-1, -7, -1)))
        (model,) = await until(lambda: only_one(one))
        assert (model.name, model.state, model.aggregate_count) == ("seen-2", ReadModel.SERVING, 1)
    finally:
        await one.models.stop()
        await one.store.close()


async def send(one: Reader, events: list[Event]) -> None:
    for event in events:
        await one.bus.publish(event)


async def until_seen(one: Reader, numbers: list[int]) -> None:
    async def is_seen() -> bool:
        return await one.seen() == numbers

    await until(is_seen)


async def only_one(one: Reader) -> list[ReadModel]:
    found = await one.store.read(describe)
    return found if len(found) == 1 else []


async def test_a_gap_is_told_and_what_waits_behind_a_dead_event_is_none(worlds: Any) -> None:
    world = await worlds()
    inbox = world.consumer.inbox

    async def ages(tx: Tx, *, missing: float, dead: float) -> None:
        """An aggregate waits for its first event, another one for an operator."""
        for event in (thing("gap", 2), thing("dead", 1), thing("dead", 2)):
            await inbox.keep(tx, event)
        change = "UPDATE mesh_inbox SET next_at = $1, state = $2 WHERE aggregate = $3"
        await tx.execute(change, tx.now() - missing, State.EARLY, "gap")
        await tx.execute(f"{change} AND version = 2", tx.now() - dead, State.EARLY, "dead")
        await tx.execute(f"{change} AND version = 1", 0.0, State.DEAD, "dead")

    assert await world.store.read(inbox.gap_s) == 0
    await world.store.write(functools.partial(ages, missing=100.0, dead=1e6))
    assert 100 <= await world.store.read(inbox.gap_s) < 1e6
    await world.store.write(lambda tx: inbox.remove(tx, thing("gap", 2)))
    assert await world.store.read(inbox.gap_s) == 0
