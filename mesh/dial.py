"""How a service gets its clients, and how the mesh learns whom a service calls.

A service's ``clients.py`` declares each stub with the methods it uses::

    class Clients:
        def __init__(self, dial: Dial) -> None:
            self.user = UserServiceStub(dial("user", "GetUser"))

Whatever it does not name it cannot call. The same declaration, read without a network, is what
authorization and the service map know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

import grpc

from .call import Call, Method
from .errors import UndeclaredCall

C = TypeVar("C")


class DeclarationError(TypeError):
    """The code and the contract disagree."""


class Remote(Protocol):
    """A remote method, as stubs of mesh channels hold them."""

    method: Method
    target: str

    async def send(self, call: Call) -> Any:
        """Send *call* through the client stack; return its reply."""
        ...


class Dial:
    """Opens the declared channels; remembers every remote method, by (target, path).

    Two targets may speak one contract, each with a database and so a barrier of its own.
    """

    def __init__(self, connect: Callable[[str], Any]) -> None:
        self._connect = connect
        self._channels: list[_DeclaredChannel] = []
        self.remotes: dict[tuple[str, str], Remote] = {}

    def __call__(self, target: str, *methods: str) -> grpc.aio.Channel:
        """Return a channel to *target* on which only *methods* may be called."""
        channel: Any = _DeclaredChannel(self._connect(target), target, methods, self.remotes)
        self._channels.append(channel)
        return cast("grpc.aio.Channel", channel)

    def check(self) -> None:
        """Fail if a method was declared that its stub does not have."""
        for channel in self._channels:
            if channel.unmet:
                raise DeclarationError(
                    f"clients.py declares {', '.join(sorted(channel.unmet))} of"
                    f" {channel.target!r}, and its stub has no such method"
                )


class _DeclaredChannel:
    """Passes on what is declared, replaces the rest by a refusal."""

    def __init__(
        self,
        channel: Any,
        target: str,
        methods: Sequence[str],
        remotes: dict[tuple[str, str], Remote],
    ) -> None:
        self.target = target
        self.unmet = set(methods)
        self._channel = channel
        self._methods = methods
        self._remotes = remotes

    def __getattr__(self, kind: str) -> Any:
        make = getattr(self._channel, kind)

        def multicallable(path: str, *args: Any, **options: Any) -> Any:
            if path.rpartition("/")[2] not in self._methods:
                return _undeclared(path, self.target)
            self.unmet.discard(path.rpartition("/")[2])
            remote = make(path, *args, **options)
            self._remotes[self.target, path] = remote
            return remote

        return multicallable


def _undeclared(path: str, target: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        error = UndeclaredCall(f"{path} of {target!r} is not declared in clients.py")
        error.of_call = path.removeprefix("/")
        raise error

    return refuse


def no_clients(dial: Dial) -> Any:
    """Make the clients of a service that calls nobody."""


def dialled(clients: Callable[[Dial], C], connect: Callable[[str], Any]) -> tuple[C, Dial]:
    """Return the clients and the dial that made them.

    Raises:
        DeclarationError: a declared method does not exist.
    """
    dial = Dial(connect)
    made = clients(dial)
    dial.check()
    return made, dial


def declared(clients: Callable[[Dial], Any]) -> list[tuple[str, Method]]:
    """Return (target, method) for each call that *clients* declares, without a network."""
    _, dial = dialled(clients, _Recorder)
    return [(remote.target, remote.method) for remote in dial.remotes.values()]


class _Recorder:
    """A channel that goes nowhere."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __getattr__(self, kind: str) -> Any:
        def multicallable(path: str, *args: Any, **options: Any) -> Any:
            return type("Declared", (), {"method": Method.at(path), "target": self.target})

        return multicallable
