"""Operators see what is dead and set it going again; nobody else does."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.call import Principal
from mesh.errors import InvalidArgument, NotFound, PermissionDenied
from mesh.events.admin import dead_letter_service
from mesh.events.consumer import ATTEMPTS_MAX
from mesh.events.inbox import Inbox
from mesh.events.read_models import begin
from mesh.events.v1 import dead_letters_pb2 as pb
from mesh.storage.port import Tx
from mesh.testing.loop import run_virtual
from tests.support.things import TOPIC, thing

from .world import World

OPERATOR = Principal("olga", frozenset({"operator"}))


async def ask(world: World, method: str, request: Any, who: Principal = OPERATOR) -> Any:
    function = dead_letter_service("notes").rpcs[f"/mesh.events.v1.DeadLetterService/{method}"]

    async def work(tx: Any) -> Any:
        tx.principal = who
        return await function(tx, request)

    return await world.store.write(work)


def play(folder: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def played() -> None:
        world = World(folder, failures={(name, 1): ATTEMPTS_MAX for name in "abcde"})
        await world.consumer.start()
        for name in "abcde":
            for version in (1, 2):
                await world.consumer.receive(thing(name, version))
        await world.runtime.clock.sleep(3600.0)
        try:
            await story(world)
        finally:
            await world.stop()

    run_virtual(played())


def test_pages_of_what_is_dead(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        found, token = [], ""
        while True:
            page = await ask(
                world,
                "ListDeadLetters",
                pb.ListDeadLettersRequest(page_size=2, page_token=token),
            )
            found += page.letters
            token = page.next_page_token
            if not token:
                break
        assert [letter.aggregate for letter in found] == list("abcde")
        letter = found[0]
        assert (letter.topic, letter.version, letter.attempts) == (TOPIC, 1, ATTEMPTS_MAX)
        assert (letter.waiting, letter.source, letter.correlation_id) == (1, "things", "c-1")
        with pytest.raises(InvalidArgument):
            await ask(world, "ListDeadLetters", pb.ListDeadLettersRequest(page_token="x"))

    play(tmp_path, story)


def test_one_is_shown_with_those_behind_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        shown = await ask(
            world, "GetDeadLetter", pb.GetDeadLetterRequest(topic=TOPIC, aggregate="b")
        )
        assert [json.loads(event) for event in shown.events] == [
            {"thing_id": "b", "number": "1"},
            {"thing_id": "b", "number": "2"},
        ]
        with pytest.raises(NotFound):
            await ask(world, "GetDeadLetter", pb.GetDeadLetterRequest(topic=TOPIC, aggregate="z"))

    play(tmp_path, story)


def test_redriven_it_is_applied_and_then_those_behind_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        request = pb.RedriveDeadLetterRequest(topic=TOPIC, aggregate="c")
        done = await ask(world, "RedriveDeadLetter", request)
        assert done.letter.attempts == ATTEMPTS_MAX
        await world.runtime.clock.sleep(10.0)
        assert await world.notes("c") == [1, 2]
        assert await world.notes("d") == []
        with pytest.raises(NotFound):
            await ask(world, "RedriveDeadLetter", request)

    play(tmp_path, story)


def test_those_of_a_read_model_that_is_being_built_are_told_too(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async def rebuild(tx: Tx) -> None:
            await begin(tx, "notes")
            await begin(tx, "notes")
            inbox = Inbox("notes-2")
            await inbox.keep(tx, thing("a"), "wrong")
            (built,) = await inbox.of(tx, TOPIC, "a", limit=1)
            await inbox.failed(tx, built, "wrong again", 0.0, dead=True)

        await world.store.write(rebuild)
        request = pb.ListDeadLettersRequest(page_size=5)
        first = await ask(world, "ListDeadLetters", request)
        request.page_token = first.next_page_token
        second = await ask(world, "ListDeadLetters", request)
        assert [(one.subscription, one.aggregate) for one in (*first.letters, *second.letters)] == [
            *(("notes", name) for name in "abcde"),
            ("notes-2", "a"),
        ]
        named = pb.RedriveDeadLetterRequest(topic=TOPIC, aggregate="a", subscription="notes-2")
        done = await ask(world, "RedriveDeadLetter", named)
        assert done.letter.error == "wrong again"
        any_of_them = pb.GetDeadLetterRequest(topic=TOPIC, aggregate="a")
        assert (await ask(world, "GetDeadLetter", any_of_them)).letter.subscription == "notes"
        with pytest.raises(NotFound):
            await ask(world, "RedriveDeadLetter", named)

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("method", "request_type"),
    [
        ("ListDeadLetters", pb.ListDeadLettersRequest),
        ("GetDeadLetter", pb.GetDeadLetterRequest),
        ("RedriveDeadLetter", pb.RedriveDeadLetterRequest),
    ],
)
def test_without_the_role_nothing_is_told(
    tmp_path: Path, method: str, request_type: Callable[[], Any]
) -> None:
    async def story(world: World) -> None:
        with pytest.raises(PermissionDenied, match="lacks the role 'operator'"):
            await ask(world, method, request_type(), Principal("eve"))

    play(tmp_path, story)
