"""What can be set about the gateway, and where its services are."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Its admin port is found as any service's is: this much above its port.
ADMIN_OFFSET = 10_000
PORT = 8080
CONSOLE_PORT = 8081


class Problem(Exception):
    """The gateway cannot be configured or started; the message says what to do about it."""


@dataclass(frozen=True)
class Endpoint:
    """Where a process listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read ``HOST:PORT`` or gRPC's ``dns:///HOST:PORT``; IPv6 addresses stand in brackets.

        Raises:
            Problem: it is neither.
        """
        host, colon, port = text.strip().removeprefix("dns:///").rpartition(":")
        if not (colon and host and port.isdecimal() and 0 < int(port) < 65_536):
            raise Problem(f"{text!r} is not HOST:PORT")
        return cls(host.strip("[]"), int(port))


@dataclass(frozen=True)
class Settings:
    """Everything the configuration is made from, besides the descriptors.

    Times are in seconds, sizes in bytes. `descriptors` is the descriptor file's path as Envoy
    will see it.
    """

    services: Mapping[str, tuple[Endpoint, ...]]
    descriptors: Path
    listen: Endpoint = Endpoint("127.0.0.1", PORT)
    admin_port: int = PORT + ADMIN_OFFSET
    #: Where spans go; None: no tracing.
    otlp: Endpoint | None = None
    #: The share of requests that begin a sampled trace, in percent.
    sampling_percent: float = 100.0
    #: The gateway's own token, for the services; Envoy's command operators may stand in it.
    token: str = field(default="", repr=False)
    #: Requests a second over all clients; beyond, 429.
    rate_limit_per_s: int = 2000
    #: Who may call from a browser.
    origins: tuple[str, ...] = (
        f"http://127.0.0.1:{CONSOLE_PORT}",
        f"http://localhost:{CONSOLE_PORT}",
    )
    access_log: bool = False
    #: The whole time a call gets.
    timeout_s: int = 10
    #: The same for calls that start a saga and may wait for its end.
    saga_timeout_s: int = 30
    #: A stream on which nothing moved for so long is closed.
    stream_idle_s: int = 300
    max_request_bytes: int = 1024 * 1024
    #: A gRPC client takes replies up to 4 MiB; their JSON is larger.
    max_response_bytes: int = 16 * 1024 * 1024


def parse_services(pairs: Iterable[str]) -> dict[str, tuple[Endpoint, ...]]:
    """Read ``NAME=HOST:PORT`` pairs; a name given twice has two replicas.

    Raises:
        Problem: one of them is not that.
    """
    found: dict[str, tuple[Endpoint, ...]] = {}
    for pair in pairs:
        name, equals, address = pair.strip().partition("=")
        if not (name and equals):
            raise Problem(f"{pair!r} is not NAME=HOST:PORT")
        found[name] = (*found.get(name, ()), Endpoint.parse(address))
    return found


def services_of(mesh_toml: Path, host: str = "127.0.0.1") -> dict[str, tuple[Endpoint, ...]]:
    """Return where *mesh_toml* says that the services listen; `{name}` in *host* is theirs.

    Raises:
        Problem: there is no such file, or it names no services.
    """
    try:
        declared = tomllib.loads(mesh_toml.read_text())["service"]
    except FileNotFoundError:
        raise Problem(
            f"there is no {mesh_toml}: say where the services are, with --services"
        ) from None
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise Problem(f"{mesh_toml} does not name the services: {error}") from error
    return {
        name: (Endpoint(host.format(name=name), entry["port"]),) for name, entry in declared.items()
    }
