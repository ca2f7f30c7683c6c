"""Settings from a file and from variables: any dataclass, every mistake with its place."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from mesh.runtime.levels import METHOD_ONLY, Levels, Written
from mesh.runtime.settings import Said, leaves, overlay, said_in
from mesh.runtime.table import ConfigError


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Inner:
    size: int = 3
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError("share is from 0 to 1")


@dataclass(frozen=True)
class Outer:
    timeout_s: float = 10.0
    limit_s: float | None = None
    on: bool = False
    name: str = ""
    colours: frozenset[Colour] = frozenset()
    inner: Inner = field(default_factory=Inner)
    spare: Inner | None = None
    hook: Callable[[], None] | None = None
    promise: Colour | None = field(default=None, metadata=METHOD_ONLY)


def levels(table: dict[str, Any] | None = None, **variables: str) -> Levels[Outer]:
    named = {f"MESH_POLICY__{name}": text for name, text in variables.items()}
    return Levels(Outer(), Written("policy", "m.toml", table or {}, named), ["order", "new-user"])


def read(table: dict[str, Any]) -> Outer:
    return overlay(Outer(), said_in(table, "m.toml", "policy"), {})


def test_nothing_said_is_the_defaults() -> None:
    assert levels().of("order", "Quote") == Outer()


def test_a_file_says_fields_of_every_type() -> None:
    said = {
        "timeout_s": 2,
        "limit_s": 0.5,
        "on": True,
        "name": "x",
        "colours": ["RED", "BLUE"],
        "inner": {"size": 7},
        "spare": {"share": 1.0},
    }
    colours = frozenset(Colour)
    assert read(said) == Outer(2.0, 0.5, True, "x", colours, Inner(7), Inner(3, 1.0))


def test_variables_say_the_same_as_text() -> None:
    found = levels(
        TIMEOUT_S="2",
        LIMIT_S="0.5",
        ON="true",
        NAME="x",
        COLOURS="RED, BLUE",
        INNER__SIZE="7",
        SPARE__SHARE="1",
    )
    colours = frozenset(Colour)
    assert found.of() == Outer(2.0, 0.5, True, "x", colours, Inner(7), Inner(3, 1.0))


def test_none_and_default_are_words() -> None:
    assert read({"spare": "default"}).spare == Inner()
    assert read({"spare": {}}).spare == Inner()
    whole = levels({"limit_s": 1.0, "spare": {"size": 9}, "order": {"spare": "none"}})
    assert whole.of("order") == Outer(limit_s=1.0)
    assert whole.of("new-user").spare == Inner(9)
    assert levels({"limit_s": 1.0}, LIMIT_S="none").of().limit_s is None


def test_the_nearest_level_holds_and_the_environment_goes_before_the_file() -> None:
    table = {
        "timeout_s": 1.0,
        "inner": {"size": 1, "share": 0.1},
        "order": {"timeout_s": 2.0, "Quote": {"timeout_s": 3.0}, "Get": {"inner": {"size": 2}}},
    }
    found = levels(table, TIMEOUT_S="11", ORDER__TIMEOUT_S="12", NEW_USER__GET__INNER__SIZE="5")
    assert found.of().timeout_s == 11.0
    assert found.of("new-user", "Any").timeout_s == 11.0
    assert found.of("order", "Any").timeout_s == 12.0
    assert found.of("order", "Quote").timeout_s == 3.0
    assert found.of("order", "Get").inner == Inner(2, 0.1)
    assert found.of("new-user", "Get").inner == Inner(5, 0.1)


def test_each_value_knows_who_said_it() -> None:
    table = {"inner": {"size": 1}, "spare": {"size": 1}, "order": {"inner": {"share": 0.1}}}
    found = levels(table, ORDER__QUOTE__TIMEOUT_S="3", ORDER__SPARE="none")
    sources: dict[str, str] = {}
    found.of("order", "Quote", sources)
    assert sources == {
        "inner.size": "m.toml: [policy.inner] size",
        "inner.share": "m.toml: [policy.order.inner] share",
        "timeout_s": "MESH_POLICY__ORDER__QUOTE__TIMEOUT_S",
        "spare": "MESH_POLICY__ORDER__SPARE",
    }


def test_values_are_shown_as_variables_write_them() -> None:
    assert leaves(Outer(colours=frozenset(Colour))) == {
        "timeout_s": "10",
        "limit_s": "none",
        "on": "false",
        "name": "",
        "colours": "BLUE,RED",
        "inner.size": "3",
        "inner.share": "0.5",
        "spare": "none",
        "promise": "none",
    }


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"timeout": 1.0}, r"m.toml: \[policy\] timeout: there is no 'timeout' here; .*timeout_s,"),
        ({"hook": "x"}, "there is no 'hook' here"),
        ({"timeout_s": "fast"}, r"\[policy\] timeout_s: a number is wanted, not 'fast'"),
        ({"timeout_s": True}, "a number is wanted, not True"),
        ({"timeout_s": float("nan")}, "a number is wanted, not nan"),
        ({"timeout_s": {"a": 1}}, "a number is wanted, not a table"),
        ({"timeout_s": "none"}, "a number is wanted, not 'none'"),
        ({"on": 1}, "true or false is wanted, not 1"),
        ({"inner": {"size": 1.5}}, r"\[policy.inner\] size: a whole number is wanted, not 1.5"),
        ({"inner": {"share": 2.0}}, r"\[policy.inner\] share: share is from 0 to 1"),
        ({"inner": 3}, "a table is wanted, or one of default"),
        ({"inner": "none"}, "a table is wanted, or one of default"),
        ({"spare": "no"}, "a table is wanted, or one of none, default"),
        ({"colours": ["GREEN"]}, "a list, each one of RED, BLUE, is wanted, not .'GREEN'"),
        ({"colours": "RED"}, "a list, each one of RED, BLUE, is wanted, not 'RED'"),
        ({"ordr": {"timeout_s": 1.0}}, "'ordr' is neither a name nor a setting; .*new-user, order"),
        ({"order": {"nme": "x"}}, r"\[policy.order\] nme: there is no 'nme' here"),
        ({"order": {"Quote": {"nme": 1}}}, r"\[policy.order.Quote\] nme: there is no 'nme' here"),
        ({"order": {"promise": "RED"}}, r"is said of one method: \[policy.order.METHOD\]"),
        ({"order": 3}, "there is no 'order' here"),
    ],
    ids=repr,
)
def test_mistakes_in_the_file_are_told(table: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        levels(table)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"TIMEOUT_S": "fast"}, "MESH_POLICY__TIMEOUT_S: a number is wanted, not 'fast'"),
        ({"TIMEOUT_S": "inf"}, "a number is wanted, not 'inf'"),
        ({"ON": "maybe"}, "true or false is wanted, not 'maybe'"),
        ({"INNER__SIZE": "1.5"}, "a whole number is wanted"),
        ({"INNER__SHARE": "2"}, "MESH_POLICY__INNER__SHARE: share is from 0 to 1"),
        ({"ORDR__TIMEOUT_S": "1"}, "'ORDR' is neither a name nor a setting; .*NEW_USER, ORDER"),
        ({"ORDER": "1"}, "MESH_POLICY__ORDER: names no setting"),
        ({"ORDER__QUOTE": "1"}, "names no setting; there are timeout_s,"),
        ({"": "1"}, "is neither a name nor a setting"),
        ({"ORDER__INNER____SIZE": "1"}, "names no setting"),
        ({"INNER__WIDTH": "1"}, "there is no 'width' here; there are size, share"),
        ({"SPARE": "none", "SPARE__SIZE": "1"}, "contradicts MESH_POLICY__SPARE"),
        ({"TIMEOUT_S": "1", "timeout_s": "2"}, "is said twice"),
    ],
    ids=repr,
)
def test_mistakes_in_variables_are_told(variables: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        levels(None, **variables)


def test_a_name_that_is_a_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="'spare' cannot be a name"):
        Levels(Outer(), Written("policy"), ["spare"])


def test_methods_that_do_not_exist_are_told_once_they_are_known() -> None:
    found = levels({"order": {"Qoute": {"timeout_s": 1.0}}})
    with pytest.raises(ConfigError, match=r"\[policy.order.Qoute\] timeout_s: .*it has Get, Quote"):
        found.check_methods("order", ["Quote", "Get"])
    found.check_methods("new-user", ["Get"])
    with pytest.raises(
        ConfigError, match="MESH_POLICY__ORDER__QOUTE__TIMEOUT_S: order has no such"
    ):
        levels(ORDER__QOUTE__TIMEOUT_S="1").check_methods("order", ["Quote"])


def test_a_method_that_could_be_two_is_refused() -> None:
    found = levels(ORDER__GETURL__TIMEOUT_S="1")
    found.check_methods("order", ["GetUrl"])
    with pytest.raises(ConfigError, match="means GetURL and GetUrl"):
        found.check_methods("order", ["GetUrl", "GetURL"])


def test_a_value_said_twice_in_one_level_is_read_as_one() -> None:
    said = Said({"size": Said("7", "A", text=True)}, "A")
    sources: dict[str, str] = {}
    assert overlay(Inner(), said, sources) == Inner(7)
    assert sources == {"size": "A"}
