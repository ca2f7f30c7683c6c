"""What a client asked, and what it sent again: never more than its retry budget has paid for."""

from __future__ import annotations

import asyncio

from ..layers.budget import BudgetConfig


class Tally:
    """The calls and retries of one channel, counted on the wire.

    Args:
        who: whose channel to whom it is, for people.
        budget: what pays its retries; None: it may send none.
    """

    def __init__(self, who: str, budget: BudgetConfig | None) -> None:
        self._who = who
        self._budget = budget
        self._began_s = asyncio.get_running_loop().time()
        self._calls = 0
        self._retries = 0
        #: What it has sent beyond its budget.
        self.problem = ""

    def ask(self) -> None:
        """A call is made."""
        self._calls += 1

    def send(self, attempt: int) -> None:
        """An attempt of a call goes out: the first is number 1."""
        if attempt == 1:
            return
        self._retries += 1
        if self._retries > self._paid():
            self.problem = (
                f"{self._who}: {self._retries} retries of {self._calls} calls,"
                f" {self._paid():.1f} are paid for"
            )

    def _paid(self) -> float:
        """Return how many retries the budget can have paid for by now."""
        if self._budget is None:
            return 0.0
        passed_s = asyncio.get_running_loop().time() - self._began_s
        earned = self._budget.share * self._calls + self._budget.per_s * passed_s
        return self._budget.burst + earned + 1e-6
