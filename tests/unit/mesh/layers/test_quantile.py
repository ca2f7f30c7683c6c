"""The percentile estimate: never below the true one, never more than its accuracy above."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.layers.quantile import ACCURACY, WINDOW, Quantile

DURATIONS = st.lists(st.floats(1e-6, 100.0), min_size=1, max_size=300)
SHARES = st.sampled_from([0.5, 0.9, 0.95, 0.99])


def estimate(share: float, durations: list[float], samples_min: int = 1) -> float | None:
    made = Quantile(share, samples_min)
    for duration_s in durations:
        made.observe(duration_s)
    return made.estimate_s


@given(DURATIONS, SHARES)
def test_it_is_the_percentile_and_at_most_so_much_more(
    durations: list[float], share: float
) -> None:
    true_s = sorted(durations)[math.ceil(share * len(durations)) - 1]
    found_s = estimate(share, durations, samples_min=len(durations))
    assert found_s is not None
    assert true_s * (1 - 1e-9) <= found_s <= true_s * (1 + ACCURACY) * (1 + 1e-9)


@given(DURATIONS, SHARES, st.integers(1, 400))
def test_there_is_none_until_enough_is_known(
    durations: list[float], share: float, samples_min: int
) -> None:
    found_s = estimate(share, durations, samples_min)
    assert (found_s is None) == (len(durations) < samples_min)


@pytest.mark.parametrize(("before_s", "after_s"), [(0.01, 1.0), (1.0, 0.01)])
def test_what_was_long_ago_fades(before_s: float, after_s: float) -> None:
    found_s = estimate(0.95, [before_s] * 5 * WINDOW + [after_s] * 3 * WINDOW)
    assert found_s == pytest.approx(after_s, rel=ACCURACY)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, 1e-12])
def test_no_time_at_all_is_a_time(duration_s: float) -> None:
    assert estimate(0.95, [duration_s] * 20) == pytest.approx(1e-6, rel=ACCURACY)


def test_what_never_comes_twice_does_not_empty_it() -> None:
    durations = [1.001**n for n in range(2 * WINDOW)]
    assert estimate(0.5, durations) is not None
