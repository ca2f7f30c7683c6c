"""What a configuration may not say, told with the place and what is possible."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .table import ConfigError

#: The ports between those of its replicas are other services'.
REPLICAS_MAX = 5

if TYPE_CHECKING:
    from .config import Config


def check_variables(config: Config, environment: Mapping[str, str]) -> None:
    """Fail if a variable's value is not possible."""
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


def check_file(config: Config, path: Path, offset: int) -> None:
    """Fail if what *path* says contradicts itself."""
    for service in config.services.values():
        _check_replicas(f"{path}: [service.{service.name}] replicas", service.replicas, config)
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
    for name in config.services.keys() & config.targets.keys():
        raise ConfigError(f"{path}: {name} is both a service and a target")
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


def _check_replicas(where: str, count: int, config: Config) -> None:
    if not 1 <= count <= REPLICAS_MAX:
        raise ConfigError(f"{where}: {count}: 1 to {REPLICAS_MAX} is possible")
    if count > 1 and not config.database:
        raise ConfigError(
            f"{where}: {count}: a SQLite file belongs to one process; run with STORE=postgres, or"
            " set MESH_DATABASE_URL"
        )


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
