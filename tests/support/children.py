"""Processes that tests start, and that end with them however they end."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any

from mesh.runtime.child import die_with_parent


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start *command* as `subprocess.Popen` does; SIGTERM tells it of our death (Linux)."""
    last_wish = die_with_parent()  # takes no lock that a thread of ours could hold
    return subprocess.Popen(command, preexec_fn=last_wish, **options)  # noqa: PLW1509
