"""The ways into the two stacks, for code on `grpc.aio`; `mesh.sync` has those for sync code."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

import grpc

from .call import Layer, Method
from .client import Channel, Policing, Policy, layers_at
from .node import Node
from .runtime import config
from .transport.grpc_client import GrpcTransport
from .transport.interceptors import client_interceptors


def channel(
    target: str, *addresses: str, policy: Policy | None = None, node: Node | None = None
) -> grpc.aio.Channel:
    """Return a channel to the service called *target*, for generated stubs.

    Its addresses are the ones given (``host:port``, or any gRPC target such as
    ``dns:///order:50052``), balanced; without any, *target* is looked up in `mesh.toml`. So are its
    policies unless one is given, if there is such a file.

    Raises:
        ConfigError: no address was given and none is configured.
    """
    node = node or Node.of_environment()
    where = addresses or config.load().addresses_of(target)
    transport = GrpcTransport(node.runtime)
    made: Any = Channel(node, target, where, transport, policy or configured(target))
    return cast("grpc.aio.Channel", made)


def interceptors(
    target: str = "",
    *,
    policy: Policy | None = None,
    node: Node | None = None,
    only: Collection[type[Layer]] = (),
) -> list[grpc.aio.ClientInterceptor]:
    """Return interceptors that put the client stack on a stock `grpc.aio` channel.

    Give them to one channel: its circuit breakers are theirs. *target* names it in spans, and in
    `mesh.toml`, whose policies its calls have unless one is given, if there is such a file. With
    *only*, these layers are put on it and none of the others.
    """
    node = node or Node.of_environment()
    of_path = layers_at(node, node.target(target), policy or configured(target))

    def chosen(path: str) -> tuple[Method, list[Layer]]:
        method, layers = of_path(path)
        return method, pick(layers, only)

    return client_interceptors(chosen, node.runtime.clock.monotonic)


def server_interceptors(
    *, node: Node | None = None, only: Collection[type[Layer]] = ()
) -> list[grpc.aio.ServerInterceptor]:
    """Return what puts the server stack around all that a stock `grpc.aio` server serves.

    Servicers may be coroutines or, as gRPC has it, plain functions. gRPC's own services (health,
    reflection) are left alone. With *only*, these layers are put there and none of the others.
    """
    from .server import server_layers  # what only servers need takes as long again to import
    from .transport.server_interceptors import ServerInterceptor

    node = node or Node.of_environment()
    return [ServerInterceptor(pick(server_layers(node), only), node.runtime)]


def pick(layers: Sequence[Layer], only: Collection[type[Layer]]) -> list[Layer]:
    """Return those of *layers* that are of the kinds in *only*, in their order; all without it."""
    return [layer for layer in layers if not only or type(layer) in only]


def configured(target: str) -> Policing:
    """Return what `mesh.toml` says of calls of *target*, if there is such a file."""
    from .policies import Policies  # reads servers' settings too, and so imports all they need

    return Policies(config.load()).toward(target) if config.path().exists() else Policy()
