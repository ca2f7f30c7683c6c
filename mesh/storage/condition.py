"""Whether a database does its work, said once when that changes."""

from __future__ import annotations

from ..runtime.logs import log
from .port import StorageError


class Condition:
    """How the database called *name* is; `failing` is what the last transaction met."""

    def __init__(self, name: str) -> None:
        self.failing: StorageError | None = None
        self._name = name

    def note(self, failure: StorageError | None) -> None:
        """Say once that it fails, and once that it works again: the logs need room too."""
        if failure and not self.failing:
            log.error("the database fails", database=self._name, error=str(failure))
        elif self.failing and not failure:
            log.info("the database works again", database=self._name)
        self.failing = failure
