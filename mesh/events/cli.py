"""`mesh dlq` and `mesh read-model`: dead letters and read models, on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc

from ..api import channel
from ..client import Policy
from ..errors import MeshError
from ..runtime.config import Config
from ..terminal import print_json
from .v1 import dead_letters_pb2 as pb
from .v1 import read_models_pb2 as models_pb
from .v1.dead_letters_pb2_grpc import DeadLetterServiceStub
from .v1.read_models_pb2_grpc import ReadModelServiceStub

if TYPE_CHECKING:
    from .v1.dead_letters_pb2_grpc import DeadLetterServiceAsyncStub

#: An operator waits: no further attempts, a clear answer instead.
ONCE = Policy(retry=None, timeout_s=5.0)


def add_to(commands: Any) -> None:
    """Add the commands to the command line's grammar."""
    dlq = commands.add_parser("dlq", help="events that a service could not apply")
    actions = dlq.add_subparsers(dest="action", required=True)
    shown = actions.add_parser("list", help="list the dead events of every service, or of one")
    shown.add_argument("service", nargs="?", help="its name in mesh.toml")
    show = actions.add_parser("show", help="show a dead event and those behind it")
    redrive = actions.add_parser("redrive", help="have dead events tried again now")
    for action in (show, redrive):
        action.add_argument("service", help="its name in mesh.toml")
        every = "?" if action is redrive else None
        action.add_argument("topic", nargs=every, help="as `list` shows it")
        action.add_argument("aggregate", nargs=every, help="as `list` shows it")
        action.add_argument("--read-model", default="", metavar="NAME", help="of this one alone")
    redrive.add_argument("--all", action="store_true", help="all of the service's")
    for action in (shown, show, redrive):
        action.add_argument("--json", action="store_true", help="one JSON object a line")
    model = commands.add_parser("read-model", help="what a service makes of events")
    model.add_argument("action", choices=("list", "rebuild"), help="rebuild goes on by itself")
    model.add_argument("service", help="its name in mesh.toml")


async def run_read_model(config: Config, options: argparse.Namespace) -> int:
    """Do what *options* say; return the exit status."""
    try:
        async with _to(config, options.service) as opened:
            stub = ReadModelServiceStub(opened)
            if options.action == "rebuild":
                models = [(await stub.RebuildReadModel(models_pb.RebuildReadModelRequest())).model]
            else:
                models = list((await stub.ListReadModels(models_pb.ListReadModelsRequest())).models)
    except MeshError as error:
        return _failed(options.service, error, "it has no read model")
    for one in models:
        print(
            f"{one.name}: {models_pb.ReadModel.State.Name(one.state)}, {one.aggregate_count}"
            f" aggregates, {one.waiting_count} events wait, {one.dead_count} are dead"
        )
    return 0


async def run(config: Config, options: argparse.Namespace) -> int:
    """Do what *options* say; return the exit status: 1 if a service did not answer."""
    if options.action == "list":
        names = [options.service] if options.service else list(config.services)
        return max([await _list(config, name, options) for name in names], default=0)
    if options.action == "redrive" and options.all == bool(options.topic and options.aggregate):
        print("error: name a topic and an aggregate, or say --all", file=sys.stderr)
        return 2
    try:
        async with _to(config, options.service) as opened:
            stub = DeadLetterServiceStub(opened)
            if options.action == "show":
                await _show(stub, options)
            else:
                await _redrive(stub, options)
    except MeshError as error:
        return _failed(options.service, error)
    return 0


def _to(config: Config, name: str) -> grpc.aio.Channel:
    config.service(name)
    return channel(name, config.address_of(name), policy=ONCE)


async def _list(config: Config, name: str, options: argparse.Namespace) -> int:
    try:
        async with _to(config, name) as opened:
            letters = await _letters(DeadLetterServiceStub(opened))
    except MeshError as error:
        if error.status is grpc.StatusCode.UNIMPLEMENTED and not options.service:
            return 0  # it listens to no events
        return _failed(name, error)
    for letter in letters:
        _print(name, letter, options)
    if not letters and not options.json:
        print(f"{name}: no dead letters")
    return 0


def _failed(name: str, error: MeshError, lacks: str = "it listens to no events") -> int:
    """Say why, which may be that it *lacks* what was asked; return the exit status."""
    why = lacks if error.status is grpc.StatusCode.UNIMPLEMENTED else str(error)
    print(f"error: {name}: {why}", file=sys.stderr)
    return 1


async def _letters(stub: DeadLetterServiceAsyncStub) -> Sequence[pb.DeadLetter]:
    letters: list[pb.DeadLetter] = []
    token = ""
    while True:
        page = await stub.ListDeadLetters(
            pb.ListDeadLettersRequest(page_size=1000, page_token=token)
        )
        letters += page.letters
        token = page.next_page_token
        if not token:
            return letters


async def _show(stub: DeadLetterServiceAsyncStub, options: argparse.Namespace) -> None:
    request = pb.GetDeadLetterRequest(
        topic=options.topic, aggregate=options.aggregate, subscription=options.read_model
    )
    found = await stub.GetDeadLetter(request)
    _print(options.service, found.letter, options)
    for event in found.events:
        print(event if options.json else f"  {event}")


async def _redrive(stub: DeadLetterServiceAsyncStub, options: argparse.Namespace) -> None:
    named = [(options.topic, options.aggregate, options.read_model)]
    if options.all:
        letters = await _letters(stub)
        named = [(one.topic, one.aggregate, one.subscription) for one in letters]
    for topic, aggregate, subscription in named:
        request = pb.RedriveDeadLetterRequest(
            topic=topic, aggregate=aggregate, subscription=subscription
        )
        done = await stub.RedriveDeadLetter(request)
        _print(options.service, done.letter, options)
    if not options.json:
        print(f"{options.service}: {len(named)} redriven")


def _print(service: str, letter: pb.DeadLetter, options: argparse.Namespace) -> None:
    if options.json:
        print_json(letter, {"service": service})
        return
    where = (
        service if letter.subscription in ("", service) else f"{service} ({letter.subscription})"
    )
    print(
        f"{where}: {letter.topic} {letter.aggregate} version {letter.version},"
        f" {letter.attempts} attempts, {letter.waiting} wait behind it: {letter.error}"
    )
