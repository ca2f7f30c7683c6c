"""The attempts of a call on a stock sync channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..runtime.driven import Pause, in_background


class Wait(Pause):
    """``await Wait(rpc)``: until *rpc* has ended."""

    def __init__(self, rpc: Any) -> None:
        self._rpc = rpc

    def block(self) -> None:
        """Do nothing: who asks for its reply next waits for that."""

    def then(self, step: Callable[[], object]) -> None:
        """Go on when it has ended, not in the thread that gRPC tells of it."""
        self._rpc.add_done_callback(lambda _: in_background(step))


class Attempts:
    """A call's carrier: how attempts are made, and the one that is under way or was the last."""

    def __init__(self, continuation: Any, details: Any) -> None:
        self._continuation = continuation
        #: Whether the caller waits, and so attempts do: gRPC tells by nothing else.
        self.blocks = ".future." not in getattr(continuation, "__qualname__", "")
        self.details = details
        self.rpc: Any = None
        self.reply: Any = None
        self.cancelled = False

    def start(self, details: Any, request: Any) -> Any:
        """Begin an attempt."""
        if self.cancelled:
            raise asyncio.CancelledError
        rpc = self.rpc = self._continuation(details, request)
        self._cancel_late()
        return rpc

    def _cancel_late(self) -> None:
        """Cancel what was begun while another thread cancelled the call."""
        if self.cancelled:
            self.rpc.cancel()

    def cancel(self) -> None:
        """End the one that is under way; begin no other."""
        self.cancelled = True
        if self.rpc is not None:
            self.rpc.cancel()
