"""Where the running system is: as mesh.toml and the environment say, unless told otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.runtime import config

MESH_TOML: Final = Path(__file__).parents[1] / "mesh.toml"


@dataclass(frozen=True, slots=True)
class Addresses:
    """gateway, traces: URLs. services: `HOST:PORT` by name."""

    gateway: str
    traces: str
    services: Mapping[str, str]


def find(
    host: str,
    *,
    gateway: str | None = None,
    traces: str | None = None,
    services: Iterable[tuple[str, str]] = (),
) -> Addresses:
    """Find the system that runs on `host`; what is given holds. Raises ConfigError."""
    found = config.load({"MESH_CONFIG": str(MESH_TOML), **os.environ})
    ports = {name: service.port for name, service in found.services.items()}
    return Addresses(
        gateway=gateway or f"http://{host}:{found.ports['gateway']}",
        traces=traces or f"http://{host}:{found.ports['console']}",
        services={name: f"{host}:{port}" for name, port in ports.items()} | dict(services),
    )
