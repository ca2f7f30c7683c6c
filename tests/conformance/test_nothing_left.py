"""A thousand streams are cancelled, and nothing of them stays."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from grpc import StatusCode

from mesh.call import Method
from tests.conformance.conftest import World
from tests.conformance.servicers import End
from tests.support.echo import CHAT, POUR

STREAMS, AT_ONCE = 1000, 5
#: What the first call of a process opens, gRPC for itself, is not counted.
WARM = 20
FILES = Path("/proc/self/fd")


def open_files() -> int:
    return len([*FILES.iterdir()]) if FILES.exists() else 0


async def cancel_many(world: World, method: Method, count: int) -> None:
    script = world.script
    for _ in range(count // AT_ONCE):
        reached = len(script.metadata) + AT_ONCE
        script.ends += [End("wait")] * AT_ONCE
        sent = [world.begin(method) for _ in range(AT_ONCE)]
        await world.until(lambda: len(script.metadata) >= reached)  # noqa: B023
        for one in sent:
            one.cancel()
        for one in sent:
            assert (await one.outcome).status is StatusCode.CANCELLED


@pytest.mark.parametrize("method", [POUR, CHAT], ids=lambda m: m.kind.name)
async def test_a_thousand_cancelled_streams_leave_nothing_behind(
    world: World, method: Method
) -> None:
    await cancel_many(world, method, WARM)
    await world.until(lambda: len(world.server.spans) == WARM)
    tasks, threads, files = len(asyncio.all_tasks()), threading.active_count(), open_files()
    await cancel_many(world, method, STREAMS)
    total = WARM + STREAMS
    await world.until(lambda: len(world.server.spans) == len(world.client.spans) == total)
    await world.until(lambda: len(asyncio.all_tasks()) <= tasks)
    assert threading.active_count() <= threads + AT_ONCE  # of the pools, which fill by and by
    assert open_files() <= files + 1
    assert world.client.measured("client") == {"CANCELLED": total}
    await world.until(lambda: world.server.measured("server") == {"CANCELLED": total})
    assert (await world.send(method)).status is StatusCode.OK
