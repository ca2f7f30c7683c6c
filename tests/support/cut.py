"""A TCP proxy that can lose an answer: the server has done what was asked, nobody hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Cut:
    """Passes everything on; once armed, it cuts a connection behind the first *word* sent."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.word = b""
        self._server_port = port
        self._links: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        theirs, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        down = asyncio.create_task(_pass(theirs, writer))
        self._links.add(down)
        try:
            while data := await reader.read(1 << 16):
                cut = self.word and self.word in data
                if cut:  # the answer goes nowhere
                    self.word = b""
                    down.cancel()
                to_server.write(data)
                await to_server.drain()
                if cut:
                    await theirs.read(1 << 16)
                    break
        finally:
            down.cancel()
            self._links.discard(down)
            for end in (writer, to_server):
                end.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def cutting(port: int) -> AsyncIterator[Cut]:
    """Serve a `Cut` before the server on *port*."""
    cut = Cut(port)
    server = await asyncio.start_server(cut.serve, "127.0.0.1", 0)
    cut.port = server.sockets[0].getsockname()[1]
    async with server:
        yield cut
