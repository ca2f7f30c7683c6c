"""The policies and server settings of a configuration, for each method."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from google.protobuf import descriptor_pool

from .call import Method
from .client import Policy
from .dial import declared
from .runtime.config import Config, ConfigError
from .runtime.levels import Levels
from .runtime.settings import leaves
from .server import ServerSettings
from .service import Service
from .transport.wire import WireConfig

#: How calls of each method are treated.
PolicyOf: TypeAlias = Callable[[Method], Policy]

#: What a contract may contradict.
_OF_CONTRACTS = ("idempotency", "fallback", "hedge")
#: What may take an event loop.
_OF_LOOPS = ("bulkhead", "hedge")


class Effective(NamedTuple):
    """A setting that holds: of calls of *target*, or if that is "" of how a service serves."""

    target: str
    method: str
    name: str
    value: str
    source: str


class Policies:
    """What `[policy]`, `[server]` and `[wire]` say, see `mesh.runtime.levels`.

    Raises:
        ConfigError: something in it is wrong.
    """

    def __init__(self, config: Config) -> None:
        self._outside = config.targets
        self.calling = Levels(Policy(), config.policy, {*config.services, *config.targets})
        self.serving = Levels(ServerSettings(), config.server, {*config.services, *config.targets})
        self.listening = Levels(WireConfig(), config.wire, config.services)

    def of(self, target: str, method: Method) -> Policy:
        """Return how calls of *method* of *target* are treated.

        Raises:
            ConfigError: that contradicts the method's contract.
        """
        sources: dict[str, str] = {}
        policy = self.calling.of(target, method.name, sources)
        try:
            policy.check(method)
        except ValueError as error:
            raise _wrong(error, sources, _OF_CONTRACTS) from None
        return policy

    def toward(self, target: str) -> PolicyOf:
        """Return how calls of each method of *target* are treated."""
        return partial(self.of, target)

    def each(self, target: str, check: Callable[[Policy], None]) -> None:
        """Let *check* look at each policy that calls of *target* have: of all, and of methods.

        Raises:
            ConfigError: it found a ValueError.
        """
        for method in ("", *self.calling.methods(target)):
            sources: dict[str, str] = {}
            policy = self.calling.of(target, method, sources)
            try:
                check(policy)
            except ValueError as error:
                raise _wrong(error, sources, _OF_LOOPS) from None

    def once(self, target: str) -> PolicyOf:
        """The same for a caller that owns the retry."""
        return lambda method: self.of(target, method).once()

    def served(self, name: str, method: Method) -> ServerSettings:
        """Return how the service called *name* serves calls of *method*."""
        return self.serving.of(name, method.name)

    def wire(self, name: str) -> WireConfig:
        """Return what the server of the service called *name* takes from the wire."""
        return self.listening.of(name)

    def effective(self, name: str, service: Service[Any]) -> Iterator[Effective]:
        """Return every setting of what the service called *name* calls and serves."""
        for target, method in declared(service.clients):
            sources: dict[str, str] = {}
            policy = self.calling.of(target, method.name, sources)
            yield from _effective(target, method, policy, sources)
        for descriptor in service.descriptor.methods:
            method, sources = Method.of(descriptor), {}
            settings = self.serving.of(name, method.name, sources)
            yield from _effective("", method, settings, sources)

    def check(self, name: str, service: Service[Any], served: Iterable[Method]) -> None:
        """Fail if something is said of a method that does not exist.

        Each service looks after itself, which has the *served* methods, and after the targets
        outside the system that it calls: their contracts are known to it alone.

        Raises:
            ConfigError: that is so.
        """
        own = [method.name for method in served]
        self.calling.check_methods(name, own)
        self.serving.check_methods(name, own)
        self.listening.check_methods(name, ())  # a server's methods have one wire
        for target, method in declared(service.clients):
            if target in self._outside:
                there = descriptor_pool.Default().FindServiceByName(method.service)
                self.calling.check_methods(target, there.methods_by_name)


def _wrong(error: ValueError, sources: Mapping[str, str], names: Collection[str]) -> ConfigError:
    """Return *error* with the places where the settings called *names* were said."""
    said = [place for path, place in sources.items() if path.partition(".")[0] in names]
    return ConfigError(f"{', '.join(dict.fromkeys(said))}: {error}")


def _effective(
    target: str, method: Method, settings: Any, sources: Mapping[str, str]
) -> Iterator[Effective]:
    for name, value in leaves(settings).items():
        said = [place for path, place in sources.items() if f"{name}.".startswith(f"{path}.")]
        source = sources.get(name) or (said[-1] if said else "default")
        yield Effective(target, method.full_name, name, value, source)
