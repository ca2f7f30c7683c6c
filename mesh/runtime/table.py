"""A table of a TOML file, read with its mistakes told: the file, the place, and what is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigError(ValueError):
    """The configuration is wrong; the message says where and how."""


_WANTED = {
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    list: "a list of texts",
    dict: "a table",
}


class Table:
    """Gives out what it holds, key by key; `end` finds what nobody asked for.

    Args:
        path: the file.
        name: of the table, in TOML's notation; "" for the whole document.
        content: as `tomllib` read it.
    """

    def __init__(self, path: Path, name: str, content: Any) -> None:
        self._path = path
        self._name = name
        self._where = f"{path}: [{name}]" if name else f"{path}"
        if not isinstance(content, dict):
            raise ConfigError(f"{self._where}: a table is wanted, not {content!r}")
        self._left = dict(content)
        self._known: list[str] = []

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """Return the value of *key*."""
        self._known.append(key)
        value = self._left.pop(key, default)
        if value is None:
            raise ConfigError(f"{self._where}: {key} is missing")
        if type(value) is not kind or (
            isinstance(value, list) and not all(isinstance(one, str) for one in value)
        ):
            raise ConfigError(f"{self._where}: {key}: {_WANTED[kind]} is wanted, not {value!r}")
        return value

    def texts(self, key: str, default: Sequence[str] | None = ()) -> tuple[str, ...]:
        """Return the list of *key*; without a default it must be there, and not be empty."""
        found = self.take(key, list, None if default is None else list(default))
        if not found and default is None:
            raise ConfigError(f"{self._where}: {key}: is empty")
        return tuple(found)

    def mapping(self, key: str) -> dict[str, str]:
        """Return the table of texts called *key*, empty if it is not there."""
        table = self.table(key)
        return {name: table.take(name, str) for name in table.left()}

    def left(self) -> list[str]:
        """Return what is in it and was not asked for yet."""
        return list(self._left)

    def table(self, key: str) -> Table:
        """Return the table called *key*, empty if it is not there."""
        self._known.append(key)
        name = f"{self._name}.{key}" if self._name else key
        return Table(self._path, name, self._left.pop(key, {}))

    def content(self, key: str) -> dict[str, Any]:
        """Return the table called *key* as it is, for somebody else to read."""
        content: dict[str, Any] = self.take(key, dict, {})
        return content

    def tables(self) -> Iterator[tuple[str, Table]]:
        """Return all that is in it, which must be tables."""
        return ((key, self.table(key)) for key in self.left())

    def end(self) -> None:
        """Fail if something is left."""
        if self._left:
            raise ConfigError(
                f"{self._where}: unknown: {', '.join(self._left)};"
                f" known are {', '.join(self._known)}"
            )
