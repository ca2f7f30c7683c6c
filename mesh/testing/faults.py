"""What can go wrong in a cluster, and the moments at which it can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .network import Message

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Point:
    """A moment just before or just after an outside effect of *node*."""

    node: str
    effect: str  # "commit", "send" or "reply"
    method: str = ""
    after: bool = False


class Faults:
    """What goes wrong. The base class lets everything pass and counts."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def kills(self, point: Point) -> bool:
        """Whether *point*'s node dies here."""
        return False

    def starts(self, node: str) -> None:
        """A life of *node* begins."""

    def steps_to_live(self, node: str) -> int:
        """After how many steps *node* dies wherever it is; -1: never."""
        return -1

    def down_s(self, node: str) -> float:
        """How long *node*, which just died, is away."""
        return 1.0

    def skew_s(self, node: str) -> float:
        """By how much the wall clock of *node* is wrong, now."""
        return 0.0

    async def deliver(self, message: Message, send: Callable[[], Awaitable[Any]]) -> Any:
        """Deliver *message*; may delay, repeat or lose it.

        Each call of *send* delivers it once and returns the answer. What this returns or raises
        is what the caller gets, if it still waits.
        """
        return await send()

    async def commit(self, node: str, commit: Callable[[], T]) -> T:
        """Run *commit*, which makes writes of *node* durable; may take time, or fail."""
        return commit()
