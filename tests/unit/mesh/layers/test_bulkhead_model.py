"""Whatever is called, cancelled and given up in any order: no place is lost, none is made up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mesh.layers.bulkhead import BulkheadConfig, Slots
from mesh.testing.loop import SimulatedLoop

#: Times are whole, so that ends, cancellations and limits often fall into one moment.
_moments = st.integers(0, 12)


@dataclass(frozen=True)
class Caller:
    """When it comes, how long it waits and works, and when somebody cancels it.

    `turns` of the loop later, so that what happens in that moment is under way already.
    """

    comes: int
    waits: int
    works: int
    cancelled: int
    turns: int


_callers = st.lists(
    st.builds(Caller, _moments, st.integers(0, 6), st.integers(0, 5), _moments, st.integers(0, 3)),
    max_size=14,
)


class World:
    """Callers of one bulkhead. `in_turn`: who is woken first runs first, which shows the order."""

    def __init__(self, config: BulkheadConfig, *, in_turn: bool) -> None:
        self.config = config
        self.in_turn = in_turn
        self.slots = Slots(config)
        self.under_way = 0
        self.queued: list[int] = []

    async def call(self, number: int, caller: Caller) -> None:
        await asyncio.sleep(caller.comes)
        if not self.slots.take():
            room = self.slots.waiting < self.config.queue_max and caller.waits > 0
            self.queued += [number] * room
            if not await self.wait(number, caller):
                assert self.slots.taken == self.config.concurrent_max or room
                return
        self.under_way += 1
        assert self.under_way <= self.config.concurrent_max
        assert self.slots.waiting <= self.config.queue_max
        try:
            await asyncio.sleep(caller.works)
        finally:
            self.under_way -= 1
            self.slots.give_back()

    async def wait(self, number: int, caller: Caller) -> bool:
        try:
            granted = await self.slots.wait(caller.waits)
        except asyncio.CancelledError:
            self.queued.remove(number)
            raise
        if granted and self.in_turn:
            assert self.queued[0] == number, "first come, first served"
        if number in self.queued:
            self.queued.remove(number)
        return granted


def _cancel(task: asyncio.Task[None], turns: int) -> None:
    if turns:
        asyncio.get_running_loop().call_soon(_cancel, task, turns - 1)
    else:
        task.cancel()


@given(st.integers(1, 3), st.integers(0, 3), _callers, st.one_of(st.none(), st.integers(0, 99)))
@settings(max_examples=300, phases=(Phase.reuse, Phase.generate))
def test_no_place_is_lost_or_made_up(
    concurrent: int, queue: int, callers: list[Caller], seed: int | None
) -> None:
    world = World(BulkheadConfig(concurrent, queue), in_turn=seed is None)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        tasks = []
        for number, caller in enumerate(callers):
            tasks.append(loop.create_task(world.call(number, caller)))
            loop.call_later(caller.cancelled, _cancel, tasks[-1], caller.turns)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [e for e in ended if isinstance(e, AssertionError)], ended
        assert (world.slots.taken, world.slots.waiting, world.under_way) == (0, 0, 0)
        assert all(world.slots.take() for _ in range(concurrent)), "every place is free again"
        assert not world.slots.take()

    SimulatedLoop(None if seed is None else Random(seed)).run(scenario())
