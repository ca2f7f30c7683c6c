"""`mesh saga`: sagas on the command line, and what an operator does about a parked one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ..api import channel
from ..client import Policy
from ..errors import MeshError, NotFound
from ..layers.identity import ORCHESTRATOR
from ..runtime.config import Config, ConfigError
from ..terminal import EXIT_STATUS, confirmed, print_json, print_lines
from . import show
from .v1 import saga_pb2 as pb
from .v1.saga_pb2_grpc import SagaServiceStub

if TYPE_CHECKING:
    from .v1.saga_pb2_grpc import SagaServiceAsyncStub

    Command: TypeAlias = Callable[[SagaServiceAsyncStub, argparse.Namespace], Awaitable[int]]

#: An operator waits: no further attempts, a clear answer instead.
ONCE = Policy(retry=None, timeout_s=10.0)
#: A saga may be watched for so long.
WATCH = Policy(retry=None, timeout_s=24 * 3600.0)
PAGE = 200


def add_to(commands: Any) -> None:
    """Add the commands to the command line's grammar."""
    saga = commands.add_parser(
        "saga",
        help="sagas: where they stand, and what to do about those that are parked",
        epilog=EXIT_STATUS,
    )
    actions = saga.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="list sagas, the newest first")
    listing.add_argument("--name", default="", help="only of this kind, such as place_order")
    listing.add_argument("--key", default="", help="only the one started under it; needs --name")
    states = pb.Saga.State.keys()[1:]
    listing.add_argument("--state", choices=states, help="only in this state")
    listing.add_argument("--limit", type=_positive, default=50, help="how many; default 50")
    named = [
        actions.add_parser("show", help="show a saga with its steps"),
        actions.add_parser(
            "watch",
            help="print a saga whenever it changes, until it ends; exit with 1 if it was undone",
        ),
        actions.add_parser("timeline", help="tell what happened in a saga, in order of time"),
        actions.add_parser(
            "export", help="print the recording of a saga, to test its code against"
        ),
    ]
    acting = [
        actions.add_parser("retry", help="set a parked saga going again"),
        actions.add_parser("skip", help="let a parked saga go on without a step, or its undo"),
        actions.add_parser("resolve", help="end a saga that cannot end by itself"),
    ]
    for action in (*named, *acting):
        action.add_argument("saga_id", help="as `list` shows it; or NAME/KEY, place_order/ORDER")
    skip, resolve = acting[1:]
    skip.add_argument("step", type=_place, help="as `show` shows it: 3, or 3.2")
    resolve.add_argument(
        "resolution",
        choices=["completed", "failed", "undo"],
        help="completed, failed: declare it done, or undone, by hand; undo: have it undone",
    )
    for action in acting:
        action.add_argument("--reason", required=True, help="why, for the record")
        action.add_argument("--yes", action="store_true", help="do it without asking")
    for action in (listing, *named, *acting):
        action.add_argument("--service", help="whose sagas; default: the one orchestrator")
        action.add_argument("--json", action="store_true", help="one JSON object a line")


async def run(config: Config, options: argparse.Namespace) -> int:
    """Do what *options* say; return the exit status."""
    name = options.service or _orchestrator(config)
    config.service(name)
    policy = WATCH if options.action == "watch" else ONCE
    command: Command = _COMMANDS[options.action]
    try:
        async with channel(name, config.address_of(name), policy=policy) as opened:
            sagas = SagaServiceStub(opened)
            if "saga_id" in options:
                options.saga_id = await _id_of(sagas, options.saga_id)
            return await command(sagas, options)
    except MeshError as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        return 1


def _orchestrator(config: Config) -> str:
    names = [one.name for one in config.services.values() if ORCHESTRATOR in one.roles]
    if len(names) != 1:
        raise ConfigError(f"--service: which of {', '.join(names) or 'the services'}?")
    return names[0]


async def _id_of(sagas: SagaServiceAsyncStub, given: str) -> str:
    """Return the id of the saga that is *given* so, or as NAME/KEY."""
    name, slash, key = given.partition("/")
    if not slash:
        return given
    listed = await sagas.ListSagas(pb.ListSagasRequest(name=name, key=key, page_size=1))
    if not listed.sagas:
        raise NotFound(f"no {name!r} was started under {key!r}", reason="SAGA_NOT_FOUND")
    return listed.sagas[0].saga_id


async def _list(sagas: SagaServiceAsyncStub, options: argparse.Namespace) -> int:
    request = pb.ListSagasRequest(name=options.name, key=options.key)
    request.state = pb.Saga.State.Value(options.state or "STATE_UNSPECIFIED")
    found: list[pb.Saga] = []
    while len(found) < options.limit:
        request.page_size = min(PAGE, options.limit - len(found))
        page = await sagas.ListSagas(request)
        found += page.sagas
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    if options.json:
        for saga in found:
            print_json(saga)
    else:
        print_lines(show.listing(found) if found else ["no sagas"])
    return 0


async def _show(sagas: SagaServiceAsyncStub, options: argparse.Namespace) -> int:
    saga = await sagas.GetSaga(pb.GetSagaRequest(saga_id=options.saga_id))
    print_json(saga) if options.json else print_lines(show.whole(saga))
    return 0


async def _watch(sagas: SagaServiceAsyncStub, options: argparse.Namespace) -> int:
    async for news in sagas.WatchSaga(pb.WatchSagaRequest(saga_id=options.saga_id)):
        print_json(news.saga) if options.json else print_lines([*show.whole(news.saga), ""])
        if news.final:
            return 0 if news.saga.state == pb.Saga.COMPLETED else 1
    print("error: the stream broke off", file=sys.stderr)
    return 1


async def _timeline(sagas: SagaServiceAsyncStub, options: argparse.Namespace) -> int:
    timeline = await sagas.GetTimeline(pb.GetTimelineRequest(saga_id=options.saga_id))
    if options.json:
        for entry in timeline.entries:
            print_json(entry)
    else:
        print_lines(show.story(timeline))
    return 0


async def _export(sagas: SagaServiceAsyncStub, options: argparse.Namespace) -> int:
    exported = await sagas.ExportSaga(pb.ExportSagaRequest(saga_id=options.saga_id))
    print(exported.recording, end="")
    return 0


async def _retry(sagas: SagaServiceAsyncStub, options: argparse.Namespace) -> int:
    request = pb.RetrySagaRequest(saga_id=options.saga_id, reason=options.reason)
    return await _act(sagas.RetrySaga, request, options)


async def _skip(sagas: SagaServiceAsyncStub, options: argparse.Namespace) -> int:
    position, branch = options.step
    request = pb.SkipStepRequest(
        saga_id=options.saga_id, position=position, branch=branch, reason=options.reason
    )
    return await _act(sagas.SkipStep, request, options)


async def _resolve(sagas: SagaServiceAsyncStub, options: argparse.Namespace) -> int:
    resolution = pb.ResolveSagaRequest.Resolution.Value(options.resolution.upper())
    request = pb.ResolveSagaRequest(
        saga_id=options.saga_id, resolution=resolution, reason=options.reason
    )
    return await _act(sagas.ResolveSaga, request, options)


async def _act(ask: Any, request: Any, options: argparse.Namespace) -> int:
    """Show what the action comes to; do just that once it is confirmed."""
    request.validate_only = True
    preview: pb.OperatorAction = await ask(request)
    if not options.yes:
        print_json(preview) if options.json else print_lines(preview.effects)
        if not confirmed():
            return 1
    request.validate_only, request.etag = False, preview.etag
    done: pb.OperatorAction = await ask(request)
    if options.json:
        print_json(done)
    else:
        print_lines([*(done.effects if options.yes else ()), "", *show.whole(done.saga)])
    return 0


_COMMANDS: dict[str, Command] = {
    "list": _list,
    "show": _show,
    "watch": _watch,
    "timeline": _timeline,
    "export": _export,
    "retry": _retry,
    "skip": _skip,
    "resolve": _resolve,
}


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _place(text: str) -> tuple[int, str]:
    position, _, branch = text.partition(".")
    if not position.isdecimal() or (branch and not branch.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no step: 3, or 3.2, is wanted")
    return int(position), branch
