"""Who is who in the benchmark: the processes show each other tokens, as those of a system do."""

from __future__ import annotations

from mesh.call import Principal
from mesh.layers.identity import Identities, make_token
from mesh.node import Node

_SECRET = "of this benchmark, and of no system"  # noqa: S105
_PRINCIPALS = {
    "echo": Principal("echo"),
    "orchestrator": Principal("orchestrator", frozenset({"orchestrator"})),
}


def node(name: str) -> Node:
    """Return the process called *name*: every layer in place, no traces taken."""
    return Node(
        name=name,
        identities=Identities(_SECRET, _PRINCIPALS),
        token=make_token(_SECRET, name),
        instance=name,  # its next life need not wait for the lease of the last
    )
