"""The breaker's state machine: every transition, and what such machines usually get wrong."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from mesh.layers.circuit import Circuit, CircuitConfig, Permit, Result, State
from tests.support.runtime import FakeClock

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
SUCCESS, FAILURE, NEUTRAL = Result.SUCCESS, Result.FAILURE, Result.NEUTRAL
CONFIG = CircuitConfig(failures=3, open_s=30.0, jitter=0.0, probes=2)


class Driven(Circuit):
    """A circuit with its clock at hand and its changes written down."""

    def __init__(self, config: CircuitConfig = CONFIG, seed: int = 1) -> None:
        self.clock = FakeClock()
        self.changes: list[tuple[State, State]] = []
        super().__init__(
            config,
            self.clock.monotonic,
            random.Random(seed),
            lambda change, by: self.changes.append((change.was, change.state)),
        )

    def take(self) -> Permit:
        permit = self.acquire()
        assert permit is not None, "refused"
        return permit

    def one(self, result: Result) -> None:
        self.release(self.take(), result)

    def trip(self) -> None:
        for _ in range(CONFIG.failures):
            self.one(FAILURE)

    def half_open(self) -> None:
        self.trip()
        self.clock.advance(CONFIG.open_s)


@pytest.fixture
def circuit() -> Driven:
    return Driven()


def test_it_begins_closed_and_lets_everything_through(circuit: Driven) -> None:
    for _ in range(100):
        circuit.take()
    assert circuit.state is CLOSED
    assert circuit.retry_after_s() == 0.0


def test_failures_in_a_row_open_it(circuit: Driven) -> None:
    circuit.one(FAILURE)
    circuit.one(FAILURE)
    assert circuit.state is CLOSED
    circuit.one(FAILURE)
    assert circuit.state is OPEN
    assert circuit.acquire() is None
    assert circuit.changes == [(CLOSED, OPEN)]


def test_a_success_between_failures_starts_the_count_anew(circuit: Driven) -> None:
    for result in (FAILURE, FAILURE, SUCCESS, FAILURE, FAILURE):
        circuit.one(result)
    assert circuit.state is CLOSED


def test_it_stays_open_for_its_time_and_says_for_how_long(circuit: Driven) -> None:
    circuit.trip()
    assert circuit.retry_after_s() == 30.0
    circuit.clock.advance(29.5)
    assert circuit.state is OPEN
    assert circuit.acquire() is None
    assert circuit.retry_after_s() == 0.5
    circuit.clock.advance(0.5)
    assert circuit.state is HALF_OPEN
    assert circuit.retry_after_s() == 0.0


def test_half_open_lets_only_its_probes_through(circuit: Driven) -> None:
    circuit.half_open()
    circuit.take()
    circuit.take()
    assert circuit.acquire() is None


def test_a_probe_that_never_ends_holds_its_place_only_as_long_as_it_was_open(
    circuit: Driven,
) -> None:
    circuit.half_open()
    forgotten = circuit.take()
    circuit.one(SUCCESS)
    circuit.clock.advance(CONFIG.open_s - 1.0)
    assert circuit.acquire() is None
    assert circuit.retry_after_s() == 0.0, "it may end at any time"
    circuit.clock.advance(1.0)
    assert circuit.admits
    in_its_place = circuit.take()
    assert circuit.acquire() is None, "a success counts on, one probe was missing"
    circuit.release(forgotten, NEUTRAL)
    assert circuit.state is HALF_OPEN
    circuit.release(in_its_place, SUCCESS)
    assert circuit.state is CLOSED


def test_a_probe_that_is_late_tells_what_it_knows(circuit: Driven) -> None:
    circuit.half_open()
    late, later = circuit.take(), circuit.take()
    circuit.clock.advance(CONFIG.open_s)
    circuit.take()
    circuit.release(late, SUCCESS)
    circuit.release(later, SUCCESS)
    assert circuit.state is CLOSED


def test_half_open_closes_when_all_probes_succeeded(circuit: Driven) -> None:
    circuit.half_open()
    circuit.one(SUCCESS)
    assert circuit.state is HALF_OPEN
    circuit.one(SUCCESS)
    assert circuit.state is CLOSED
    assert circuit.changes == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]


def test_a_failed_probe_opens_it_again_for_its_whole_time(circuit: Driven) -> None:
    circuit.half_open()
    circuit.one(FAILURE)
    assert circuit.state is OPEN
    assert circuit.retry_after_s() == 30.0
    assert circuit.changes[-1] == (HALF_OPEN, OPEN)


def test_once_closed_again_it_takes_as_many_failures_as_at_first(circuit: Driven) -> None:
    circuit.half_open()
    circuit.one(SUCCESS)
    circuit.one(SUCCESS)
    circuit.one(FAILURE)
    circuit.one(FAILURE)
    assert circuit.state is CLOSED
    circuit.one(FAILURE)
    assert circuit.state is OPEN


def test_a_finished_probe_makes_room_for_no_more_than_are_still_needed(circuit: Driven) -> None:
    circuit.half_open()
    circuit.one(SUCCESS)
    circuit.take()
    assert circuit.acquire() is None


class TestWhatTheTextbookBreakerGetsWrong:
    """Each of these fails on the implementation that tutorials print."""

    def test_half_open_successes_are_cleared_when_it_trips_again(self, circuit: Driven) -> None:
        circuit.half_open()
        circuit.one(SUCCESS)
        circuit.one(FAILURE)
        circuit.clock.advance(30.0)
        circuit.one(SUCCESS)
        assert circuit.state is HALF_OPEN, "one success now and one before the trip closed it"

    def test_late_failures_do_not_extend_the_open_period(self, circuit: Driven) -> None:
        late = circuit.take()
        circuit.trip()
        circuit.clock.advance(20.0)
        circuit.release(late, FAILURE)
        assert circuit.retry_after_s() == 10.0

    def test_client_faults_are_not_failures(self, circuit: Driven) -> None:
        for _ in range(100):
            circuit.one(NEUTRAL)
        assert circuit.state is CLOSED

    def test_client_faults_do_not_hide_failures(self, circuit: Driven) -> None:
        for result in (FAILURE, NEUTRAL, FAILURE, NEUTRAL, FAILURE):
            circuit.one(result)
        assert circuit.state is OPEN

    def test_a_neutral_probe_is_given_back(self, circuit: Driven) -> None:
        circuit.half_open()
        for _ in range(10):
            circuit.one(NEUTRAL)
        assert circuit.state is HALF_OPEN
        circuit.one(SUCCESS)
        circuit.one(SUCCESS)
        assert circuit.state is CLOSED

    def test_results_of_an_earlier_period_change_nothing(self, circuit: Driven) -> None:
        from_closed = [circuit.take() for _ in range(3)]
        circuit.half_open()
        from_first_probes = circuit.take()
        circuit.release(from_closed[0], SUCCESS)
        circuit.release(from_closed[1], SUCCESS)
        assert circuit.state is HALF_OPEN, "calls from before it opened are no probes"
        circuit.release(from_closed[2], FAILURE)
        assert circuit.state is HALF_OPEN
        circuit.one(FAILURE)
        circuit.clock.advance(30.0)
        circuit.take()
        circuit.release(from_first_probes, SUCCESS)
        circuit.take()
        assert circuit.acquire() is None, "the old probe gave back a place that was not its own"

    def test_every_breaker_opens_for_a_time_of_its_own(self) -> None:
        config = CircuitConfig(failures=1, open_s=30.0, jitter=0.1)
        times = []
        for seed in range(200):
            circuit = Driven(config, seed)
            circuit.one(FAILURE)
            times.append(circuit.retry_after_s())
        assert all(27.0 <= time_s <= 33.0 for time_s in times)
        assert min(times) < 28.0
        assert max(times) > 32.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"failures": 0},
        {"probes": 0},
        {"open_s": -1.0},
        {"jitter": 1.5},
        {"failure_share": 0.0},
        {"slow_share": 1.1},
        {"slow_s": 0.0},
        {"window_s": 0.0},
        {"calls_min": 101},
        {"window_calls": 10_001},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_breaker_that_could_never_open_or_close_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CircuitConfig(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switching")
def test_threads_never_have_more_than_the_probes_in_flight() -> None:
    config = CircuitConfig(failures=1, open_s=1.0, jitter=0.0, probes=3)
    threads, rounds = 8, 200
    circuit = Driven(config)
    circuit.one(FAILURE)
    start = Barrier(threads)

    def hammer() -> list[int]:
        """Take whatever is given; say how much that was, in each round."""
        taken = []
        for _ in range(rounds):
            if start.wait() == 0:  # one of them prepares the next half-open period
                circuit.clock.advance(1.0)
            start.wait()
            permits = [permit for _ in range(4) if (permit := circuit.acquire())]
            taken.append(len(permits))
            start.wait()
            for permit in permits:
                circuit.release(permit, FAILURE)
        return taken

    with ThreadPoolExecutor(threads) as pool:
        counts = [pool.submit(hammer) for _ in range(threads)]
        per_round = [sum(taken) for taken in zip(*(c.result() for c in counts), strict=True)]
    assert per_round == [config.probes] * rounds


@pytest.mark.usefixtures("switching")
def test_threads_give_back_exactly_what_they_took() -> None:
    circuit = Driven()
    circuit.half_open()

    def hammer() -> None:
        for _ in range(2_000):
            if permit := circuit.acquire():
                circuit.release(permit, NEUTRAL)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(hammer) for _ in range(8)]:
            done.result()
    assert [circuit.acquire() is not None for _ in range(3)] == [True, True, False]
