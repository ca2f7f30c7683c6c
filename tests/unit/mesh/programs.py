"""Running `mesh` as people do, in a folder of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import eventually

#: More than anything here takes on a loaded machine; nothing waits this long in vain.
PATIENCE_S = 60.0

FAKE = '''
"""A process for tests: serves 200 once `NAME.closed` is not there; tells the journal its life."""
import http.server, pathlib, signal, sys

name, port = sys.argv[1], int(sys.argv[2])

def tell(what):
    with open("journal", "a") as journal:
        journal.write(f"{what} {name}\\n")

class Answer(http.server.BaseHTTPRequestHandler):
    served = False
    def do_GET(self):
        closed = pathlib.Path(f"{name}.closed").exists()
        if not closed and not Answer.served:
            Answer.served = True
            tell("serving")
        self.send_response(503 if closed else 200)
        self.end_headers()
    def log_message(self, *_): pass

def stop(*_):
    tell("stopped")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, lambda *_: tell("interrupted"))
tell("started")
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
'''


def free_port() -> int:
    """Return a port that is free, as is the one 10000 above it (/metrics)."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


class Folder:
    """A folder with a `mesh.toml`, in which `mesh` is run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "fake.py").write_text(FAKE)
        self._ups: list[subprocess.Popen[str]] = []
        self._toml: list[str] = []
        self._ports: dict[str, int] = {}

    def process(self, name: str, *, more: str = "", command: list[str] | None = None) -> int:
        """Declare a process; return the port that it would serve on."""
        port = self._ports[name] = free_port()
        words = command or ["{python}", "fake.py", name, f"{{{name}}}"]
        ready = f"http://127.0.0.1:{{{name}}}/"
        self._toml.append(
            f'[process.{name}]\ncommand = {json.dumps(words)}\nready = "{ready}"\n{more}\n'
        )
        self._write()
        return port

    def service(self, name: str) -> int:
        """Declare a service; return its port."""
        port = free_port()
        self._toml.append(f'[service.{name}]\nmodule = "tests.unit.mesh.tiny"\nport = {port}\n')
        self._write()
        return port

    def welcome(self, script: str) -> None:
        """Declare what is run once everything serves."""
        (self.path / "welcome.py").write_text(script)
        self._toml.append('[welcome]\ncommand = ["{python}", "welcome.py"]\n')
        self._write()

    def _write(self) -> None:
        ports = "".join(f"{name} = {port}\n" for name, port in self._ports.items())
        (self.path / "mesh.toml").write_text("\n".join([*self._toml, f"[ports]\n{ports}"]))

    @staticmethod
    def environment() -> dict[str, str]:
        """Return the environment without what would change the system."""
        return {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MESH_", "OTEL_", "COV_", "COVERAGE_"))
        }

    def mesh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `mesh` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "mesh", *arguments],
            cwd=self.path,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def up(self, *flags: str) -> subprocess.Popen[str]:
        """Start `mesh up`; what it says goes to `said`."""
        with (self.path / "said").open("w") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "mesh", "up", *flags],
                cwd=self.path,
                env=self.environment(),
                stdout=said,
                stderr=said,
                text=True,
                start_new_session=True,  # as a shell gives a job a group of its own
            )
        self._ups.append(process)
        return process

    def until_said(self, text: str) -> str:
        """Wait until `mesh up` says *text*."""

        def there() -> bool:
            if text in self.said:
                return True
            assert any(up.poll() is None for up in self._ups), self.said
            return False

        eventually(there, known=lambda: self.said)
        return self.said

    @property
    def said(self) -> str:
        """What the last `mesh up` has said."""
        return (self.path / "said").read_text()

    @property
    def journal(self) -> list[str]:
        """What the fake processes did, in order."""
        path = self.path / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def pid(self, name: str) -> int | None:
        """Return the process id of *name*, as `mesh ps` knows it."""
        try:
            pids: dict[str, int] = json.loads((self.path / ".data" / "pids.json").read_text())
        except FileNotFoundError:
            return None
        return pids.get(name)

    def stop(self, up: subprocess.Popen[str], number: int = signal.SIGINT) -> int:
        """Send *up* a signal and wait for its end; return its status."""
        up.send_signal(number)
        return up.wait(PATIENCE_S)

    def clean(self) -> None:
        """Kill what a failed test left."""
        for up in self._ups:
            if up.poll() is None:
                up.kill()
                up.wait()
