"""Settings of all, of one name, and of one method of it: each level over the one before.

``[policy]`` in the file holds for all, ``[policy.order]`` for what is called order, and
``[policy.order.Quote]`` for that method of it. A variable says one setting, of any level, with two
underscores between the parts: ``MESH_POLICY__TIMEOUT_S``, ``MESH_POLICY__ORDER__TIMEOUT_S``,
``MESH_POLICY__ORDER__QUOTE__CIRCUIT__OPEN_S``. At each level the environment goes before the file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from .settings import Said, kinds_of, overlay, said_in
from .table import ConfigError

T = TypeVar("T")
SEPARATOR = "__"
#: Mark a field with it (`field(metadata=METHOD_ONLY)`) that can be said of single methods only.
METHOD_ONLY: Mapping[str, bool] = {"method_only": True}
_NO_NAME = re.compile(r"[^A-Z0-9]")


@dataclass(frozen=True)
class Written:
    """A section as it was found: its table in the *file*, and the variables that start so."""

    section: str
    file: str = field(default="mesh.toml", compare=False)
    table: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def found(
        section: str, file: str, table: Mapping[str, Any], environment: Mapping[str, str]
    ) -> Written:
        """Return the section with its variables of *environment*."""
        start = Written(section).prefix
        variables = {name: text for name, text in environment.items() if name.startswith(start)}
        return Written(section, file, table, variables)

    @property
    def prefix(self) -> str:
        """What its variables start with."""
        return f"MESH_{self.section.upper()}{SEPARATOR}"


class Levels(Generic[T]):
    """The settings of a section.

    Args:
        defaults: what holds where nothing is said.
        written: the section.
        names: what a second level may be of.

    Raises:
        ConfigError: something in it is wrong.
    """

    def __init__(self, defaults: T, written: Written, names: Collection[str] = ()) -> None:
        self._defaults = defaults
        self._section = written.section
        self._known = kinds_of(type(defaults))
        self._names = sorted(names)
        #: What is said of each (name, method); "" stands for all of them.
        self._said: dict[tuple[str, str], list[Said]] = {}
        if clash := [name for name in self._names if name in self._known]:
            raise ConfigError(f"{clash[0]!r} cannot be a name: [{self._section}] has a setting so")
        self._read_file(said_in(written.table, written.file, written.section))
        self._read_variables(written)
        for name, method in [*self._said]:
            self.of(name, method)  # to find what is wrong with it now

    def of(self, name: str = "", method: str = "", sources: dict[str, str] | None = None) -> T:
        """Return the settings of *method*, its bare name, of *name*; "" stands for all.

        *sources* learns where each was said, by its dotted path.
        """
        found = self._defaults
        for level in dict.fromkeys([("", ""), (name, ""), (name, method)]):
            for said in self._said.get(_key(*level), ()):
                found = overlay(found, said, {} if sources is None else sources)
        return found

    def check_methods(self, name: str, methods: Iterable[str]) -> None:
        """Fail if something is said of a method of *name* that it does not have.

        Raises:
            ConfigError: that is so; or a variable means two methods.
        """
        there = sorted(set(methods))
        for of, method in self._said:
            if of != name or not method:
                continue
            said = self._said[of, method][0]
            meant = [one for one in there if one.upper() == method]
            if not meant:
                raise said.wrong(f"{name} has no such method; it has {', '.join(there)}")
            if len(meant) > 1:
                raise said.wrong(f"means {' and '.join(meant)}; say it in code")

    def methods(self, name: str) -> list[str]:
        """Return the methods of *name* of which something is said."""
        return [method for of, method in self._said if of == name and method]

    def _read_file(self, said: Said) -> None:
        own, below = self._split(said)
        self._add("", "", own)
        for name, table in below:
            if name not in self._names:
                raise table.wrong(self._unknown(name, self._names))
            own, methods = self._split(table)
            self._add(name, "", own)
            for method, settings in methods:
                self._add(name, method, settings)

    def _split(self, said: Said) -> tuple[Said, list[tuple[str, Said]]]:
        """Return what a table says itself, and the tables below it that are no settings."""
        own, below = {}, []
        for key, one in said.value.items():
            if key not in self._known and isinstance(one.value, dict):
                below.append((key, one))
            else:
                own[key] = one
        return Said(own, said.place), below

    def _read_variables(self, written: Written) -> None:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for variable, value in sorted(written.variables.items()):
            said = Said(value, variable, text=True)
            parts = variable.removeprefix(written.prefix).upper().split(SEPARATOR)
            name = method = ""
            if parts[0].lower() not in self._known:
                name, parts = self._named(said, parts[0]), parts[1:]
                if parts and parts[0].lower() not in self._known:
                    method, parts = parts[0], parts[1:]
            if not all(parts) or not parts:
                raise said.wrong(f"names no setting; there are {', '.join(self._known)}")
            _put(found.setdefault((name, method), {}), [p.lower() for p in parts], said)
        for (name, method), tree in found.items():
            self._add(name, method, _tree(tree))

    def _named(self, said: Said, part: str) -> str:
        meant = [name for name in self._names if _variable(name) == part]
        if len(meant) != 1:
            raise said.wrong(self._unknown(part, meant or [_variable(n) for n in self._names]))
        return meant[0]

    def _unknown(self, name: str, names: Iterable[str]) -> str:
        there = f"names {', '.join(names) or '(none)'}; settings {', '.join(self._known)}"
        return f"{name!r} is neither a name nor a setting; there are the {there}"

    def _add(self, name: str, method: str, said: Said) -> None:
        if not said.value:
            return
        if not method:
            for one in fields(self._defaults):  # type: ignore[arg-type]
                if one.name in said.value and one.metadata.get("method_only"):
                    example = f"[{self._section}.{name or 'NAME'}.METHOD]"
                    raise said.value[one.name].wrong(f"is said of one method: {example}")
        self._said.setdefault(_key(name, method), []).append(said)


def _key(name: str, method: str) -> tuple[str, str]:
    """Variables have no case, so methods are found without."""
    return name, method.upper()


def _variable(name: str) -> str:
    return _NO_NAME.sub("_", name.upper())


def _put(tree: dict[str, Any], parts: list[str], said: Said) -> None:
    """Put *said* where *parts* lead to."""
    *above, last = parts
    for part in above:
        tree = tree.setdefault(part, {})
        if isinstance(tree, Said):
            raise said.wrong(f"contradicts {tree.place}")
    if last in tree:
        raise said.wrong("is said twice, or contradicts another variable")
    tree[last] = said


def _tree(found: dict[str, Any]) -> Said:
    value = {key: one if isinstance(one, Said) else _tree(one) for key, one in found.items()}
    return Said(value, ", ".join(place for one in value.values() for place in one.places()))
