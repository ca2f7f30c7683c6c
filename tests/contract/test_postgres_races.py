"""Two replicas of a service on one PostgreSQL: whatever they do at once, it is as if in turn.

Every race is run again with the isolation lowered, and must then go wrong: else it shows nothing.
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import pytest
from google.protobuf.wrappers_pb2 import Int64Value

from mesh.errors import Refused
from mesh.events.inbox import WAIT_MAX_S, Inbox
from mesh.execution import in_transaction
from mesh.runtime.clock import Runtime
from mesh.storage import keys
from mesh.storage.migrate import Migration, own_migrations
from mesh.storage.port import Tx, Work
from mesh.storage.postgres import group
from mesh.storage.postgres.store import PostgresStore
from tests.support.postgres import PostgresServer
from tests.support.things import TOPIC, ThingEvent, thing
from tests.unit.mesh.vault import PUT, call, number

TABLES = Migration(
    "0001_races.sql",
    """
    CREATE TABLE stock (sku TEXT PRIMARY KEY, free BIGINT NOT NULL);
    CREATE TABLE counters (name TEXT PRIMARY KEY, last BIGINT NOT NULL);
    CREATE TABLE entries (number BIGINT NOT NULL, owner TEXT NOT NULL);
    CREATE TABLE seats (owner TEXT NOT NULL);
    CREATE TABLE doctors (name TEXT PRIMARY KEY, on_call BIGINT NOT NULL);
    CREATE TABLE done (key TEXT NOT NULL);
    """,
)
SERIALIZABLE = "SERIALIZABLE"
ROUNDS = 10

Replicas: TypeAlias = Sequence[PostgresStore]
#: Runs a race once; returns what is wrong, if anything.
Race: TypeAlias = Callable[[Replicas], Awaitable[str]]


@pytest.fixture
async def replicas(postgres_server: PostgresServer) -> AsyncIterator[Replicas]:
    url = await postgres_server.fresh("races")
    schema = [*own_migrations(), TABLES]
    # At once: they migrate one after the other.
    stores = await asyncio.gather(
        *(PostgresStore.open(url, "races", Runtime(), schema) for _ in range(2))
    )
    yield stores
    for store in stores:
        await store.close()


async def set_up(store: PostgresStore, *statements: str) -> None:
    async def work(tx: Tx) -> None:
        for sql in statements:
            await tx.execute(sql)

    await store.write(work)


async def at_once(replicas: Replicas, works: Sequence[Work[Any]]) -> list[Any]:
    """Run *works*, every other on the other replica; return what each returned or refused."""
    runs = (replicas[n % 2].write(work) for n, work in enumerate(works))
    ends = await asyncio.gather(*runs, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException) and not isinstance(end, Refused):
            raise end
    return ends


async def found(store: PostgresStore, sql: str) -> list[Any]:
    async def work(tx: Tx) -> list[Any]:
        return [row[0] for row in await tx.execute(sql)]

    return await store.read(work)


async def hold(tx: Tx) -> None:
    """Between reading and writing: let the others read as well."""
    await tx.execute("SELECT pg_sleep(0.003)::text")


# --- the races ----------------------------------------------------------------------------------


async def same_stock(replicas: Replicas) -> str:
    """15 want one of 10."""
    await set_up(replicas[0], "DELETE FROM stock", "INSERT INTO stock VALUES ('lamp', 10)")

    async def take(tx: Tx) -> None:
        ((free,),) = await tx.execute("SELECT free FROM stock WHERE sku = 'lamp'")
        await hold(tx)
        if free == 0:
            raise Refused(reason="OUT_OF_STOCK")
        await tx.execute("UPDATE stock SET free = $1 WHERE sku = 'lamp'", free - 1)

    ends = await at_once(replicas, [take] * 15)
    taken = ends.count(None)
    return "" if taken == 10 else f"{taken} were taken of 10"


async def same_counter(replicas: Replicas) -> str:
    """Entries are numbered from a counter's row."""
    await set_up(
        replicas[0],
        "DELETE FROM counters",
        "DELETE FROM entries",
        "INSERT INTO counters VALUES ('journal', 0)",
    )

    async def append(tx: Tx) -> None:
        ((last,),) = await tx.execute("SELECT last FROM counters WHERE name = 'journal'")
        await hold(tx)
        await tx.execute("UPDATE counters SET last = $1 WHERE name = 'journal'", last + 1)
        await tx.execute("INSERT INTO entries VALUES ($1, $2)", last + 1, "somebody")

    await at_once(replicas, [append] * 20)
    numbers = await found(replicas[0], "SELECT number FROM entries ORDER BY number")
    return "" if numbers == list(range(1, 21)) else f"entries have the numbers {numbers}"


async def same_rule(replicas: Replicas) -> str:
    """One doctor of two must stay on call; each leaves if the other is there (write skew)."""
    await set_up(
        replicas[0],
        "DELETE FROM doctors",
        "INSERT INTO doctors VALUES ('ann', 1)",
        "INSERT INTO doctors VALUES ('bob', 1)",
    )

    def leave(name: str) -> Work[None]:
        async def work(tx: Tx) -> None:
            there = await tx.execute("SELECT name FROM doctors WHERE on_call = 1")
            await hold(tx)
            if len(there) < 2:
                raise Refused(reason="NOBODY_ELSE")
            await tx.execute("UPDATE doctors SET on_call = 0 WHERE name = $1", name)

        return work

    await at_once(replicas, [leave("ann"), leave("bob")])
    (there,) = await found(replicas[0], "SELECT CAST(SUM(on_call) AS BIGINT) FROM doctors")
    return "" if there == 1 else f"{there} are on call"


async def same_room(replicas: Replicas) -> str:
    """Five seats; who wants one counts those that are taken (phantoms)."""
    await set_up(replicas[0], "DELETE FROM seats")

    async def sit(tx: Tx) -> None:
        ((taken,),) = await tx.execute("SELECT COUNT(*) FROM seats")
        await hold(tx)
        if taken >= 5:
            raise Refused(reason="FULL")
        await tx.execute("INSERT INTO seats VALUES ('somebody')")

    await at_once(replicas, [sit] * 8)
    (taken,) = await found(replicas[0], "SELECT COUNT(*) FROM seats")
    return "" if taken == 5 else f"{taken} sit on 5 seats"


RACES: Sequence[Race] = (same_stock, same_counter, same_rule, same_room)
#: What goes wrong with less: of a row that two read and write, REPEATABLE READ still takes care.
LOWER = [
    ("READ COMMITTED", same_stock),
    ("READ COMMITTED", same_counter),
    ("READ COMMITTED", same_rule),
    ("READ COMMITTED", same_room),
    ("REPEATABLE READ", same_rule),
    ("REPEATABLE READ", same_room),
]


@pytest.mark.parametrize("race", RACES)
async def test_what_two_replicas_do_at_once_is_as_if_in_turn(
    replicas: Replicas, race: Race
) -> None:
    for _ in range(ROUNDS):
        assert await race(replicas) == ""


@pytest.mark.parametrize(("isolation", "race"), LOWER)
async def test_with_less_isolation_it_goes_wrong(
    replicas: Replicas, race: Race, isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SERIALIZABLE in group._BEGIN
    monkeypatch.setattr(group, "_BEGIN", group._BEGIN.replace(SERIALIZABLE, isolation))
    for _ in range(ROUNDS):
        if await race(replicas):
            return
    pytest.fail(f"{isolation} was as good")


# --- keys ---------------------------------------------------------------------------------------


async def call_all(replicas: Replicas, keys: int, times: int) -> list[list[int]]:
    """Call under each of *keys* so many *times* at once; return what was answered, by key."""

    async def put(tx: Tx, request: Int64Value) -> Int64Value:
        await tx.execute("INSERT INTO done VALUES ($1)", str(request.value))
        await hold(tx)
        return Int64Value(value=len(await tx.execute("SELECT key FROM done")))

    handlers = [in_transaction(put, store) for store in replicas]
    calls = [(key, handlers[time % 2]) for key in range(keys) for time in range(times)]
    replies = await asyncio.gather(*(put(call(PUT, key, f"key-{key}")) for key, put in calls))
    answers = [number(reply) for reply in replies]
    return [answers[key * times : (key + 1) * times] for key in range(keys)]


async def test_a_key_is_executed_once_and_every_caller_gets_that_answer(replicas: Replicas) -> None:
    answers = await call_all(replicas, keys=25, times=4)
    done = Counter(await found(replicas[0], "SELECT key FROM done"))
    assert done == {str(key): 1 for key in range(25)}
    assert all(len(set(given)) == 1 for given in answers)
    assert sorted(given[0] for given in answers) == list(range(1, 26))


async def test_keys_that_are_only_looked_for_are_executed_twice_with_less_isolation(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "claim", keys.find)
    monkeypatch.setattr(group, "_BEGIN", group._BEGIN.replace(SERIALIZABLE, "READ COMMITTED"))
    await call_all(replicas, keys=25, times=4)
    done = Counter(await found(replicas[0], "SELECT key FROM done"))
    assert max(done.values()) > 1


# --- events -------------------------------------------------------------------------------------


async def test_the_events_of_an_aggregate_are_numbered_in_turn_and_none_is_left_out(
    replicas: Replicas,
) -> None:
    def publish(number: int) -> Work[int]:
        async def work(tx: Tx) -> int:
            version = await tx.publish(ThingEvent(thing_id="lamp"))
            await hold(tx)
            if number % 4 == 0:  # its number is for another
                raise Refused(reason="OUT_OF_STOCK")
            return version

        return work

    ends = await at_once(replicas, [publish(number) for number in range(40)])
    versions = [end for end in ends if not isinstance(end, Refused)]
    assert sorted(versions) == list(range(1, 31))
    assert await found(replicas[0], "SELECT version FROM mesh_outbox ORDER BY 1") == sorted(
        versions
    )


async def test_an_event_is_claimed_by_one_replica_each_time(replicas: Replicas) -> None:
    inbox = Inbox("racing")
    for version in range(1, ROUNDS + 1):
        await replicas[0].write(functools.partial(inbox.keep, event=thing(version=version)))
    read = await asyncio.gather(
        *(replica.read(lambda tx: inbox.of(tx, TOPIC, "a", ROUNDS)) for replica in replicas)
    )
    assert read[0] == read[1]
    assert len(read[0]) == ROUNDS
    for kept in read[0]:
        claim = functools.partial(inbox.postpone, kept=kept, delay_s=WAIT_MAX_S)
        claimed = await at_once(replicas, [claim, claim])
        assert claimed.count(None) == 1
