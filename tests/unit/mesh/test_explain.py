"""What calls may come to, over a declared call graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mesh.call import NEVER, Method
from mesh.client import Policy
from mesh.dial import Dial
from mesh.explain import Graph, Hop
from mesh.explain_cli import find, render
from mesh.layers.deadline import MARGIN_S
from mesh.layers.hedge import HedgeConfig
from mesh.layers.retry import RetryPolicy
from mesh.runtime.config import ConfigError
from mesh.saga.steps import DEADLINE_S, Steps, saga
from mesh.service import Effect, Service, Subscriber
from tests.support.echo import ADD, COUNT, DESCRIPTOR, READ, EchoRequest, EchoStub

THREE = Policy(timeout_s=9.0, retry=RetryPolicy(attempts_max=3))


def calling(target: str, *methods: str) -> Service[Any]:
    """Return a service whose Read and Count call *methods* of *target*."""

    def clients(dial: Dial) -> Any:
        return EchoStub(dial(target, *methods))

    service = Service(DESCRIPTOR, clients)
    for method in (READ, COUNT):
        service.calls[method.path] = print
    return service


def leaf() -> Service[Any]:
    return Service(DESCRIPTOR)


def graph(
    services: dict[str, Service[Any]], policies: Callable[[str, Method], Policy] | None = None
) -> Graph:
    return Graph(services, policies or (lambda *_: THREE))


def shorter(target: str, _: Method) -> Policy:
    """Each hop has a second less than the one before: a, b, c."""
    return replace(THREE, timeout_s=9.0 - "abcde".index(target))


def last(hop: Hop) -> Hop:
    return [*hop.walk()][-1]


def test_attempts_add_up_and_would_multiply() -> None:
    chain = {n: calling(m, "Read") for n, m in zip("abcd", "bcde", strict=True)} | {"e": leaf()}
    bottom = last(graph(chain).explain("b", READ))
    assert (bottom.target, bottom.arrive, bottom.unbounded) == ("e", 9, 81)
    assert bottom.lasting == pytest.approx(1.1**4)


def test_a_hop_has_the_time_that_its_callers_attempt_leaves() -> None:
    def policies(target: str, _: Method) -> Policy:
        return replace(THREE, attempt_timeout_s=2.0) if target == "a" else THREE

    hop = last(graph({"a": calling("b", "Read"), "b": leaf()}, policies).explain("a", READ))
    assert hop.timeout_s == 2.0 - MARGIN_S


def test_a_stream_of_replies_has_no_end_of_its_own() -> None:
    def policies(target: str, _: Method) -> Policy:
        return replace(THREE, attempt_timeout_s=2.0) if target == "a" else THREE

    root = graph({"a": calling("b", "Read"), "b": leaf()}, policies).explain("a", COUNT)
    assert root.timeout_s == NEVER
    assert last(root).timeout_s == 9.0, "nor has an attempt of it"


def test_a_transaction_calls_nobody() -> None:
    assert not graph({"a": calling("b", "Read"), "b": leaf()}).explain("a", ADD).below


def test_a_hedged_call_has_two_attempts() -> None:
    def policies(*_: Any) -> Policy:
        return Policy(hedge=HedgeConfig())

    assert graph({"a": leaf()}, policies).explain("a", READ).arrive == 2


def test_an_effect_goes_on_without_its_caller() -> None:
    service = calling("b", "Read")
    service.effects[ADD.path] = Effect(ADD, print)  # type: ignore[arg-type]
    hop = last(graph({"a": service, "b": leaf()}).explain("a", ADD))
    assert (hop.owner, hop.arrive, hop.timeout_s) == ("effect", 3, 9.0)


def test_a_step_is_sent_once_and_has_the_time_of_the_shortest_saga() -> None:
    async def look(step: Steps, to: Any, it: EchoRequest) -> None:
        """Do nothing."""

    sagas = [saga(name="a")(look), saga(name="b", deadline_s=2 * DEADLINE_S)(look)]
    service = replace(calling("b", "Read"), sagas=sagas)
    hop = last(graph({"a": service, "b": leaf()}).explain("a", READ))
    assert (hop.owner, hop.arrive, hop.waits_s) == ("saga", 1, DEADLINE_S)


def test_who_calls_himself_is_explained_too() -> None:
    root = graph({"a": calling("a", "Read")}).explain("a", READ)
    assert [hop.arrive for hop in root.walk()] == [3, 5]


class TestProblems:
    def test_a_child_with_its_parents_time_is_one(self) -> None:
        services = {"a": calling("b", "Read"), "b": leaf()}
        [problem] = graph(services).problems()
        assert "calls b tests.echo.v1.EchoService/Read for 9 s and has 8.98 s itself" in problem
        assert "[policy.b.Read] timeout_s" in problem
        assert not graph(services, shorter).problems()

    def test_an_attempts_time_is_what_counts(self) -> None:
        def policies(target: str, method: Method) -> Policy:
            return replace(shorter(target, method), attempt_timeout_s=5.0)

        [problem] = graph({"a": calling("b", "Read"), "b": leaf()}, policies).problems()
        assert "Read calls" in problem  # Count lasts as long as it likes
        assert "for 8 s and has 4.98 s" in problem

    def test_too_many_calls_are_one(self) -> None:
        services = {"a": calling("b", "Read"), "b": calling("c", "Read"), "c": leaf()}
        [problem] = graph(services, shorter).problems(attempts_max=6)
        assert "one call may come to 7 of it, and 6 is the limit" in problem
        assert not graph(services, shorter).problems(attempts_max=7)

    def test_an_event_handler_is_a_caller(self) -> None:
        service = calling("b", "Read")
        service.calls.clear()
        service.subscribers["t"] = Subscriber(EchoRequest, print, outside=print)  # type: ignore[arg-type]
        services = {"a": service, "b": leaf()}
        assert not graph(services).problems()
        [problem] = graph(services, lambda *_: replace(THREE, timeout_s=60.0)).problems()
        assert problem.startswith("an event handler of a calls b")


class TestCommand:
    def test_it_is_a_tree(self) -> None:
        services = {"a": calling("b", "Read", "Put"), "b": leaf()}
        lines = render(graph(services, shorter).explain("a", READ))
        assert lines == [
            "a tests.echo.v1.EchoService/Read: 9 s, 3 attempts",
            "├── b tests.echo.v1.EchoService/Read: 8 s, 3 attempts, 5 calls for one",
            "└── b tests.echo.v1.EchoService/Put: 8 s, 3 attempts, 5 calls for one",
            "",
            "at worst: 9 s, 5 calls of b.Read for one, not 9",
            "lasting: 1.21 times what is asked for, and what budgets give a second",
        ]

    @pytest.mark.parametrize("named", ["a.Read", "/tests.echo.v1.EchoService/Read", "Read"])
    def test_a_method_has_several_names(self, named: str) -> None:
        assert find(graph({"a": leaf()}), named) == ("a", READ)

    @pytest.mark.parametrize(("named", "count"), [("Write", 0), ("EchoService/Read", 2)])
    def test_one_that_is_none_or_several_is_told(self, named: str, count: int) -> None:
        with pytest.raises(ConfigError, match=rf"means {count} methods; there are .*a\.Read"):
            find(graph({"a": leaf(), "b": leaf()}), named)
