"""A system whose mesh.toml is the tests' own: the project's, with other modules in it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.system import ROOT, System


def configure(folder: Path, modules: Mapping[str, str]) -> Path:
    """Write a mesh.toml in which the services of *modules* have another one; return its path.

    A process reads it when it starts; who was started before goes on with what it had.
    """
    text = (ROOT / "mesh.toml").read_text()
    for service, module in modules.items():
        known = f'module = "services.{service}.service"'
        assert known in text
        text = text.replace(known, f'module = "{module}"')
    folder.mkdir(exist_ok=True)
    path = folder / "mesh.toml"
    path.write_text(text)
    return path


def replace(system: System, service: str, how: signal.Signals) -> None:
    """End a service, and wait until the supervisor has put another in its place."""
    pid = system.pids[service]
    os.kill(pid, how)
    system.wait_restarted(service, pid, service)
