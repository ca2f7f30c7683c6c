"""`mesh policies` and `mesh chaos`: what processes do with their calls, on the command line."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ..api import channel
from ..client import Policy
from ..errors import MeshError
from ..runtime.config import Config, ConfigError
from ..terminal import EXIT_STATUS, confirmed, print_lines
from . import show
from .v1 import admin_pb2 as pb
from .v1.admin_pb2_grpc import AdminServiceStub

if TYPE_CHECKING:
    from .v1.admin_pb2_grpc import AdminServiceAsyncStub

    Ask: TypeAlias = Callable[[AdminServiceAsyncStub], Awaitable[int]]

#: An operator waits: no further attempts, a clear answer instead.
ONCE = Policy(retry=None, timeout_s=5.0)
#: What can be done to circuits, and their mode then.
ACTIONS = {
    "force-open": pb.Circuit.FORCED_OPEN,
    "disable": pb.Circuit.DISABLED,
    "metrics-only": pb.Circuit.METRICS_ONLY,
    "reset": pb.Circuit.NORMAL,
}
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0}


def add_to(commands: Any) -> None:
    """Add the commands to the command line's grammar."""
    policies = commands.add_parser(
        "policies",
        help="live circuit breakers, budgets and limits of services; and force them",
        usage="mesh policies [SERVICE] [--all]\n"
        f"       mesh policies {'|'.join(ACTIONS)} SERVICE TARGET [METHOD] --reason WHY [--yes]",
        description="SERVICE is whose calls are looked at; TARGET is whom it calls.",
        epilog=EXIT_STATUS,
    )
    policies.add_argument("words", nargs="*", metavar="SERVICE", help=argparse.SUPPRESS)
    policies.add_argument("--all", action="store_true", help="settings that are defaults as well")
    policies.add_argument("--address", default="", help="only circuits of this address")
    chaos = commands.add_parser(
        "chaos",
        help="let a share of a service's calls fail for a while",
        description="Let calls that SERVICE makes of METHOD be late or fail. It ends by itself.",
        epilog=EXIT_STATUS,
    )
    chaos.add_argument("service", help="whose calls, as mesh.toml names it")
    chaos.add_argument("method", nargs="?", default="", help="of which method of those it calls")
    chaos.add_argument("--code", default="", help="the status they end with, such as UNAVAILABLE")
    chaos.add_argument("--delay", type=_seconds, default=0.0, help="by how much they are late")
    chaos.add_argument("--share", type=float, default=0.1, help="of the calls; default 0.1")
    chaos.add_argument("--after", action="store_true", help="they are executed; the answer is lost")
    chaos.add_argument(
        "--for", type=_seconds, default=60.0, dest="lasts_s", help="default 60s; such as 500ms, 5m"
    )
    chaos.add_argument("--clear", action="store_true", help="end all faults of SERVICE at once")
    for action in (policies, chaos):
        action.add_argument("--reason", default="", help="why, for the record")
        action.add_argument("--yes", action="store_true", help="do it without asking")


async def run_policies(config: Config, options: argparse.Namespace) -> int:
    """Do what *options* say; return the exit status."""
    words = options.words
    if words and words[0] in ACTIONS:
        if not 3 <= len(words) <= 4:
            raise ConfigError(f"mesh policies {words[0]}: SERVICE TARGET [METHOD] are wanted")
        return await _set_mode(config, options, *words)
    if len(words) > 1:
        raise ConfigError(f"{words[0]!r}: {', '.join(ACTIONS)}, or one service alone, is wanted")
    status = 0
    for name in words or config.services:

        async def look(admin: AdminServiceAsyncStub, name: str = name) -> int:
            found = await admin.GetStatus(pb.GetStatusRequest())
            print_lines(show.status(name, found, everything=options.all))
            return 0

        status = max(status, await _each(config, name, look))
    return status


async def run_chaos(config: Config, options: argparse.Namespace) -> int:
    """Do what *options* say; return the exit status."""
    _reasoned(options)
    if options.clear:

        async def clear(admin: AdminServiceAsyncStub) -> int:
            done = await admin.ClearFaults(pb.ClearFaultsRequest(reason=options.reason))
            print(f"{options.service}: {done.cleared} ended")
            return 0

        return await _each(config, options.service, clear)
    if not options.method:
        raise ConfigError("mesh chaos: METHOD is wanted, or --clear")
    fault = pb.Fault(
        method=options.method,
        code=options.code,
        delay_seconds=options.delay,
        share=options.share,
        after_execution=options.after,
        ends_in_seconds=options.lasts_s,
    )
    request = pb.InjectFaultRequest(fault=fault, reason=options.reason)
    return await _act(config, options, options.service, "InjectFault", request)


async def _set_mode(
    config: Config, options: argparse.Namespace, action: str, name: str, *whose: str
) -> int:
    _reasoned(options)
    target, method = (*whose, "")[:2]
    request = pb.SetCircuitModeRequest(
        target=target,
        method=method,
        address=options.address,
        mode=ACTIONS[action],
        reason=options.reason,
    )
    return await _act(config, options, name, "SetCircuitMode", request)


async def _act(
    config: Config, options: argparse.Namespace, name: str, method: str, request: Any
) -> int:
    """Show what the action comes to in each replica; do it in all once it is confirmed."""

    async def preview(admin: AdminServiceAsyncStub) -> int:
        request.validate_only = True
        print_lines((await getattr(admin, method)(request)).effects)
        return 0

    async def act(admin: AdminServiceAsyncStub) -> int:
        request.validate_only = False
        await getattr(admin, method)(request)
        return 0

    if await _each(config, name, preview) or not (options.yes or confirmed()):
        return 1
    return await _each(config, name, act)


async def _each(config: Config, name: str, ask: Ask) -> int:
    """Ask each replica of the service called *name*; return the worst exit status."""
    config.service(name)
    worst = 0
    for address in config.addresses_of(name):
        try:
            async with channel(name, address, policy=ONCE) as opened:
                worst = max(worst, await ask(AdminServiceStub(opened)))
        except MeshError as error:
            print(f"error: {name} at {address}: {error}", file=sys.stderr)
            worst = 1
    return worst


def _reasoned(options: argparse.Namespace) -> None:
    if not options.reason:
        raise ConfigError("--reason is wanted: why, for the record")


def _seconds(text: str) -> float:
    found = _TIME.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}: such as 500ms, 60s or 5m is wanted")
    return float(found[1]) * _UNITS_S[found[2]]
