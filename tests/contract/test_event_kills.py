"""From outbox to inbox while the broker is killed: what `make bench-events` does, in small."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from benchmarks.events.flow import APPLIED, Flow, count
from tests.support.brokers import BROKERS, REAL

EVENTS, COUNTERS, KILLS = 3_000, 100, 3


@pytest.mark.parametrize("bus", REAL)
async def test_no_event_is_lost_or_applied_twice_whenever_the_broker_dies(
    bus: str, tmp_path: Path
) -> None:
    broker = BROKERS[bus](tmp_path)
    await broker.start()
    try:
        flow = Flow(tmp_path, broker, COUNTERS, seed=1)
        outcome = await flow.run(EVENTS, KILLS, lambda: None)
    finally:
        await broker.stop()
    assert outcome.whole, outcome
    assert len(outcome.resumed_s) == KILLS


def test_what_is_missing_repeated_or_late_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "listener.db"
    with sqlite3.connect(file) as database:
        database.execute(APPLIED.sql)
        for name, number in [("0", 1), ("0", 2), ("1", 2), ("1", 1), ("2", 1), ("2", 1)]:
            database.execute("INSERT INTO applied (name, number) VALUES (?, ?)", (name, number))
    assert count(file, events=6, counters=3) == (1, 1, 1)
