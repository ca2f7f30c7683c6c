"""`python -m services.notification.mailbox`: a mail server that keeps what it gets, for trying.

It speaks SMTP on loopback and puts every mail into a folder, in the Maildir format, from where
any mail reader, or a text editor, shows it. Nothing leaves the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP


async def serve(port: int, folder: Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    handler = Mailbox(folder)
    server = await loop.create_server(lambda: SMTP(handler, loop=loop), "127.0.0.1", port)
    async with server:
        await stop.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50025, help="where it listens, on loopback")
    parser.add_argument("--folder", type=Path, required=True, help="where mail is put")
    options = parser.parse_args(arguments)
    asyncio.run(serve(options.port, options.folder))


if __name__ == "__main__":
    main()
