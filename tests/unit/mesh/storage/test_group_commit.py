"""Many transactions, few COMMITs, and nobody is answered before theirs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from mesh.runtime.clock import Runtime, SystemClock
from mesh.storage import group_commit
from mesh.storage.group_commit import GROUP_TIME_S
from mesh.storage.port import StorageError, Tx, Work
from mesh.storage.sqlite import SqliteStore

from .conftest import SCHEMA
from .disk import Disk
from .works import add, names, outcomes, run


async def test_what_waits_together_is_committed_together(store: SqliteStore, disk: Disk) -> None:
    await asyncio.gather(*(store.write(add(f"{n:02}")) for n in range(20)))
    assert disk.commits == 1
    assert len(await names(store)) == 20


async def test_while_one_group_syncs_the_next_one_gathers(store: SqliteStore, disk: Disk) -> None:
    disk.hold()
    first = asyncio.create_task(store.write(add("first")))
    await disk.syncing.wait()
    others = [asyncio.create_task(store.write(add(f"{n:02}"))) for n in range(20)]
    await asyncio.sleep(0)
    disk.release()
    await asyncio.gather(first, *others)
    assert disk.commits == 2


async def test_nobody_is_answered_before_the_commit(store: SqliteStore, disk: Disk) -> None:
    disk.hold()
    writes = [asyncio.create_task(store.write(add(name))) for name in ("a", "b")]
    await disk.syncing.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(write.done() for write in writes)
    assert await names(store) == []
    disk.release()
    assert await asyncio.gather(*writes) == ["a", "b"]
    assert await names(store) == ["a", "b"]


async def test_nothing_runs_on_the_writer_during_a_commit(store: SqliteStore, disk: Disk) -> None:
    ran: list[str] = []

    async def work(tx: Tx) -> None:
        ran.append("it ran")
        await tx.execute("SELECT 1")

    disk.hold()
    first = asyncio.create_task(store.write(add("first")))
    await disk.syncing.wait()
    later = asyncio.create_task(store.write(work))
    for _ in range(10):
        await asyncio.sleep(0)
    assert ran == []
    assert await names(store) == []  # readers need not wait
    disk.release()
    await asyncio.gather(first, later)
    assert ran == ["it ran"]


async def test_a_group_of_refusals_commits_nothing(store: SqliteStore, disk: Disk) -> None:
    async def refuse(tx: Tx) -> None:
        await add("a")(tx)
        raise ValueError

    ends = await outcomes(store, [refuse, refuse])
    assert [type(end) for end in ends] == [ValueError, ValueError]
    assert disk.commits == 0


async def test_cancelled_during_the_commit_is_in(store: SqliteStore, disk: Disk) -> None:
    disk.hold()
    write = asyncio.create_task(store.write(add("a")))
    await disk.syncing.wait()
    write.cancel()
    await asyncio.gather(write, return_exceptions=True)
    assert write.cancelled()
    disk.release()
    await store.write(add("b"))
    assert await names(store) == ["a", "b"]


async def test_cancelled_in_the_queue_is_dropped(store: SqliteStore, disk: Disk) -> None:
    disk.hold()
    first = asyncio.create_task(store.write(add("first")))
    await disk.syncing.wait()
    waiting = asyncio.create_task(store.write(add("cancelled")))
    await asyncio.sleep(0)
    waiting.cancel()
    disk.release()
    await first
    await store.write(add("last"))
    assert await names(store) == ["first", "last"]


@dataclass
class WorkingClock(SystemClock):
    """Only work takes time here."""

    now_s: float = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> WorkingClock:
    return WorkingClock()


def lasting(clock: WorkingClock, took_s: float, error: Exception | None = None) -> Work[None]:
    async def work(tx: Tx) -> None:
        clock.now_s += took_s
        await tx.execute("UPDATE nodes SET size = size + 1")
        if error:
            raise error

    return work


@pytest.mark.parametrize(("took_s", "groups"), [(GROUP_TIME_S / 4, 3), (GROUP_TIME_S * 2, 12)])
async def test_a_group_takes_no_more_after_its_time(
    tmp_path: Path, disk: Disk, clock: WorkingClock, took_s: float, groups: int
) -> None:
    store = SqliteStore(tmp_path / "nodes.db", Runtime(clock, offload=disk), [SCHEMA])
    await outcomes(store, [lasting(clock, took_s)] * 12)
    assert disk.commits == groups
    await store.close()


async def test_refusals_use_up_a_groups_time_and_leave_the_loop_its_turn(
    tmp_path: Path, disk: Disk, clock: WorkingClock
) -> None:
    store = SqliteStore(tmp_path / "nodes.db", Runtime(clock, offload=disk), [SCHEMA])
    refused = [
        asyncio.ensure_future(store.write(lasting(clock, GROUP_TIME_S, ValueError())))
        for _ in range(10)
    ]
    seen = set()
    while not all(one.done() for one in refused):
        seen.add(sum(one.done() for one in refused))
        await asyncio.sleep(0)
    assert len(seen) > 5
    await asyncio.gather(*refused, return_exceptions=True)
    await store.close()


async def test_the_queue_is_bounded(
    store: SqliteStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "QUEUE_LIMIT", 3)
    disk.hold()
    first = asyncio.create_task(store.write(add("first")))
    await disk.syncing.wait()
    queued = [asyncio.create_task(store.write(add(f"{n}"))) for n in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(StorageError, match="3 transactions are waiting"):
        await store.write(add("too many"))
    disk.release()
    await asyncio.gather(first, *queued)
    assert await names(store) == ["0", "1", "2", "first"]


async def test_neighbours_in_a_group_see_one_another_in_order(store: SqliteStore) -> None:
    async def count(tx: Tx) -> int:
        ((n,),) = await tx.execute("SELECT count(*) FROM nodes")
        return int(n)

    assert await outcomes(store, [count, add("a"), count, run("DELETE FROM nodes"), count]) == [
        *(0, "a", 1, None, 0)
    ]
