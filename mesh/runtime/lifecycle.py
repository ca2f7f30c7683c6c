"""The life of a service's process: put together, serve, drain.

Drain: say NOT_SERVING, give clients the time to notice, refuse new calls, finish those under
way; then stop sagas and effects where they stand and close the database.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import math
import os
import signal
import socket
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ..client import Channel
from ..dial import DeclarationError
from ..events.port import Bus
from ..layers.identity import Identities, make_token
from ..layers.validation import warm_up
from ..node import LOCAL, Node
from ..policies import Policies, PolicyOf
from ..saga.steps import Saga
from ..server import Application
from ..service import Service
from ..storage.engines import open_store
from ..storage.migrate import migrations, own_migrations
from ..storage.port import Store
from ..storage.seal import Seal
from ..transport.grpc_client import GrpcTransport
from ..transport.grpc_server import GrpcServer
from ..transport.memory import MemoryNetwork
from ..transport.port import Transport
from . import presence, seal_keys
from .clock import Runtime
from .config import ADMIN_PORT_OFFSET, Config, ConfigError, ServiceConfig
from .logs import configure_logging, log
from .metrics import Metrics
from .telemetry import Telemetry

#: How long clients have to notice that we are about to stop, and calls to finish.
NOTICE_S = 0.5
GRACE_S = 10.0
DAY_S = 24 * 3600.0
#: A saga that is undone at its deadline has so long for that.
UNDO_S = DAY_S / 2


class ServiceProcess:
    """One service of *config*, served over gRPC.

    Several in one process share a `MemoryNetwork`: they call each other without sockets.
    """

    def __init__(
        self, config: Config, name: str, network: MemoryNetwork | None = None, replica: int = 1
    ) -> None:
        self._config = config
        self._settings: ServiceConfig = config.service(name)
        self._port = self._settings.port_of(replica)
        self._address = config.address_of(name, replica)
        self._policies = Policies(config)
        self._runtime = Runtime()
        metrics = Metrics()
        self._telemetry = Telemetry(name, self._runtime, metrics)
        self._network = network
        self._node = Node(
            name=name,
            runtime=self._runtime,
            tracer=self._telemetry.tracer,
            metrics=metrics,
            identities=Identities(config.token_secret, config.principals, anonymous=LOCAL),
            token=make_token(config.token_secret, name) if config.token_secret else "",
            # Once it has the port, whoever had it before is dead.
            instance=f"{socket.gethostname()}:{self._port}",
        )
        self._transport: Transport = network or GrpcTransport(self._runtime)
        self._health = health.aio.HealthServicer()
        self._server = GrpcServer(self._runtime, self._policies.wire(name))
        self._application: Application | None = None
        self._store: Store | None = None
        self._bus: Bus | None = None

    async def start(self) -> None:
        """Open the database, take up what was left unfinished, and serve.

        Raises:
            PortInUseError: somebody else listens there.
            StorageError: the database cannot be opened, or what is sealed in it cannot.
            ConfigError: a restore was interrupted, or keys are kept for too short a time.
        """
        presence.check_restored(self._config.data_dir)
        service = load_service(self._settings)
        check_kept(self._config.keep_days, service.sagas)
        server = self._server.server
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        schema = migrations(service.schema) if service.schema else []
        self._store = store = await open_store(
            self._settings.name,
            self._config.database_url(self._settings.name),
            self._config.data_dir,
            self._runtime,
            [*own_migrations(), *schema],
        )
        if service.sagas or service.effects:
            seal = Seal(seal_keys.load(self._config), self._runtime)
            await seal.check(store)
            self._node = replace(self._node, seal=seal)
        self._node.metrics.database_failing.set_function(lambda: float(bool(store.failing)))
        if service.sagas and not self._node.token:
            log.warning("without MESH_TOKEN_SECRET nobody lets this process undo its steps")
        self._bus = self._open_bus(service)
        self._application = application = Application(
            self._node,
            service,
            self._store,
            connect=lambda target: self._connect(target, self._policies.toward(target)),
            connect_once=lambda target: self._connect(target, self._policies.once(target)),
            bus=self._bus,
            settings=functools.partial(self._policies.served, self._settings.name),
            effective=self._policies.effective(self._settings.name, service),
            keep_s=self._config.keep_days * DAY_S,
        )
        methods = [route.method for route in application.routes.values()]
        self._policies.check(self._settings.name, service, methods)
        warm_up(methods)
        self._server.add(application.routes)
        served = sorted({method.service for method in methods})
        reflection.enable_server_reflection([*served, *_OWN_SERVICES], server)
        if self._network:
            self._network.serve(self._address, application.routes)
        await self._server.start(f"{self._config.bind}:{self._port}")
        self._serve_metrics()
        await application.resume()
        for name in ("", *served):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", service=self._settings.name, port=self._port, services=served)

    async def drain(self) -> None:
        """Stop without losing a call."""
        await self._health.enter_graceful_shutdown()
        await self._runtime.clock.sleep(NOTICE_S)
        await self._server.stop(GRACE_S)
        if self._application:
            await self._application.stop()
        await self._transport.close()
        if self._bus:
            await self._bus.close()
        if self._store:
            await self._store.close()
        await self._telemetry.close(self._runtime.offload)
        log.info("stopped", service=self._settings.name)

    def _connect(self, target: str, policy: PolicyOf) -> Channel:
        addresses = self._config.addresses_of(target)
        return Channel(self._node, target, addresses, self._transport, policy)

    def _open_bus(self, service: Service[Any]) -> Bus | None:
        url = self._config.bus_url
        if not url:
            if service.subscribers:
                raise ConfigError(
                    f"{self._settings.name} listens to events and there is no bus: set [bus] url in"
                    " mesh.toml, or MESH_BUS_URL"
                )
            return None
        return open_bus(url, self._runtime, self._config.token_secret, self._settings.name)

    def _serve_metrics(self) -> None:
        port = self._port + ADMIN_PORT_OFFSET
        try:
            self._node.metrics.serve(self._config.bind, port)
        except OSError as error:
            raise ConfigError(f"cannot serve /metrics on port {port}: {error.strerror}") from None


def open_bus(url: str, runtime: Runtime, secret: str, name: str) -> Bus:
    """Return the bus at *url* for the process called *name*.

    Raises:
        ConfigError: there is no adapter for that URL, or it is not installed.
    """
    scheme = url.partition("://")[0]
    try:
        if scheme == "nats":
            from ..events.nats import NatsBus

            token = make_token(secret, "nats") if secret else ""
            return NatsBus(url, runtime, token=token, name=name)
        if scheme in ("redis", "rediss"):
            from ..events.redis import RedisBus

            return RedisBus(url, runtime, name=name)
    except ImportError as error:
        raise ConfigError(f"the bus needs a package that is not there: {error.name}") from None
    raise ConfigError(f"bus {scheme}://: nats://, redis:// and rediss:// are known")


_OWN_SERVICES = (health.SERVICE_NAME, reflection.SERVICE_NAME)


def set_environment(config: Config, names: Iterable[str]) -> None:
    """Give this process what *config* has the services of these *names* find, unless it is set."""
    for name in names:
        for variable, text in config.service(name).environment.items():
            os.environ.setdefault(variable, text.format_map(config.words()))


def load_service(settings: ServiceConfig) -> Service[Any]:
    """Import the module of *settings* and return its `service`.

    Raises:
        ConfigError: there is no such module, or no whole `service` in it.
    """
    try:
        module = importlib.import_module(settings.module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"[service.{settings.name}] module: {error}") from None
    service = getattr(module, "service", None)
    if not isinstance(service, Service):
        raise ConfigError(f"{settings.module} has no `service`")
    try:
        service.check()
    except DeclarationError as error:
        raise ConfigError(f"{settings.module}: {error}") from None
    return service


def check_kept(keep_days: int, sagas: Sequence[Saga[Any, Any]]) -> None:
    """Fail if keys are forgotten while *sagas* may still ask under them.

    The keys of a saga's steps are as old as the saga. Other services hold them, and know of no
    saga: but retention is one setting, for all who run by the same file.

    Raises:
        ConfigError: they are.
    """
    longest = max(sagas, key=lambda saga: saga.deadline_s, default=None)
    days = math.ceil((longest.deadline_s + UNDO_S) / DAY_S) if longest else 0
    if longest and keep_days < days:
        raise ConfigError(
            f"[retention] days = {keep_days}: the saga {longest.name} has"
            f" {longest.deadline_s / DAY_S:g} days (deadline_s), and a later step or undo of it"
            f" would be refused as KEY_EXPIRED; set days to {days} or more, or shorten its deadline"
        )


async def serve(config: Config, names: Sequence[str], replica: int = 1) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Several *names* share this process."""
    configure_logging(config.log_level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    network = MemoryNetwork(Runtime()) if len(names) > 1 else None
    processes = [ServiceProcess(config, name, network, replica) for name in names]
    try:
        for process in processes:
            await process.start()
        # What is loaded by now stays. Without this each full collection walks over it, 0.1 s in
        # which no call is served.
        gc.collect()
        gc.freeze()
        await stop.wait()
    finally:
        for process in reversed(processes):
            await process.drain()
