"""`mesh dlq` on the real system: what it tells of events that fail, and how they go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mesh.cli import main
from tests.e2e.changed import configure
from tests.e2e.shop import Customer, customer
from tests.e2e.system import System, running
from tests.support.waiting import eventually

TOPIC = "shop.order.v1.OrderEvent"
NONE_DEAD = "notification: no dead letters\n"
LATER = 60.0


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file as long as which is there no mail can be written."""
    return tmp_path_factory.mktemp("broken") / "broken"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, broken: Path) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("system")
    path = configure(folder, {"notification": "tests.e2e.broken.notification"})
    with running(folder / "data", MESH_CONFIG=str(path), BROKEN=str(broken)) as system:
        yield system


@pytest.fixture(scope="module")
def buyer(system: System) -> Customer:
    return customer(system)


class Said(NamedTuple):
    """What the command said to whom, and its exit status."""

    status: int
    out: str
    err: str


class Mesh:
    """The command line, as a shell with the system's environment would run it."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, command: str) -> Said:
        self._capsys.readouterr()
        return Said(main(command.split()), *self._capsys.readouterr())

    def dlq(self, command: str) -> str:
        """What `mesh dlq` says, which must work."""
        said = self(f"dlq {command}")
        assert (said.status, said.err) == (0, ""), said
        return said.out

    def letters(self) -> list[dict[str, Any]]:
        """What is dead, as programs are told."""
        return [json.loads(line) for line in self.dlq("list notification --json").splitlines()]


@pytest.fixture
def mesh(
    system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Mesh:
    for name, value in system.environment.items():
        monkeypatch.setenv(name, value)
    return Mesh(capsys)


def test_nothing_is_dead(mesh: Mesh) -> None:
    asked = {line.partition(":")[0] for line in mesh.dlq("list").splitlines()}
    assert asked == {"analytics", "inventory", "notification"}, "who listens, and nobody else"
    assert mesh.dlq("list notification") == NONE_DEAD
    assert mesh.dlq("list notification --json") == ""
    assert mesh.dlq("redrive notification --all") == "notification: 0 redriven\n"


def test_what_cannot_be_done_is_refused_and_says_why(mesh: Mesh) -> None:
    no_letter = (1, "that aggregate has no dead letter")
    unnamed = (2, "error: name a topic and an aggregate, or say --all")
    refusals = {
        "dlq list nobody": (2, "error: no service 'nobody'; there are analytics, "),
        "dlq list payment": (1, "error: payment: it listens to no events"),
        f"dlq show notification {TOPIC} no-order": no_letter,
        f"dlq redrive notification {TOPIC} no-order": no_letter,
        f"dlq redrive notification {TOPIC}": unnamed,
        "dlq redrive notification": unnamed,
        "read-model list payment": (1, "error: payment: it has no read model"),
    }
    for command, (status, why) in refusals.items():
        refused = mesh(command)
        assert (refused.status, refused.out) == (status, ""), command
        assert why in refused.err, command


def test_what_is_dead_is_listed_shown_and_tried_again(
    system: System, buyer: Customer, mesh: Mesh, broken: Path
) -> None:
    broken.touch()
    orders = sorted(buyer.order()["orderId"] for _ in range(3))
    dead = eventually(lambda: letters_of(orders, mesh), within_s=LATER)
    for letter in dead:
        assert {name: letter[name] for name in ("topic", "version", "waiting")} == {
            "topic": TOPIC,
            "version": "1",
            "waiting": 1,
        }
    lines = mesh.dlq("list notification").splitlines()
    assert [line.split(": KeyError (error_id ")[0] for line in lines] == [
        f"notification: {TOPIC} {order} version 1, 2 attempts, 1 wait behind it" for order in orders
    ]
    assert "nobody shall read" not in "".join(lines)

    head, first, second = mesh.dlq(f"show notification {TOPIC} {orders[0]}").splitlines()
    assert head == lines[0]
    assert [json.loads(event)["order_id"] for event in (first, second)] == [orders[0]] * 2
    assert ["created" in first, "confirmed" in second] == [True, True]

    # Tried again too early it is dead again; the others have waited meanwhile.
    assert "1 redriven" in mesh.dlq(f"redrive notification {TOPIC} {orders[0]}")
    again = eventually(lambda: letters_of(orders, mesh), within_s=LATER)
    assert [one["aggregate"] for one in again if one not in dead] == [orders[0]]
    assert [one["event_id"] for one in again] == [one["event_id"] for one in dead]

    broken.unlink()
    assert "1 redriven" in mesh.dlq(f"redrive notification {TOPIC} {orders[0]}")
    eventually(lambda: mails(system, orders[0]) == 2, within_s=LATER)
    assert [one["aggregate"] for one in mesh.letters()] == orders[1:]
    assert "2 redriven" in mesh.dlq("redrive notification --all")
    eventually(lambda: {mails(system, order) for order in orders} == {2}, within_s=LATER)
    assert mesh.dlq("list notification") == NONE_DEAD


def letters_of(orders: list[str], mesh: Mesh) -> list[dict[str, Any]]:
    """The dead letters, if there is one of each order, with another event behind it."""
    dead = mesh.letters()
    found = sorted(one["aggregate"] for one in dead if "waiting" in one)
    return dead if found == orders else []


def mails(system: System, order_id: str) -> int:
    """How many mails about an order are sent, as the service tells."""
    return len(system.read("/v1/mails", order_id=order_id).get("mails", []))
