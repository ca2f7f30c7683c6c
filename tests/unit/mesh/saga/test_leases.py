"""Leases: who takes over what an engine left, and when."""

import asyncio
from pathlib import Path
from typing import Any

from mesh.saga.engine import LOOK_S, SagaEngine
from mesh.saga.leases import LEASE_S, RENEW_S
from mesh.saga.v1.saga_pb2 import Saga
from tests.unit.mesh.saga.world import World, kill, never, tell


def stall(engine: SagaEngine) -> None:
    """Let *engine* miss its renewals while its sagas go on."""
    assert engine._keeper
    engine._keeper.cancel()


async def taken_over_after(world: World, saga_id: str) -> float:
    """Return how long it takes until the saga is claimed once more, in seconds."""
    clock, journal = world.runtime.clock, world.engine.journal
    begun = clock.monotonic()
    before = await journal.get(saga_id)
    while (row := await journal.get(saga_id)) and before and row.epoch == before.epoch:
        await clock.sleep(0.1)
        assert clock.monotonic() < begun + 1000
    return clock.monotonic() - begun


def test_what_a_dead_engine_left_is_taken_over_once_its_lease_is_out(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        other = world.another("second")
        world.to.charge.answers.append(never())
        saga_id = await world.start()
        await other.resume()
        await world.runtime.clock.sleep(1)
        await kill(world.engine)
        assert LEASE_S - RENEW_S <= await taken_over_after(world, saga_id) <= LEASE_S + 2 * LOOK_S
        assert (await other.wait(saga_id, 60)).state == Saga.COMPLETED
        assert world.counts()["ReserveStock"] == 1
        assert [call.key for call in world.to.charge.calls] == [f"{saga_id}/2"] * 2

    tell(tmp_path, story)


def test_the_next_life_of_a_process_does_not_wait_for_the_lease_of_its_last(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        world.to.charge.answers.append(never())
        await world.start()
        await world.runtime.clock.sleep(1)
        await kill(world.engine)
        assert await world.another("elsewhere").resume() == 0
        assert await world.another("first").resume() == 1

    tell(tmp_path, story)


def test_who_stops_hands_over_at_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        other = world.another("second")
        world.to.charge.answers.append(never())
        saga_id = await world.start()
        await other.resume()
        await world.runtime.clock.sleep(1)
        await world.engine.stop()
        assert await taken_over_after(world, saga_id) <= LOOK_S + 0.1
        assert (await other.wait(saga_id, 60)).state == Saga.COMPLETED

    tell(tmp_path, story)


def test_an_engine_that_lives_keeps_its_sagas_however_long_they_take(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        other = world.another("second")
        world.to.charge.answers.append(never())
        await world.start()
        await other.resume()
        await world.runtime.clock.sleep(10 * LEASE_S)
        assert len(world.engine._flights) == 1
        assert not len(other._flights)
        assert world.counts()["ChargePayment"] == 1

    tell(tmp_path, story)


def test_an_engine_that_lost_its_lease_finds_out_at_its_next_write(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        other = world.another("second")
        answer = asyncio.get_running_loop().create_future()
        world.to.charge.answers.extend([lambda: answer, never()])
        saga_id = await world.start()
        await other.resume()
        stall(world.engine)
        await taken_over_after(world, saga_id)
        answer.set_result(world.to.charge.method.reply_type())
        await world.runtime.clock.sleep(1)
        assert not len(world.engine._flights)
        assert world.log == ["ReserveStock", "ChargePayment", "ChargePayment"]
        row = await world.engine.journal.get(saga_id)
        assert row and row.epoch == 1

    tell(tmp_path, story)


def test_who_waits_where_the_lease_was_lost_sees_the_end_all_the_same(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        other = world.another("second")
        world.to.charge.answers.append(never())
        saga_id = await world.start()
        waiting = asyncio.ensure_future(world.engine.wait(saga_id, 600))
        await other.resume()
        stall(world.engine)
        await taken_over_after(world, saga_id)
        await kill(world.engine)
        assert (await waiting).state == Saga.COMPLETED

    tell(tmp_path, story)


def test_an_engine_that_was_taken_for_dead_begins_anew(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        other = world.another("second")
        world.to.charge.answers.extend([never(), never(), never()])
        saga_id = await world.start()
        await other.resume()
        await world.engine._leases.leave(world.engine._engine_id)  # by whoever took it for dead
        await taken_over_after(world, saga_id)
        await world.runtime.clock.sleep(2 * RENEW_S)
        assert not len(world.engine._flights)
        await kill(other)
        await taken_over_after(world, saga_id)
        row = await world.engine.journal.get(saga_id)
        assert row and row.epoch == 2
        assert len({call.key for call in world.to.charge.calls}) == 1

    tell(tmp_path, story)


def test_a_lease_from_before_the_clock_was_set_back_holds_nobody_up(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        other = world.another("second")
        world.to.charge.answers.append(never())
        saga_id = await world.start()
        await other.resume()
        await kill(world.engine)

        async def an_hour_ahead(tx: Any) -> None:
            await tx.execute(
                "UPDATE mesh_saga_engines SET expires_at = expires_at + 3600"
                " WHERE instance = 'first'"
            )

        await world.store.write(an_hour_ahead)
        assert await taken_over_after(world, saga_id) <= LEASE_S + 2 * LOOK_S

    tell(tmp_path, story)
