"""Processes that tests start, and that end with them however they end."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any

from mesh.runtime.tied import tied


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start *command* as `subprocess.Popen` does; SIGTERM tells it of our death (Linux)."""
    return subprocess.Popen(tied(command), **options)
