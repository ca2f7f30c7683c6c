"""A network between the processes of a system: a TCP proxy before every service and the bus.

Services are at 127.0.0.1, and everybody looks for them at 127.0.0.2, where the proxies are (Linux
has all of 127.0.0.0/8). The proxies run in a thread of their own: the system starts meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, TypeVar

from mesh.runtime.config import Config
from mesh.testing.tcp_proxy import Link, TcpProxy

T = TypeVar("T")

BUS: Final = "nats"
SERVERS, CLIENTS = "127.0.0.1", "127.0.0.2"


class Network:
    """The proxies, as a context manager.

    bus_port: where a NATS server listens. `mesh up` starts its own only if it is told of no other.
    """

    def __init__(self, bus_port: int) -> None:
        self._bus = TcpProxy(BUS, SERVERS, bus_port)
        self._bus_port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network")
        self._proxies: list[TcpProxy] = []

    def __enter__(self) -> Network:
        self._thread.start()
        self._bus_port = self._wait(self._bus.start(CLIENTS))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wait(self._disconnect())
        self._wait(self._bus.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def environment(self) -> dict[str, str]:
        """Where processes look for one another."""
        bus = f"nats://{CLIENTS}:{self._bus_port}"
        return {"MESH_ADDRESS": f"{CLIENTS}:{{port}}", "MESH_BUS_URL": bus}

    def connect(self, config: Config) -> None:
        """Stand before the services of a system that is to be started, instead of any before."""
        self._wait(self._connect({name: one.port for name, one in config.services.items()}))

    def do(self, action: Callable[[Link], None], link: Link) -> None:
        """Do something to a link."""
        self._loop.call_soon_threadsafe(action, link)

    def links(self, target: str) -> list[Link]:
        """The connections to *target*, the oldest first."""

        async def links() -> list[Link]:
            proxies = [self._bus, *self._proxies]
            return [link for one in proxies if one.target == target for link in one.links]

        return self._wait(links())

    async def _connect(self, ports: dict[str, int]) -> None:
        await self._disconnect()
        for name, port in ports.items():
            proxy = TcpProxy(name, SERVERS, port)
            await proxy.start(CLIENTS, port)
            self._proxies.append(proxy)

    async def _disconnect(self) -> None:
        for proxy in self._proxies:
            await proxy.close()
        self._proxies.clear()

    def _wait(self, work: Awaitable[T]) -> T:
        async def done() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result()
