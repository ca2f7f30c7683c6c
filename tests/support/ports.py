"""Ports of the loopback interface that nobody has."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def free_port() -> int:
    """Return one."""
    (port,) = free_ports(1)
    return port


def free_ports(number: int) -> list[int]:
    """Return several, each another one."""
    with ExitStack() as opened:
        probes = [opened.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
