"""Where a target is: addresses that were given, or names that are looked up again and again."""

from __future__ import annotations

import asyncio
import enum
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from .call import NEVER
from .errors import Expired, NotExecuted
from .runtime import beside
from .runtime.clock import Runtime
from .runtime.logs import log

#: A name is looked up again when what is known is this old, or, if an address of it is out of
#: reach, this old: replicas come and go. A lookup that takes longer has failed.
REFRESH_S = 30.0
DOUBT_S = 1.0
LOOKUP_TIMEOUT_S = 5.0
#: More replicas than this are not used: a name server must not fill our memory.
ADDRESSES_MAX = 256

_DNS = "dns:///"

#: Looks up (host, port); returns addresses as gRPC writes them.
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]


class Reach(enum.IntEnum):
    """Whether an address can be reached, best first."""

    READY = 0
    UNTRIED = 1  # or just being tried
    UNWILLING = 2  # somebody is there who wants no calls, and may still serve one
    FAILING = 3  # nobody is there


class Directory(Protocol):
    """The addresses of one target."""

    async def addresses(self, deadline: float = NEVER) -> Sequence[str]:
        """Return them, at least one; *deadline* is on the runtime's monotonic clock.

        Raises:
            NotExecuted: none is known, or not by then.
        """
        ...

    def doubt(self) -> None:
        """Take note that an address is out of reach: it may be gone."""
        ...


class Listed:
    """Addresses that never change."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.all = tuple(addresses)

    async def addresses(self, deadline: float = NEVER) -> Sequence[str]:
        """Return them."""
        return self.all

    def doubt(self) -> None:
        """There are no others."""


class Names:
    """Names in DNS, each with a port, and addresses beside them.

    They are looked up at the first call, which waits for it, and later in the background, while
    calls go on to what is known. A lookup that fails changes nothing.
    """

    def __init__(
        self, names: Sequence[str], runtime: Runtime, lookup: Lookup | None = None
    ) -> None:
        self._names = [_parsed(name) for name in names]
        self._runtime = runtime
        self._lookup = lookup or look_up
        self._known: tuple[str, ...] = ()
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def addresses(self, deadline: float = NEVER) -> Sequence[str]:
        """Return what is known; look up if it is old."""
        if not self._known:
            await self._looked_up(deadline)
            if not self._known:
                raise NotExecuted(f"no address is known for {self}", reason="NO_ADDRESS")
        elif self._age_s() > REFRESH_S:
            self._refresh()
        return self._known

    def __str__(self) -> str:
        return ", ".join(f"{host}:{port}" if port else host for host, port in self._names)

    async def _looked_up(self, deadline: float) -> None:
        """Wait for the lookup, which others wait for as well: it goes on without us."""
        left_s = None if deadline == NEVER else deadline - self._runtime.clock.monotonic()
        try:
            await asyncio.wait_for(asyncio.shield(self._refresh()), left_s)
        except TimeoutError:
            raise Expired(f"no address was known in time for {self}") from None

    def doubt(self) -> None:
        """Look up again, unless that was only just done."""
        if self._age_s() > DOUBT_S:
            self._refresh()

    def _age_s(self) -> float:
        return self._runtime.clock.monotonic() - self._looked_at

    def _refresh(self) -> asyncio.Task[None]:
        if self._looking is None or self._looking.done():
            self._looking = beside.begin(self._look())
        return self._looking

    async def _look(self) -> None:
        found: dict[str, None] = {}
        for host, port in self._names:
            try:
                here = await self._look_up_one(host, port)
            except (OSError, TimeoutError) as error:
                log.warning("a name cannot be looked up", name=host, error=repr(error))
                found |= dict.fromkeys(self._known)
            else:
                found |= dict.fromkeys(here)
        self._known = tuple(found)[:ADDRESSES_MAX] or self._known
        self._looked_at = self._runtime.clock.monotonic()

    async def _look_up_one(self, host: str, port: int) -> Sequence[str]:
        if not port:
            return [host]
        return await asyncio.wait_for(self._lookup(host, port), LOOKUP_TIMEOUT_S)


async def look_up(host: str, port: int) -> Sequence[str]:
    """Ask the machine's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    hosts = [(family, str(where[0])) for family, _, _, _, where in found]
    return [
        f"[{address}]:{port}" if family is socket.AF_INET6 else f"{address}:{port}"
        for family, address in hosts
    ]


def directory_of(addresses: Sequence[str], runtime: Runtime) -> Directory:
    """Return the directory of *addresses*: ``host:port``, ``dns:///host:port``, or else gRPC's.

    Raises:
        ValueError: a DNS name has no port.
    """
    if any(address.startswith(_DNS) for address in addresses):
        return Names(addresses, runtime)
    return Listed(addresses)


def _parsed(address: str) -> tuple[str, int]:
    """Return (host, port) of a name; (*address*, 0) of anything else."""
    if not address.startswith(_DNS):
        return address, 0
    host, colon, port = address.removeprefix(_DNS).rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise ValueError(f"{address}: dns:///HOST:PORT is wanted")
    return host.strip("[]"), int(port)
