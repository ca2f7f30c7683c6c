"""What went wrong in a run, in order: recorded, and replayed with parts left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeAlias

#: The kind of what a simulation's clients do; it is no fault, and may be left out like one.
CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, at the *number*-th occasion of its kind and place.

    Each kind has at each place a random sequence of its own, so that a fault left out changes
    nothing of what is drawn for the others.
    """

    kind: str
    where: str
    number: int
    at_s: float = field(default=0.0, compare=False)
    detail: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        """What replays it: ``kind:where:number``."""
        return f"{self.kind}:{self.where}:{self.number}"

    def __str__(self) -> str:
        """Return a line for people."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.at_s:9.3f} s  {self.kind}: {self.where}, occasion {self.number}{detail}"


#: Decides which of the faults that are drawn happen.
Happens: TypeAlias = Callable[[Fault], bool]


def everything(fault: Fault) -> bool:
    """All faults happen."""
    return True


def nothing(fault: Fault) -> bool:
    """No fault happens; clients do all that they have in mind."""
    return fault.kind == CLIENT


def only(ids: Iterable[str]) -> Happens:
    """Only the faults, and only what clients do, with these ids."""
    chosen = frozenset(ids)
    return lambda fault: fault.id in chosen


class Schedule:
    """The faults of one run."""

    def __init__(self, happens: Happens = everything) -> None:
        self._happens = happens
        self.faults: list[Fault] = []
        #: How often each (kind of fault, method) met: the fault while the method was under way.
        self.met: Counter[tuple[str, str]] = Counter()

    def admits(self, fault: Fault, methods: Iterable[str] = ()) -> bool:
        """Whether *fault*, which was drawn, happens. It meets the calls of *methods*."""
        if not self._happens(fault):
            return False
        self.faults.append(fault)
        for method in methods:
            self.met[fault.kind, method] += 1
        return True


class Chronicle:
    """What happened, as a fingerprint and, if it is to be told, as a text."""

    def __init__(self, told: bool = False) -> None:
        self._hash = blake2b(digest_size=8)
        self._told = told
        self.lines: list[str] = []

    def note(self, at_s: float, step: int, what: str) -> None:
        """Add an event."""
        self._hash.update(f"{step} {at_s!r} {what}".encode())
        if self._told:
            self.lines.append(f"{at_s:9.3f} s  {what}")

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that tell one run from another."""
        return self._hash.hexdigest()
