"""What one call may come to: attempts and time at worst, over the declared call graph. Pure.

Each service declares in its ``clients.py`` whom it calls; each method says by its kind what happens
to those calls. A ``@call`` makes them while its caller waits; an ``@effect`` and a saga make them
whether anybody waits or not; a ``@rpc`` makes none. Which of the declared methods a function really
calls is not known: at worst, all.

Attempts add up, they do not multiply. Only a first attempt is retried further down, and what was
given up there is not begun anew above (`mesh.layers.retry`): two hops that try 4 times each come to
7 calls of the last one, where 16 would be the product. Budgets bound what lasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .call import NEVER, Method
from .client import Policy
from .dial import declared
from .events.consumer import OUTSIDE_TIMEOUT_S
from .layers.deadline import MARGIN_S
from .service import Service

#: One call of a method should come to no more calls of another one than this.
ATTEMPTS_MAX = 10

PolicyAt = Callable[[str, Method], Policy]


@dataclass(frozen=True)
class Hop:
    """Calls of one method, as a caller makes them, and what they lead to.

    `arrive` is how many of them one call at the root comes to; `unbounded` how many it would be if
    each hop retried what the others retry; `lasting` by how much retries multiply a steady load.
    """

    target: str
    method: Method
    policy: Policy
    arrive: int
    unbounded: int
    lasting: float
    waits_s: float
    owner: str = ""
    below: list[Hop] = field(default_factory=list)

    @property
    def timeout_s(self) -> float:
        """How long the caller waits at most for all attempts together, in seconds."""
        return min(self.waits_s, own_timeout_s(self.method, self.policy))

    def walk(self) -> Iterator[Hop]:
        """Yield this one and all that it leads to."""
        yield self
        for hop in self.below:
            yield from hop.walk()


def own_timeout_s(method: Method, policy: Policy) -> float:
    """Return what *policy* gives a call of *method* as a whole; one that streams replies: all."""
    return NEVER if method.server_streams else policy.timeout_s


def attempt_s(method: Method, policy: Policy) -> float:
    """Return the same for one attempt."""
    whole_s = own_timeout_s(method, policy)
    return min(policy.attempt_timeout_s or NEVER, whole_s) if whole_s < NEVER else NEVER


def attempts(policy: Policy) -> int:
    """Return how many attempts a call has."""
    if policy.hedge:
        return 2
    return policy.retry.attempts_max if policy.retry else 1


class Graph:
    """Who calls whom.

    Args:
        services: by name.
        policy_at: how calls of a method of a target are treated.

    Raises:
        DeclarationError: a service's clients do not fit its contracts.
    """

    def __init__(self, services: Mapping[str, Service[Any]], policy_at: PolicyAt) -> None:
        self._services = services
        self._policy_at = policy_at
        self._calls = {name: declared(service.clients) for name, service in services.items()}

    def methods(self) -> Iterator[tuple[str, Method]]:
        """Yield (service, method) for all that is served."""
        for name, service in self._services.items():
            for descriptor in service.descriptor.methods:
                yield name, Method.of(descriptor)

    def explain(self, target: str, method: Method) -> Hop:
        """Return what a call of *method* of *target* may come to."""
        return self._hop(target, method, self._policy_at(target, method), None, NEVER, "", ())

    def _hop(
        self,
        target: str,
        method: Method,
        policy: Policy,
        above: Hop | None,
        waits_s: float,
        owner: str,
        path: tuple[tuple[str, Method], ...],
    ) -> Hop:
        count, budget = attempts(policy), policy.hedge or policy.retry
        share = budget.budget.share if budget else 0.0
        hop = Hop(
            target,
            method,
            policy,
            arrive=(above.arrive if above else 1) + count - 1,
            unbounded=(above.unbounded if above else 1) * count,
            lasting=(above.lasting if above else 1.0) * (1.0 + share),
            waits_s=waits_s,
            owner=owner,
        )
        if (target, method) not in path:  # else it calls itself, and so on for ever
            hop.below.extend(self._below(hop, (*path, (target, method))))
        return hop

    def _below(self, hop: Hop, path: tuple[tuple[str, Method], ...]) -> Iterator[Hop]:
        service = self._services.get(hop.target)
        if service is None or hop.method.path not in (*service.calls, *service.effects):
            return
        for target, method in self._calls[hop.target]:
            policy = self._policy_at(target, method)
            if hop.method.path in service.effects:
                yield self._hop(target, method, policy, None, NEVER, "effect", path)
            elif service.sagas:
                lasts_s = min(saga.deadline_s for saga in service.sagas)
                yield self._hop(target, method, policy.once(), None, lasts_s, "saga", path)
            else:
                waits_s = attempt_s(hop.method, hop.policy) - MARGIN_S
                yield self._hop(target, method, policy, hop, waits_s, "", path)

    def of_events(self) -> Iterator[tuple[str, Hop]]:
        """Yield (service, hop) for all that is called from outside parts of event handlers."""
        for name, service in self._services.items():
            if any(subscriber.outside for subscriber in service.subscribers.values()):
                for target, method in self._calls[name]:
                    policy = self._policy_at(target, method)
                    waits_s = OUTSIDE_TIMEOUT_S - MARGIN_S
                    yield name, self._hop(target, method, policy, None, waits_s, "event", ())

    def problems(self, attempts_max: int = ATTEMPTS_MAX) -> list[str]:
        """Return what is wrong: too many attempts, or a child with more time than its parent."""
        found: dict[str, None] = {}
        for name, method in self.methods():
            found |= dict.fromkeys(problems_below(name, self.explain(name, method), attempts_max))
        for name, hop in self.of_events():
            found |= dict.fromkeys(_problems(f"an event handler of {name}", hop, attempts_max))
            found |= dict.fromkeys(problems_below(name, hop, attempts_max))
        return list(found)


def problems_below(root: str, above: Hop, attempts_max: int) -> Iterator[str]:
    """Yield what is wrong with the calls that *above* leads to."""
    for hop in above.below:
        yield from _problems(f"{above.target} {above.method.full_name}", hop, attempts_max)
        yield from problems_below(root, hop, attempts_max)


def _problems(caller: str, hop: Hop, attempts_max: int) -> Iterator[str]:
    own_s, name = own_timeout_s(hop.method, hop.policy), f"{hop.target} {hop.method.full_name}"
    if hop.waits_s < own_s < math.inf:
        yield (
            f"{caller} calls {name} for {own_s:g} s and has {hop.waits_s:g} s itself: set"
            f" [policy.{hop.target}.{hop.method.name}] timeout_s below that, or give the caller's"
            " callers more"
        )
    if hop.arrive > attempts_max:
        yield (
            f"{caller} calls {name}: one call may come to {hop.arrive} of it, and {attempts_max} is"
            f" the limit: set [policy.{hop.target}.{hop.method.name}] retry.attempts_max lower"
        )
