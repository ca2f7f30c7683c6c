"""Processes that die as a whole, and the pieces of a loop that know whose they are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, Protocol


class Process(Protocol):
    """What dies as a whole."""

    dead: bool
    #: After this many more steps it may die; negative: not by that.
    fuse: int
    #: What it has to do once it is no longer stopped; None: it is not.
    stopped: list[Handle] | None

    def burn_out(self) -> None:
        """Its fuse is at its end."""
        ...


#: Whose code is running: None is the world around the processes.
running_as: ContextVar[Process | None] = ContextVar("mesh_running_as", default=None)


class Handle:
    """A callback that is to run. asyncio calls its methods."""

    __slots__ = ("args", "at_s", "callback", "context")

    def __init__(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context, at_s: float
    ) -> None:
        self.callback: Callable[..., Any] | None = callback
        self.args = args
        self.context = context
        self.at_s = at_s

    def cancel(self) -> None:
        """Never run it."""
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.callback is None

    def when(self) -> float:
        """Return its time."""
        return self.at_s


class Task(asyncio.tasks._PyTask):  # type: ignore[name-defined, misc]  # noqa: SLF001
    """asyncio's task in Python: its C twin crashes CPython 3.11 if it is dropped unfinished."""

    _log_destroy_pending = False

    def is_dead(self) -> bool:
        """Whether the process that it is of has died."""
        process = self._context.get(running_as)
        return process is not None and process.dead

    def drop(self) -> None:
        """Close the coroutine where it stands, in its own context."""
        with contextlib.suppress(BaseException):
            self._context.run(self._coro.close)
