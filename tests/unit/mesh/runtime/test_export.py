"""What is sent beside the path of calls: in batches, bounded, and every loss is counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from mesh.runtime.export import Batches, BatchLimits

#: Long enough to never be what a passing test waits for.
WAIT_S = 20.0
LATER_S = 1000.0


class Collector:
    """Takes batches when it is let; answers what it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.let = threading.Event()
        self.let.set()
        self.arrived = threading.Semaphore(0)
        self.answer: Callable[[], bool] = lambda: True
        self.lost: Counter[str] = Counter()

    def take(self, batch: list[bytes]) -> bool:
        self.arrived.release()
        assert self.let.wait(WAIT_S)
        self.batches.append(batch)
        return self.answer()

    def drop(self, count: int, why: str) -> None:
        self.lost[why] += count


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.let.set()


def batches(collector: Collector, limits: BatchLimits) -> Batches:
    return Batches(collector.take, limits, collector.drop)


def test_a_full_batch_is_sent_at_once_and_the_rest_at_the_end(collector: Collector) -> None:
    sent = batches(collector, BatchLimits(queue=10, batch=2, delay_s=LATER_S))
    for item in (b"a", b"b", b"c"):
        sent.add(item)
    assert collector.arrived.acquire(timeout=WAIT_S)
    sent.close(WAIT_S)
    assert [item for batch in collector.batches for item in batch] == [b"a", b"b", b"c"]
    assert all(len(batch) <= 2 for batch in collector.batches)
    assert not collector.lost


def test_what_does_not_fill_a_batch_is_sent_after_the_delay(collector: Collector) -> None:
    sent = batches(collector, BatchLimits(queue=10, batch=5, delay_s=0.001))
    sent.add(b"a")
    assert collector.arrived.acquire(timeout=WAIT_S)
    sent.close(WAIT_S)
    assert collector.batches == [[b"a"]]


def test_a_full_queue_drops_and_counts_and_nobody_waits(collector: Collector) -> None:
    collector.let.clear()
    sent = batches(collector, BatchLimits(queue=3, batch=1, delay_s=LATER_S))
    sent.add(b"on its way")
    assert collector.arrived.acquire(timeout=WAIT_S)
    for item in (b"1", b"2", b"3", b"4", b"5"):
        sent.add(item)
    assert collector.lost == {"queue_full": 2}
    collector.let.set()
    sent.close(WAIT_S)
    assert collector.batches == [[b"on its way"], [b"1"], [b"2"], [b"3"]]


def test_what_does_not_arrive_is_counted_and_the_next_is_sent(collector: Collector) -> None:
    def broken() -> bool:
        raise OSError("no route")

    answers: Iterator[Callable[[], bool]] = iter([lambda: False, broken, lambda: True])
    collector.answer = lambda: next(answers)()  # noqa: PLW0108  # another each time
    sent = batches(collector, BatchLimits(queue=10, batch=1, delay_s=LATER_S))
    for item in (b"1", b"2", b"3"):
        sent.add(item)
    sent.close(WAIT_S)
    assert collector.batches == [[b"1"], [b"2"], [b"3"]]
    assert collector.lost == {"not_sent": 2}


def test_what_comes_after_the_end_is_counted(collector: Collector) -> None:
    sent = batches(collector, BatchLimits())
    sent.close(WAIT_S)
    sent.add(b"late")
    assert collector.lost == {"closed": 1}
    assert not collector.batches


def test_the_standard_variables_set_the_sizes() -> None:
    assert BatchLimits.of({}) == BatchLimits(queue=2048, batch=512, delay_s=5.0)
    assert BatchLimits.of(
        {
            "OTEL_BSP_MAX_QUEUE_SIZE": "100",
            "OTEL_BSP_SCHEDULE_DELAY": "250",
        }
    ) == BatchLimits(queue=100, batch=100, delay_s=0.25)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "many"}, "OTEL_BSP_MAX_QUEUE_SIZE=many: a whole number"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "a batch is from 1 to the queue's size"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "0"}, "a delay above 0"),
        ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4096"}, "a batch is from 1 to the queue's size"),
    ],
)
def test_sizes_that_make_no_sense_are_an_error(variables: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        BatchLimits.of(variables)
