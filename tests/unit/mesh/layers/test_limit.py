"""The limit of a server, as a state machine: what lets it grow, shrink and stand still."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.call import Criticality
from mesh.layers.limit import LimitConfig, Limiter
from tests.support.runtime import FakeClock

CONFIG = LimitConfig(initial=20, least=10, most=100, tolerance=2.0, queueing_s=0.1, window_s=1.0)
#: Half of the limit of 20 and more: it is in use.
BUSY, CALM = 15, 5


class Server:
    """Calls of one method come and go."""

    def __init__(self, config: LimitConfig = CONFIG) -> None:
        self.clock = FakeClock()
        self.limiter = Limiter(config, self.clock.monotonic)

    def window(self, took_s: float, at_once: int, *, counts: bool = True, m: str = "M") -> None:
        """Let *at_once* calls come and go, ten at least; the last of them closes the window."""

        taken = sum(self.limiter.take(Criticality.CRITICAL) for _ in range(at_once))
        self.clock.advance(took_s)
        for _ in range(10 - taken):
            self.limiter.give_back(m, took_s, counts=counts)
            assert self.limiter.take(Criticality.CRITICAL)
            self.clock.advance(took_s)
        for _ in range(taken - 1):
            self.limiter.give_back(m, took_s, counts=counts)
        self.clock.advance(max(0.0, self.limiter._ends - self.clock.monotonic()))
        self.limiter.give_back(m, took_s, counts=counts)


def test_it_grows_while_it_is_used_and_calls_are_as_fast_as_ever() -> None:
    server = Server()
    server.window(0.01, BUSY)
    assert server.limiter.limit == 30.0
    for _ in range(50):
        server.window(0.01, round(server.limiter.limit))
    assert server.limiter.limit == CONFIG.most


def test_it_grows_more_slowly_once_calls_wait() -> None:
    server = Server()
    server.window(0.01, CALM)
    server.window(0.08, BUSY)  # of the 0.12 s that they may take
    assert server.limiter.limit == pytest.approx(20.0 + 20.0**0.5)


def test_it_stands_still_while_it_is_not_used() -> None:
    server = Server()
    for took_s in (0.01, 5.0, 0.01):
        server.window(took_s, CALM)
    assert server.limiter.limit == 20.0


def test_it_shrinks_in_proportion_but_never_below_its_least() -> None:
    server = Server()
    server.window(0.01, CALM)
    server.window(0.15, BUSY)  # of 0.12 s
    assert server.limiter.limit == pytest.approx(20.0 * 0.12 / 0.15, rel=0.02)
    for _ in range(9):
        server.window(2.0, BUSY)
    assert server.limiter.limit == CONFIG.least


def test_an_hour_of_overload_is_not_taken_for_normal() -> None:
    server = Server()
    server.window(0.01, CALM)
    for window in range(3600):
        server.window(0.3 if window % 2 else 0.11, 40)
    server.window(0.3, BUSY)
    before = server.limiter.limit
    server.window(0.3, 40)
    assert server.limiter.limit <= before


def test_what_is_slower_for_good_is_accepted_within_two_minutes() -> None:
    server = Server()
    server.window(0.01, CALM)
    for _ in range(120):
        server.window(2.0, 40)
    assert server.limiter.limit > CONFIG.least


def test_calls_from_before_a_change_say_nothing_of_it() -> None:
    server = Server()
    server.window(0.01, CALM)
    for _ in range(20):
        server.limiter.take(Criticality.CRITICAL)
    server.window(0.15, BUSY)
    shrunk = server.limiter.limit
    for _ in range(20):
        server.clock.advance(0.1)
        server.limiter.give_back("M", 60.0, counts=True)
    assert server.limiter.limit == shrunk


def test_methods_are_compared_with_themselves_only() -> None:
    server = Server()
    for _ in range(20):
        server.window(0.001, CALM, m="Fast")
        server.window(3.0, CALM, m="Slow")
    for _ in range(20):
        server.window(3.0, BUSY, m="Slow")
        server.window(0.001, BUSY, m="Fast")
    assert server.limiter.limit > 20.0


def test_quick_failures_say_nothing_and_slow_ones_do() -> None:
    server = Server()
    server.window(0.05, CALM)
    server.window(0.001, BUSY, counts=False)
    assert server.limiter.limit == 20.0
    server.window(1.0, BUSY, counts=False)
    assert server.limiter.limit == 10.0


def test_a_loop_that_is_behind_shrinks_it_whatever_calls_take() -> None:
    server = Server()
    server.window(0.01, CALM)
    server.limiter.lagged(0.125)
    server.limiter.lagged(0.001)
    server.window(0.01, CALM)
    assert server.limiter.limit == pytest.approx(20.0 / 1.25)
    server.window(0.01, CALM)
    assert server.limiter.limit == pytest.approx(20.0 / 1.25)


def test_the_less_critical_the_sooner_refused() -> None:
    limiter = Server(LimitConfig(initial=10, least=10)).limiter
    taken = dict.fromkeys(Criticality, 0)
    for rank in (Criticality.SHEDDABLE, Criticality.DEFAULT, Criticality.CRITICAL):
        while limiter.take(rank):
            taken[rank] += 1
    assert list(taken.values()) == [11, 4, 5]  # critical, default, sheddable
    assert limiter.under_way == 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"least": 0},
        {"initial": 5, "least": 10},
        {"initial": 2000},
        {"streams_max": 0},
        {"sheddable_share": 0.95},
        {"critical_share": 0.5},
        {"tolerance": 0.9},
        {"lag_s": 0.0},
        {"window_s": -1.0},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"least|tolerance"):
        LimitConfig(**wrong)


_events = st.lists(
    st.tuples(
        st.sampled_from(["take", "back", "lag", "stream", "stream back"]),
        st.sampled_from(Criticality),
        st.floats(0.0, 30.0),
        st.booleans(),
    ),
    max_size=300,
)


@given(_events)
@settings(max_examples=100)
def test_its_bounds_hold_whatever_happens(
    events: list[tuple[str, Criticality, float, bool]],
) -> None:
    config = LimitConfig(initial=4, least=2, most=8, streams_max=3, window_s=0.5)
    clock = FakeClock()
    limiter = Limiter(config, clock.monotonic)
    under_way = streams = 0
    for what, rank, took_s, counts in events:
        clock.advance(took_s / 100.0)
        if what == "take":
            under_way += limiter.take(rank)
        elif what == "back" and under_way:
            limiter.give_back("M", took_s, counts=counts)
            under_way -= 1
        elif what == "lag":
            limiter.lagged(took_s)
        elif what == "stream":
            streams += limiter.take_stream()
        elif what == "stream back" and streams:
            limiter.give_back_stream()
            streams -= 1
        assert (limiter.under_way, limiter.streams) == (under_way, streams)
        assert config.least <= limiter.limit <= config.most
        assert under_way <= config.most * config.critical_share
        assert streams <= config.streams_max
