"""Engines that share the work: who starts, runs, waits for and cancels what, and how much."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mesh.dial import DeclarationError
from mesh.errors import Unavailable
from mesh.saga import engine as engines
from mesh.saga import saga
from mesh.saga.engine import LOOK_S
from mesh.saga.leases import LEASE_S, RENEW_S
from mesh.saga.records import SagaRow
from mesh.saga.steps import DEADLINE_S
from mesh.saga.v1.saga_pb2 import Saga
from mesh.storage.port import StorageError
from mesh.testing.loop import VirtualClock, run_virtual
from shop.order.v1 import order_pb2 as order
from tests.unit.mesh.saga.world import World, buy, kill, never, no, tell


def test_started_here_waited_for_and_cancelled_there(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        other = world.another("second")
        await other.resume()
        world.to.charge.answers.extend([Unavailable()] * 1000)
        saga_id = await world.start()
        await world.runtime.clock.sleep(20)
        assert (await other.wait(saga_id, 5)).state == Saga.EXECUTING
        assert await other.cancel(saga_id, "enough")
        row = await other.wait(saga_id, 60)
        assert row.state == Saga.FAILED
        assert world.runtime.clock.monotonic() < 40

    tell(tmp_path, story)


def test_who_waits_elsewhere_hears_that_a_saga_is_parked(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.to.commit.answers.append(no())
        saga_id = await world.start()
        row = await world.another().wait(saga_id, 60)
        assert row.state == Saga.PARKED
        assert world.runtime.clock.monotonic() < 10

    tell(tmp_path, story)


@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0])
@pytest.mark.parametrize("wrong", ["who starts", "who takes over"])
def test_engines_with_different_clocks_give_a_saga_the_same_time(
    tmp_path: Path, wrong: str, ahead_s: float
) -> None:
    async def story(world: World) -> None:
        engines = [world.another("a", ahead_s), world.another("b")]
        first, second = engines if wrong == "who starts" else reversed(engines)
        await first.resume()
        world.to.charge.answers.append(never())
        saga_id = await first.start(buy, order.GetOrderRequest(order_id="o"), "o")
        await world.runtime.clock.sleep(1)
        await kill(first)
        await second.resume()
        row = await second.wait(saga_id, 4 * LEASE_S)
        assert row.state == Saga.COMPLETED
        assert row.created_at == pytest.approx(VirtualClock.EPOCH_S, abs=1)
        assert row.deadline_at == row.created_at + DEADLINE_S

    tell(tmp_path, story)


async def running(world: World, remote: Any) -> list[int]:
    """Count how many calls of *remote* are under way at a time."""
    counts, now = [0], 0

    async def answer() -> Any:
        nonlocal now
        now += 1
        counts.append(now)
        await world.runtime.clock.sleep(0.5)
        now -= 1
        return remote.method.reply_type()

    remote.answers.extend([answer] * 10_000)
    return counts


def test_a_full_engine_leaves_the_rest_in_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "RUNNING_MAX", 3)

    async def story(world: World) -> None:
        counts = await running(world, world.to.charge)
        ids = [await world.start(f"o-{number}") for number in range(10)]
        assert len(world.engine._flights) == 3
        for saga_id in ids:
            assert (await world.end(saga_id)).state == Saga.COMPLETED
        assert max(counts) == 3

    tell(tmp_path, story)


def test_what_thousands_of_crashed_sagas_left_is_taken_up_in_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, room = 600, 50

    async def story(world: World) -> None:
        monkeypatch.setattr(engines, "RUNNING_MAX", 0)
        for number in range(many):
            await world.start(f"o-{number}")
        await kill(world.engine)
        monkeypatch.setattr(engines, "RUNNING_MAX", room)
        monkeypatch.setattr(engines, "CLAIM_MAX", 30)
        counts = await running(world, world.to.charge)
        engine = world.another("first")
        assert await engine.resume() == room
        assert len(engine._flights) == room
        await world.runtime.clock.sleep(many / room * 2 * LOOK_S)
        sagas = await engine.journal.list("", 0, "", many + 1)
        assert [row.state for row in sagas] == [Saga.COMPLETED] * many
        assert max(counts) <= room

    tell(tmp_path, story)


@pytest.mark.parametrize("error", [StorageError(), asyncio.CancelledError()])
def test_a_start_that_was_given_up_and_stored_all_the_same_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    async def story(world: World) -> None:
        await world.up()
        add = world.engine.journal.add

        async def stored_and_gone(row: SagaRow, *rest: Any) -> SagaRow:
            await add(row, *rest)
            raise error

        monkeypatch.setattr(world.engine.journal, "add", stored_and_gone)
        with pytest.raises(type(error)):
            await world.start()
        await world.runtime.clock.sleep(RENEW_S + 3 * LOOK_S)
        (row,) = await world.engine.journal.list("", 0, "", 2)
        assert row.state == Saga.COMPLETED

    tell(tmp_path, story)


def test_a_function_that_lets_out_a_cancellation_is_not_forgotten(tmp_path: Path) -> None:
    @saga(version=1)
    async def confused(step: Any, to: Any, it: Saga) -> None:
        """Cancels nobody but itself."""
        raise asyncio.CancelledError

    async def story() -> None:
        world = World(tmp_path, [confused])
        await world.up()
        saga_id = await world.engine.start(confused, Saga(), "o")
        assert (await world.end(saga_id)).state == Saga.PARKED

    run_virtual(story())


def test_only_the_sagas_of_the_service_are_started(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.sagas = []
        with pytest.raises(DeclarationError, match="buy v1"):
            await world.another().start(buy, buy.request_type(), "o")

    tell(tmp_path, story)


def test_a_saga_waits_for_an_engine_that_knows_its_version(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.to.charge.answers.append(never())
        saga_id = await world.start()
        await world.runtime.clock.sleep(1)
        await world.engine.stop()
        world.sagas, known = [], world.sagas
        newer = world.another("newer")
        assert await newer.resume() == 0
        world.sagas = known
        older = world.another("older")
        assert await older.resume() == 1
        assert (await newer.wait(saga_id, 60)).state == Saga.COMPLETED

    tell(tmp_path, story)
