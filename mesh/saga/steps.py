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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, get_type_hints

from google.protobuf.message import Message

from ..call import Method
from ..dial import Remote

if TYPE_CHECKING:
    import grpc

C = TypeVar("C")
Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


@dataclass(frozen=True)
class Undo(Generic[Req]):
    """How to take a step back. It is called only if the step was, or may have been, made."""

    rpc: grpc.aio.UnaryUnaryMultiCallable[Req, Any]
    request: Req


class Runner(Protocol):
    """What makes the steps: the engine, or a journal's replay."""

    async def make(
        self,
        position: int,
        remote: Remote,
        request: Message,
        undo: tuple[Method, Message] | None,
        pivot: bool,
    ) -> Any:
        """Make the step at *position*, or answer it from the journal."""
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
        remote: Remote = rpc  # type: ignore[assignment]  # stubs of mesh channels hold remotes
        undoing = None
        if undo:
            other: Remote = undo.rpc  # type: ignore[assignment]
            undo_method = other.method
            same_barrier = (other.target, undo_method.service) == (
                remote.target,
                remote.method.service,
            )
            if not same_barrier:
                raise TypeError(
                    f"{undo_method.full_name} cannot undo {remote.method.full_name}: the barrier"
                    " between them is in the database of one service"
                )
            undoing = (undo_method, undo.request)
        if self._busy:
            raise OverlapError(f"{remote.method.full_name} overlaps another step of this saga")
        self._busy = True
        self._position += 1
        try:
            reply: Res = await self._runner.make(self._position, remote, request, undoing, pivot)
        finally:
            self._busy = False
        return reply

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


@dataclass(frozen=True)
class Saga(Generic[Req, C]):
    """A saga function, its name and its version."""

    name: str
    version: int
    function: Callable[[Steps, C, Req], Awaitable[None]]
    request_type: type[Req]


def saga(
    *, version: int = 1
) -> Callable[[Callable[[Steps, C, Req], Awaitable[None]]], Saga[Req, C]]:
    """Declare a saga. Raise *version* whenever its steps change."""

    def declare(function: Callable[[Steps, C, Req], Awaitable[None]]) -> Saga[Req, C]:
        names = list(get_type_hints(function).items())
        request_type = names[2][1] if len(names) > 2 else None
        if not (isinstance(request_type, type) and issubclass(request_type, Message)):
            raise TypeError(f"{function.__name__}: its third parameter must be a message")
        return Saga(function.__name__, version, function, cast("type[Req]", request_type))

    return declare
