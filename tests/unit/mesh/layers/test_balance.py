"""Which address an attempt goes to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.call import NEVER, Call
from mesh.discovery import Listed, Reach
from mesh.errors import EXHAUSTED_S, MeshError, Overloaded, Unavailable
from mesh.layers.balance import REFUSED_MAX_S, REFUSED_S, Balance, Endpoints
from mesh.layers.bulkhead import BulkheadFull
from mesh.layers.throttle import Throttled
from tests.support.echo import ADD, COUNT, EchoReply, EchoRequest
from tests.support.runtime import FakeClock

CALL = Call(ADD, EchoRequest(), 1e9)


class Changing(Listed):
    """Addresses that a test changes."""

    async def addresses(self, deadline: float = NEVER) -> Sequence[str]:
        return self.all


class Site:
    """Endpoints of which a test says how they are."""

    def __init__(self, *addresses: str) -> None:
        self.reach = dict.fromkeys(addresses, Reach.READY)
        self.tripped: set[str] = set()
        self.forgotten: list[str] = []
        self.directory = Changing(addresses)
        self.clock = FakeClock()
        self.endpoints = Endpoints(
            self.directory, self.reach.__getitem__, self.forgotten.append, self.clock.monotonic
        )

    def admits(self, call: Call) -> bool:
        return call.address not in self.tripped

    async def pick(self) -> Call:
        return await self.endpoints.pick(CALL, self.admits)

    async def used(self, calls: int) -> Counter[str]:
        """Return where *calls* went that were over at once."""
        where: Counter[str] = Counter()
        for _ in range(calls):
            picked = await self.pick()
            self.endpoints.ended(picked)
            where[picked.address] += 1
        return where


async def test_equally_busy_addresses_take_turns() -> None:
    site = Site("a", "b", "c")
    assert [(await site.pick()).address for _ in range(6)] == ["a", "b", "c"] * 2


async def test_the_least_busy_address_is_picked() -> None:
    site = Site("a", "b")
    slow = [await site.pick() for _ in range(2)]
    site.endpoints.ended(slow[1])
    assert (await site.pick()).address == slow[1].address


async def test_who_answers_quickly_gets_more_of_the_calls() -> None:
    site = Site("slow", "quick")
    held = 0
    where: Counter[str] = Counter()
    for _ in range(20):
        picked = await site.pick()
        where[picked.address] += 1
        if picked.address == "slow" and held < 3:
            held += 1  # never over
        else:
            site.endpoints.ended(picked)
    assert where["slow"] == 1
    assert where["quick"] == 19


async def test_an_address_that_fails_is_not_used_while_another_is_ready() -> None:
    site = Site("a", "b", "c")
    site.reach["b"] = Reach.FAILING
    assert (await site.used(8)).keys() == {"a", "c"}


async def test_one_that_was_never_tried_is_second_choice() -> None:
    site = Site("a", "b", "c")
    site.reach |= {"a": Reach.FAILING, "b": Reach.UNTRIED}
    assert (await site.used(4)).keys() == {"c"}
    site.reach["c"] = Reach.FAILING
    assert (await site.used(4)).keys() == {"b"}


async def test_when_all_fail_they_are_tried_in_turn() -> None:
    site = Site("a", "b")
    site.reach = dict.fromkeys("ab", Reach.FAILING)
    assert await site.used(4) == {"a": 2, "b": 2}


async def test_one_whose_circuit_is_open_is_passed_over_even_if_it_is_the_only_one_ready() -> None:
    site = Site("a", "b")
    site.tripped.add("a")
    site.reach["b"] = Reach.UNTRIED
    assert (await site.used(4)).keys() == {"b"}


async def test_what_one_method_keeps_busy_is_busy_for_all() -> None:
    site = Site("a", "b")
    busy = await site.pick()
    seen: list[str] = []

    async def see(call: Call) -> None:
        seen.append(call.address)

    for _ in range(3):
        await Balance(site.endpoints, site.admits)(see)(CALL)
    assert busy.address not in seen


async def test_a_cancelled_call_is_over() -> None:
    site = Site("a", "b")

    async def hang(_: Call) -> None:
        await asyncio.Event().wait()

    handler = Balance(site.endpoints, site.admits)(hang)
    calls = [asyncio.ensure_future(handler(CALL)) for _ in range(3)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert not site.endpoints._under_way


async def test_a_stream_that_is_left_is_over() -> None:
    site = Site("a", "b")

    async def replies(call: Call, _: AsyncIterator[Any]) -> AsyncIterator[Any]:
        while True:
            yield EchoReply()

    async def none() -> AsyncIterator[Any]:
        return
        yield

    stream = Balance(site.endpoints, site.admits).stream(replies)
    async with aclosing(stream(CALL._replace(method=COUNT), none())) as given_:  # type: ignore[type-var]
        await anext(given_)
        assert site.endpoints._under_way.total() == 1
    assert not site.endpoints._under_way


@given(st.lists(st.sampled_from(["begin", "end"]), max_size=60), st.integers(2, 5))
def test_no_address_is_ever_two_calls_busier_than_another(moves: list[str], count: int) -> None:
    """As long as calls end in the order in which they began."""

    async def story() -> None:
        site = Site(*"abcde"[:count])
        under_way: list[Call] = []
        for move in moves:
            if move == "begin":
                picked = await site.pick()
                busy = Counter(dict.fromkeys(site.reach, 0)) + Counter(c.address for c in under_way)
                least = min(busy[address] for address in site.reach)
                assert busy[picked.address] == least
                under_way.append(picked)
            elif under_way:
                site.endpoints.ended(under_way.pop(0))

    asyncio.run(story())


async def test_where_there_is_one_address_nothing_is_asked() -> None:
    def never(_: str) -> Any:
        raise AssertionError

    endpoints = Endpoints(Listed(["only"]), never, never, FakeClock().monotonic)

    async def where(call: Call) -> str:
        return call.address

    assert await Balance(endpoints, lambda _: False)(where)(CALL) == "only"


async def test_an_address_that_is_gone_is_forgotten_once_no_call_is_under_way() -> None:
    site = Site("a", "b", "c")
    busy = await site.pick()
    site.directory.all = ("c",)
    await site.pick()
    assert busy.address == "a"
    assert site.forgotten == ["b"]
    site.endpoints.ended(busy)
    assert site.forgotten == ["b", "a"]


async def test_the_addresses_are_waited_for_no_longer_than_the_call_may_take() -> None:
    asked: list[float] = []

    class Asked(Listed):
        async def addresses(self, deadline: float = NEVER) -> Sequence[str]:
            asked.append(deadline)
            return self.all

    site = Site("a", "b")
    site.endpoints._directory = Asked(["a", "b"])
    await site.pick()
    assert asked == [CALL.deadline]


async def test_one_that_a_call_went_to_already_is_second_choice_however_idle() -> None:
    site = Site("a", "b")

    async def pick(*tried: str) -> Call:
        return await site.endpoints.pick(CALL.replace(tried=[*tried]), site.admits)

    for _ in range(5):
        assert (await pick("a")).address == "b"
    assert (await pick()).tried == ["a"]
    assert (await pick("b")).address == "a"
    site.reach["b"] = Reach.FAILING
    assert (await pick("a")).address == "a"


async def test_one_that_refused_comes_after_the_others_for_as_long_as_it_said() -> None:
    site = Site("a", "b")
    refused = await site.pick()
    site.endpoints.failed(refused, Overloaded(retry_after_s=2.0))
    site.endpoints.ended(refused)
    assert (await site.used(4)).keys() == {"b"}
    site.clock.advance(2.0)
    assert await site.used(4) == {"a": 2, "b": 2}


async def test_where_all_refuse_they_are_asked_in_turn() -> None:
    site = Site("a", "b")
    for _ in "ab":
        picked = await site.pick()
        site.endpoints.failed(picked, Overloaded(retry_after_s=2.0))
        site.endpoints.ended(picked)
    assert await site.used(4) == {"a": 2, "b": 2}


@pytest.mark.parametrize(
    ("asked_s", "wait_s"), [(None, REFUSED_S), (EXHAUSTED_S, REFUSED_S), (3600.0, REFUSED_MAX_S)]
)
async def test_it_comes_back_within_bounds_whatever_it_said(
    asked_s: float | None, wait_s: float
) -> None:
    site = Site("a", "b")
    refused = await site.pick()
    site.endpoints.failed(refused, Overloaded(retry_after_s=asked_s))
    site.endpoints.ended(refused)
    site.clock.advance(wait_s - 0.1)
    assert (await site.used(2)).keys() == {"b"}
    site.clock.advance(0.1)
    assert (await site.used(2)).keys() == {"a", "b"}


@pytest.mark.parametrize("error", [BulkheadFull(), Throttled(), Unavailable(retry_after_s=1.0)])
async def test_what_is_no_refusal_of_the_server_changes_nothing(error: MeshError) -> None:
    site = Site("a", "b")
    picked = await site.pick()
    site.endpoints.failed(picked, error)
    site.endpoints.ended(picked)
    assert await site.used(4) == {"a": 2, "b": 2}
    assert not site.endpoints._refusing_until


async def test_of_an_address_that_is_gone_it_is_not_remembered_that_it_refused() -> None:
    site = Site("a", "b", "c")
    first, second = await site.pick(), await site.pick()
    site.endpoints.failed(first, Overloaded())
    site.directory.all = ("c",)
    await site.pick()
    site.endpoints.failed(second, Overloaded())
    assert not site.endpoints._refusing_until


async def test_further_attempts_go_round_all_that_can_be_reached() -> None:
    site = Site("a", "b", "c")
    call = CALL.replace(tried=[])
    where = []
    for _ in range(6):
        picked = await site.endpoints.pick(call, site.admits)
        site.endpoints.ended(picked)
        where.append(picked.address)
    assert where == ["a", "b", "c"] * 2
