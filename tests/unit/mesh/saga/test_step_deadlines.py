"""How long the calls of a saga's steps may take: until the saga is out of time, or for ever."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.call import NEVER
from mesh.errors import Unavailable
from mesh.saga.steps import DEADLINE_S, saga
from mesh.saga.v1.saga_pb2 import Saga
from mesh.scope import scope
from mesh.testing.loop import run_virtual
from tests.unit.mesh.saga.world import FakeRemote, World, buy, no


def watch(world: World, *names: str) -> dict[str, float]:
    """Return what becomes the deadline under which each of the remotes is called."""
    seen: dict[str, float] = {}

    def answer(name: str, remote: FakeRemote) -> Callable[[], Awaitable[Any]]:
        async def look() -> Any:
            seen[name] = scope.get().deadline
            return remote.method.reply_type()

        return look

    for name in names:
        remote = getattr(world.to, name)
        remote.answers.append(answer(name, remote))
    return seen


def test_a_step_ends_with_its_saga_until_the_pivot_and_then_takes_as_long_as_it_takes(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    seen = watch(world, "reserve", "charge", "confirm", "commit")
    assert run_virtual(world.run()).state == Saga.COMPLETED
    # Virtual time begins at 0.
    assert seen["reserve"] == seen["charge"] == pytest.approx(DEADLINE_S, abs=1.0)
    assert seen["confirm"] == seen["commit"] == NEVER


def test_a_saga_says_itself_how_long_it_has(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path, [saga(name=buy.name, deadline_s=30.0)(buy.function)])
        world.to.charge.answers.extend([Unavailable()] * 1000)
        row = await world.run()
        assert row.state == Saga.FAILED
        assert row.deadline_at == row.created_at + 30.0
        assert 30.0 <= world.runtime.clock.monotonic() < 60.0

    run_virtual(story())


def test_a_saga_has_some_time() -> None:
    with pytest.raises(ValueError, match="deadline_s is more than 0"):
        saga(deadline_s=0.0)


def test_an_undo_takes_as_long_as_it_takes(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.to.charge.answers.append(no())
    seen = watch(world, "release")
    assert run_virtual(world.run()).state == Saga.FAILED
    assert seen == {"release": NEVER}


@pytest.mark.parametrize("by_s", [3600.0, -3600.0], ids=["forth", "back"])
def test_a_clock_that_is_set_while_the_saga_is_stored_takes_none_of_its_time(
    by_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        world = World(tmp_path)
        add = world.engine.journal.add

        async def add_meanwhile(*saga: Any) -> Any:
            row = await add(*saga)
            world.ahead_s = by_s
            return row

        monkeypatch.setattr(world.engine.journal, "add", add_meanwhile)
        seen = watch(world, "charge")
        assert (await world.run()).state == Saga.COMPLETED
        assert seen == {"charge": DEADLINE_S}

    run_virtual(story())
