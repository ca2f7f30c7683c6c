"""A streaming estimate of a percentile of what was measured lately. Pure.

Measurements are counted in buckets each a little wider than the one before, as DDSketch does
(Masson, Rim and Lee, VLDB 2019): the estimate is at most `ACCURACY` above the true percentile, and
not below it, however the measurements lie. Old ones fade: half of all that is counted goes
whenever it has grown to `WINDOW`.
"""

from __future__ import annotations

import math
from collections import Counter

ACCURACY = 0.02
WINDOW = 1000
#: The estimate is made anew after so many measurements.
REFRESH = 16
#: What is shorter counts as this long, in seconds.
SHORTEST_S = 1e-6

_LOG_WIDTH = math.log1p(ACCURACY)


class Quantile:
    """One percentile of durations, in seconds.

    Args:
        share: which, from 0 to 1: what this share of the durations does not exceed.
        samples_min: until there are so many there is no estimate.
    """

    def __init__(self, share: float, samples_min: int) -> None:
        self._share = share
        self._samples_min = samples_min
        self._buckets: Counter[int] = Counter()
        self._count = self._seen = 0
        self._estimate_s: float | None = None

    def observe(self, duration_s: float) -> None:
        """Count one more."""
        self._buckets[math.ceil(math.log(max(duration_s, SHORTEST_S)) / _LOG_WIDTH)] += 1
        self._count += 1
        self._seen += 1
        if self._count >= WINDOW:
            self._fade()
        if self._seen >= self._samples_min and (
            self._estimate_s is None or not self._seen % REFRESH
        ):
            self._estimate_s = self._find()

    @property
    def estimate_s(self) -> float | None:
        """The percentile; None until enough is known."""
        return self._estimate_s

    def _fade(self) -> None:
        halved = ((bucket, count // 2) for bucket, count in self._buckets.items())
        self._buckets = Counter({bucket: count for bucket, count in halved if count})
        self._count = self._buckets.total()

    def _find(self) -> float | None:
        wanted = self._share * self._count
        below = 0
        for bucket in sorted(self._buckets):
            below += self._buckets[bucket]
            if below >= wanted:
                return math.exp(bucket * _LOG_WIDTH)
        return self._estimate_s  # all that was counted has faded: each was alone
