"""The ways into the two stacks, for code on `grpc.aio`; `mesh.sync` has those for sync code."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, cast

import grpc

from .call import Layer, Method
from .client import Channel, Policing, Policy, layers_at
from .node import Node
from .runtime import config
from .transport.grpc_client import GrpcTransport
from .transport.interceptors import client_interceptors
from .transport.port import LayersAt, LayersOf

if TYPE_CHECKING:
    from .policies import Policies
    from .server import ServerSettings


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

    A channel tells of a method when it is called: what its contract does not allow, such as hedging
    it without a mark, fails each of its calls with `ValueError`, and none is sent.
    """
    node = node or Node.of_environment()
    of_path = layers_at(node, node.target(target), policy or configured(target))
    return client_interceptors(picked(of_path, only), node.runtime.clock.monotonic)


def server_interceptors(
    name: str = "",
    *,
    settings: ServerSettings | None = None,
    node: Node | None = None,
    only: Collection[type[Layer]] = (),
) -> list[grpc.aio.ServerInterceptor]:
    """Return what puts the server stack around all that a stock `grpc.aio` server serves.

    Give it to one server. *name* names it in `mesh.toml`, whose `[server]` says how calls are
    served unless *settings* do. Servicers may be coroutines or, as gRPC has it, plain functions.
    gRPC's own services (health, reflection) are left alone. With *only*, these layers are put there
    and none of the others.
    """
    from .transport.server_interceptors import ServerInterceptor  # what only servers need

    node = node or Node.of_environment()
    return [ServerInterceptor(layers_serving(name, settings, node, only), node.runtime)]


def layers_serving(
    name: str, settings: ServerSettings | None, node: Node, only: Collection[type[Layer]]
) -> LayersOf:
    """Return what gives the layers of each method that a stock server serves."""
    from .server import ServerSettings, server_layers  # takes as long again to import

    fixed, policies, own = settings or ServerSettings(), configuration(), node.target("")

    def of(method: Method) -> list[Layer]:
        chosen = fixed if settings or not policies else policies.served(name, method)
        return pick(server_layers(node, chosen, own), only)

    return of


def pick(layers: Sequence[Layer], only: Collection[type[Layer]]) -> list[Layer]:
    """Return those of *layers* that are of the kinds in *only*, in their order; all without it."""
    return [layer for layer in layers if not only or type(layer) in only]


def picked(layers_at: LayersAt, only: Collection[type[Layer]]) -> LayersAt:
    """Return what gives the same methods, and `pick`s from their layers."""

    def at(path: str) -> tuple[Method, list[Layer]]:
        method, layers = layers_at(path)
        return method, pick(layers, only)

    return at


def configured(target: str) -> Policing:
    """Return what `mesh.toml` and the environment say of calls of *target*."""
    policies = configuration()
    return policies.toward(target) if policies else Policy()


def configuration() -> Policies | None:
    """Return what is configured, if anything is."""
    if not config.is_given():
        return None
    from .policies import Policies  # reads servers' settings too, and so imports all they need

    return Policies(config.load(needs_file=False))
