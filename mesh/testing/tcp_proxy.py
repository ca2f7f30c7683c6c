"""A TCP proxy that hurts connections: what a network does to HTTP/2 that no mock can.

It stands between clients and one server::

    proxy = TcpProxy("payment", "127.0.0.1", 50054)
    await proxy.start("127.0.0.2", 50054)
    for link in proxy.links:
        link.freeze()

Nothing here is drawn by chance: the test says what happens when, and draws it from its own seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

#: Which way bytes go: to the server, or back from it.
Direction: TypeAlias = Literal["request", "reply"]
BOTH: Final[tuple[Direction, ...]] = ("request", "reply")

CHUNK_BYTES: Final = 16 * 1024
CONNECT_S: Final = 5.0

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEADER_BYTES: Final = 9
_DATA_FRAME: Final = 0
#: Close at once, with a reset instead of a farewell.
_LINGER_NOT: Final = struct.pack("ii", 1, 0)


@dataclass
class Faults:
    """What is done to the bytes of a link while it is so.

    delay_s: each piece waits so long. bytes_per_s: no more than that passes; None is no limit.
    frozen: that way nothing passes, and nobody is told; what was sent passes when it thaws. Both
    ways it is a black hole; with replies alone frozen the server goes on serving who hears nothing.
    refused: a new connection is reset at once.
    """

    delay_s: float = 0.0
    bytes_per_s: float | None = None
    frozen: tuple[Direction, ...] = ()
    refused: bool = False


class Link:
    """One connection, from a client through the proxy to the server."""

    def __init__(self, peer: tuple[str, int], faults: Faults) -> None:
        self.peer = peer
        self.faults = faults
        self.is_open = True
        self._thawed = {direction: asyncio.Event() for direction in BOTH}
        self._cut: Direction | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.apply(faults)

    def apply(self, faults: Faults) -> None:
        """From now on these are its faults."""
        self.faults = faults
        for direction, thawed in self._thawed.items():
            thawed.clear() if direction in faults.frozen else thawed.set()

    def freeze(self, *directions: Direction) -> None:
        """Let nothing pass, and tell nobody: a black hole, or a half-open connection."""
        self.apply(Faults(frozen=directions or BOTH))

    def heal(self) -> None:
        """Let everything pass, what waited first."""
        self.apply(Faults())

    def cut(self, direction: Direction) -> None:
        """Reset it in the middle of the next message's frame."""
        self._cut = direction

    def reset(self) -> None:
        """Reset both ends."""
        self.is_open = False
        for thawed in self._thawed.values():
            thawed.set()
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            writer.transport.abort()

    async def carry(
        self, client: tuple[asyncio.StreamReader, asyncio.StreamWriter], host: str, port: int
    ) -> None:
        """Carry bytes until either end closes, or it is reset."""
        self._writers.append(client[1])
        try:
            for thawed in self._thawed.values():  # a frozen network connects nobody either
                await thawed.wait()
            if not self.faults.refused and self.is_open:
                server = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_S)
                self._writers.append(server[1])
                if await self._pump_both(client, server):
                    self._close()
        except (OSError, TimeoutError):
            pass  # the server is not there: neither are we
        finally:
            self.reset()

    async def _pump_both(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> bool:
        """Carry both ways; whether an end has closed in peace."""
        pumps = [
            asyncio.ensure_future(self._pump("request", client[0], server[1])),
            asyncio.ensure_future(self._pump("reply", server[0], client[1])),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            return all(pump.result() for pump in done)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, direction: Direction, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> bool:
        """Carry one way until its source closes; False if it is to be cut before."""
        frames = Http2Frames(has_preface=direction == "request")
        while piece := await source.read(CHUNK_BYTES):
            middle = frames.middle_of_data(piece)
            await self._wait(direction, len(piece))
            if self._cut == direction and middle:
                sink.write(piece[:middle])
                await sink.drain()
                return False
            sink.write(piece)
            await sink.drain()
        await self._thawed[direction].wait()  # nor does a farewell pass
        return True

    async def _wait(self, direction: Direction, size_bytes: int) -> None:
        await self._thawed[direction].wait()
        wait_s = self.faults.delay_s
        if self.faults.bytes_per_s:
            wait_s += size_bytes / self.faults.bytes_per_s
        if wait_s:
            await asyncio.sleep(wait_s)
            await self._thawed[direction].wait()

    def _close(self) -> None:
        """Pass the end on, after all that was sent before it."""
        self.is_open = False
        for writer in self._writers:
            writer.close()
        self._writers.clear()


class TcpProxy:
    """Listens somewhere for the clients of one server, and connects each of them to it.

    Args:
        target: what the server is called.
        host: where it is.
        port: and at which port.
        faults: what a new link from *peer* begins with; by default nothing is wrong with it.
    """

    def __init__(
        self,
        target: str,
        host: str,
        port: int,
        faults: Callable[[tuple[str, int]], Faults] = lambda peer: Faults(),
    ) -> None:
        self.target = target
        self._upstream = (host, port)
        self._faults = faults
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], Link] = {}

    @property
    def links(self) -> list[Link]:
        """The connections that are open, the oldest first."""
        return [link for link in self._tasks.values() if link.is_open]

    async def start(self, host: str, port: int = 0) -> int:
        """Listen, and return the port.

        Raises:
            OSError: somebody else does.
        """
        self._server = await asyncio.start_server(self._accept, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no more, and reset every link."""
        if self._server:
            self._server.close()
        for link in self.links:
            link.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        link = Link(peer, self._faults(peer))
        task = asyncio.ensure_future(link.carry((reader, writer), *self._upstream))
        self._tasks[task] = link
        task.add_done_callback(self._tasks.pop)


class Http2Frames:
    """Follows one direction of an HTTP/2 connection, to know where its frames are (RFC 9113)."""

    def __init__(self, has_preface: bool) -> None:
        self._skip = len(_PREFACE) if has_preface else 0
        self._header = b""
        self._is_data = False

    def middle_of_data(self, piece: bytes) -> int:
        """Follow *piece*; return an offset in it inside a message's bytes, 0 if there is none."""
        middle = position = 0
        while position < len(piece):
            if self._skip:
                taken = min(self._skip, len(piece) - position)
                if self._is_data and taken > 1:
                    middle = middle or position + taken // 2
                self._skip -= taken
                position += taken
                continue
            taken = _FRAME_HEADER_BYTES - len(self._header)
            self._header += piece[position : position + taken]
            position += taken
            if len(self._header) == _FRAME_HEADER_BYTES:
                self._skip = int.from_bytes(self._header[:3])
                self._is_data = self._header[3] == _DATA_FRAME
                self._header = b""
        return middle
