"""What older versions of the services left: dumps of databases that they wrote, by sqlite3.

`data/order_0001.sql` under tests/unit/services is of the order service when its schema ended with
its migration 0001. Most hold real orders of December 2010, as far as the first version got with
them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[1] / "unit" / "services" / "data"
FILES: Final = sorted(FOLDER.glob("*_[0-9][0-9][0-9][0-9].sql"))


def dump(service: str, version: int) -> str:
    """Return what *service* left when its schema ended with migration number *version*."""
    return (FOLDER / f"{service}_{version:04}.sql").read_text()


def tables(dumped: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Return the rows in a dump by table, each by column."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(dumped)
        database.row_factory = sqlite3.Row
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: [dict(row) for row in database.execute(f'SELECT * FROM "{name}"')]
            for (name,) in names
        }
