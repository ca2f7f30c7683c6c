"""The storage port: what the mesh asks of a database.

Work on a store is a coroutine function that takes a transaction and awaits nothing but it. The
store decides when it runs, may run it again (a serialisation failure, a neighbour's constraint),
and answers only once its writes are durable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

from google.protobuf.message import Message

from ..call import NOBODY, Call, Principal
from ..errors import InvalidArgument
from ..events import outbox
from ..scope import scope

T = TypeVar("T")
Row: TypeAlias = Sequence[Any]


class Tx(ABC):
    """One open transaction, as handlers see it.

    `principal` is who called, `correlation_id` the id of the request that led to it; both are
    empty outside of a call. `subscription` is whose turn at an event it is. `row_id` is what the
    engine calls the place of a row, whatever the key of its table is.
    """

    row_id: ClassVar[str] = "rowid"

    principal: Principal = NOBODY
    correlation_id: str = ""
    subscription: str = ""

    @abstractmethod
    async def execute(self, sql: str, *params: Any) -> list[Any]:
        """Run one statement, its parameters written ``$1``, ``$2``, …; return its rows.

        Any SQL error dooms the transaction: catching it does not help.

        Raises:
            InvalidArgument: a text holds a NUL, which PostgreSQL cannot keep.
        """

    @abstractmethod
    async def rollback(self) -> None:
        """Take back everything this transaction wrote so far; it may go on."""

    async def publish(self, event: Message) -> int:
        """Publish *event* if and when this transaction commits; return its version, from 1.

        Its message type is the topic, its field 1 the id of what it is about.

        Raises:
            EventTypeError: it is no event, or too long.
        """
        return await outbox.append(self, event)

    @abstractmethod
    def now(self) -> float:
        """Return when the transaction began, in seconds since the epoch: always the same."""

    @abstractmethod
    def new_id(self) -> str:
        """Return a new UUIDv7."""


Work: TypeAlias = Callable[[Tx], Awaitable[T]]


def on_behalf_of(call: Call, work: Work[T]) -> Work[T]:
    """Return *work* with its transaction told whom it serves."""
    correlation_id = scope.get().correlation_id

    def told(tx: Tx) -> Awaitable[T]:
        tx.principal, tx.correlation_id = call.principal, correlation_id
        return work(tx)

    return told


def check_texts(params: Sequence[Any]) -> None:
    """Refuse what one engine would keep and the other could not."""
    for param in params:
        if isinstance(param, str) and "\0" in param:
            raise InvalidArgument("a text holds the character NUL", reason="NUL_IN_TEXT")


class Store(Protocol):
    """A database of one service.

    If it is `shared`, other processes commit to it too, and `changed` may miss some of that.
    """

    shared: bool

    async def write(self, work: Work[T]) -> T:
        """Run *work* in a transaction of its own and return its result once it is durable.

        Raises:
            ForeignAwaitError: the work awaited something that is not its transaction.
            NotStoredError: the database cannot take it now; nothing of it is in.
            StorageError: the database failed; whether the work is in is unknown.
            Exception: what the work raised; nothing of it is kept.
        """
        ...

    async def read(self, work: Work[T]) -> T:
        """Run *work* on a short read-only snapshot."""
        ...

    def changed(self) -> Awaitable[None]:
        """Return what resolves at the next commit; take it before reading, await it after."""
        ...

    @property
    def failing(self) -> StorageError | None:
        """What the last transaction met; None if the database took it."""
        ...

    async def close(self) -> None:
        """Finish what is under way and close."""
        ...


class StorageError(Exception):
    """The database failed; whether the transaction is in is unknown.

    `reason` is for programs: ``STORAGE_FAILED``, or ``STORAGE_CORRUPT`` if asking again cannot
    help.
    """

    def __init__(self, message: str = "", reason: str = "STORAGE_FAILED") -> None:
        super().__init__(message)
        self.reason = reason


class NotStoredError(StorageError):
    """The database cannot take the transaction now: nothing of it is in. Later it may.

    `reason` is ``STORAGE_FULL``, ``STORAGE_BUSY`` or ``STORAGE_FAILED``.
    """


class ForeignAwaitError(TypeError):
    """A transaction awaited something that is not its transaction."""

    def __init__(self, what: object) -> None:
        super().__init__(
            f"a transaction awaits {what!r}: it may await only its tx, since it holds a database"
            " transaction open. Call other services from a @call or an @effect."
        )
