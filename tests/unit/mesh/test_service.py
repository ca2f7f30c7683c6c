"""A declaration that disagrees with its contract fails before it can be served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BoolValue, Int64Value, StringValue

from mesh.call import Kind, Method
from mesh.dial import DeclarationError, Dial, declared, no_clients
from mesh.errors import Outcome, UndeclaredCall
from mesh.runtime.clock import Runtime
from mesh.service import ANSWER_MARGIN_S, Context, Service
from mesh.storage.port import Tx

from .vault import ALICE, COUNT, PUT, VAULT, call, coins, open_vault


async def put(tx: Tx, request: Int64Value) -> Int64Value:
    return request


async def take(tx: Tx, request: Int64Value) -> None:
    """The intent of an effect."""


async def move(ctx: Context[Any], request: Int64Value) -> bool:
    return True


async def settle(tx: Tx, request: Int64Value, result: bool) -> Int64Value:
    return request


async def label(ctx: Context[Any], request: StringValue) -> StringValue:
    return request


async def count(tx: Tx, request: StringValue) -> Int64Value:
    return Int64Value()


async def watch(ctx: Context[Any], request: StringValue) -> AsyncIterator[Int64Value]:
    yield Int64Value()


async def fill(ctx: Context[Any], request: AsyncIterator[Int64Value]) -> Int64Value:
    return Int64Value(value=sum([one.value async for one in request]))


def whole() -> Service[Any]:
    """Declare every method, each as what suits it."""
    service: Service[Any] = Service(VAULT)
    service.rpc(put)
    service.rpc(count)
    service.call(label)
    service.call(watch)
    service.call(fill)
    effect = service.effect(take)
    effect.outside(move)
    effect.settle(settle)
    return service


def test_a_whole_declaration_is_accepted() -> None:
    service = whole()
    service.check()
    assert service.rpcs == {PUT.path: put, COUNT.path: count}
    assert [path.rpartition("/")[2] for path in service.calls] == ["Label", "Watch", "Fill"]
    (effect,) = service.effects.values()
    assert (effect.intend, effect.act, effect.record) == (take, move, settle)


def test_a_decorator_leaves_the_function_as_it_is() -> None:
    service: Service[Any] = Service(VAULT)
    assert service.rpc(put) is put
    assert service.call(label) is label


def test_a_method_that_the_contract_does_not_have() -> None:
    async def put_all(tx: Tx, request: Int64Value) -> Int64Value:
        return request

    with pytest.raises(
        DeclarationError, match=r"^tests\.vault\.v1\.VaultService has no method PutAll$"
    ):
        Service(VAULT).rpc(put_all)


def test_the_wrong_request_type() -> None:
    async def put(tx: Tx, request: StringValue) -> Int64Value:
        return Int64Value()

    with pytest.raises(
        DeclarationError, match=r"VaultService/Put: request must be .*Int64Value.*got .*StringValue"
    ):
        Service(VAULT).rpc(put)


def test_the_wrong_reply_type() -> None:
    async def put(tx: Tx, request: Int64Value) -> BoolValue:
        return BoolValue()

    with pytest.raises(
        DeclarationError, match=r"VaultService/Put: return must be .*Int64Value.*got .*BoolValue"
    ):
        Service(VAULT).rpc(put)


def test_a_function_without_annotations() -> None:
    async def put(tx, request):  # type: ignore[no-untyped-def]
        return request

    with pytest.raises(DeclarationError, match=r"request must be .* got None"):
        Service(VAULT).rpc(put)


@pytest.mark.parametrize("kind", ["rpc", "call", "effect"])
def test_a_method_declared_twice(kind: str) -> None:
    service = whole()
    with pytest.raises(DeclarationError, match="VaultService/Put is declared twice"):
        getattr(service, kind)(put)


def test_an_intent_replies_nothing() -> None:
    with pytest.raises(DeclarationError, match=r"return must be .*NoneType"):
        Service(VAULT).effect(put)  # type: ignore[arg-type]


def test_settling_replies_what_the_method_replies() -> None:
    async def settle(tx: Tx, request: Int64Value, result: bool) -> StringValue:
        return StringValue()

    effect = Service(VAULT).effect(take)
    with pytest.raises(DeclarationError, match=r"VaultService/Take: return must be .*Int64Value"):
        effect.settle(settle)


def test_missing_methods_are_all_named() -> None:
    service: Service[Any] = Service(VAULT)
    service.rpc(put)
    with pytest.raises(
        DeclarationError, match=r"no function for .*/Count, .*/Fill, .*/Label, .*/Take, .*/Watch$"
    ):
        service.check()


@pytest.mark.parametrize("missing", ["act", "record"])
def test_an_effect_has_all_its_parts(missing: str) -> None:
    service = whole()
    (effect,) = service.effects.values()
    setattr(effect, missing, None)
    with pytest.raises(DeclarationError, match=r"VaultService/Take lacks \.outside or \.settle"):
        service.check()


# --- streams ------------------------------------------------------------------------------------


def test_a_stream_of_replies_is_annotated_as_one() -> None:
    async def watch(ctx: Context[Any], request: StringValue) -> Int64Value:
        return Int64Value()

    with pytest.raises(
        DeclarationError, match=r"VaultService/Watch: return must be .*AsyncIterator"
    ):
        Service(VAULT).call(watch)


def test_a_stream_of_requests_is_annotated_as_one() -> None:
    async def fill(ctx: Context[Any], request: Int64Value) -> Int64Value:
        return request

    with pytest.raises(
        DeclarationError, match=r"VaultService/Fill: request must be .*AsyncIterator"
    ):
        Service(VAULT).call(fill)


def test_what_streams_is_no_transaction() -> None:
    async def watch(tx: Tx, request: StringValue) -> AsyncIterator[Int64Value]:
        yield Int64Value()

    with pytest.raises(
        DeclarationError, match=r"VaultService/Watch streams: declare it with @service\.call"
    ):
        Service(VAULT).rpc(watch)


def test_what_streams_is_no_effect() -> None:
    async def watch(tx: Tx, request: StringValue) -> None: ...

    with pytest.raises(
        DeclarationError, match=r"VaultService/Watch streams: declare it with @service\.call"
    ):
        Service(VAULT).effect(watch)


def test_the_kinds_of_the_contract() -> None:
    kinds = {m.name: Method.of(m).kind for m in VAULT.methods}
    assert kinds["Watch"] is Kind.UNARY_STREAM
    assert kinds["Fill"] is Kind.STREAM_UNARY


# --- the context --------------------------------------------------------------------------------


async def test_what_a_call_may_use(tmp_path: Path) -> None:
    runtime = Runtime()
    store = open_vault(tmp_path, runtime)
    ctx: Context[None] = Context(None, store, runtime, call(PUT, 1, "k"))
    assert (ctx.principal, ctx.key) == (ALICE, "k")
    assert ctx.time_left_s() == float("inf")

    async def fill_up(tx: Tx) -> None:
        await tx.execute("UPDATE vault SET coins = 7")

    async def look(tx: Tx) -> list[Any]:
        return await tx.execute("SELECT coins FROM vault")

    changed = ctx.changed()
    await ctx.write(fill_up)
    await changed
    assert await ctx.read(look) == [(7,)]
    assert await coins(store) == 7
    with pytest.raises(DeclarationError, match="declares no sagas"):
        _ = ctx.sagas
    await store.close()


def test_of_the_callers_time_some_is_kept_for_the_answer() -> None:
    class Noon:
        def monotonic(self) -> float:
            return 1000.0

        def wall(self) -> float:
            return 0.0

        async def sleep(self, delay_s: float) -> None: ...

    arriving = call(PUT, 1).replace(deadline=1002.0)
    ctx: Context[None] = Context(None, Any, Runtime(clock=Noon()), arriving)  # type: ignore[arg-type]
    assert ctx.time_left_s() == 2.0 - ANSWER_MARGIN_S


# --- clients ------------------------------------------------------------------------------------


class VaultStub:
    """As protoc makes it: every method of the contract, on any channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        for method in (PUT, COUNT):
            setattr(self, method.name, channel.unary_unary(method.path))


class Clients:
    """Declares one method of two."""

    def __init__(self, dial: Dial) -> None:
        self.vault: Any = VaultStub(dial("vault", "Put"))


class FakeChannel:
    """Remembers what was made on it."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.made: list[str] = []

    def unary_unary(self, path: str, *_: Any, **__: Any) -> Any:
        self.made.append(path)
        return lambda request: f"{self.target}{path}({request})"


def test_a_declared_call_passes() -> None:
    channels: list[FakeChannel] = []

    def connect(target: str) -> FakeChannel:
        channels.append(FakeChannel(target))
        return channels[-1]

    dial = Dial(connect)
    clients = Clients(dial)
    assert clients.vault.Put(3) == f"vault{PUT.path}(3)"
    assert [channel.made for channel in channels] == [[PUT.path]]
    assert list(dial.remotes) == [("vault", PUT.path)]


def test_an_undeclared_call_is_refused_and_reaches_nobody() -> None:
    clients = Clients(Dial(FakeChannel))
    with pytest.raises(
        UndeclaredCall, match=f"{COUNT.path} of 'vault' is not declared in clients.py"
    ) as refusal:
        clients.vault.Count(StringValue())
    assert refusal.value.outcome is Outcome.NOT_EXECUTED


def test_what_is_declared_is_known_without_a_network() -> None:
    assert declared(Clients) == [("vault", PUT)]
    assert declared(no_clients) == []
