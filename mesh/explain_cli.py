"""`mesh explain`, on the command line."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from typing import Any

from .call import Method
from .explain import ATTEMPTS_MAX, Graph, Hop, attempts
from .policies import Policies
from .runtime.config import Config, ConfigError
from .runtime.lifecycle import load_service, set_environment

#: What is said of calls that no caller waits for.
_OWNERS = {
    "effect": "effect: goes on without its caller, and asks until it is answered",
    "saga": "saga: goes on without its caller, and asks again itself",
}


def add_to(commands: Any) -> None:
    """Add the command to the command line's grammar."""
    explain = commands.add_parser(
        "explain", help="what a call may come to at worst: attempts and time, as a tree"
    )
    explain.add_argument("method", nargs="?", help="order.QuoteOrder, or its full name")
    explain.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 if a call has more time than its caller, or comes to too many",
    )
    explain.add_argument(
        "--attempts-max",
        type=int,
        default=ATTEMPTS_MAX,
        metavar="N",
        help=f"how many calls one call may come to; default {ATTEMPTS_MAX}",
    )


def run(config: Config, options: argparse.Namespace) -> int:
    """Do what *options* say; return the exit status.

    Raises:
        ConfigError: there is no such method, or a service cannot be loaded.
    """
    graph = graph_of(config)
    if options.method:
        print("\n".join(render(graph.explain(*find(graph, options.method)))))
    elif not options.check:
        raise ConfigError(f"say which method: {', '.join(sorted(map(_short, graph.methods())))}")
    problems = graph.problems(options.attempts_max) if options.check else []
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def graph_of(config: Config) -> Graph:
    """Return the call graph of the services that *config* names.

    Raises:
        ConfigError: one of them cannot be loaded.
    """
    set_environment(config, config.services)
    services = {name: load_service(settings) for name, settings in config.services.items()}
    return Graph(services, Policies(config).of)


def find(graph: Graph, named: str) -> tuple[str, Method]:
    """Return the one (service, method) that *named* means.

    Raises:
        ConfigError: it means none, or several.
    """
    wanted = named.removeprefix("/")
    meant = [
        (service, method)
        for service, method in graph.methods()
        if wanted in (_short((service, method)), method.full_name, method.name)
        or method.full_name.endswith(f".{wanted}")
    ]
    if len(meant) != 1:
        there = sorted(map(_short, meant or graph.methods()))
        raise ConfigError(f"{named!r} means {len(meant)} methods; there are {', '.join(there)}")
    return meant[0]


def _short(served: tuple[str, Method]) -> str:
    return f"{served[0]}.{served[1].name}"


def render(root: Hop) -> list[str]:
    """Return *root* as a tree, and what it comes to at worst."""
    waited = [hop for hop in root.walk() if not hop.owner]
    worst = max(waited, key=lambda hop: hop.arrive)
    lasting = max(hop.lasting for hop in waited)
    owned = [text for owner, text in _OWNERS.items() if any(h.owner == owner for h in root.walk())]
    called = f"{worst.arrive} calls of {worst.target}.{worst.method.name} for one"
    return [
        *_lines(root, "", ""),
        "",
        *owned,
        f"at worst: {_seconds(root.timeout_s)}, {called}, not {worst.unbounded}",
        f"lasting: {lasting:.2f} times what is asked for, and what budgets give a second",
    ]


def _lines(hop: Hop, first: str, rest: str) -> Iterator[str]:
    yield f"{first}{hop.target} {hop.method.full_name}: {_facts(hop)}"
    for below in hop.below:
        branch, under = ("└── ", "    ") if below is hop.below[-1] else ("├── ", "│   ")
        yield from _lines(below, rest + branch, rest + under)


def _facts(hop: Hop) -> str:
    count = attempts(hop.policy)
    tries = "1 attempt" if count == 1 else f"{count} attempts"
    facts = [_seconds(hop.timeout_s), tries]
    if hop.policy.attempt_timeout_s and not hop.method.server_streams:
        facts.append(f"{_seconds(hop.policy.attempt_timeout_s)} each")
    if hop.policy.hedge:
        facts.append("hedged")
    if hop.arrive > count:
        facts.append(f"{hop.arrive} calls for one")
    if hop.owner in _OWNERS:
        facts.append(hop.owner)
    return ", ".join(facts)


def _seconds(time_s: float) -> str:
    return "no time limit" if math.isinf(time_s) else f"{time_s:g} s"
