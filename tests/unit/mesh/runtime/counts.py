"""Databases that count, so that copies of them tell of when they are."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from mesh.runtime.clock import Runtime
from mesh.storage.migrate import Migration, own_migrations
from mesh.storage.port import Tx, Work
from mesh.storage.sqlite import SqliteStore

COUNTS = Migration("0001_counts.sql", "CREATE TABLE counts (number BIGINT, filler TEXT)")

NAMES = ("first", "second", "third")


def open_store(data: Path, name: str) -> SqliteStore:
    return SqliteStore(data / f"{name}.db", Runtime(), [*own_migrations(), COUNTS])


def paths(data: Path) -> dict[str, Path]:
    return {name: data / f"{name}.db" for name in NAMES}


def count(number: int) -> Work[None]:
    async def work(tx: Tx) -> None:
        await tx.execute("INSERT INTO counts VALUES ($1, printf('%.2000c', 'x'))", number)

    return work


def ask(path: Path, question: str) -> Any:
    with closing(apsw.Connection(str(path))) as database:
        return database.execute(question).get


def counted(folder: Path) -> list[int]:
    """How far each database has counted."""
    return [ask(path, "SELECT MAX(number) FROM counts") for path in paths(folder).values()]
