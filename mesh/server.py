"""THE server stack, and how a service is put behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .admin.service import admin_service, setting
from .call import Call, Kind, Layer, Method, door, stack, stack_stream
from .dial import dialled
from .effects import Effects
from .events.admin import dead_letter_service, read_model_service
from .events.flow import EventFlow
from .events.port import Bus
from .events.published import outbox_service
from .execution import in_transaction, on_snapshot, with_context, with_context_stream
from .layers.correlation import EnterScope
from .layers.deadline import CheckDeadline
from .layers.failures import Failures
from .layers.identity import Authenticate
from .layers.limit import LimitConfig
from .layers.observe import Observe
from .layers.shed import Shed
from .layers.tracing import TraceServer
from .layers.validation import Validate
from .node import Node
from .saga.admin import saga_service
from .saga.engine import SagaEngine
from .service import Context, Service
from .storage.port import Store
from .storage.retention import Retention
from .target import Target
from .transport.port import Route


@dataclass(frozen=True)
class ServerSettings:
    """How calls of a method are served. Times are in seconds.

    `timeout_s` is what a call without a deadline gets: one with a single reply is ended then,
    except by a sync server, whose threads cannot be. Methods with the same `limit` share it.

    Each field, and each field of a field, can be set in `mesh.toml` and by a variable, for all
    services, one of them and a method: see `mesh.runtime.levels`.
    """

    timeout_s: float = 30.0
    limit: LimitConfig = field(default_factory=LimitConfig)

    def __post_init__(self) -> None:
        if self.timeout_s <= 0.0:
            raise ValueError("timeout_s is more than 0")


def server_layers(
    node: Node, settings: ServerSettings = ServerSettings(), own: Target | None = None
) -> list[Layer]:
    """Return the layers of every call of a method, in the order in which it meets them.

    *own* is what all methods of a server share.
    """
    shed = (own or node.target("")).share(Shed, settings.limit)
    return [
        EnterScope(node.runtime),  # first: all that follows logs and traces with its correlation
        TraceServer(node.tracer),  # around everything that can take time or fail
        Observe(node.metrics, node.runtime, "server"),  # sees the same status as the span
        Failures(node.runtime),  # everything above sees only our errors
        CheckDeadline(node.runtime, settings.timeout_s),  # before any work is done
        Authenticate(node.identities),  # who is it, which is cheap to know; all below may ask
        shed,  # what is most critical is let in, then the rest
        Validate(),  # the handler sees only requests that obey their contract
    ]  # then the handler: keys, barrier and transaction, see mesh.execution


class Application:
    """A service, its database, its clients and its sagas, ready to be served.

    Args:
        node: the process.
        service: what is served.
        store: its database.
        connect: opens a channel to a target, for calls of handlers.
        connect_once: the same without retries, for sagas: the engine owns their retry.
        bus: where its events go and come from; without one they wait in the outbox.
        settings: how calls of each method are served.
        effective: the settings that hold, (target, method, name, value, source) each.
        keep_s: how long keys, published events and finished sagas are kept; for ever if None.
    """

    def __init__(
        self,
        node: Node,
        service: Service[Any],
        store: Store,
        connect: Callable[[str], Any],
        connect_once: Callable[[str], Any],
        bus: Bus | None = None,
        settings: Callable[[Method], ServerSettings] = lambda _: ServerSettings(),
        effective: Iterable[tuple[str, str, str, str, str]] = (),
        keep_s: float | None = None,
    ) -> None:
        service.check()
        self.service = service
        self.store = store
        self._node = node
        self._settings = settings
        self._own = node.target("")
        self._clients, dial = dialled(service.clients, connect)
        self.engine: SagaEngine | None = None
        if service.sagas:
            clients, once = dialled(service.clients, connect_once)
            self.engine = SagaEngine(node, store, service.sagas, clients, once.remotes)
        self.effects = Effects(store, node.runtime, self._context, node.seal)
        self._events = EventFlow(node, service, store, bus, self._context) if bus else None
        self._retention = Retention(store, node.runtime, keep_s) if keep_s else None
        calls = [(remote.target, remote.method) for remote in dial.remotes.values()]
        services = [service, admin_service(node, self._own, calls, map(setting, effective))]
        services.append(outbox_service())
        if self.engine:
            services.append(saga_service(connect_once))
        if service.subscribers:
            services.append(dead_letter_service(node.name))
        if service.read_model:
            services.append(read_model_service(node.name))
        self.routes = {
            method.path: self._route(served, method)
            for served in services
            for method in map(Method.of, served.descriptor.methods)
        }

    async def resume(self) -> None:
        """Take up what a crash left unfinished."""
        await self.effects.resume()
        for path, count in self.effects.orphans.items():
            self._node.metrics.effects_orphaned.labels(path.removeprefix("/")).set(count)
        if self.engine:
            await self.engine.resume()
        if self._retention:
            self._retention.start()
        if self._events:
            await self._events.start()

    async def stop(self) -> None:
        """Stop what runs beside the calls; the next start takes it up."""
        if self._events:
            await self._events.stop()
        if self._retention:
            await self._retention.stop()
        if self.engine:
            await self.engine.stop()
        await self.effects.stop()

    def _context(self, call: Call) -> Context[Any]:
        return Context(self._clients, self.store, self._node.runtime, call, self.engine)

    def _route(self, service: Service[Any], method: Method) -> Route:
        layers = server_layers(self._node, self._settings(method), self._own)
        if method.kind is not Kind.UNARY_UNARY:
            streaming = with_context_stream(service.calls[method.path], self._context)
            return Route(method, stream=stack_stream(*layers, around=streaming))
        if method.path in service.effects:
            handler = self.effects.handler(service.effects[method.path])
        elif method.path in service.calls:
            handler = with_context(service.calls[method.path], self._context)
        elif method.reads:
            handler = on_snapshot(service.rpcs[method.path], self.store)
        else:
            handler = in_transaction(service.rpcs[method.path], self.store)
        return Route(method, stack(*layers, around=handler), door=door(layers, method))
