"""The services and processes that a configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .table import ConfigError, Table

#: Between the ports of a service's replicas.
REPLICA_PORT_STEP = 10


@dataclass(frozen=True)
class ServiceConfig:
    """A service of the mesh. `environment` holds what it finds there unless something is set.

    `port` is its first replica's.
    """

    name: str
    module: str
    port: int
    roles: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 1

    def port_of(self, replica: int) -> int:
        """Return where a replica listens; they count from 1."""
        return self.port + (replica - 1) * REPLICA_PORT_STEP

    @property
    def ports(self) -> list[int]:
        """Where its replicas listen."""
        return [self.port_of(replica) for replica in range(1, self.replicas + 1)]


@dataclass(frozen=True)
class ProcessConfig:
    """Another process of the system.

    It serves once `ready` answers: an ``http://`` URL with 200, a ``tcp://`` one by listening.
    `drain` is a command that returns when what it has under way is finished; it is run before the
    process is asked to end. It runs `when` a variable is set to something but 0, or is what is
    behind an equals sign; or `unless` one is.
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

        def on(condition: str) -> bool:
            name, _, value = condition.partition("=")
            found = environment.get(name, "0")
            return found == value if value else found not in ("", "0")

        return (not self.when or on(self.when)) and (not self.unless or not on(self.unless))


def read_service(name: str, table: Table, offset: int, replicas: int | None) -> ServiceConfig:
    """Return the service that *table* describes; *replicas* go before what it says."""
    service = ServiceConfig(
        name=name,
        module=table.take("module", str),
        port=table.take("port", int) + offset,
        roles=frozenset(table.texts("roles")),
        environment=table.mapping("environment"),
        replicas=table.take("replicas", int, 1),
    )
    table.end()
    return service if replicas is None else replace(service, replicas=replicas)


def read_process(name: str, table: Table) -> ProcessConfig:
    """Return the process that *table* describes."""
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


def read_replicas(text: str, services: Table) -> dict[str, int]:
    """Return what MESH_REPLICAS says of *services*."""
    found = {}
    for part in filter(None, text.split(",")):
        name, _, count = part.partition("=")
        if not count.isdecimal():
            raise ConfigError(f"MESH_REPLICAS={text}: SERVICE=COUNT,… is wanted")
        found[name] = int(count)
    known = services.left()
    for name in found.keys() - set(known):
        raise ConfigError(f"MESH_REPLICAS: no service {name!r}; there are {', '.join(known)}")
    return found
