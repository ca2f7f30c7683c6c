"""The configuration of a system: `mesh.toml`, and the environment over it."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import quote

from ..call import Principal
from .config_check import check_file, check_variables
from .config_parts import (
    ProcessConfig,
    ServiceConfig,
    read_process,
    read_replicas,
    read_service,
)
from .levels import Written
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
    "MESH_DATA_DIR": "where data is; default .data",
    "MESH_DATABASE_URL": "where databases are: postgresql://{name}:…@HOST/{name}; default STORE's",
    "MESH_BUS_URL": "where events go: nats://HOST:PORT, redis://HOST:PORT; default is [bus] url",
    "MESH_PORT_OFFSET": "is added to every port; default 0",
    "MESH_REPLICAS": "processes of a service, over the configuration's: order=3,user=2",
    "MESH_TOKEN_SECRET": "the processes of one system prove who they are with it",
    "MESH_TOKEN": "a process that is no service proves with it who it is; `mesh up` sets it",
    "MESH_POLICY__": "how calls are treated, as [policy] of the configuration: docs/policies.md",
    "MESH_SERVER__": "how calls are served, as [server] of the configuration: docs/policies.md",
    "MESH_WIRE__": "what servers take from the wire, as [wire] of it: docs/overload.md",
    "MESH_SEAL_KEY": "seals secrets at rest: keys, 32 bytes in base64 each; default a file's",
    "STORE": "sqlite (default): files in the data folder; or a [store] of the configuration",
    "LOG_LEVEL": "DEBUG, INFO (default), WARNING or ERROR",
}
ADMIN_PORT_OFFSET = 10_000
#: Sections whose settings are `mesh.runtime.levels`; each has variables of its own.
LEVELLED = ("policy", "server", "wire")


@dataclass(frozen=True)
class Config:
    """One system."""

    services: Mapping[str, ServiceConfig]
    processes: Mapping[str, ProcessConfig] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    welcome: tuple[str, ...] = ()
    bus: str = ""
    database: str = field(default="", repr=False)
    keep_days: int = 30
    policy: Written = field(default_factory=partial(Written, "policy"))
    server: Written = field(default_factory=partial(Written, "server"))
    wire: Written = field(default_factory=partial(Written, "wire"))
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    profile: str = "dev"
    bind: str = "127.0.0.1"
    address: str = "127.0.0.1:{port}"
    data_dir: Path = Path(".data")
    token_secret: str = field(default="", repr=False)
    seal_key: str = field(default="", repr=False)
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

    def address_of(self, name: str, replica: int = 1) -> str:
        """Return where a replica of the service called *name* is, as gRPC writes it."""
        return self.address.format(name=name, port=self.service(name).port_of(replica))

    def addresses_of(self, target: str) -> list[str]:
        """Return where calls of *target* go: a service's replicas, or outside the system.

        Raises:
            ConfigError: there is neither, or it has no address.
        """
        if target not in self.targets:
            replicas = range(1, self.service(target).replicas + 1)
            return [self.address_of(target, replica) for replica in replicas]
        if not self.targets[target]:
            raise ConfigError(f"[target.{target}] has no addresses")
        return list(self.targets[target])

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
            for port in one.ports:
                found.append((port, f"service {one.name}"))
                found.append((port + ADMIN_PORT_OFFSET, f"/metrics of {one.name}"))
        return [*found, *((port, name) for name, port in self.ports.items())]

    @property
    def bus_url(self) -> str:
        """Where events go; "" if there is no bus."""
        return self.bus.format_map(self.words())

    def database_url(self, name: str) -> str:
        """Return where the database of the service called *name* is; "" if it is a file."""
        url = self.database
        for word, value in {**self.words(), "name": name}.items():
            url = url.replace(f"{{{word}}}", quote(value))
        return url

    def words(self) -> dict[str, str]:
        """Return what may stand in braces in a command."""
        services = ",".join(f"{n}={a}" for n in self.services for a in self.addresses_of(n))
        ports = {name: str(port) for name, port in self.ports.items()}
        return {
            "python": sys.executable,
            "data": str(self.data_dir),
            "services": services,
            **ports,
        }


def path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the configuration is to be."""
    return Path(environment.get("MESH_CONFIG", "mesh.toml"))


def is_given(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether there is a file, or a setting among the variables."""
    return path(environment).exists() or bool(_settings(environment))


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    starts = tuple(Written(section).prefix for section in LEVELLED)
    return {name: text for name, text in environment.items() if name.startswith(starts)}


def load(environment: Mapping[str, str] = os.environ, *, needs_file: bool = True) -> Config:
    """Return the configuration.

    Raises:
        ConfigError: it is missing, and needed, or wrong.
    """
    settings = _settings(environment)
    unknown = {n for n in environment if n.startswith("MESH_")} - {*ENVIRONMENT, *settings}
    if unknown:
        names = ", ".join(sorted(unknown))
        raise ConfigError(f"unknown: {names}; known are {', '.join(ENVIRONMENT)}")
    where = path(environment)
    try:
        document = tomllib.loads(where.read_text()) if needs_file or where.exists() else {}
    except FileNotFoundError:
        raise ConfigError(
            f"{where} is not there: run this where it is, or set MESH_CONFIG"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {error}") from None
    offset = _integer(environment, "MESH_PORT_OFFSET")
    root = Table(where, "", document)
    services, processes = root.table("service"), root.table("process")
    ports, welcome, bus = root.table("ports"), root.table("welcome"), root.table("bus")
    bus_url = bus.take("url", str, "")
    retention, stores, targets = root.table("retention"), root.table("store"), root.table("target")
    levelled = {
        one: Written.found(one, str(where), root.content(one), settings) for one in LEVELLED
    }
    root.end()
    replicas = read_replicas(environment.get("MESH_REPLICAS", ""), services)
    config = Config(
        services={n: read_service(n, t, offset, replicas.get(n)) for n, t in services.tables()},
        processes={name: read_process(name, table) for name, table in processes.tables()},
        ports={name: ports.take(name, int) + offset for name in document.get("ports", {})},
        welcome=welcome.texts("command"),
        targets={name: _addresses(table) for name, table in targets.tables()},
        keep_days=retention.take("days", int, 30),
        bus=environment.get("MESH_BUS_URL") or bus_url,
        database=_database(stores, environment),
        profile=environment.get("MESH_PROFILE", "dev"),
        bind=environment.get("MESH_BIND", "127.0.0.1"),
        address=environment.get("MESH_ADDRESS", "127.0.0.1:{port}"),
        data_dir=Path(environment.get("MESH_DATA_DIR", ".data")),
        token_secret=environment.get("MESH_TOKEN_SECRET", ""),
        seal_key=environment.get("MESH_SEAL_KEY", ""),
        log_level=environment.get("LOG_LEVEL", "INFO").upper(),
        folder=where.parent.resolve(),
        **levelled,
    )
    welcome.end()
    bus.end()
    retention.end()
    check_variables(config, environment)
    check_file(config, where, offset)
    return config


def _addresses(table: Table) -> tuple[str, ...]:
    addresses = table.texts("addresses")
    table.end()
    return addresses


def _database(table: Table, environment: Mapping[str, str]) -> str:
    urls = {"sqlite": ""}
    for name, store in table.tables():
        urls[name] = store.take("url", str)
        store.end()
    chosen, url = environment.get("STORE", ""), environment.get("MESH_DATABASE_URL", "")
    if chosen not in ("", *urls):
        raise ConfigError(f"STORE={chosen}: there are {', '.join(urls)}")
    if chosen and url:
        raise ConfigError(f"STORE={chosen} and MESH_DATABASE_URL are both set: which one is it?")
    url = url or urls[chosen or "sqlite"]
    if url and not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError("where databases are: postgresql://… is known, and nothing else")
    return url


def _integer(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "0")
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name}={text}: a whole number is wanted") from None
