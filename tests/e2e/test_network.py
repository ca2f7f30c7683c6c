"""A network that loses, cuts, delays and forgets, between real processes under real orders."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from replay.progress import Progress
from tests.e2e.system import PROVIDER, running_over
from tests.soak.hurter import HURTS, Hurter
from tests.soak.network import BUS, Network
from tests.soak.run import Load, orders_under
from tests.support.brokers import NatsBroker

SEED = 3  # the bus, payment and user freeze
#: Who is connected to all the time, in the order in which an order comes to them.
TARGETS = ("orchestrator", "user", "order", "inventory", "payment", PROVIDER, "shipping", BUS)


@contextmanager
def bus(folder: Path) -> Iterator[int]:
    """A NATS server; its port."""
    broker = NatsBroker(folder)
    asyncio.run(broker.start())
    try:
        yield broker.port
    finally:
        asyncio.run(broker.stop())


def test_whatever_is_done_to_connections_nothing_is_lost_and_nothing_waits_for_ever(
    tmp_path: Path, turn: int, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = SEED + turn
    with (
        bus(tmp_path) as bus_port,
        Network(bus_port) as network,
        running_over(network, tmp_path) as system,
    ):
        hurter = Hurter(network, random.Random(seed), TARGETS, gap_s=0.15, each=2)
        load = Load(seed, first_day=True)
        with capsys.disabled():
            outcome = asyncio.run(orders_under(system, load, hurter.run, Progress()))
            hurts = Counter(what for _, what in hurter.done.elements())
            placed = len(outcome.driver.acknowledged)
            print(f"\n{placed} orders; {dict(hurts)}; settled after {outcome.settled_s:.1f} s")
    assert list(outcome.faults()) == []
    assert hurts.keys() == HURTS.keys()
    assert {target for target, _ in hurter.done} == set(TARGETS)
    assert outcome.restarts == 0  # nobody died of it
