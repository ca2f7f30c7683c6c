"""Loops beside the calls end when they are stopped, and by nothing that they meet."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from mesh.runtime import beside
from mesh.testing.loop import VirtualClock, run_virtual

PAUSE_S = 5.0


@pytest.mark.parametrize(
    "met",
    [OSError(), ValueError("a bug"), AssertionError(), TimeoutError(), asyncio.CancelledError()],
)
def test_whatever_a_step_raises_the_next_one_comes_after_a_pause(met: BaseException) -> None:
    steps: list[float] = []

    async def step() -> None:
        steps.append(asyncio.get_running_loop().time())
        await asyncio.sleep(1.0)
        if len(steps) < 3:
            raise met

    async def main() -> None:
        loop = beside.begin(beside.keep_on("a loop", step, VirtualClock(), PAUSE_S))
        await asyncio.sleep(13.5)
        await beside.end(loop)
        assert loop.cancelled()
        await asyncio.sleep(60.0)

    run_virtual(main())
    assert [round(at - steps[0], 3) for at in steps] == [0.0, 6.0, 12.0, 13.0]


def test_it_can_be_stopped_while_it_pauses_too() -> None:
    async def step() -> None:
        raise ValueError

    async def main() -> None:
        loop = beside.begin(beside.keep_on("a loop", step, VirtualClock(), PAUSE_S))
        await asyncio.sleep(1.0)
        await beside.end(loop)
        assert loop.cancelled()

    run_virtual(main())


def test_that_it_fails_is_said_once_for_each_kind_and_that_it_works_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "mesh")
    meets: list[Exception | None] = [OSError(), OSError(), ValueError(), None, None, OSError()]

    async def step() -> None:
        await asyncio.sleep(1.0)
        met = meets.pop(0) if meets else None
        if met:
            raise met

    async def main() -> None:
        loop = beside.begin(beside.keep_on("a loop", step, VirtualClock(), PAUSE_S))
        await asyncio.sleep(60.0)
        await beside.end(loop)

    run_virtual(main())
    fails, works = "a loop failed, and goes on", "a loop works again"
    said = [json.loads(record.message)["event"] for record in caplog.records]
    assert said == [fails, fails, works, fails, works]
