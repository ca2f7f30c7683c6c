"""The retry budget: what may be sent beyond what callers asked for. Pure and thread-safe.

A token bucket. Each call earns a share of a token and each second some more; a retry costs one. So
however many calls fail, a client sends a target at most `share` more calls than it was asked for,
and `per_s`, and `burst` once. After Finagle's `RetryBudget`
(https://finagle.github.io/blog/2016/02/08/retry-budgets/) and gRFC A6's throttling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from ..runtime.clock import Runtime
from ..runtime.metrics import Metrics


@dataclass(frozen=True)
class BudgetConfig:
    """How many retries: `share` of the calls, and `per_s` a second, and `burst` at once."""

    share: float = 0.1
    per_s: float = 1.0
    burst: float = 10.0

    def __post_init__(self) -> None:
        if self.share < 0.0 or self.per_s < 0.0 or self.burst < 1.0:
            raise ValueError("share and per_s are not negative, burst is at least 1: one retry")


class Budget:
    """One bucket, full at first.

    Args:
        config: its sizes.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, config: BudgetConfig, now: Callable[[], float]) -> None:
        self._config = config
        self._now = now
        self._lock = Lock()
        self._tokens = config.burst
        self._filled_at = now()

    @property
    def left(self) -> float:
        """How many retries may be sent now."""
        with self._lock:
            self._fill()
            return self._tokens

    def deposit(self) -> None:
        """A call is made."""
        with self._lock:
            self._tokens = min(self._tokens + self._config.share, self._config.burst)

    def withdraw(self) -> bool:
        """Whether a retry may be sent; if so, it is paid."""
        with self._lock:
            self._fill()
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True

    def _fill(self) -> None:
        now = self._now()
        earned = (now - self._filled_at) * self._config.per_s
        self._tokens = min(self._tokens + earned, self._config.burst)
        self._filled_at = now


def open_budget(config: BudgetConfig, runtime: Runtime, _: Metrics | None = None) -> Budget:
    """Return a full budget."""
    return Budget(config, runtime.clock.monotonic)
