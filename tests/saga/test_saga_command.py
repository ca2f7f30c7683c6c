"""`mesh saga` on a running system."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from mesh import cli
from mesh.runtime.config import Config, ConfigError, ServiceConfig
from mesh.saga import cli as command
from mesh.saga.v1 import saga_pb2 as pb
from mesh.testing.replay import replay
from services.orchestrator.service import service as orchestrator
from tests.saga.parked import SUCCESS, Lying, refused, tell
from tests.saga.shop import Shop

if TYPE_CHECKING:
    from mesh.saga.v1.saga_pb2_grpc import SagaServiceAsyncStub

Printed: TypeAlias = "pytest.CaptureFixture[str]"
Mesh: TypeAlias = Callable[..., Awaitable[tuple[int, str]]]


def config(*orchestrators: str) -> Config:
    roles = frozenset({"orchestrator"})
    services = {name: ServiceConfig(name, "x", 1, roles) for name in orchestrators}
    return Config(services={**services, "user": ServiceConfig("user", "x", 2)})


@pytest.fixture
def play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Callable[[Mesh, pb.Saga], Awaitable[None]]], None]:
    """Play a story with a parked saga and a command line."""

    def played(story: Callable[[Mesh, pb.Saga], Awaitable[None]]) -> None:
        async def told(shop: Shop, sagas: SagaServiceAsyncStub, parked: pb.Saga) -> None:
            @contextlib.asynccontextmanager
            async def channel(name: str, address: str, policy: Any) -> AsyncIterator[Any]:
                yield shop.cluster.channel(name, policy)

            monkeypatch.setattr(command, "channel", channel)

            async def mesh(*words: str) -> tuple[int, str]:
                options = cli.parser().parse_args(["saga", *words])
                capsys.readouterr()
                status = await command.run(config("orchestrator"), options)
                return status, "".join(capsys.readouterr())

            await story(mesh, parked)

        tell(tmp_path, SUCCESS, Lying("CommitReservation", refused()), told)

    return played


def test_a_parked_saga_is_found_looked_at_and_set_going(play: Any) -> None:
    async def story(mesh: Mesh, parked: pb.Saga) -> None:
        saga = parked.saga_id
        status, listed = await mesh("list", "--state", "PARKED")
        assert status == 0
        assert [line.split()[0] for line in listed.splitlines()] == ["SAGA", saga]
        assert "CommitReservation" in listed and "NOT_TODAY" in listed
        assert (await mesh("list", "--state", "FAILED")) == (0, "no sagas\n")

        _, shown = await mesh("show", saga)
        assert "place_order v1 of o-1: PARKED" in shown
        assert "ChargePayment" in shown and "DONE" in shown

        status, preview = await mesh("retry", saga, "--reason", "asked the warehouse")
        assert status == 1
        assert f"is called again, under the key {saga}/8/again1." in preview
        assert "nothing was done: say --yes to do it" in preview
        assert "PARKED" in (await mesh("show", saga))[1]

        status, done = await mesh("retry", saga, "--reason", "asked the warehouse", "--yes")
        assert status == 0
        assert "again1" in done and "EXECUTING" in done
        status, watched = await mesh("watch", saga)
        assert status == 0
        assert "COMPLETED" in watched
        _, told = await mesh("timeline", saga)
        assert "local: RETRY" in told and "asked the warehouse" in told

    play(story)


def test_a_saga_is_known_by_the_key_that_started_it(play: Any) -> None:
    async def story(mesh: Mesh, parked: pb.Saga) -> None:
        assert await mesh("show", "place_order/o-1") == await mesh("show", parked.saga_id)
        status, told = await mesh("show", "place_order/o-2")
        assert status == 1
        assert "SAGA_NOT_FOUND: no 'place_order' was started under 'o-2'" in told

    play(story)


def test_asked_at_a_terminal(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(mesh: Mesh, parked: pb.Saga) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        answers = iter(["", "no", "y"])
        monkeypatch.setattr("builtins.input", lambda question: next(answers))
        resolve = ("resolve", parked.saga_id, "failed", "--reason", "undone by hand")
        for _ in range(2):
            status, printed = await mesh(*resolve)
            assert status == 1
            assert printed.endswith("nothing was done\n")
        status, printed = await mesh(*resolve)
        assert status == 0
        assert "FAILED" in printed
        assert (await mesh("watch", parked.saga_id))[0] == 1

    play(story)


def test_for_programs(play: Any) -> None:
    async def story(mesh: Mesh, parked: pb.Saga) -> None:
        saga = parked.saga_id
        listed = json.loads((await mesh("list", "--json"))[1])
        assert (listed["saga_id"], listed["state"]) == (saga, "PARKED")
        assert json.loads((await mesh("show", saga, "--json"))[1])["steps"]
        skip = ("skip", saga, "8", "--reason", "shipped by hand", "--json")
        _, preview = await mesh(*skip)
        assert json.loads(preview.splitlines()[0])["etag"]
        status, done = await mesh(*skip, "--yes")
        assert status == 0
        assert json.loads(done)["saga"]["state"] == "EXECUTING"
        watched = (await mesh("watch", saga, "--json"))[1].splitlines()
        assert json.loads(watched[-1])["state"] == "COMPLETED"
        lines = (await mesh("timeline", saga, "--json"))[1].splitlines()
        assert {"STARTED", "ACTED", "RESTED"} <= {json.loads(line)["kind"] for line in lines}

    play(story)


def test_a_saga_is_exported_and_replays(play: Any, tmp_path: Path) -> None:
    async def story(mesh: Mesh, parked: pb.Saga) -> None:
        status, exported = await mesh("export", parked.saga_id)
        assert status == 0
        (tmp_path / "parked.json").write_text(exported)

    play(story)
    replay(orchestrator, tmp_path / "parked.json")


def test_mistakes_are_told_in_one_line(play: Any) -> None:
    async def story(mesh: Mesh, parked: pb.Saga) -> None:
        saga, why = parked.saga_id, ("--reason", "x", "--yes")
        for words, error in (
            (("show", "?"), "SAGA_NOT_FOUND"),
            (("timeline", "?"), "SAGA_NOT_FOUND"),
            (("watch", "?"), "SAGA_NOT_FOUND"),
            (("export", "?"), "SAGA_NOT_FOUND"),
            (("skip", saga, "1", *why), "NOT_FAILED"),
            (("skip", saga, "8.1", *why), "STEP_NOT_FOUND"),
            (("resolve", saga, "undo", *why), "PIVOTED"),
        ):
            status, printed = await mesh(*words)
            assert status == 1
            assert error in printed
            assert printed.startswith("error: orchestrator: ")
            assert printed.count("\n") == 1

    play(story)


@pytest.mark.parametrize(
    "words",
    [
        ("skip", "s", "first", "--reason", "x"),
        ("skip", "s", "1.x", "--reason", "x"),
        ("retry", "s"),
        ("resolve", "s", "gone", "--reason", "x"),
        ("list", "--limit", "0"),
        ("list", "--state", "LOST"),
        ("dance", "s"),
    ],
    ids=" ".join,
)
def test_what_is_not_in_the_grammar(words: tuple[str, ...], capsys: Printed) -> None:
    with pytest.raises(SystemExit) as end:
        cli.parser().parse_args(["saga", *words])
    assert end.value.code == 2
    assert "usage: mesh saga" in capsys.readouterr().err


@pytest.mark.parametrize("orchestrators", [[], ["one", "two"]])
async def test_whose_sagas_must_be_said_if_it_is_not_clear(orchestrators: list[str]) -> None:
    options = cli.parser().parse_args(["saga", "list"])
    with pytest.raises(ConfigError, match="--service"):
        await command.run(config(*orchestrators), options)
