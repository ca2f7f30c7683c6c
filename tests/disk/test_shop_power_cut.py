"""The power of the machine fails while orders are placed: all databases at one instant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from unittest import mock

import pytest

from mesh.errors import MeshError
from mesh.storage import sqlite_file
from mesh.testing.cluster import Cluster
from mesh.testing.loop import run_virtual
from tests.disk.disk import Disk
from tests.e2e.books import faults
from tests.saga.orders import DECIDED, close, order_everything, states
from tests.saga.shop import ROLES, SERVICES, Shop

CUTS = 25
LOWERED = tuple(p.replace("=FULL", "=NORMAL") for p in sqlite_file._PRAGMAS)


async def first_life(disk: Disk, folder: Path) -> tuple[int, dict[str, int]]:
    """Order everything; return where in the disk's log that began, and each answer came."""
    async with Shop(folder) as shop:
        began, decided = len(disk.log), dict[str, int]()

        def note(name: str) -> None:
            decided[name] = len(disk.log)

        await order_everything(shop, decided=note)
        await close(shop)
    return began, decided


async def next_life(folder: Path, *, ask_again: bool) -> None:
    """Start what the power cut left; sagas go on by themselves; perhaps all order once more."""
    with Disk.in_use(folder):  # its syncs take no time
        shop = Shop(folder)
        shop.cluster = Cluster(SERVICES, folder, roles=ROLES)
        await shop.cluster.start()
        if ask_again:
            await order_everything(shop)
        await close(shop)


def wrong_after(cut: Path, acknowledged: set[str]) -> Iterator[str]:
    """What is not as it must be, before the customers ask again and after."""
    run_virtual(next_life(cut, ask_again=False))
    books, decided = states(cut)
    yield from faults(books)
    yield from (
        f"{name} was {DECIDED[name]} and is {decided.get(name)}"
        for name in sorted(acknowledged)
        if decided.get(name) != DECIDED[name]
    )
    run_virtual(next_life(cut, ask_again=True))
    books, decided = states(cut)
    yield from faults(books)
    if decided != DECIDED:
        yield f"in the end: {decided}"


def found_wrong(folder: Path, turn: int = 0) -> Iterator[str]:
    """Cut the power so often, each time of the same run; what was wrong then."""
    random = Random(1 + turn)
    with Disk.in_use(folder / "first") as disk:
        began, decided = run_virtual(first_life(disk, folder / "first"))
    for number in range(CUTS):
        at = random.randint(began, len(disk.log))
        cut = folder / str(number)
        disk.cut(at, cut, random)
        acknowledged = {name for name, position in decided.items() if position <= at}
        yield from (f"cut after {at}: {what}" for what in wrong_after(cut, acknowledged))


def test_what_was_acknowledged_is_there_and_the_sagas_end(tmp_path: Path, turn: int) -> None:
    assert [*found_wrong(tmp_path, turn)] == []


def test_with_less_than_full_synchronisation_it_goes_wrong(tmp_path: Path) -> None:
    with mock.patch.object(sqlite_file, "_PRAGMAS", LOWERED):
        assert next(found_wrong(tmp_path), None)


@pytest.mark.parametrize("service", ["order", "inventory", "payment", "orchestrator"])
def test_a_database_from_another_instant_is_not_healed(service: str, tmp_path: Path) -> None:
    """So a backup has all of them as they were at one."""
    random = Random(1)
    with Disk.in_use(tmp_path / "first") as disk:
        began, _ = run_virtual(first_life(disk, tmp_path / "first"))
    for number in range(CUTS):
        earlier, later = sorted(random.randint(began, len(disk.log)) for _ in range(2))
        here, other = tmp_path / f"{number}", tmp_path / f"{number}-earlier"
        disk.cut(later, here, random)
        disk.cut(earlier, other, random)
        for file in (*here.glob(f"{service}.db*"), *other.glob(f"{service}.db*")):
            file.replace(here / file.name) if file.parent == other else file.unlink()
        try:
            if [*wrong_after(here, set())]:
                return
        except (AssertionError, MeshError):  # the customers get no answer any more
            return
    raise AssertionError(f"{service} may be restored alone")
