"""MESH_BUS_URL says which broker."""

from __future__ import annotations

import pytest

from mesh.events.nats import NatsBus
from mesh.events.redis import RedisBus
from mesh.runtime.clock import Runtime
from mesh.runtime.config import ConfigError
from mesh.runtime.lifecycle import open_bus


@pytest.mark.parametrize(
    ("url", "bus"),
    [
        ("nats://broker:4222", NatsBus),
        ("redis://broker:6379", RedisBus),
        ("rediss://:secret@broker:6379/1", RedisBus),
    ],
)
async def test_the_scheme_chooses_the_broker(url: str, bus: type) -> None:
    opened = open_bus(url, Runtime(), "", "order")
    assert type(opened) is bus
    await opened.close()


def test_an_unknown_scheme_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="kafka://: nats://, redis:// and rediss:// are known"):
        open_bus("kafka://broker", Runtime(), "", "order")
