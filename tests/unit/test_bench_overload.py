"""The benchmark of overload does what it says: no figures, only that calls are counted."""

from __future__ import annotations

import pytest

from benchmarks.overload.__main__ import WORKS, run, show


@pytest.mark.parametrize("work", WORKS)
async def test_every_call_of_every_phase_has_its_end(
    work: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = await run(work, "adapts", "throttle", scale=0.05)
    assert [phase["name"] for phase in found["phases"]] == ["calm", "peak", "storm", "after"]
    for phase in found["phases"]:
        ends = phase["served"] + phase["refused"] + phase["late"] + phase["failed"]
        assert ends == phase["asked"]
    show(found)
    assert "executed" in capsys.readouterr().out
