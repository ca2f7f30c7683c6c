"""A real PostgreSQL for tests, and databases in it that are as good as new."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

START_S = 60.0
#: Tests of what is durable leave this out.
FAST = ("-c", "fsync=off", "-c", "full_page_writes=off")


@dataclass
class PostgresServer:
    """A server that runs. It is stopped by who started it."""

    data: Path
    port: int
    process: subprocess.Popen[bytes]

    def url(self, database: str, role: str = "postgres") -> str:
        """Where *database* is, for *role*, whose password is in a file."""
        passfile = self.data / f"{role}.pgpass"
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}?passfile={passfile}"

    async def fresh(self, name: str) -> str:
        """Return the URL of a database called *name* in which there is nothing."""
        owner = await asyncpg.connect(self.url("postgres"))
        try:
            if not await owner.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await owner.execute(f'CREATE DATABASE "{name}"')
        finally:
            await owner.close()
        await self.run(name, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return self.url(name)

    async def run(self, database: str, script: str) -> None:
        """Run *script* as the superuser."""
        connection = await asyncpg.connect(self.url(database))
        try:
            await connection.execute(script)
        finally:
            await connection.close()

    async def rows(self, database: str, query: str) -> list[Any]:
        """Return what *query* finds, as the superuser."""
        connection = await asyncpg.connect(self.url(database))
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()


@contextmanager
def postgres(*options: str, services: str = "") -> Iterator[PostgresServer]:
    """Run a PostgreSQL with a database for each of *services* ("a,b")."""
    folder = Path(tempfile.mkdtemp(prefix="mesh-test-postgres-"))
    folder.chmod(0o711)  # as root, the server is somebody else
    try:
        with running(folder / "postgres", free_port(), *options, services=services) as server:
            yield server
    finally:
        shutil.rmtree(folder)


@contextmanager
def running(data: Path, port: int, *options: str, services: str = "") -> Iterator[PostgresServer]:
    """Run a PostgreSQL on *data*, which stays."""
    command = [sys.executable, "-m", "mesh.storage.postgres.server", "--services", services]
    log = data.with_suffix(".log")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, "--data", str(data), "--port", str(port), *options],
            stdout=output,
            stderr=output,
        )
    try:
        server = PostgresServer(data, port, process)
        asyncio.run(_until_ready(server))
        yield server
    except AssertionError as error:
        error.add_note(log.read_text(errors="replace"))
        raise
    finally:
        process.send_signal(signal.SIGINT)  # its fast way to end
        process.wait()


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _until_ready(server: PostgresServer) -> None:
    ends = time.monotonic() + START_S
    while True:
        assert server.process.poll() is None, "the server has ended"
        assert time.monotonic() < ends, "the server is not ready"
        try:
            connection = await asyncpg.connect(server.url("postgres"))
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.05)
        else:
            await connection.close()
            return
