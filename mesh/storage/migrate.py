"""Schema migrations: numbered SQL files, applied forward, once each.

The files use PostgreSQL's type names (``TEXT``, ``BIGINT``, ``DOUBLE PRECISION``, ``BYTEA``),
which SQLite accepts too, so one set of files serves both engines. What they spell differently,
such as triggers, has a file for each, named after it: ``0003_append_only.sqlite.sql`` and
``0003_append_only.postgres.sql``.

A file that was applied stays as it is: a database that was made with another text of it would lack
what the new one says, and nobody would know. So the texts' digests are kept beside the names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .port import StorageError

#: Versions before the digests know the first table only, and go on beside us.
TABLES = (
    "CREATE TABLE IF NOT EXISTS mesh_migrations (name TEXT PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS mesh_migration_digests (name TEXT PRIMARY KEY, sha256 TEXT)",
)
SEEN = "SELECT name, sha256 FROM mesh_migrations LEFT JOIN mesh_migration_digests USING (name)"

ENGINES = ("sqlite", "postgres")


@dataclass(frozen=True, slots=True)
class Migration:
    """One script; `name` is unique within a database, for ever. `engine` is "" for any."""

    name: str
    sql: str
    engine: str = ""


def migrations(folder: Path) -> list[Migration]:
    """Return the ``*.sql`` files of *folder* in order of their names.

    Raises:
        ValueError: a file is for an engine that there is not.
    """
    return [
        Migration(file.name, file.read_text(), _engine(file))
        for file in sorted(folder.glob("*.sql"))
    ]


def own_migrations() -> list[Migration]:
    """Return the mesh's own tables: keys, effects, sagas."""
    return [
        Migration(f"mesh/{m.name}", m.sql, m.engine)
        for m in migrations(Path(__file__).parent / "schema")
    ]


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done in one transaction: run `script`, then `notes` with their parameters."""

    name: str
    script: str
    notes: Sequence[tuple[str, tuple[str, ...]]]


def pending(
    schema: Iterable[Migration], engine: str, seen: Mapping[str, str | None]
) -> Iterator[Step]:
    """Yield what a database on *engine* still lacks of *schema*.

    seen: the digests of what it has, by name; None: it was applied by a version without them.

    Raises:
        StorageError: a script was edited after it was applied.
    """
    for migration in schema:
        if migration.engine not in ("", engine):
            continue
        name, digest = migration.name, hashlib.sha256(migration.sql.encode()).hexdigest()
        note = "INSERT INTO mesh_migration_digests VALUES ($1, $2)", (name, digest)
        if name not in seen:
            yield Step(
                name, migration.sql, [("INSERT INTO mesh_migrations VALUES ($1)", (name,)), note]
            )
        elif (before := seen[name]) is None:
            yield Step(name, "", [note])
        elif before != digest:
            raise StorageError(
                f"{name} was edited after this database was made with it: put it back as it was,"
                " and the change into a new file"
            )


def _engine(file: Path) -> str:
    engine = Path(file.stem).suffix.removeprefix(".")
    if engine and engine not in ENGINES:
        raise ValueError(f"{file}: {engine!r} is no engine; there are {', '.join(ENGINES)}")
    return engine
