"""Whose turn it is on an event loop that handlers hold, with a clock that they move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

from mesh.call import Criticality
from mesh.layers.turns import HELD_S, LOOK_S, QUIET_S, SHARE_S, Turns
from mesh.testing.loop import run_virtual

CRITICAL, DEFAULT, SHEDDABLE = Criticality.CRITICAL, Criticality.DEFAULT, Criticality.SHEDDABLE


class Server:
    """Handlers with turns; `behind` is what they said of the loop."""

    def __init__(self) -> None:
        self.held_s = 0.0
        self.behind: list[float] = []
        self.turns = Turns(self.now, self.behind.append)
        self.began: list[tuple[str, float]] = []

    def now(self) -> float:
        """What its clock says, in seconds: the loop's time, and for how long it was held."""
        return asyncio.get_running_loop().time() + self.held_s

    async def handle(self, name: str, holds_s: float, rank: Criticality = DEFAULT) -> None:
        """Serve one call, whose handler holds the loop so long."""
        self.turns.came(self.now())
        self.turns.look(self.now())
        if self.turns.must_wait:
            await self.turns.wait(rank)
        self.began.append((name, self.now()))
        self.held_s += holds_s

    @property
    def order(self) -> str:
        """The names, as they had their turns."""
        return "".join(name for name, _ in self.began)


def run(scenario: Callable[[Server], Coroutine[Any, Any, None]]) -> Server:
    server = Server()
    run_virtual(scenario(server))
    return server


async def hold(server: Server) -> None:
    """Let a handler have all that handlers may have."""
    await server.handle("-", SHARE_S)
    await asyncio.sleep(0)  # the loop is looked at
    assert server.turns.must_wait


def test_nobody_waits_while_the_loop_is_not_held() -> None:
    async def scenario(server: Server) -> None:
        for _ in range(2 * round(SHARE_S / HELD_S)):
            await server.handle("a", 0.9 * HELD_S)
            assert not server.turns.must_wait
            await asyncio.sleep(LOOK_S)

    run(scenario)


def test_after_the_loop_was_held_the_door_comes_first() -> None:
    async def scenario(server: Server) -> None:
        await hold(server)
        waiting = asyncio.ensure_future(server.handle("a", 0.0))
        for _ in range(3):
            await asyncio.sleep(0.9 * QUIET_S)
            server.turns.came(server.now())
            assert server.order == "-", "somebody comes all the time"
        came_at = server.now()
        await waiting
        assert server.began[-1][1] >= came_at + QUIET_S
        await asyncio.sleep(0)
        assert not server.turns.must_wait, "it is as before"

    run(scenario)


def test_the_door_has_the_loop_no_longer_than_handlers_have() -> None:
    async def scenario(server: Server) -> None:
        await hold(server)
        began = server.now()
        waiting = asyncio.ensure_future(server.handle("a", 0.0))
        while not waiting.done():
            server.turns.came(server.now())
            await asyncio.sleep(QUIET_S / 2)
        assert SHARE_S <= server.began[-1][1] - began < SHARE_S + 2 * QUIET_S

    run(scenario)


def test_the_most_critical_go_first_and_then_who_came_first() -> None:
    async def scenario(server: Server) -> None:
        await hold(server)
        ranks = {"s": SHEDDABLE, "d": DEFAULT, "e": DEFAULT, "c": CRITICAL}
        await asyncio.gather(*(server.handle(name, 0.0, rank) for name, rank in ranks.items()))

    assert run(scenario).order == "-cdes"


def test_the_door_has_its_turn_again_when_handlers_have_had_theirs() -> None:
    async def scenario(server: Server) -> None:
        await hold(server)
        await asyncio.gather(*(server.handle(name, SHARE_S / 2) for name in "abcd"))

    began = [at for _, at in run(scenario).began[1:]]
    waited = [later - earlier - SHARE_S / 2 for earlier, later in pairwise(began)]
    assert [at > QUIET_S / 2 for at in waited] == [False, True, False]


def test_who_has_given_up_takes_no_turn_and_holds_up_nobody() -> None:
    async def scenario(server: Server) -> None:
        await hold(server)
        calls = [asyncio.ensure_future(server.handle(name, 0.0)) for name in "ab"]
        await asyncio.sleep(0)
        calls[0].cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    assert run(scenario).order == "-b"


def test_how_long_one_stood_in_the_line_says_how_far_behind_the_loop_is() -> None:
    async def scenario(server: Server) -> None:
        await hold(server)
        await asyncio.gather(*(server.handle(name, 0.5) for name in "abc"))

    assert max(run(scenario).behind) >= 1.0


def test_on_a_thread_without_a_loop_nobody_waits() -> None:
    async def scenario(server: Server) -> None:
        await hold(server)
        alone = server.turns.wait(DEFAULT)
        told: list[str] = []

        def step() -> None:
            try:
                alone.send(None)
            except StopIteration:
                told.append("returned")

        await asyncio.to_thread(step)
        assert told == ["returned"]

    asyncio.run(scenario(Server()))
