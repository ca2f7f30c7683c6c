"""Channels of lives that are short: what is never called is never put together."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from ..call import Call, Method
from ..client import Channel, UnaryRemote


class LazyChannel:
    """The channel to *target*; remote methods make theirs of it at the first call."""

    def __init__(self, target: str, channel: Channel) -> None:
        self._target = target
        self._channel = channel

    def unary_unary(self, path: str, *args: Any, **options: Any) -> LazyRemote:
        """Return the remote method at *path*."""
        return LazyRemote(path, self._target, self._channel)

    def __getattr__(self, kind: str) -> Any:
        return getattr(self._channel, kind)


class LazyRemote:
    """A remote method, as a stub holds it."""

    def __init__(self, path: str, target: str, channel: Channel) -> None:
        self.method = Method.at(path)
        self.target = target
        self._channel = channel

    @cached_property
    def _remote(self) -> UnaryRemote:
        return self._channel.unary_unary(self.method.path)

    def __call__(self, request: Any, **options: Any) -> Any:
        """Call."""
        return self._remote(request, **options)

    def send(self, call: Call) -> Any:
        """Send a call that was made elsewhere."""
        return self._remote.send(call)
