"""The power fails, again and again, while transactions share COMMITs.

A database lives through a chain of power cuts. From the log of each of its lives several cuts are
tried, at any operation of its opening, its work and its closing; it goes on from the last one.
test_shop_power_cut.py cuts the power of all of the shop's databases at one instant.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.disk.lives import Life, Tally, cut_again_and_again

#: Databases, the lives of each, and the power cuts in each life: 100 in all.
DATABASES, LIVES, CUTS = 5, 5, 4


def tally(folder: Path, how: Life, turn: int = 0) -> Tally:
    """What is found in all databases."""
    total = Tally()
    for seed in range(turn * DATABASES, (turn + 1) * DATABASES):
        total += cut_again_and_again(folder / str(seed), seed, LIVES, CUTS, how)
    return total


def test_nothing_acknowledged_is_lost(
    tmp_path: Path, turn: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tally(tmp_path, Life(), turn)
    with capsys.disabled():
        print(f"\n{found}")
    assert found.wrong == []
    assert found.cuts == 100


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_with_less_than_full_synchronisation_it_is(synchronous: str, tmp_path: Path) -> None:
    assert tally(tmp_path, Life(synchronous)).wrong


@pytest.mark.parametrize("how", [Life(failing_syncs=0.1), Life(full=0.01)], ids=str)
def test_nor_after_a_failure_of_the_disk(how: Life, turn: int, tmp_path: Path) -> None:
    """A sync that failed is not made up for by the next one; what was refused never appears."""
    found = tally(tmp_path, how, turn)
    assert found.wrong == []
    assert found.acknowledged > 400
