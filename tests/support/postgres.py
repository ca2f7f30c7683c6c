"""A real PostgreSQL for tests, and databases in it that are as good as new."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from mesh.storage.postgres.server import programs
from tests.support.ports import free_port
from tests.support.waiting import eventually

#: Tests of what is durable leave this out.
FAST = ("-c", "fsync=off", "-c", "full_page_writes=off")


class PostgresServer:
    """A server on the folder *data*; a role for each of *services* ("a,b")."""

    def __init__(self, data: Path, port: int, services: str, *options: str) -> None:
        self.data = data
        self.port = port
        self._command = [
            *(sys.executable, "-m", "mesh.storage.postgres.server"),
            *("--data", str(data), "--port", str(port), "--services", services, *options),
        ]

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        log = self.data.with_suffix(".log")
        with log.open("ab") as output:
            self.process = subprocess.Popen(self._command, stdout=output, stderr=output)
        try:
            self._until_ready()
        except AssertionError as error:
            error.add_note(log.read_text(errors="replace"))
            raise

    def stop(self) -> None:
        """Stop it, whoever is connected."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()

    def _until_ready(self) -> None:
        ask = (programs() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))

        def ready() -> bool:
            assert self.process.poll() is None, "the server has ended"
            return subprocess.run(ask, check=False).returncode == 0

        eventually(ready)

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

    async def let_be_read_only(self, read_only: bool) -> None:
        """Let all transactions that begin from now on be so, in every connection."""
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute(
                f"ALTER SYSTEM SET default_transaction_read_only = {read_only}"
            )
            await connection.execute("SELECT pg_reload_conf()")
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
    """Run a PostgreSQL on a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="mesh-test-postgres-"))
    folder.chmod(0o711)  # as root, the server is somebody else
    server = PostgresServer(folder / "postgres", free_port(), services, *options)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
