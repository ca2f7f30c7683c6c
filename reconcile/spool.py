"""Brings together, on a disk, what the services list each in its own order.

Memory stays small however many orders there are: SQLite's sorter spills to files.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from reconcile.facts import Fact, Facts, from_row, to_row

_CACHE_KIB: Final = 8 * 1024


class Spool:
    """A heap of facts, sorted by order when it is read. A context manager; gone at its end."""

    def __enter__(self) -> Spool:
        self._folder = tempfile.TemporaryDirectory(prefix="reconcile-")
        self._database = sqlite3.connect(Path(self._folder.name) / "facts.db")
        # Whoever loses this file starts again: nothing of it need be durable.
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE facts (order_id TEXT NOT NULL, fact TEXT NOT NULL)")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def add(self, facts: Iterable[tuple[str, Fact]]) -> None:
        """Put facts on the heap, each with its order's id."""
        rows = ((order_id, json.dumps(to_row(fact))) for order_id, fact in facts)
        self._database.executemany("INSERT INTO facts VALUES (?, ?)", rows)

    def each(self) -> Iterator[Facts]:
        """All that is known, order by order."""
        facts: Facts | None = None
        query = "SELECT order_id, fact FROM facts ORDER BY order_id"
        for order_id, fact in self._database.execute(query):
            if facts is None or facts.order_id != order_id:
                if facts is not None:
                    yield facts
                facts = Facts(order_id)
            facts.add(from_row(json.loads(fact)))
        if facts is not None:
            yield facts
