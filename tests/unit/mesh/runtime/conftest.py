"""What the tests of backups and of restores share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.things import ThingEvent

from .counts import NAMES, count, open_store


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three databases, each of which has counted to 1 and published an event."""
    data = tmp_path / "data"

    async def fill() -> None:
        for name in NAMES:
            store = open_store(data, name)
            await store.write(count(1))
            await store.write(lambda tx: tx.publish(ThingEvent(thing_id="a")))
            await store.write(lambda tx: tx.execute("UPDATE mesh_outbox SET published_at = 1"))
            await store.close()

    asyncio.run(fill())
    return data
