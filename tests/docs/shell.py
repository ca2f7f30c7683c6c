"""The shell that a page's commands are typed into."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

BLOCK_S: Final = 120.0
CLOSE_S: Final = 30.0
_DONE: Final = "-- the block has ended: "


class Shell:
    """A bash that keeps its folder, variables and background jobs between blocks."""

    def __init__(self, folder: Path, environment: Mapping[str, str], scratch: Path) -> None:
        self.folder = folder
        self._script = scratch / "block.sh"
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        ended = f'echo; echo "{_DONE}$status $PWD"'
        # Its jobs end with it, also where it ends because we were killed: then nobody hears it.
        trap = f"status=$?; trap : PIPE; {{ {ended}; }} || :; kill 0"
        self._type(f"set -euo pipefail; trap '{trap}' EXIT")

    def run(self, block: str) -> str:
        """Type *block*; return what is printed until it ends. A command that fails ends it."""
        self._script.write_text(block)
        self._type(f'. {self._script} </dev/null; echo; echo "{_DONE}0 $PWD"')
        printed: list[str] = []
        ends = time.monotonic() + BLOCK_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no end in sight:\n{block}\n{''.join(printed)}") from None
            if line.startswith(_DONE):
                status, _, folder = line.removeprefix(_DONE).rstrip("\n").partition(" ")
                assert status == "0", f"status {status}:\n{block}\n{''.join(printed)}"
                self.folder = Path(folder)
                return "".join(printed)
            printed.append(line)

    def close(self) -> None:
        """End it with everything it started, and wait for that."""
        assert self._bash.stdin is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGTERM)
        self._bash.stdin.close()
        self._bash.wait(CLOSE_S)
        self._reader.join(CLOSE_S)  # until the last background job has let go of the pipe
        assert not self._reader.is_alive(), "a background job does not end"
        assert self._bash.stdout is not None
        self._bash.stdout.close()

    def _type(self, line: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(line + "\n")
        self._bash.stdin.flush()

    def _read(self) -> None:
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            self._lines.put(line)
