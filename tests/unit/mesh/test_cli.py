"""The command line: what it answers, and that no mistake of its user is a traceback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mesh import cli
from mesh.runtime import presence
from mesh.runtime.config import ENVIRONMENT
from tests.support.waiting import eventually

from .programs import Folder
from .vault import open_vault


@pytest.fixture
def folder(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Be in a folder with nothing in the environment."""
    monkeypatch.chdir(folder.path)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    return folder


def commands() -> list[str]:
    (listed,) = re.findall(r"\{([a-z,-]+)\}", cli.parser().format_usage())
    return str(listed).split(",")


# --- help ---------------------------------------------------------------------------------------


def test_help_names_every_command_and_every_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for name in [*commands(), *ENVIRONMENT]:
        assert name in shown


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help_and_needs_no_configuration(
    command: str, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    assert f"usage: mesh {command}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run"], ["health"], ["up", "--fast"]])
def test_what_is_not_in_the_grammar(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: mesh" in capsys.readouterr().err


def test_python_m_mesh_is_the_same_program(folder: Folder) -> None:
    assert "usage: mesh" in folder.mesh("--help").stdout


def test_who_reads_its_output_may_leave() -> None:
    """As `head` does."""
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-m", "mesh", "explain", "orchestrator.PlaceOrder"],
        cwd=Path(__file__).parents[3],
        stdout=writes,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (1, b"")


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "health"])
def test_an_unknown_service(
    command: str, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.service("one")
    folder.service("two")
    assert cli.main([command, "three"]) == 2
    assert capsys.readouterr().err == "error: no service 'three'; there are one, two\n"


def test_no_configuration(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ps"]) == 2
    assert capsys.readouterr().err == (
        "error: mesh.toml is not there: run this where it is, or set MESH_CONFIG\n"
    )


def test_a_wrong_configuration(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mesh.toml").write_text("[service.one]\nport = 1\n")
    assert cli.main(["up"]) == 2
    assert capsys.readouterr().err == "error: mesh.toml: [service.one]: module is missing\n"


def fails(folder: Folder, *arguments: str) -> str:
    """Run `mesh`, which must fail with one clear line; return it."""
    done = folder.mesh(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return error


@pytest.mark.parametrize("above", [0, 10_000], ids=["gRPC", "metrics"])
def test_run_on_a_port_in_use(folder: Folder, above: int) -> None:
    port = folder.service("one") + above
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        error = fails(folder, "run", "one")
    assert f"{port}" in error
    assert ("/metrics" in error) is bool(above)


async def test_run_on_a_database_in_use(folder: Folder) -> None:
    folder.service("vault")
    store = open_vault(folder.path / ".data")
    error = fails(folder, "run", "vault")
    await store.close()
    assert error == "error: .data/vault.db: another process has this database open"


def test_run_on_what_is_no_database(folder: Folder) -> None:
    folder.service("one")
    (folder.path / ".data").mkdir()
    (folder.path / ".data" / "one.db").write_bytes(b"not a database, " * 500)
    assert fails(folder, "run", "one") == "error: .data/one.db: file is not a database"


def test_run_where_no_database_can_be(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.service("one")
    wrong = {"MESH_DATABASE_URL": "postgresql://one:hush@127.0.0.1:port/one"}
    environment = {**folder.environment(), **wrong}
    monkeypatch.setattr(folder, "environment", lambda: environment)
    error = fails(folder, "run", "one")
    assert error.startswith("error: one: PostgreSQL at 127.0.0.1:port/one: its URL cannot be read")
    assert "hush" not in error


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("no.such.module", "[service.one] module: No module named 'no'"),
        ("mesh.errors", "mesh.errors has no `service`"),
    ],
)
def test_run_of_a_module_that_is_no_service(folder: Folder, module: str, said: str) -> None:
    Path("mesh.toml").write_text(f'[service.one]\nmodule = "{module}"\nport = 50051\n')
    assert fails(folder, "run", "one") == f"error: {said}"


def test_run_of_a_service_that_disagrees_with_its_contract(folder: Folder) -> None:
    Path("partial.py").write_text(
        "from mesh.service import Service\n"
        "from tests.unit.mesh.vault import VAULT\n"
        "service = Service(VAULT)\n"
    )
    Path("mesh.toml").write_text('[service.one]\nmodule = "partial"\nport = 50051\n')
    assert "no function for /tests.vault.v1.VaultService/Count" in fails(folder, "run", "one")


# --- run ----------------------------------------------------------------------------------------


def test_run_serves_until_it_is_told_to_stop(folder: Folder) -> None:
    folder.service("one")
    with (folder.path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mesh", "run", "one"],
            cwd=folder.path,
            env=folder.environment(),
            stderr=log,
        )
    try:
        eventually(lambda: cli.main(["health", "one"]) == 0)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    events = [json.loads(line)["event"] for line in Path("log").read_text().splitlines()]
    assert events == ["serving", "stopped"]


# --- health and ps ------------------------------------------------------------------------------


@pytest.mark.parametrize("serving", [True, False])
def test_health(folder: Folder, serving: bool, capsys: pytest.CaptureFixture[str]) -> None:
    port = folder.service("one")
    servicer = health.HealthServicer()
    states = health_pb2.HealthCheckResponse
    servicer.set("", states.SERVING if serving else states.NOT_SERVING)
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    assert cli.main(["health", "one"]) == (0 if serving else 1)
    server.stop(None).wait()
    said = "serves" if serving else "does not serve"
    assert capsys.readouterr().out == f"one at 127.0.0.1:{port} {said}\n"


def test_health_of_nobody(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.service("one")
    assert cli.main(["health", "one"]) == 1
    assert "does not serve" in capsys.readouterr().out


class Sleeper:
    """A process that does nothing until it is told to end."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.pid = self._process.pid

    def end(self) -> None:
        self._process.communicate()


def test_ps(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.service("one")
    assert cli.main(["ps"]) == 2
    assert capsys.readouterr().err == "error: nothing is up on .data\n"
    sleeper, gone = Sleeper(), Sleeper()
    gone.end()
    presence_of = {"one": sleeper.pid, "gateway": os.getpid(), "gone": gone.pid}
    lock = presence.claim(Path(".data"))
    assert lock is not None
    presence.write_pids(Path(".data"), presence_of)
    assert cli.main(["ps"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["one", f"{sleeper.pid}"],
        ["gateway", f"{os.getpid()}"],
    ]
    assert cli.main(["ps", "one"]) == 0
    assert capsys.readouterr().out == f"{sleeper.pid}\n"
    assert cli.main(["ps", "two"]) == 2
    assert capsys.readouterr().err == "error: no process 'two'; there are one, gateway\n"
    os.close(lock)  # as the end of the last of them does
    assert cli.main(["ps"]) == 2
    assert capsys.readouterr().err == "error: nothing is up on .data\n"
    sleeper.end()


# --- backup and restore -------------------------------------------------------------------------


def test_a_backup_and_its_restore_say_what_they_did(folder: Folder) -> None:
    folder.service("one")
    assert folder.mesh("backup", "early").stderr == "error: there is no database yet\n"
    folder.service("two")
    for name in ("one", "two"):
        asyncio.run(open_vault(folder.path / ".data").close())
        (folder.path / ".data" / "vault.db").rename(folder.path / ".data" / f"{name}.db")
    made = folder.mesh("backup", "kept/today")
    assert re.fullmatch(
        r"2 databases, 0\.\d MB, as they were at .*; writes waited for \d+ ms\n", made.stdout
    )
    restored = folder.mesh("restore", "kept/today")
    assert re.fullmatch(
        r"2 databases are as they were at .*\nwhat was there is in \.data/before-restore-\w+\n",
        restored.stdout,
    )
    presence.restore_marker(folder.path / ".data").write_text("/kept/today\n")
    for command in (["run", "one"], ["backup", "another"]):
        refused = folder.mesh(*command)
        assert (refused.returncode, refused.stderr.splitlines()[-1]) == (
            2,
            "error: a restore was interrupted: run `mesh restore /kept/today` again",
        )


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_postgresql_has_backups_of_its_own(
    command: str,
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder.service("one")
    monkeypatch.setenv("MESH_DATABASE_URL", "postgresql://{name}@db/{name}")
    assert cli.main([command, "today"]) == 2
    assert "docs/postgresql.md" in capsys.readouterr().err
