"""Channels that count what is asked, of lives that are short: what is not called is not built."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from ..call import Call, Method
from ..client import Channel, UnaryRemote
from .tally import Tally


class LazyChannel:
    """The channel to *target*; remote methods make theirs of it at the first call."""

    def __init__(self, target: str, channel: Channel, tally: Tally) -> None:
        self._target = target
        self._channel = channel
        self._tally = tally

    def unary_unary(self, path: str, *args: Any, **options: Any) -> LazyRemote:
        """Return the remote method at *path*."""
        return LazyRemote(path, self._target, self._channel, self._tally)

    def __getattr__(self, kind: str) -> Any:
        return getattr(self._channel, kind)


class LazyRemote:
    """A remote method, as a stub holds it."""

    def __init__(self, path: str, target: str, channel: Channel, tally: Tally) -> None:
        self.method = Method.at(path)
        self.target = target
        self._channel = channel
        self._tally = tally

    @cached_property
    def _remote(self) -> UnaryRemote:
        return self._channel.unary_unary(self.method.path)

    def __call__(self, request: Any, **options: Any) -> Any:
        """Call."""
        self._tally.ask()
        return self._remote(request, **options)

    def send(self, call: Call) -> Any:
        """Send a call that was made elsewhere."""
        self._tally.ask()
        return self._remote.send(call)
