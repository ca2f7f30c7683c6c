"""The two stacks on stock sync channels and servers: the same layers as on `grpc.aio`.

::

    channel = grpc.intercept_channel(channel, *mesh.sync.interceptors("order"))
    server = grpc.server(ThreadPoolExecutor(), interceptors=mesh.sync.server_interceptors())

Layers await their clock and the handler inside them, so that they run without an event loop: the
caller's thread drives them, and keeps still while they sleep; the calls of ``future`` go on in
threads of the mesh. State is shared between threads: each circuit has a lock.
What waits for other calls has no place here and is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc

from .api import configuration, configured, layers_serving, pick, picked
from .call import Layer
from .client import Policy, client_layers, layers_at
from .node import Node
from .runtime.clock import DrivenClock, SystemClock
from .transport.grpc_sync_client import sync_client_interceptors

if TYPE_CHECKING:
    from .server import ServerSettings


def interceptors(
    target: str = "",
    *,
    policy: Policy | None = None,
    node: Node | None = None,
    only: Collection[type[Layer]] = (),
) -> Any:
    """Return interceptors that put the client stack on a stock sync channel.

    Give them to one channel, with `grpc.intercept_channel`: its circuit breakers are theirs.
    *target* names it in spans, and in `mesh.toml`, whose policies its calls have unless one is
    given, if there is such a file. With *only*, these layers are put on it and none of the others.

    Raises:
        ValueError: the policy, or what is configured for the target or a method of it, asks for
            what needs an event loop.
    """
    node = node or Node.of_environment()
    own = node.target(target)  # one for all calls of the process, on whichever clock they are
    node = _driven(node)

    def check(policy: Policy) -> None:
        _refuse_suspending(pick(client_layers(node, node.target(""), policy), only))

    if policy:
        check(policy)
    elif policies := configuration():
        policies.each(target, check)
    of_path = layers_at(node, own, policy or configured(target))
    return sync_client_interceptors(picked(of_path, only), node.runtime.clock.monotonic)


def server_interceptors(
    name: str = "",
    *,
    settings: ServerSettings | None = None,
    node: Node | None = None,
    only: Collection[type[Layer]] = (),
) -> list[grpc.ServerInterceptor]:
    """Return what puts the server stack around all that a stock sync server serves.

    Give it to one server. *name* names it in `mesh.toml`, whose `[server]` says how calls are
    served unless *settings* do. gRPC's own services (health, reflection) are left alone. With
    *only*, these layers are put there and none of the others. No layer of a server needs an event
    loop.
    """
    from .transport.grpc_sync_server import SyncServerInterceptor  # what only servers need

    node = _driven(node or Node.of_environment())
    return [SyncServerInterceptor(layers_serving(name, settings, node, only), node.runtime)]


def _driven(node: Node) -> Node:
    """Return *node* on a clock that needs no event loop; one that a test brought is kept."""
    if not isinstance(node.runtime.clock, SystemClock):
        return node
    driven = replace(node, runtime=replace(node.runtime, clock=DrivenClock()))
    vars(driven)["faults"] = node.faults.on(driven.runtime)  # what is injected is injected here too
    return driven


def _refuse_suspending(layers: Sequence[Layer]) -> None:
    for layer in layers:
        if layer.suspends:
            raise ValueError(
                f"{type(layer).__name__} waits for other calls, which takes an event loop: a sync"
                " stack cannot have it. Take it out of the policy."
            )
