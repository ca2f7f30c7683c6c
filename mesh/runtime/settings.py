"""Settings are frozen dataclasses; a file and the environment say some of their fields.

Reading is generic: whatever fields a dataclass has, and whatever dataclasses are in it, can be
said, as long as their types are among those below. What is said is a `Said`, which knows where,
so that each mistake is told with its place and with what is possible.

========================  ==================================================
type                      in a file; in a variable its text
========================  ==================================================
float, int, bool, str     ``2.5``, ``3``, ``true``, ``"text"``
an enum                   its name, ``"UNAVAILABLE"``
frozenset or tuple of X   ``["A", "B"]``; in a variable ``A,B``
a dataclass               a table; ``"default"`` is one that says nothing
X | None                  X, or ``"none"``
========================  ==================================================
"""

from __future__ import annotations

import enum
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from .table import ConfigError

T = TypeVar("T")
NONE, DEFAULT = "none", "default"
_WORDS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Said:
    """A value and where it was said. A variable's is a `text`; a table's holds more of these."""

    value: Any
    place: str
    text: bool = False

    def places(self) -> list[str]:
        """Return where all that is in it was said."""
        if not isinstance(self.value, dict):
            return [self.place]
        found = [place for said in self.value.values() for place in said.places()]
        return list(dict.fromkeys(found)) or [self.place]

    def wrong(self, why: str) -> ConfigError:
        """Return the error which says that it cannot be so."""
        return ConfigError(f"{', '.join(self.places())}: {why}")


def said_in(table: Mapping[str, Any], file: str, name: str) -> Said:
    """Return what the table called *name* of a TOML file says."""
    place = f"{file}: [{name}]"
    found = {
        key: said_in(value, file, f"{name}.{key}")
        if isinstance(value, dict)
        else Said(value, f"{place} {key}")
        for key, value in table.items()
    }
    return Said(found, place)


def kinds_of(settings: Any) -> Mapping[str, Any]:
    """Return the fields of *settings* that can be said, and their types.

    Others (a function, for one) are set in code.
    """
    hints = get_type_hints(settings)
    return {f.name: hints[f.name] for f in fields(settings) if _readable(hints[f.name])}


def overlay(base: T, said: Said, sources: dict[str, str], path: str = "") -> T:
    """Return *base* with the fields that *said* says; *sources* learns where each was said.

    Raises:
        ConfigError: a field that there is not, or a value that it cannot have.
    """
    kinds = kinds_of(type(base))
    changed = {}
    for name, one in said.value.items():
        if name not in kinds:
            raise one.wrong(f"there is no {name!r} here; there are {', '.join(kinds)}")
        current = getattr(base, name)
        changed[name] = _read(current, kinds[name], one, sources, f"{path}{name}")
    try:
        return cast("T", replace(cast("Any", base), **changed))
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise said.wrong(str(error)) from None


def leaves(settings: Any, path: str = "") -> dict[str, str]:
    """Return the value of each field, and field of a field, as text by its dotted path."""
    found: dict[str, str] = {}
    for name in kinds_of(type(settings)):
        value = getattr(settings, name)
        if is_dataclass(value):
            found |= leaves(value, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = shown(value)
    return found


def shown(value: Any) -> str:
    """Return *value* as it is written in a variable."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (frozenset, tuple)):
        return ",".join(sorted(map(shown, value)))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read(current: Any, kind: Any, said: Said, sources: dict[str, str], path: str) -> Any:
    kind, optional = _without_none(kind)
    if optional and said.value == NONE:
        _forget(sources, path)
        sources[path] = said.place
        return None
    if is_dataclass(kind):
        if said.value == DEFAULT:
            said = Said({}, said.place)
        if not isinstance(said.value, dict):
            words = [NONE, DEFAULT] if optional else [DEFAULT]
            raise said.wrong(f"a table is wanted, or one of {', '.join(words)}")
        if current is None or not said.value:
            _forget(sources, path)
            sources[path] = said.place
            current = cast("Any", kind)()
        return overlay(current, said, sources, f"{path}.")
    if isinstance(said.value, dict):
        raise said.wrong(f"{_wanted(kind)} is wanted, not a table")
    value = _value(kind, said)
    sources[path] = said.place
    return value


def _forget(sources: dict[str, str], path: str) -> None:
    for known in [known for known in sources if known.startswith(f"{path}.")]:
        del sources[known]


def _value(kind: Any, said: Said) -> Any:
    many = get_origin(kind)
    try:
        if many is None:
            return _one(kind, said.value, said.text)
        found = said.value
        if said.text:
            found = [part.strip() for part in found.split(",") if part.strip()]
        if not isinstance(found, list):
            raise TypeError
        return many(_one(get_args(kind)[0], one, said.text) for one in found)
    except (KeyError, ValueError, TypeError):
        raise said.wrong(f"{_wanted(kind)} is wanted, not {said.value!r}") from None


def _one(kind: Any, value: Any, text: bool) -> Any:
    if issubclass(kind, enum.Enum):
        return kind[value]
    if kind is bool and text:
        return _WORDS[value.lower()]
    if kind is float and (text or type(value) is int):
        value = float(value)
    elif kind is int and text:
        value = int(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise TypeError
    return value


_NAMES: Mapping[Any, str] = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a text",
}


def _wanted(kind: Any) -> str:
    if get_origin(kind) is not None:
        return f"a list, each {_wanted(get_args(kind)[0])},"
    if issubclass(kind, enum.Enum):
        return f"one of {', '.join(kind.__members__)}"
    return _NAMES[kind]


def _without_none(kind: Any) -> tuple[Any, bool]:
    if get_origin(kind) in (Union, types.UnionType):
        rest = [one for one in get_args(kind) if one is not type(None)]
        return (rest[0] if len(rest) == 1 else kind), len(rest) < len(get_args(kind))
    return kind, False


def _readable(kind: Any) -> bool:
    kind, _ = _without_none(kind)
    if get_origin(kind) in (frozenset, tuple):
        kind = get_args(kind)[0]
    is_one: Callable[[Any], bool] = lambda known: issubclass(kind, known)  # noqa: E731
    return isinstance(kind, type) and (
        is_dataclass(kind) or any(map(is_one, (float, int, str, enum.Enum)))
    )
