"""What a saga is written in.

::

    @saga(version=1)
    async def place_order(step: Steps, to: Clients, order: PlaceOrderRequest) -> None:
        await step(to.inventory.ReserveStock, ReserveStockRequest(...),
                   undo=Undo(to.inventory.ReleaseStock, ReleaseStockRequest(...)))
        await step(to.payment.ChargePayment, ...)

A saga function is deterministic: when its process dies it is run again from the top, and the
steps that were made are answered from the journal. Time, chance and ids come from `Steps`.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, get_type_hints, overload

from google.protobuf.message import Message

from ..call import Method
from ..dial import Remote

if TYPE_CHECKING:
    import grpc

#: How long a saga has until its pivot, unless it says something else, in seconds.
DEADLINE_S = 600.0

C = TypeVar("C")
Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)
Res2 = TypeVar("Res2", bound=Message)
Res3 = TypeVar("Res3", bound=Message)


@dataclass(frozen=True)
class Undo(Generic[Req]):
    """How to take a step back. It is called only if the step was, or may have been, made."""

    rpc: grpc.aio.UnaryUnaryMultiCallable[Req, Any]
    request: Req


@dataclass(frozen=True)
class Branch(Generic[Req, Res]):
    """One of several steps that are made side by side, see `Steps.all`."""

    rpc: grpc.aio.UnaryUnaryMultiCallable[Req, Res]
    request: Req
    undo: Undo[Any] | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """A step that a function asks for. `undo` is a method and its request."""

    remote: Remote
    request: Message
    undo: tuple[Method, Message] | None = None
    branch: int = 0


class Runner(Protocol):
    """What makes the steps: the engine, or the replay of a recording (`mesh.testing.replay`)."""

    async def make(self, position: int, asks: Sequence[Ask], pivot: bool) -> list[Any]:
        """Make the steps at *position*, or answer them from the journal.

        Raises:
            Refused: at least one of them was refused; all are answered.
        """
        ...

    def now(self) -> float:
        """Return when the last answered step ended."""
        ...


class OverlapError(RuntimeError):
    """Two steps of one saga at once: their order would not be the same again."""


class Steps:
    """Makes the steps of one saga."""

    def __init__(self, saga_id: str, runner: Runner) -> None:
        self.saga_id = saga_id
        self._runner = runner
        self._position = 0
        self._drawn = 0
        self._busy = False

    async def __call__(
        self,
        rpc: grpc.aio.UnaryUnaryMultiCallable[Req, Res],
        request: Req,
        *,
        undo: Undo[Any] | None = None,
        pivot: bool = False,
    ) -> Res:
        """Make one step and return its reply.

        Once a *pivot* is made the saga only goes forward: it is not cancelled, does not run out
        of time and is not undone.

        Raises:
            Refused: the answer was no. Let it pass, and what was done is undone.
        """
        (reply,) = await self._make([_ask(rpc, request, undo)], pivot)
        return cast("Res", reply)

    @overload
    async def all(self, one: Branch[Any, Res], /) -> tuple[Res]: ...
    @overload
    async def all(self, one: Branch[Any, Res], two: Branch[Any, Res2], /) -> tuple[Res, Res2]: ...
    @overload
    async def all(
        self, one: Branch[Any, Res], two: Branch[Any, Res2], three: Branch[Any, Res3], /
    ) -> tuple[Res, Res2, Res3]: ...
    @overload
    async def all(self, *branches: Branch[Any, Any]) -> tuple[Any, ...]: ...
    async def all(self, *branches: Branch[Any, Any]) -> tuple[Any, ...]:
        """Make several steps side by side and return their replies, in the order given.

        Their intents are one commit. All of them are waited for, whatever the others answer.

        Raises:
            Refused: the first, in the order given, that was answered with a no.
        """
        asks = [
            _ask(branch.rpc, branch.request, branch.undo, number)
            for number, branch in enumerate(branches, start=1)
        ]
        return tuple(await self._make(asks, pivot=False)) if asks else ()

    async def _make(self, asks: Sequence[Ask], pivot: bool) -> list[Any]:
        if self._busy:
            asked = asks[0].remote.method.full_name
            raise OverlapError(f"{asked} overlaps another step of this saga: see step.all()")
        self._busy = True
        self._position += 1
        try:
            return await self._runner.make(self._position, asks, pivot)
        finally:
            self._busy = False

    def now(self) -> float:
        """Return the time the last step was answered, in seconds since the epoch."""
        return self._runner.now()

    def random(self) -> Random:
        """Return a generator that draws the same at every run of this saga."""
        self._drawn += 1
        return Random(f"{self.saga_id}/{self._drawn}")  # noqa: S311  # repeatable on purpose

    def uuid(self) -> str:
        """Return a UUID that is the same at every run of this saga."""
        return str(uuid.UUID(int=self.random().getrandbits(128), version=4))


def _ask(
    rpc: grpc.aio.UnaryUnaryMultiCallable[Any, Any],
    request: Message,
    undo: Undo[Any] | None,
    branch: int = 0,
) -> Ask:
    """Return the step that is asked for.

    Raises:
        TypeError: its undo is not of the same service of the same target.
    """
    remote: Remote = rpc  # type: ignore[assignment]  # stubs of mesh channels hold remotes
    if undo is None:
        return Ask(remote, request, None, branch)
    other: Remote = undo.rpc  # type: ignore[assignment]
    if (other.target, other.method.service) != (remote.target, remote.method.service):
        raise TypeError(
            f"{other.method.full_name} cannot undo {remote.method.full_name}: the barrier"
            " between them is in the database of one service"
        )
    return Ask(remote, request, (other.method, undo.request), branch)


@dataclass(frozen=True)
class Saga(Generic[Req, C]):
    """A saga function, its name and its version."""

    name: str
    version: int
    function: Callable[[Steps, C, Req], Awaitable[None]]
    request_type: type[Req]
    deadline_s: float = DEADLINE_S


def saga(
    *, version: int = 1, name: str = "", deadline_s: float = DEADLINE_S
) -> Callable[[Callable[[Steps, C, Req], Awaitable[None]]], Saga[Req, C]]:
    """Declare a saga, called *name* or as its function is.

    Raise *version* whenever its steps change, and keep the function of the old one, under the
    same name, until the last of its sagas has ended.

    One that has not reached its pivot *deadline_s* seconds after it was started is undone.
    """
    if deadline_s <= 0.0:
        raise ValueError("deadline_s is more than 0")

    def declare(function: Callable[[Steps, C, Req], Awaitable[None]]) -> Saga[Req, C]:
        names = list(get_type_hints(function).items())
        request_type = names[2][1] if len(names) > 2 else None
        if not (isinstance(request_type, type) and issubclass(request_type, Message)):
            raise TypeError(f"{function.__name__}: its third parameter must be a message")
        kind = cast("type[Req]", request_type)
        return Saga(name or function.__name__, version, function, kind, deadline_s)

    return declare
