"""Schema migrations: numbered SQL files, applied forward, once each.

The files use PostgreSQL's type names (``TEXT``, ``BIGINT``, ``DOUBLE PRECISION``, ``BYTEA``),
which SQLite accepts too, so one set of files serves both engines.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIGRATIONS_TABLE = "CREATE TABLE IF NOT EXISTS mesh_migrations (name TEXT PRIMARY KEY)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One script; `name` is unique within a database, for ever."""

    name: str
    sql: str


def migrations(folder: Path) -> list[Migration]:
    """Return the ``*.sql`` files of *folder* in order of their names."""
    return [Migration(f.name, f.read_text()) for f in sorted(folder.glob("*.sql"))]


def own_migrations() -> list[Migration]:
    """Return the mesh's own tables: keys, effects, sagas."""
    return [
        Migration(f"mesh/{m.name}", m.sql) for m in migrations(Path(__file__).parent / "schema")
    ]
