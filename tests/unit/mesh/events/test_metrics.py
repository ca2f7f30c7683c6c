"""What a process tells of its events."""

from __future__ import annotations

from pathlib import Path

from mesh.events.consumer import OBSERVE_S
from mesh.testing.loop import run_virtual
from tests.support.things import thing

from .world import World


def test_each_subscription_of_a_process_has_its_own_until_it_ends(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path)
        await world.consumer.start()
        await world.consumer.receive(thing(version=2))  # its turn comes after version 1
        world.node.metrics.inbox.labels("notes-2", "early").set(7)
        await world.runtime.clock.sleep(2 * OBSERVE_S)
        told = world.node.metrics.registry.get_sample_value
        early = {"state": "early"}
        assert told("mesh_inbox_events", {"subscription": "notes", **early}) == 1
        assert (told("mesh_inbox_gap_seconds", {"subscription": "notes"}) or 0) >= OBSERVE_S
        assert told("mesh_bus_lag_events", {"subscription": "notes"}) == 0
        await world.stop()
        assert told("mesh_inbox_events", {"subscription": "notes", **early}) is None
        assert told("mesh_inbox_gap_seconds", {"subscription": "notes"}) is None
        assert told("mesh_bus_lag_events", {"subscription": "notes"}) is None
        assert told("mesh_inbox_events", {"subscription": "notes-2", **early}) == 7

    run_virtual(story())
