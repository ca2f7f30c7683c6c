"""Clients are declared: what a service does not name it cannot call."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from mesh.client import Channel
from mesh.dial import DeclarationError, Dial, declared, no_clients
from mesh.errors import Outcome, UndeclaredCall
from mesh.node import Node
from mesh.transport.memory import MemoryNetwork
from tests.support.echo import ADD, COUNT, READ, Echo, EchoRequest, EchoStub


class Clients:
    def __init__(self, dial: Dial) -> None:
        self.echo = EchoStub(dial("echo", "Read", "Count"))
        self.other = EchoStub(dial("other", "Add"))


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def dial(echo: Echo) -> Dial:
    node = Node()
    network = MemoryNetwork(node.runtime)
    network.serve("echo", echo.routes())
    return Dial(lambda target: Channel(node, target, ["echo"], network))


async def test_what_is_declared_can_be_called(dial: Dial) -> None:
    clients = Clients(dial)
    assert (await clients.echo.Read(EchoRequest(number=3))).number == 3
    assert len([r async for r in clients.echo.Count(EchoRequest(number=2))]) == 2


@pytest.mark.parametrize("name", ["Put", "Pour", "Sum", "Chat"])
async def test_anything_else_is_refused_and_never_sent(dial: Dial, echo: Echo, name: str) -> None:
    clients = Clients(dial)
    with pytest.raises(UndeclaredCall, match=name) as caught:
        getattr(clients.echo, name)(EchoRequest())
    assert caught.value.code() is StatusCode.PERMISSION_DENIED
    assert caught.value.outcome is Outcome.NOT_EXECUTED
    assert not echo.served


def test_the_declaration_is_read_without_a_network() -> None:
    found = {(target, method.name) for target, method in declared(Clients)}
    assert found == {("echo", "Read"), ("echo", "Count"), ("other", "Add")}
    assert declared(no_clients) == []


def test_the_remotes_are_known_by_target_and_path(dial: Dial) -> None:
    Clients(dial)
    assert dial.remotes.keys() == {
        ("echo", READ.path),
        ("echo", COUNT.path),
        ("other", ADD.path),
    }
    assert {remote.target for remote in dial.remotes.values()} == {"echo", "other"}


def test_a_method_that_does_not_exist_cannot_be_declared() -> None:
    def clients(dial: Dial) -> EchoStub:
        return EchoStub(dial("echo", "Read", "Raed"))

    with pytest.raises(DeclarationError, match="Raed"):
        declared(clients)
