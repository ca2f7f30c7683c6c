"""The configuration of a system: `mesh.toml`, and the environment over it."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..call import Principal

#: Every variable that the mesh reads, beside OpenTelemetry's own OTEL_*.
ENVIRONMENT: Mapping[str, str] = {
    "MESH_CONFIG": "the configuration file; default mesh.toml",
    "MESH_PROFILE": "dev (default): loopback, plaintext, reflection",
    "MESH_BIND": "the address to listen on; default 127.0.0.1",
    "MESH_ALLOW_PLAINTEXT": "1 lets the dev profile listen beyond loopback (containers)",
    "MESH_ADDRESS": "where services are, with {name} and {port}; default 127.0.0.1:{port}",
    "MESH_DATA_DIR": "where databases are; default .data",
    "MESH_PORT_OFFSET": "is added to every port; default 0",
    "MESH_TOKEN_SECRET": "the processes of one system prove who they are with it",
    "LOG_LEVEL": "DEBUG, INFO (default), WARNING or ERROR",
}
ADMIN_PORT_OFFSET = 10_000


class ConfigError(ValueError):
    """The configuration is wrong; the message says where and how."""


@dataclass(frozen=True)
class ServiceConfig:
    """A service of the mesh."""

    name: str
    module: str
    port: int
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ProcessConfig:
    """Another process of the system.

    `ready` is a URL that answers 200 once it serves. It runs `when` a variable is set to
    something but 0, or `unless` one is.
    """

    name: str
    command: tuple[str, ...]
    ready: str = ""
    first: bool = False
    when: str = ""
    unless: str = ""
    roles: frozenset[str] = frozenset()

    def wanted(self, environment: Mapping[str, str]) -> bool:
        """Whether it is to run."""

        def on(name: str) -> bool:
            return environment.get(name, "0") not in ("", "0")

        return (not self.when or on(self.when)) and (not self.unless or not on(self.unless))


@dataclass(frozen=True)
class Config:
    """One system."""

    services: Mapping[str, ServiceConfig]
    processes: Mapping[str, ProcessConfig] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    welcome: tuple[str, ...] = ()
    profile: str = "dev"
    bind: str = "127.0.0.1"
    address: str = "127.0.0.1:{port}"
    data_dir: Path = Path(".data")
    token_secret: str = ""
    log_level: str = "INFO"

    def service(self, name: str) -> ServiceConfig:
        """Return the service called *name*.

        Raises:
            ConfigError: there is none.
        """
        if name not in self.services:
            raise ConfigError(f"no service {name!r}; there are {', '.join(sorted(self.services))}")
        return self.services[name]

    def address_of(self, name: str) -> str:
        """Return where the service called *name* is, as gRPC writes it."""
        return self.address.format(name=name, port=self.service(name).port)

    @property
    def principals(self) -> dict[str, Principal]:
        """Who there is, by name."""
        roles = {one.name: one.roles for one in self.services.values()}
        roles |= {one.name: one.roles for one in self.processes.values()}
        return {name: Principal(name, granted) for name, granted in roles.items()}

    def words(self) -> dict[str, str]:
        """Return what may stand in braces in a command."""
        services = ",".join(f"{n}={self.address_of(n)}" for n in self.services)
        ports = {name: str(port) for name, port in self.ports.items()}
        return {
            "python": sys.executable,
            "data": str(self.data_dir),
            "services": services,
            **ports,
        }


def load(environment: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration.

    Raises:
        ConfigError: it is missing or wrong.
    """
    path = Path(environment.get("MESH_CONFIG", "mesh.toml"))
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is not there: run this where it is, or set MESH_CONFIG"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    offset = _integer(environment, "MESH_PORT_OFFSET")
    config = Config(
        services=_tables(path, document, "service", lambda n, t: _service(n, t, offset)),
        processes=_tables(path, document, "process", _process),
        ports={name: port + offset for name, port in document.get("ports", {}).items()},
        welcome=tuple(document.get("welcome", {}).get("command", ())),
        profile=environment.get("MESH_PROFILE", "dev"),
        bind=environment.get("MESH_BIND", "127.0.0.1"),
        address=environment.get("MESH_ADDRESS", "127.0.0.1:{port}"),
        data_dir=Path(environment.get("MESH_DATA_DIR", ".data")),
        token_secret=environment.get("MESH_TOKEN_SECRET", ""),
        log_level=environment.get("LOG_LEVEL", "INFO"),
    )
    _check(config, environment)
    return config


def _check(config: Config, environment: Mapping[str, str]) -> None:
    if config.profile != "dev":
        raise ConfigError(f"MESH_PROFILE={config.profile}: only dev is known")
    loopback = config.bind in ("127.0.0.1", "::1", "localhost")
    if not loopback and environment.get("MESH_ALLOW_PLAINTEXT") != "1":
        raise ConfigError(
            f"MESH_BIND={config.bind}: the dev profile speaks plaintext and stays on loopback;"
            " set MESH_ALLOW_PLAINTEXT=1 if nothing but the system's own containers can reach it"
        )
    unknown = sorted(
        name for name in environment if name.startswith("MESH_") and name not in ENVIRONMENT
    )
    if unknown:
        raise ConfigError(f"unknown: {', '.join(unknown)}; known are {', '.join(ENVIRONMENT)}")


def _tables(path: Path, document: Mapping[str, Any], kind: str, make: Any) -> dict[str, Any]:
    made = {}
    for name, table in document.get(kind, {}).items():
        try:
            made[name] = make(name, dict(table))
        except (TypeError, KeyError, ValueError) as error:
            raise ConfigError(f"{path}: [{kind}.{name}]: {error}") from None
    return made


def _service(name: str, table: dict[str, Any], offset: int) -> ServiceConfig:
    port = table.pop("port") + offset
    roles = frozenset(table.pop("roles", ()))
    return ServiceConfig(name=name, port=port, roles=roles, **table)


def _process(name: str, table: dict[str, Any]) -> ProcessConfig:
    command = tuple(table.pop("command"))
    roles = frozenset(table.pop("roles", ()))
    return ProcessConfig(name=name, command=command, roles=roles, **table)


def _integer(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "0")
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name}={text}: a whole number is wanted") from None
