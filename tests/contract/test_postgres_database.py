"""A service's database: what it must be like, who may open it, and how it is brought up to date."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import yaml

from mesh.runtime.clock import Runtime
from mesh.storage.migrate import Migration
from mesh.storage.port import NotStoredError, StorageError, Tx
from mesh.storage.postgres import database, store
from mesh.storage.postgres.server import programs
from mesh.storage.postgres.store import PostgresStore
from tests.support.postgres import FAST, PostgresServer, postgres

ROOT = Path(__file__).resolve().parents[2]
NOTES = Migration("0001_notes.sql", "CREATE TABLE notes (line TEXT NOT NULL)")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server as `mesh up` runs it, with two services."""
    with postgres(*FAST, services="user,order=127.0.0.1:50052") as server:
        yield server


async def opened(
    url: str, name: str = "notes", schema: tuple[Migration, ...] = (NOTES,)
) -> PostgresStore:
    return await PostgresStore.open(url, name, Runtime(), schema)


# --- roles --------------------------------------------------------------------------------------


async def test_each_service_has_a_database_that_only_its_role_opens(server: PostgresServer) -> None:
    databases = ("user", "order", "postgres", "template1")
    for role in ("user", "order"):
        for name in databases:
            url = server.url(name, role)
            if name == role:
                await (await opened(url, role)).close()
                continue
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await asyncpg.connect(url)


async def test_a_role_may_not_make_roles_or_databases_or_read_files(server: PostgresServer) -> None:
    connection = await asyncpg.connect(server.url("user", "user"))
    for sql in ("CREATE ROLE more", "CREATE DATABASE more", "SELECT pg_read_file('PG_VERSION')"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(sql)
    await connection.close()


async def test_nobody_gets_in_without_the_right_password(server: PostgresServer) -> None:
    for password in ("", ":guessed"):
        url = f"postgresql://user{password}@127.0.0.1:{server.port}/user?passfile=/nowhere"
        with pytest.raises(NotStoredError, match="password authentication failed") as caught:
            await opened(url, "user")
        assert "guessed" not in str(caught.value)
        assert f"user: PostgreSQL at 127.0.0.1:{server.port}/user" in str(caught.value)


def test_passwords_are_of_their_own_and_nobody_elses_to_read(server: PostgresServer) -> None:
    files = [server.data / f"{role}.pgpass" for role in ("user", "order", "postgres")]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 3
    assert len({file.read_text().rpartition(":")[2] for file in files}) == 3


# --- what it must be like -----------------------------------------------------------------------


async def test_texts_must_be_utf_8_and_sorted_by_their_bytes(server: PostgresServer) -> None:
    await server.run("postgres", "DROP DATABASE IF EXISTS latin")
    kind = "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
    await server.run("postgres", f"CREATE DATABASE latin {kind}")
    with pytest.raises(StorageError, match="LC_COLLATE 'C'"):
        await opened(server.url("latin"))


async def test_what_is_answered_must_be_durable(server: PostgresServer) -> None:
    url = await server.fresh("notes")
    await server.run("postgres", "ALTER DATABASE notes SET synchronous_commit = off")
    with pytest.raises(StorageError, match="synchronous_commit is off"):
        await opened(url)
    await server.run("postgres", "ALTER DATABASE notes RESET synchronous_commit")
    await (await opened(url)).close()


async def test_a_database_belongs_to_one_service(server: PostgresServer) -> None:
    url = await server.fresh("notes")
    await (await opened(url, "notes")).close()
    with pytest.raises(StorageError, match="this is the database of notes"):
        await opened(url, "order")
    await (await opened(url, "notes")).close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://nobody@127.0.0.1:1/notes", "at 127.0.0.1:1/notes: .*Connect call failed"),
        (
            "postgresql://nobody:secret@127.0.0.1:1/notes",
            "at 127.0.0.1:1/notes: .*Connect call failed",
        ),
        ("mysql://nobody:secret@127.0.0.1/notes", "cannot be read: postgresql://"),
        ("postgresql://nobody:secret@127.0.0.1:port/notes", "cannot be read: postgresql://"),
        ("postgresql://nobody:sec/secret@127.0.0.1/notes", "at 127.0.0.1/notes: .*cannot be read"),
        ("postgresql://nobody:secret?secret@127.0.0.1:1/notes", "at 127.0.0.1:1/notes: "),
        ("postgresql://nobody:secret#secret@127.0.0.1:1/notes", "at 127.0.0.1:1/notes: "),
        ("secret", "cannot be read: postgresql://"),
    ],
)
async def test_a_wrong_address_is_told_without_the_password(
    url: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "START_PATIENCE_S", 0.1)
    with pytest.raises(NotStoredError, match=said) as caught:
        await opened(url)
    assert "secret" not in str(caught.value).replace("at secret", "")


async def test_a_database_that_there_is_not(server: PostgresServer) -> None:
    with pytest.raises(NotStoredError, match='database "nowhere" does not exist'):
        await opened(server.url("nowhere"))


# --- migrations ---------------------------------------------------------------------------------


async def test_processes_that_start_together_migrate_once(server: PostgresServer) -> None:
    url = await server.fresh("notes")
    slow = Migration("0002_slow.sql", "SELECT pg_sleep(0.1); INSERT INTO notes VALUES ('once');")
    stores = await asyncio.gather(*(opened(url, schema=(NOTES, slow)) for _ in range(5)))
    assert await server.rows("notes", "SELECT line FROM notes") == [("once",)]
    for one in stores:
        await one.close()


async def test_a_process_of_the_version_before_may_start_after_the_next(
    server: PostgresServer,
) -> None:
    url = await server.fresh("notes")
    more = Migration("0002_more.sql", "ALTER TABLE notes ADD COLUMN author TEXT")
    new = await opened(url, schema=(NOTES, more))
    old = await opened(url)

    async def note(tx: Tx) -> None:
        await tx.execute("INSERT INTO notes (line) VALUES ($1)", "old")

    await old.write(note)
    assert await server.rows("notes", "SELECT line, author FROM notes") == [("old", None)]
    await old.close()
    await new.close()


async def test_a_migration_may_take_longer_than_a_statement(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(database.SESSION, "statement_timeout", "50ms")
    url = await server.fresh("notes")
    slow = Migration("0002_slow.sql", "SELECT pg_sleep(0.2)")
    one = await opened(url, schema=(NOTES, slow))

    async def wait(tx: Tx) -> None:
        await tx.execute("SELECT pg_sleep(0.2)::text")

    with pytest.raises(NotStoredError):
        await one.write(wait)
    await one.close()


async def test_a_migration_of_the_other_engine_is_left_out(server: PostgresServer) -> None:
    url = await server.fresh("notes")
    other = Migration("0002_other.sqlite.sql", "PRAGMA nonsense", "sqlite")
    own = Migration("0002_own.postgres.sql", "COMMENT ON TABLE notes IS 'own'", "postgres")
    await (await opened(url, schema=(NOTES, other, own))).close()
    assert await server.rows("notes", "SELECT name FROM mesh_migrations ORDER BY 1") == [
        ("0001_notes.sql",),
        ("0002_own.postgres.sql",),
    ]


# --- the server of `mesh up` --------------------------------------------------------------------


def test_it_keeps_its_data_and_gives_new_services_a_database(tmp_path: Path) -> None:
    with postgres(*FAST, services="user") as first:
        kept = (first.data / "user.pgpass").read_text()
        asyncio.run(first.run("user", "CREATE TABLE kept (a TEXT)"))
        first.stop()
        again = PostgresServer(first.data, first.port, "user,order", *FAST)
        again.start()
        try:
            asyncio.run(again.run("user", "SELECT a FROM kept"))
            asyncio.run(again.run("order", "SELECT 1"))
            assert (first.data / "user.pgpass").read_text() == kept
            assert urlsplit(again.url("order", "order")).username == "order"
        finally:
            again.stop()


def test_a_private_folder_is_told_to_root_and_kept_private(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        return  # the server runs as us, who may
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    command = [sys.executable, "-m", "mesh.storage.postgres.server", "--data", str(private / "pg")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(r"error: as root, PostgreSQL runs as \w+, who may not enter /", done.stderr)
    assert private.stat().st_mode & 0o777 == 0o700


def test_a_service_cannot_be_called_like_the_superuser(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mesh.storage.postgres.server", "--data", str(tmp_path)]
    done = subprocess.run(
        [*command, "--services", "user,postgres"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "error: a service cannot be called postgres\n")


# --- the server of docker-compose.yml -----------------------------------------------------------


def test_the_image_is_set_up_so_that_the_services_of_compose_get_in() -> None:
    def value(of: str) -> str:
        return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", of)

    container = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["postgres"]
    environment = {name: value(of) for name, of in container["environment"].items()}
    (url,) = [
        value(line.partition("=")[2])
        for line in (ROOT / "deploy/postgres/compose.env").read_text().splitlines()
        if line.startswith("MESH_DATABASE_URL=")
    ]
    with postgres(*FAST) as server:
        image = {
            "PATH": f"{programs()}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGPASSFILE": str(server.data / "postgres.pgpass"),
            "ROLE_SQL": str(ROOT / "mesh/storage/postgres/role.sql"),
        }
        for _ in range(2):  # again does no harm
            subprocess.run([ROOT / "deploy/postgres/init.sh"], env=environment | image, check=True)
        url = url.replace("@postgres:5432", f"@127.0.0.1:{server.port}")
        for service in environment["SERVICES"].split():
            asyncio.run(open_and_close(url.replace("{name}", service), service))
        other = url.rpartition("/")[0].replace("{name}", "order") + "/user"
        with pytest.raises(NotStoredError, match="permission denied"):
            asyncio.run(open_and_close(other, "order"))


async def open_and_close(url: str, name: str) -> None:
    await (await opened(url, name)).close()
