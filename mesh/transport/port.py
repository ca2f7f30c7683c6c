"""The transport port: how a call gets to an address, and what a server answers with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeAlias

from ..call import NEVER, Call, Door, Handler, Layer, Method, StreamHandler, stack, stack_stream
from ..discovery import Reach
from ..metadata import ATTEMPT, DEGRADED, KEY, OUTSIDE_KEY
from ..runtime.clock import Runtime
from ..scope import degrade, said, scope

#: Gives the method at a path, and the layers around its calls.
LayersAt: TypeAlias = Callable[[str], tuple[Method, Sequence[Layer]]]

#: Gives the layers around the calls of a method.
LayersOf: TypeAlias = Callable[[Method], Sequence[Layer]]

#: gRPC refuses, at random, metadata of more than 8 KiB.
METADATA_LIMIT_BYTES = 8 * 1024
#: The longest idempotency key.
KEY_LIMIT_CHARS = 128


class Transport(Protocol):
    """Sends a call to `call.address`. Failures are `mesh.errors.MeshError`s."""

    async def unary(self, call: Call) -> Any:
        """Send, and return the one reply."""
        ...

    def stream(self, call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Send, and yield the replies."""
        ...

    def reach(self, address: str) -> Reach:
        """Return what is known of *address*, and find out more for the next time.

        Asked only where there is a choice of addresses.
        """
        ...

    def forget(self, address: str) -> None:
        """Close the connections to *address*: it is no longer one of the target's."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


@dataclass(frozen=True, slots=True)
class Route:
    """A method and what serves it: `unary` if it has one reply, else `stream`.

    A transport that can refuse a call before it has read it asks the `door` first.
    """

    method: Method
    unary: Handler | None = None
    stream: StreamHandler | None = None
    door: Door | None = None


#: What a server serves, by path.
Routes: TypeAlias = Mapping[str, Route]


def stacked(
    layers_at: LayersAt, unary: Handler, stream: StreamHandler
) -> tuple[Callable[[str], tuple[Method, Handler]], Callable[[str], tuple[Method, StreamHandler]]]:
    """Return what gives the method at a path with its layers around *unary*, and around *stream*.

    Each path is asked for once.
    """

    @cache
    def unary_at(path: str) -> tuple[Method, Handler]:
        method, layers = layers_at(path)
        return method, stack(*layers, around=unary)

    @cache
    def stream_at(path: str) -> tuple[Method, StreamHandler]:
        method, layers = layers_at(path)
        return method, stack_stream(*layers, around=stream)

    return unary_at, stream_at


def remaining_s(call: Call, now: float) -> float | None:
    """Return how long *call* may still take, in seconds; None if it has no deadline.

    A little less than there are three digits for: gRPC writes no more of a timeout, and rounds it
    up, twice (to a millisecond, then to three digits). A server would have up to 1% longer than its
    caller waits, and give as much to those that it calls.
    """
    if call.deadline == NEVER:
        return None
    left_s = max(0.0, call.deadline - now)
    left_ms = int(left_s * 1e3)
    if left_ms < 2:
        return left_s
    unit_ms = 1
    while left_ms >= 1000 * unit_ms:
        unit_ms *= 10
    return (left_ms // unit_ms * unit_ms - 1) / 1e3


def outgoing(call: Call) -> tuple[tuple[str, str], ...]:
    """Return the metadata that goes over the wire with *call*."""
    if call.attempt > 1:
        return tuple({**call.metadata, ATTEMPT: str(call.attempt)}.items())
    return tuple(call.metadata.items())


def outgoing_with(
    call: Call, given: Iterable[tuple[str, str | bytes]]
) -> tuple[tuple[str, str | bytes], ...]:
    """Return the same where the caller gave entries that a mapping cannot hold.

    Layers see the last text of each name. Names that they left alone go out as they were *given*,
    repeated and binary entries included.
    """
    left: dict[str, str | bytes] = dict(outgoing(call))
    given = tuple(given)
    last = dict(given)
    kept = {name for name, value in last.items() if isinstance(value, bytes)}
    kept |= {name for name, value in left.items() if last.get(name) == value}
    unchanged = [(name, value) for name, value in given if name in kept]
    return (*unchanged, *((name, value) for name, value in left.items() if name not in kept))


def answering() -> tuple[tuple[str, str], ...]:
    """Return the initial metadata of the answer that is being made."""
    noted = scope.get().degraded
    return ((DEGRADED, ", ".join(noted)),) if noted else ()


def made() -> tuple[tuple[str, str], ...]:
    """Return the initial metadata of an answer that a layer has just made in place of a server."""
    mark = said.get()
    return ((DEGRADED, mark),) if mark else ()


def answered(metadata: Iterable[tuple[str, Any]]) -> None:
    """Note what an answer says of itself, for the answer that is made of it."""
    for name, value in metadata:
        if name == DEGRADED:
            for one in str(value).split(", "):
                degrade(one[:KEY_LIMIT_CHARS])


def incoming(
    method: Method,
    request: Any,
    metadata: Mapping[str, str],
    time_remaining_s: float | None,
    runtime: Runtime,
) -> Call:
    """Return the call that arrived."""
    key = metadata.get(KEY) or metadata.get(OUTSIDE_KEY, "")
    return Call(
        method=method,
        request=request,
        deadline=(
            NEVER if time_remaining_s is None else runtime.clock.monotonic() + time_remaining_s
        ),
        metadata=metadata,
        key=key[: KEY_LIMIT_CHARS + 1],
    )
