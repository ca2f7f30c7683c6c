"""The order system under everything that can go wrong."""

import pytest

from mesh.testing.simulation import run_seed
from tests.simulation.shop import Shop


@pytest.mark.parametrize("seed", range(50))
def test_no_order_money_or_goods_are_lost(seed: int) -> None:
    assert run_seed(Shop, seed).problems == []


def test_a_seed_is_the_same_run_every_time() -> None:
    first, second = run_seed(Shop, 7), run_seed(Shop, 7)
    assert first.fingerprint == second.fingerprint
    assert first.steps == second.steps
