"""Calls as callers of stock sync stubs know them, with layers at work behind them.

The layers of a call are a coroutine, which pauses while they sleep and while an attempt is on its
way. The caller's thread drives it; where the caller does not wait (``stub.Method.future``) it is
that thread's up to its first pause, and goes on in the background.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from threading import Condition, Lock
from typing import Any

import grpc
from grpc import StatusCode

from ..runtime.driven import Pause, Rest, drive, finish, in_background, pause_of
from .grpc_sync_attempts import Attempts
from .grpc_sync_errors import SyncRpcError, stock_error
from .port import made


class _DrivenCall(grpc.Call, grpc.Future):  # type: ignore[type-arg]  # no generic at run time
    """What both kinds have in common: how it ended, and who wants to know."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._context = contextvars.copy_context()
        self._ended = Condition()
        self._over = False
        self._reply: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], object]] = []

    def _end(self, reply: Any, error: BaseException | None) -> None:
        with self._ended:
            if self._over:
                return
            self._over, self._reply = True, reply
            self._error = stock_error(error) if error is not None else None
            callbacks, self._callbacks = self._callbacks, []
            self._ended.notify_all()
        for callback in callbacks:
            callback()

    def _wait(self, timeout: float | None = None) -> None:
        with self._ended:
            if not self._ended.wait_for(lambda: self._over, timeout):
                raise grpc.FutureTimeoutError

    def cancel(self) -> bool:
        """End the call and what the layers do for it."""
        if self._over:
            return False
        self._attempts.cancel()
        return True

    def cancelled(self) -> bool:
        """Whether it was ended by `cancel`."""
        return self._over and self._attempts.cancelled and self._status() is StatusCode.CANCELLED

    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._over

    is_active = running

    def done(self) -> bool:
        """Whether it has ended."""
        return self._over

    def time_remaining(self) -> Any:
        """Return how long the attempt under way may take, in seconds."""
        return None if self._over else self._of_last("time_remaining")

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Tell *callback* of its end; False if that has been."""
        with self._ended:
            if not self._over:
                self._callbacks.append(callback)
            return not self._over

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Tell *fn* of its end."""
        if not self.add_callback(lambda: fn(self)):
            fn(self)

    def result(self, timeout: float | None = None) -> Any:
        """Return the reply, or raise what ended it."""
        self._wait(timeout)
        if self.cancelled():
            raise grpc.FutureCancelledError
        if self._error is not None:
            raise self._error
        return self._reply

    def exception(self, timeout: float | None = None) -> Any:
        """Return what ended it."""
        self._wait(timeout)
        if self.cancelled():
            raise grpc.FutureCancelledError
        return self._error

    def traceback(self, timeout: float | None = None) -> Any:
        """Return where it was raised."""
        error = self.exception(timeout)
        return error.__traceback__ if error is not None else None

    def initial_metadata(self) -> Any:
        """Return that of the last attempt."""
        return self._of_last("initial_metadata")

    def trailing_metadata(self) -> Any:
        """Return that of its failure, or of the last attempt."""
        self._settle()
        if isinstance(self._error, SyncRpcError):
            return self._error.trailing_metadata()
        return self._of_last("trailing_metadata")

    def code(self) -> StatusCode:
        """Return its status, once it has ended."""
        self._settle()
        return self._status()

    def details(self) -> str:
        """Return what was said of its failure, once it has ended."""
        self._settle()
        return str(self._error.details() or "") if isinstance(self._error, grpc.RpcError) else ""

    def _settle(self) -> None:
        self._wait()

    def _status(self) -> StatusCode:
        if self._error is None:
            return StatusCode.OK
        return self._error.code() if isinstance(self._error, grpc.RpcError) else StatusCode.UNKNOWN

    def _of_last(self, what: str) -> Any:
        rpc = self._attempts.rpc
        return getattr(rpc, what)() if rpc is not None else None


class ReplyCall(_DrivenCall):
    """A call with one reply."""

    def __init__(self, layers: Awaitable[Any], attempts: Attempts) -> None:
        super().__init__(attempts)
        self._steps = layers.__await__()
        self._pause: Pause | None = None
        self._advance()

    def _advance(self) -> None:
        """Drive the layers to their end; if nobody waits for that, to their next pause."""
        try:
            if self._attempts.blocks:
                self._end(self._context.run(finish, self._steps), None)
                return
            pause = self._pause = self._context.run(pause_of, self._steps)
        except StopIteration as stop:
            self._end(stop.value, None)
        except BaseException as error:  # noqa: BLE001  # `result` raises it
            self._end(None, error)
        else:
            pause.then(partial(self._go_on, pause))

    def _go_on(self, pause: Pause) -> None:
        with self._ended:
            if self._pause is not pause:
                return  # cut short
            self._pause = None
        self._advance()

    @property
    def _made(self) -> bool:
        """Whether a layer answered."""
        return self._over and not self._error and self._reply is not self._attempts.reply

    def initial_metadata(self) -> Any:
        """Return that of the last attempt; of a layer's own answer, what it says of that."""
        return self._context.run(made) if self._made else super().initial_metadata()

    def trailing_metadata(self) -> Any:
        """Return that of its failure, or of the last attempt; a layer's own answer has none."""
        self._settle()
        return () if self._made else super().trailing_metadata()

    def cancel(self) -> bool:
        """End the call and what the layers do for it; one that rests ends at once."""
        cancelled = super().cancel()
        if isinstance(pause := self._pause, Rest):
            in_background(partial(self._go_on, pause))
        return cancelled


class RepliesCall(_DrivenCall, Iterator[Any]):
    """A call with many replies. It is under way at once; who asks for a reply drives it on."""

    def __init__(self, replies: AsyncIterator[Any], attempts: Attempts) -> None:
        super().__init__(attempts)
        self._replies = replies
        self._reading = Lock()
        self._steps: Any = None
        self._pause: Pause | None = None
        self._first: list[Any] = []
        with self._reading:
            self._begin()

    def _begin(self) -> None:
        """Drive the layers until the call is under way, or rests."""
        self._steps = self._replies.__anext__().__await__()
        try:
            self._pause = self._context.run(pause_of, self._steps)
        except StopIteration as stop:  # a layer had a reply of its own
            self._steps = None
            self._first.append(stop.value)
        except BaseException as error:  # noqa: BLE001  # the reader gets it
            self._fail(error)

    def __next__(self) -> Any:
        """Return the next reply."""
        with self._reading:
            if not self._over:
                try:
                    return self._first.pop() if self._first else self._context.run(self._take)
                except BaseException as error:  # noqa: BLE001  # raised below, as stock has it
                    self._fail(error)
        if self._error is not None:
            raise self._error
        raise StopIteration

    def _take(self) -> Any:
        steps = self._steps or self._replies.__anext__().__await__()
        if self._pause:
            self._pause.block()
        self._steps = self._pause = None
        return finish(steps)

    def _fail(self, error: BaseException) -> None:
        self._steps = None
        self._end(None, None if isinstance(error, StopAsyncIteration) else error)

    def cancel(self) -> bool:
        """End the call; who is reading it gets to know."""
        cancelled = super().cancel()
        if self._reading.acquire(blocking=False):
            try:
                self._leave()
            finally:
                self._reading.release()
        return cancelled

    def _leave(self) -> None:
        """Let the layers end, since nobody reads on."""
        if self._over:
            return
        try:
            if self._steps is not None:
                self._context.run(self._steps.throw, asyncio.CancelledError())
            else:
                self._context.run(drive, self._replies.aclose())  # type: ignore[attr-defined]
        except (Exception, asyncio.CancelledError):  # noqa: BLE001, S110  # they have ended
            pass
        self._fail(asyncio.CancelledError())

    def __del__(self) -> None:
        """As stock calls do, end with the last one who could read on."""
        self.cancel()

    def _settle(self) -> None:
        """Who asks how a stream ended before it was read to its end learns of its attempt."""

    def code(self) -> StatusCode:
        """Return its status; until it was read to its end, that of the attempt under way."""
        return self._status() if self._over else self._of_last("code")
