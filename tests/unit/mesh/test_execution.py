"""Keys and the barrier, through the handler that a mutating RPC gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from mesh import execution
from mesh.call import Call, Handler, Method
from mesh.errors import (
    AlreadyExists,
    Internal,
    KeyInFlight,
    NotExecuted,
    Outcome,
    Refused,
)
from mesh.execution import in_transaction, on_snapshot, with_context_stream
from mesh.storage import keys
from mesh.storage.keys import REPLY_LIMIT_BYTES, Answer, KeyId, State
from mesh.storage.port import NotStoredError, Store, Tx

from .vault import (
    ALICE,
    BOB,
    COUNT,
    LABEL,
    PUT,
    TAKE,
    VAULT,
    add,
    call,
    coins,
    log,
    note,
    number,
    open_vault,
    rows,
)

LIMIT = 10


async def put(tx: Tx, request: Int64Value) -> Int64Value:
    """The domain: at most LIMIT coins."""
    held = await add(tx, request.value)
    await note(tx, f"put {request.value} by {tx.principal.name}")
    if held > LIMIT:
        raise Refused(f"the vault holds {LIMIT}", reason="FULL", info={"held": f"{held}"})
    return Int64Value(value=held)


async def take(tx: Tx, request: Int64Value) -> Int64Value:
    return Int64Value(value=await add(tx, -request.value))


class Vault:
    """Both handlers on one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.put: Handler = in_transaction(put, store)
        self.take: Handler = in_transaction(take, store)


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[Vault]:
    store = open_vault(tmp_path)
    yield Vault(store)
    await store.close()


# --- one answer for each key --------------------------------------------------------------------


async def test_a_repeated_call_gets_the_first_answer_and_is_not_applied(vault: Vault) -> None:
    answers = [number(await vault.put(call(PUT, 3, "k"))) for _ in range(3)]
    assert answers == [3, 3, 3]
    assert await coins(vault.store) == 3


async def test_the_answer_is_kept_over_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        store = open_vault(tmp_path)
        assert number(await Vault(store).put(call(PUT, 3, "k"))) == 3
        await store.close()


async def test_the_answer_stays_though_the_state_moves_on(vault: Vault) -> None:
    await vault.put(call(PUT, 3, "k"))
    await vault.put(call(PUT, 4, "l"))
    assert number(await vault.put(call(PUT, 3, "k"))) == 3


async def test_concurrent_calls_with_one_key_are_applied_once(vault: Vault) -> None:
    replies = await asyncio.gather(*(vault.put(call(PUT, 3, "k")) for _ in range(10)))
    assert {number(reply) for reply in replies} == {3}
    assert await coins(vault.store) == 3


async def test_a_refusal_is_rolled_back_and_remembered(vault: Vault) -> None:
    await vault.put(call(PUT, 8, "fills"))
    for _ in range(2):
        with pytest.raises(Refused, match="the vault holds 10") as refusal:
            await vault.put(call(PUT, 5, "k"))
        assert refusal.value.reason == "FULL"
        assert refusal.value.info == {"held": "13"}
        assert refusal.value.outcome is Outcome.REFUSED
        await vault.take(call(TAKE, 1))  # though there is more and more room
    assert await coins(vault.store) == 6
    assert await log(vault.store) == ["put 8 by alice"]


async def test_what_succeeded_is_answered_so_though_it_would_be_refused_now(vault: Vault) -> None:
    await vault.put(call(PUT, 8, "k"))
    await vault.put(call(PUT, 2, "l"))
    assert number(await vault.put(call(PUT, 8, "k"))) == 8


async def test_a_refusal_may_keep_what_was_written(vault: Vault) -> None:
    runs = []

    async def declined(tx: Tx, request: Int64Value) -> Int64Value:
        runs.append(request.value)
        await note(tx, "declined")
        raise Refused("no", reason="DECLINED", keep=True)

    handle = in_transaction(declined, vault.store)
    for _ in range(2):
        with pytest.raises(Refused, match="no"):
            await handle(call(PUT, 1, "k"))
    assert await log(vault.store) == ["declined"]
    assert runs == [1]


async def test_an_exception_is_no_answer(vault: Vault) -> None:
    fails = [RuntimeError("once"), RuntimeError("twice")]

    async def fragile(tx: Tx, request: Int64Value) -> Int64Value:
        reply = await put(tx, request)
        if fails:
            raise fails.pop()
        return reply

    handle = in_transaction(fragile, vault.store)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await handle(call(PUT, 3, "k"))
    assert number(await handle(call(PUT, 3, "k"))) == 3
    assert await coins(vault.store) == 3


async def test_without_a_key_nothing_is_remembered(vault: Vault) -> None:
    assert [number(await vault.put(call(PUT, 3))) for _ in range(2)] == [3, 6]
    assert await rows(vault.store, "SELECT key FROM mesh_keys") == []


async def test_without_a_key_a_refusal_is_rolled_back_too(vault: Vault) -> None:
    with pytest.raises(Refused):
        await vault.put(call(PUT, 11))
    assert await coins(vault.store) == 0


# --- what a key belongs to ----------------------------------------------------------------------


async def test_a_key_is_for_one_request(vault: Vault) -> None:
    await vault.put(call(PUT, 3, "k"))
    with pytest.raises(AlreadyExists) as refusal:
        await vault.put(call(PUT, 4, "k"))
    assert refusal.value.reason == "KEY_REUSED"
    assert await coins(vault.store) == 3
    assert number(await vault.put(call(PUT, 3, "k"))) == 3  # the first one's answer stands


async def test_the_key_of_a_refused_request_is_taken_as_well(vault: Vault) -> None:
    with pytest.raises(Refused, match="holds"):
        await vault.put(call(PUT, 11, "k"))
    with pytest.raises(AlreadyExists, match="another request"):
        await vault.put(call(PUT, 1, "k"))


async def test_a_key_is_its_callers_own(vault: Vault) -> None:
    await vault.put(call(PUT, 3, "k"))
    await vault.put(call(PUT, 4, "k", principal=BOB))
    assert await log(vault.store) == ["put 3 by alice", "put 4 by bob"]


async def test_a_key_is_its_methods_own(vault: Vault) -> None:
    await vault.put(call(PUT, 3, "k"))
    await vault.take(call(TAKE, 2, "k"))
    assert await coins(vault.store) == 1


# --- the barrier --------------------------------------------------------------------------------


async def test_an_undo_takes_back_its_do_once(vault: Vault) -> None:
    await vault.put(call(PUT, 3, "k"))
    for _ in range(2):
        await vault.take(call(TAKE, 3, "k/undo", undo_of="k"))
    assert await coins(vault.store) == 0
    assert number(await vault.put(call(PUT, 3, "k"))) == 3  # it did happen


async def test_an_undo_before_its_do_does_nothing_and_voids_it(vault: Vault) -> None:
    await vault.put(call(PUT, 5, "other"))
    for _ in range(2):
        await vault.take(call(TAKE, 3, "k/undo", undo_of="k"))
    for _ in range(2):
        with pytest.raises(Refused) as refusal:
            await vault.put(call(PUT, 3, "k"))
        assert refusal.value.reason == "VOIDED"
    assert await coins(vault.store) == 5


async def test_an_undo_of_what_was_refused_does_nothing(vault: Vault) -> None:
    await vault.put(call(PUT, 5, "other"))
    with pytest.raises(Refused, match="holds"):
        await vault.put(call(PUT, 6, "k"))
    await vault.take(call(TAKE, 6, "k/undo", undo_of="k"))
    assert await coins(vault.store) == 5
    with pytest.raises(Refused, match="holds"):  # not VOIDED: it has its answer
        await vault.put(call(PUT, 6, "k"))


async def test_an_undo_voids_only_its_own_callers_do(vault: Vault) -> None:
    await vault.put(call(PUT, 3, "k"))
    await vault.take(call(TAKE, 3, "k/undo", undo_of="k", principal=BOB))
    assert await coins(vault.store) == 3


async def test_an_undo_without_a_key_keeps_to_the_barrier_too(vault: Vault) -> None:
    await vault.put(call(PUT, 5, "other"))
    await vault.take(call(TAKE, 3, undo_of="k"))
    with pytest.raises(Refused, match="undone before"):
        await vault.put(call(PUT, 3, "k"))
    assert await coins(vault.store) == 5


async def test_an_undo_of_an_effect_under_way_is_not_taken_for_done(vault: Vault) -> None:
    """Its outcome is not known: neither voiding it nor undoing it would be right."""

    async def leave_open(tx: Tx) -> None:
        tx.principal = ALICE
        await keys.remember(tx, call(PUT, 3, "k"), Answer(State.OPEN))

    await vault.put(call(PUT, 5, "other"))
    await vault.store.write(leave_open)
    with pytest.raises(KeyInFlight) as refusal:
        await vault.take(call(TAKE, 3, "k/undo", undo_of="k"))
    assert refusal.value.retry_after_s
    assert await coins(vault.store) == 5

    async def settle(tx: Tx) -> None:
        await add(tx, 3)
        await keys.remember(tx, call(PUT, 3, "k"), Answer.reply(Int64Value(value=8), PUT))

    await vault.store.write(settle)
    await vault.take(call(TAKE, 3, "k/undo", undo_of="k"))
    assert await coins(vault.store) == 5


# --- what is kept -------------------------------------------------------------------------------


@pytest.mark.parametrize("too_many", [0, 1])
async def test_a_reply_may_have_64_kib(vault: Vault, too_many: int) -> None:
    overhead = len(StringValue(value="x" * 60_000).SerializeToString()) - 60_000
    text = "x" * (REPLY_LIMIT_BYTES - overhead + too_many)

    async def label(tx: Tx, request: StringValue) -> StringValue:
        await note(tx, "labelled")
        return StringValue(value=text)

    handle = in_transaction(label, vault.store)
    if too_many:
        with pytest.raises(Internal, match="VaultService/Label replied 65537 bytes"):
            await handle(call(LABEL, StringValue(), "k"))
        assert await log(vault.store) == []
    else:
        assert (await handle(call(LABEL, StringValue(), "k"))).value == text
        assert (await handle(call(LABEL, StringValue(), "k"))).value == text


async def test_a_key_is_recorded_with_its_scope_and_its_time(vault: Vault) -> None:
    await vault.put(call(PUT, 3, "k"))
    ((principal, method, key, state, age),) = await rows(
        vault.store,
        "SELECT principal, method, key, state, unixepoch() - created_at FROM mesh_keys",
    )
    assert KeyId(principal, method, key) == KeyId("alice", PUT.path, "k")
    assert state == State.REPLIED
    assert abs(age) < 3600


# --- reads and calls ----------------------------------------------------------------------------


async def test_a_read_knows_its_principal_and_cannot_write(vault: Vault) -> None:
    async def count(tx: Tx, request: StringValue) -> Int64Value:
        assert tx.principal == BOB
        if request.value:
            await add(tx, 1)
        ((held,),) = await tx.execute("SELECT coins FROM vault")
        return Int64Value(value=held)

    handle = on_snapshot(count, vault.store)
    assert number(await handle(call(COUNT, StringValue(), principal=BOB))) == 0
    with pytest.raises(Exception, match="readonly"):
        await handle(call(COUNT, StringValue(value="add"), principal=BOB))


WATCH, FILL = (Method.of(VAULT.methods_by_name[name]) for name in ("Watch", "Fill"))


def no_context(call: Call) -> Any:
    """The functions below look at none."""


async def nobody() -> AsyncIterator[Any]:
    return
    yield


async def test_a_stream_from_the_client_reaches_the_function() -> None:
    async def requests() -> AsyncIterator[Int64Value]:
        for value in (1, 2, 3):
            yield Int64Value(value=value)

    async def fill(ctx: Any, requests: AsyncIterator[Int64Value]) -> Int64Value:
        return Int64Value(value=sum([one.value async for one in requests]))

    handle = with_context_stream(fill, no_context)
    assert [number(reply) async for reply in handle(call(FILL, 0), requests())] == [6]


# --- the check can fail -------------------------------------------------------------------------


async def disorder(folder: Path, seed: int) -> list[str]:
    """Deliver dos and undos twice and in any order; return what is wrong afterwards.

    Every do is undone by its end or stands with all who heard that it was done.
    """
    random = Random(seed)
    store = open_vault(folder / f"{seed}")
    vault = Vault(store)
    undone = {n for n in range(6) if random.random() < 0.5}
    messages: list[tuple[Handler, Call]] = []
    for n in range(6):
        messages += [(vault.put, call(PUT, n + 2, f"{n}"))] * 2
        if n in undone:
            messages += [(vault.take, call(TAKE, n + 2, f"{n}/undo", undo_of=f"{n}"))] * 2
    random.shuffle(messages)
    heard: dict[str, set[str]] = {}
    wrong = []
    for handle, message in messages:
        try:
            await handle(message)
            answer = "done"
        except Refused as refused:
            answer = refused.reason
        except Exception as error:  # noqa: BLE001  # a coin that was not there
            answer = f"{type(error).__name__}"
            wrong.append(f"{message.key}: {error}")
        heard.setdefault(message.key, set()).add(answer)
    wrong += [f"{key}: {answers}" for key, answers in heard.items() if len(answers) > 1]
    stands = sum(n + 2 for n in range(6) if n not in undone and "done" in heard[f"{n}"])
    if await coins(store) != stands:
        wrong.append(f"{await coins(store)} coins, not {stands}")
    await store.close()
    return wrong


async def wrong_seeds(folder: Path) -> list[int]:
    return [seed for seed in range(12) if await disorder(folder, seed)]


async def test_in_any_order_and_twice_every_call_has_one_answer_and_one_effect(
    tmp_path: Path,
) -> None:
    assert await wrong_seeds(tmp_path) == []


async def test_the_check_fails_without_the_barrier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never_void(tx: Tx, call: Call) -> bool:
        return False

    monkeypatch.setattr(execution, "undo_is_void", never_void)
    assert await wrong_seeds(tmp_path)


async def test_the_check_fails_if_refusals_are_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember = keys.remember

    async def forget_refusals(tx: Tx, call: Call, answer: Answer) -> None:
        if answer.state is not State.REFUSED:
            await remember(tx, call, answer)

    monkeypatch.setattr(keys, "remember", forget_refusals)
    assert await wrong_seeds(tmp_path)


async def test_the_check_fails_without_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find_nothing(tx: Tx, call: Call) -> None:
        return None

    monkeypatch.setattr(keys, "find", find_nothing)
    assert await wrong_seeds(tmp_path)


async def test_what_could_not_be_stored_was_not_executed(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_room(work: object) -> None:
        raise NotStoredError("vault.db: database or disk is full", "STORAGE_FULL")

    with monkeypatch.context() as patch:
        patch.setattr(vault.store, "write", no_room)
        with pytest.raises(NotExecuted) as caught:
            await vault.put(call(PUT, 3, "k"))
    assert (caught.value.reason, caught.value.outcome) == ("STORAGE_FULL", Outcome.NOT_EXECUTED)
    assert caught.value.retry_after_s
    assert "vault.db" not in str(caught.value)
    assert await vault.put(call(PUT, 3, "k")) == Int64Value(value=3)
