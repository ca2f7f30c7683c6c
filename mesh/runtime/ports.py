"""Keeping ports for those who are to listen on them.

The usual ports lie where Linux also takes the source ports of outgoing connections from, so that a
service may find its own port in use by a neighbour's connection. A port that is bound by somebody
is never taken for that; and a bound socket that does not listen is in no listener's way.
"""

from __future__ import annotations

import socket


def hold(port: int) -> socket.socket | None:
    """Return a socket that keeps *port* of the loopback interface; None if somebody has it."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        return None
    return held
