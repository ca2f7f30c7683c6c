"""Exponential backoff with full jitter.

Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between attempts, in seconds: uniform in [0, min(max_s, base_s * 2**(n-1))]."""

    base_s: float = 0.05
    max_s: float = 2.0

    def __post_init__(self) -> None:
        if self.base_s < 0.0 or self.max_s < 0.0:
            raise ValueError("base_s and max_s are not negative")

    def ceiling_s(self, attempt: int) -> float:
        """Return the longest delay after attempt number *attempt*, from 1."""
        return min(self.max_s, self.base_s * 2.0 ** min(attempt - 1, 60))

    def delay_s(self, attempt: int, random: Random) -> float:
        """Return the delay to wait after attempt number *attempt*, from 1."""
        return random.uniform(0.0, self.ceiling_s(attempt))
