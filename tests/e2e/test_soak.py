"""Random kills under real orders; `make soak` is the long form, which must interrupt every step."""

from pathlib import Path

import pytest
from rich.console import Console

from replay.progress import Progress
from tests.soak import record, report
from tests.soak.coverage import Coverage
from tests.soak.run import Load
from tests.soak.soak import Options, soak

KILLS = 15


def test_random_kills_lose_nothing_double_nothing_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(KILLS, Load(seed=1, first_day=True), gap_s=0.7)
    with capsys.disabled():
        soaked = soak(tmp_path, options, Progress(), before=Coverage())
        found = list(soaked.faults())
        report.show([record.run_of(soaked, found)], Console())
    assert found == []
    assert soaked.outcome.resumed > 0
    assert any(kill.interrupted for kill in soaked.killer.kills)
