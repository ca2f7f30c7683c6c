"""The benchmark of cancelling does what it says: no figures, only that calls end at the leaf."""

from __future__ import annotations

from benchmarks.cancel import took_ms


async def test_every_call_that_is_left_ends_at_the_last_hop() -> None:
    found = await took_ms(3)
    assert len(found) == 3
    assert min(found) > 0.0
