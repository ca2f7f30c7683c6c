"""Schema migrations: numbered SQL files, applied forward, once each.

The files use PostgreSQL's type names (``TEXT``, ``BIGINT``, ``DOUBLE PRECISION``, ``BYTEA``),
which SQLite accepts too, so one set of files serves both engines. What they spell differently,
such as triggers, has a file for each, named after it: ``0003_append_only.sqlite.sql`` and
``0003_append_only.postgres.sql``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

MIGRATIONS_TABLE = "CREATE TABLE IF NOT EXISTS mesh_migrations (name TEXT PRIMARY KEY)"

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


def pending(schema: Iterable[Migration], engine: str, seen: Collection[str]) -> list[Migration]:
    """Return what of *schema* a database on *engine* still lacks; *seen* are names."""
    return [m for m in schema if m.name not in seen and m.engine in ("", engine)]


def _engine(file: Path) -> str:
    engine = Path(file.stem).suffix.removeprefix(".")
    if engine and engine not in ENGINES:
        raise ValueError(f"{file}: {engine!r} is no engine; there are {', '.join(ENGINES)}")
    return engine
