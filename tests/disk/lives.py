"""Lives of a database, each of which ends in a power cut."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from unittest import mock

import apsw

from mesh.storage import group_commit
from mesh.testing.loop import run_virtual
from tests.disk.disk import Disk
from tests.disk.ledger import CHECKPOINT_PAGES, Booked, inspect, open_store

#: What each worker books in one life.
ENTRIES = 4


@dataclass(frozen=True)
class Life:
    """How a database is run; as in production, unless something is said."""

    synchronous: str = ""
    #: The share of syncs that fail, and of writes that find no room.
    failing_syncs: float = 0.0
    full: float = 0.0


@dataclass
class Tally:
    """What was found after power cuts."""

    cuts: int = 0
    acknowledged: int = 0
    wrong: list[str] = field(default_factory=list)

    def __iadd__(self, other: Tally) -> Tally:
        self.cuts += other.cuts
        self.acknowledged += other.acknowledged
        self.wrong += other.wrong
        return self

    def __str__(self) -> str:
        return f"{self.cuts} power cuts, {self.acknowledged} acknowledged transactions: " + (
            f"{len(self.wrong)} lost or wrong" if self.wrong else "none lost, none in part"
        )


def cut_again_and_again(folder: Path, seed: int, lives: int, cuts: int, how: Life) -> Tally:
    """Cut a new database's power so often in each of its lives, and tally what is found."""
    random, tally, known = Random(seed), Tally(), set[int]()
    here, copy = folder / "now", folder / "copy"
    here.mkdir(parents=True)
    for number in range(lives):
        disk, booked = live(here, random, how)
        tally.acknowledged += len(booked.acknowledged)
        survived = known
        for _ in range(cuts):
            at = random.randint(disk.began, len(disk.log))
            disk.cut(at, here, random)
            shutil.copytree(here, copy)  # to look is to recover
            survived, faults = inspect(copy)
            shutil.rmtree(copy)
            lost = sorted((known | booked.until(at)) - survived)
            there = sorted(booked.refused & survived)
            tally.cuts += 1
            tally.wrong += [
                f"seed {seed}, life {number}, cut after {at} of {len(disk.log)}: {what}"
                for what in (
                    *faults,
                    *(f"entry {id_} was acknowledged and is lost" for id_ in lost),
                    *(f"entry {id_} was refused and is there" for id_ in there),
                )
            ]
            if faults:
                return tally  # there is nothing to go on from
        known = survived
    return tally


def live(folder: Path, random: Random, how: Life) -> tuple[Disk, Booked]:
    """Open the database, work, and close it; return what the disk saw and who was told what."""

    def sync(name: str) -> None:
        if random.random() < how.failing_syncs:
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)

    def write(name: str) -> None:
        if random.random() < how.full:
            raise apsw.exception_for(apsw.SQLITE_FULL)

    async def life(disk: Disk) -> Booked:
        booked = Booked(lambda: len(disk.log))
        store = open_store(folder, random)
        if how.synchronous:
            store._file.control(f"PRAGMA synchronous = {how.synchronous}")
        disk.before_sync, disk.before_write = sync, write
        await booked.book(store, ENTRIES, random)
        if random.random() < 0.5:
            await store.close()
        else:
            store.abandon()
        return booked

    short = mock.patch.object(group_commit, "CHECKPOINT_PAGES", CHECKPOINT_PAGES)
    with short, Disk.in_use(folder) as disk:
        return disk, run_virtual(life(disk))
