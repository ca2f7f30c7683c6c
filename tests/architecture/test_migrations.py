"""Migrations only add: a process of the version before goes on beside them, and can come back."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    file.relative_to(ROOT).as_posix()
    for folder in ("mesh/storage/schema", "services/*/schema")
    for file in ROOT.glob(f"{folder}/*.sql")
)
#: From before there was a release: nothing older can be beside them.
BEFORE = {"mesh/storage/schema/0006_saga_branches.sql", "services/payment/schema/0002_events.sql"}

TAKES_AWAY = re.compile(r"\b(DROP|RENAME|ALTER COLUMN)\b")
NEEDS_A_VALUE = re.compile(r"\bADD COLUMN\b(?=.*\bNOT NULL\b)(?!.*\bDEFAULT\b)", re.DOTALL)


#: Two were made at a time. Databases know them by their names, so they stay.
SAME_NUMBER = {"mesh/storage/schema/0007_read_models.sql", "mesh/storage/schema/0007_undone.sql"}


def breaks_the_version_before(sql: str) -> list[str]:
    """The statements after which a process that does not know of them reads or writes in vain."""
    statements = re.sub(r"--.*", "", sql).split(";")
    return [s.strip() for s in statements if TAKES_AWAY.search(s) or NEEDS_A_VALUE.search(s)]


def test_no_number_is_given_twice() -> None:
    numbers = Counter(numbered(file) for file in {*FILES} - SAME_NUMBER)
    assert set(numbers.values()) == {1}
    assert len({numbered(file) for file in SAME_NUMBER}) == 1


def numbered(file: str) -> tuple[str, str, str]:
    """The folder, the number and the engine, if it is for one, of a migration."""
    folder, _, name = file.rpartition("/")
    return folder, name.partition("_")[0], Path(name.removesuffix(".sql")).suffix


@pytest.mark.parametrize("file", [file for file in FILES if file not in BEFORE])
def test_a_migration_only_adds(file: str) -> None:
    assert not breaks_the_version_before((ROOT / file).read_text())


def test_what_is_excused_needs_it() -> None:
    assert {
        file for file in FILES if breaks_the_version_before((ROOT / file).read_text())
    } >= BEFORE


@pytest.mark.parametrize(
    ("sql", "breaks"),
    [
        ("ALTER TABLE a ADD COLUMN b TEXT NOT NULL DEFAULT ''", False),
        ("ALTER TABLE a ADD COLUMN b TEXT", False),
        ("ALTER TABLE a ADD COLUMN b TEXT NOT NULL", True),
        ("ALTER TABLE a RENAME COLUMN b TO c", True),
        ("CREATE TABLE a (b TEXT NOT NULL); DROP TABLE c", True),
        ("-- it does not DROP anything\nCREATE TABLE a (b TEXT)", False),
    ],
)
def test_what_breaks(sql: str, breaks: bool) -> None:
    assert bool(breaks_the_version_before(sql)) is breaks
