"""Which steps of the sagas were interrupted, and by whose death."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.soak.journal import Step

#: Every call that the sagas of an order make, in their order.
STEPS: Final = (
    "do user GetUser",
    "do order QuoteOrder",
    "do order CreateOrder",
    "do inventory ReserveStock",
    "do payment ChargePayment",
    "do shipping CreateShipment",
    "do order ConfirmOrder",
    "do inventory CommitReservation",
    "do shipping ReleaseShipment",
    "undo shipping CancelShipment",
    "undo payment RefundPayment",
    "undo inventory ReleaseStock",
    "undo order CancelOrder",
    "do shipping CancelShipment",
    "do payment RefundPayment",
    "do inventory ReturnStock",
    "do order CancelOrder",
)
#: Who else serves a step of payment: it asks the provider.
PROVIDER, PAYMENT = "provider", "payment"


def hit_by(victims: Iterable[str], step: Step) -> bool:
    """Whether the death of *victims* interrupts a step that is being made."""
    target = {PROVIDER} if step.target == PAYMENT else set()
    return bool({step.caller, step.target, *target} & set(victims))


@dataclass
class Coverage:
    """Counts interruptions: of each step, by the death of its caller and of its callee."""

    counts: Counter[tuple[str, bool]] = field(default_factory=Counter)

    def add(self, victims: Collection[str], interrupted: Iterable[Step]) -> None:
        """Count what one kill interrupted."""
        for step in interrupted:
            self.counts[step.kind, step.caller in victims] += 1

    @property
    def missing(self) -> list[str]:
        """The steps that were never interrupted."""
        return [kind for kind in STEPS if not self.of(kind)]

    def of(self, kind: str) -> int:
        """How often a step was interrupted."""
        return self.counts[kind, True] + self.counts[kind, False]

    def rows(self) -> list[tuple[str, int, int]]:
        """Each step: how often its orchestrator died, how often who serves it."""
        kinds = dict.fromkeys([*STEPS, *(kind for kind, _ in self.counts)])
        return [(kind, self.counts[kind, True], self.counts[kind, False]) for kind in kinds]
