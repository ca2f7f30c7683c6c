"""The configuration of a system: `mesh.toml`, and the environment over it."""

from __future__ import annotations

import logging
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..call import Principal
from .table import ConfigError, Table

__all__ = [
    "ADMIN_PORT_OFFSET",
    "ENVIRONMENT",
    "Config",
    "ConfigError",
    "ProcessConfig",
    "ServiceConfig",
    "load",
]

#: Every variable that the mesh reads, beside OpenTelemetry's own OTEL_*.
ENVIRONMENT: Mapping[str, str] = {
    "MESH_CONFIG": "the configuration file; default mesh.toml",
    "MESH_PROFILE": "dev (default): loopback, plaintext, reflection",
    "MESH_BIND": "the address to listen on; default 127.0.0.1",
    "MESH_ALLOW_PLAINTEXT": "1 lets the dev profile listen beyond loopback (containers)",
    "MESH_ADDRESS": "where services are, with {name} and {port}; default 127.0.0.1:{port}",
    "MESH_DATA_DIR": "where databases are; default .data",
    "MESH_BUS_URL": "where events go, nats://HOST:PORT; default is [bus] of the configuration",
    "MESH_PORT_OFFSET": "is added to every port; default 0",
    "MESH_TOKEN_SECRET": "the processes of one system prove who they are with it",
    "MESH_TOKEN": "a process that is no service proves with it who it is; `mesh up` sets it",
    "LOG_LEVEL": "DEBUG, INFO (default), WARNING or ERROR",
}
ADMIN_PORT_OFFSET = 10_000


@dataclass(frozen=True)
class ServiceConfig:
    """A service of the mesh. `environment` holds what it finds there unless something is set."""

    name: str
    module: str
    port: int
    roles: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ProcessConfig:
    """Another process of the system.

    It serves once `ready` answers: an ``http://`` URL with 200, a ``tcp://`` one by listening.
    `drain` is a command that returns when what it has under way is finished; it is run before the
    process is asked to end. It runs `when` a variable is set to something but 0, or `unless` one
    is.
    """

    name: str
    command: tuple[str, ...]
    ready: str = ""
    drain: tuple[str, ...] = ()
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
    bus: str = ""
    keep_days: int = 30
    profile: str = "dev"
    bind: str = "127.0.0.1"
    address: str = "127.0.0.1:{port}"
    data_dir: Path = Path(".data")
    token_secret: str = field(default="", repr=False)
    log_level: str = "INFO"
    folder: Path = field(default=Path(), compare=False)

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

    def listeners(self) -> list[tuple[int, str]]:
        """Return each port, and who listens there."""
        found = []
        for one in self.services.values():
            found.append((one.port, f"service {one.name}"))
            found.append((one.port + ADMIN_PORT_OFFSET, f"/metrics of {one.name}"))
        return [*found, *((port, name) for name, port in self.ports.items())]

    @property
    def bus_url(self) -> str:
        """Where events go; "" if there is no bus."""
        return self.bus.format_map(self.words())

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
    unknown = sorted(n for n in environment if n.startswith("MESH_") and n not in ENVIRONMENT)
    if unknown:
        raise ConfigError(f"unknown: {', '.join(unknown)}; known are {', '.join(ENVIRONMENT)}")
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
    root = Table(path, "", document)
    services, processes = root.table("service"), root.table("process")
    ports, welcome, bus = root.table("ports"), root.table("welcome"), root.table("bus")
    retention = root.table("retention")
    root.end()
    config = Config(
        services={name: _service(name, table, offset) for name, table in services.tables()},
        processes={name: _process(name, table) for name, table in processes.tables()},
        ports={name: ports.take(name, int) + offset for name in document.get("ports", {})},
        welcome=welcome.texts("command"),
        keep_days=retention.take("days", int, 30),
        bus=environment.get("MESH_BUS_URL") or bus.take("url", str, ""),
        profile=environment.get("MESH_PROFILE", "dev"),
        bind=environment.get("MESH_BIND", "127.0.0.1"),
        address=environment.get("MESH_ADDRESS", "127.0.0.1:{port}"),
        data_dir=Path(environment.get("MESH_DATA_DIR", ".data")),
        token_secret=environment.get("MESH_TOKEN_SECRET", ""),
        log_level=environment.get("LOG_LEVEL", "INFO").upper(),
        folder=path.parent.resolve(),
    )
    welcome.end()
    bus.end()
    retention.end()
    _check_variables(config, environment)
    _check_file(config, path, offset)
    return config


def _check_variables(config: Config, environment: Mapping[str, str]) -> None:
    if config.profile != "dev":
        raise ConfigError(f"MESH_PROFILE={config.profile}: only dev is known")
    loopback = config.bind in ("127.0.0.1", "::1", "localhost")
    if not loopback and environment.get("MESH_ALLOW_PLAINTEXT") != "1":
        raise ConfigError(
            f"MESH_BIND={config.bind}: the dev profile speaks plaintext and stays on loopback;"
            " set MESH_ALLOW_PLAINTEXT=1 if nothing but the system's own containers can reach it"
        )
    try:
        config.address.format(name="", port=0)
    except (LookupError, ValueError):
        raise ConfigError(
            f"MESH_ADDRESS={config.address}: {{name}} and {{port}} may stand in it"
        ) from None
    levels = logging.getLevelNamesMapping()
    if config.log_level not in levels:
        raise ConfigError(f"LOG_LEVEL={config.log_level}: one of {', '.join(levels)}")


def _check_file(config: Config, path: Path, offset: int) -> None:
    owners: dict[int, str] = {}
    for port, owner in config.listeners():
        if not 0 < port < 1 << 16:
            raise ConfigError(
                f"{path}: port {port} ({owner}): 1 to 65535 is possible;"
                f" MESH_PORT_OFFSET is {offset}"
            )
        if port in owners:
            raise ConfigError(f"{path}: port {port} is {owners[port]}'s and {owner}'s")
        owners[port] = owner
    if config.keep_days < 1:
        raise ConfigError(f"{path}: [retention] days: at least 1 is wanted")
    for name in config.services.keys() & config.processes.keys():
        raise ConfigError(f"{path}: {name} is both a service and a process")
    words = config.words()
    for process in config.processes.values():
        texts = (*process.command, *process.drain, process.ready)
        _check_words(f"{path}: [process.{process.name}]", texts, words)
    for service in config.services.values():
        _check_words(
            f"{path}: [service.{service.name}]", tuple(service.environment.values()), words
        )
    _check_words(f"{path}: [welcome]", config.welcome, words)
    _check_words(f"{path}: [bus]", [config.bus], words)


def _check_words(where: str, texts: Sequence[str], words: Mapping[str, str]) -> None:
    for text in texts:
        try:
            text.format_map(words)
        except KeyError as error:
            raise ConfigError(
                f"{where}: {{{error.args[0]}}}: is not among [ports], nor python, data or services"
            ) from None
        except ValueError as error:
            raise ConfigError(f"{where}: {text!r}: {error}") from None


def _service(name: str, table: Table, offset: int) -> ServiceConfig:
    service = ServiceConfig(
        name=name,
        module=table.take("module", str),
        port=table.take("port", int) + offset,
        roles=frozenset(table.texts("roles")),
        environment=table.mapping("environment"),
    )
    table.end()
    return service


def _process(name: str, table: Table) -> ProcessConfig:
    process = ProcessConfig(
        name=name,
        command=table.texts("command", None),
        ready=table.take("ready", str, ""),
        drain=table.texts("drain"),
        first=table.take("first", bool, default=False),
        when=table.take("when", str, ""),
        unless=table.take("unless", str, ""),
        roles=frozenset(table.texts("roles")),
    )
    table.end()
    return process


def _integer(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "0")
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name}={text}: a whole number is wanted") from None
