"""Read models: tables made from events alone, which can be made anew while they serve.

A service says which tables are its read model; each has a column ``model``, and its functions for
events write it as ``tx.subscription``. Rebuilding adds a subscription that begins at the first
event and fills rows of its own; once it is as far as the model that serves it takes its place, in
one transaction, and the rows of the old one are deleted, a few at a time.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ..runtime import beside
from ..runtime.clock import Runtime, timestamp
from ..runtime.logs import log
from ..storage.port import Store, Tx
from ..storage.retention import PAUSE_S, delete_some
from .inbox import Inbox, State
from .port import Bus
from .v1 import read_models_pb2 as pb

Model = pb.ReadModel
#: How often it is looked whether one is to be built, to serve or to go.
EVERY_S = 1.0


class Follower(Protocol):
    """What feeds a model: a consumer."""

    async def start(self) -> None: ...  # noqa: D102

    async def stop(self) -> None: ...  # noqa: D102

    async def lag(self) -> int: ...  # noqa: D102


async def current(tx: Tx) -> str:
    """Return the name of the model that serves; nothing is in it before there is one."""
    rows = await tx.execute("SELECT name FROM mesh_read_models WHERE state = $1", Model.SERVING)
    return str(rows[0][0]) if rows else ""


async def names(tx: Tx) -> list[str]:
    """Return the names of the model that serves and of the one being built, as far as there are."""
    return [name for name, state in await _models(tx) if state != Model.DROPPED]


async def begin(tx: Tx, service: str) -> str:
    """Begin a model beside the one that serves, unless one is begun; return its name."""
    found = await tx.execute("SELECT name FROM mesh_read_models WHERE state = $1", Model.BUILDING)
    if found:
        return str(found[0][0])
    ((last,),) = await tx.execute("SELECT COALESCE(MAX(number), 0) FROM mesh_read_models")
    name = f"{service}-{last + 1}" if last else service
    await tx.execute(
        "INSERT INTO mesh_read_models (name, number, state, created_at) VALUES ($1, $2, $3, $4)",
        name,
        last + 1,
        Model.BUILDING if last else Model.SERVING,
        tx.now(),
    )
    return name


async def describe(tx: Tx) -> list[pb.ReadModel]:
    """Return every model, with how far it is."""
    found = []
    for name, state, created_at in await tx.execute(
        "SELECT name, state, created_at FROM mesh_read_models ORDER BY number"
    ):
        kept = await Inbox(name).counts(tx)
        ((aggregates,),) = await tx.execute(
            "SELECT COUNT(*) FROM mesh_inbox_heads WHERE subscription = $1", name
        )
        model = pb.ReadModel(
            name=name,
            state=state,
            create_time=timestamp(created_at),
            aggregate_count=aggregates,
            waiting_count=kept[State.DUE] + kept[State.EARLY],
            dead_count=kept[State.DEAD],
        )
        found.append(model)
    return found


class ReadModels:
    """Keeps the models of one service fed, and changes the one that serves.

    Args:
        tables: with the models' rows.
        follow: makes what feeds the model of a name.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        runtime: Runtime,
        service: str,
        tables: Sequence[str],
        follow: Callable[[str], Follower],
    ) -> None:
        self._store = store
        self._bus = bus
        self._runtime = runtime
        self._service = service
        self._tables = tables
        self._follow = follow
        self._fed: dict[str, Follower] = {}
        self._leaving: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Feed what there is; the first time, begin."""
        if not await self._store.read(current):
            await self._store.write(lambda tx: begin(tx, self._service))
        self._task = beside.begin(
            beside.keep_on("a look at read models", self._step, self._runtime.clock, EVERY_S)
        )

    async def stop(self) -> None:
        """Stop where it stands."""
        await beside.end(self._task)
        for follower in self._fed.values():
            await follower.stop()

    async def _step(self) -> None:
        more = await self._look()
        await self._runtime.clock.sleep(PAUSE_S if more else EVERY_S)

    async def _look(self) -> bool:
        """Do what is to be done for each model; whether there is more to delete."""
        found = dict(await self._store.read(_models))
        live = {name: state for name, state in found.items() if state != Model.DROPPED}
        for name in live:
            if name not in self._fed:
                self._fed[name] = self._follow(name)
                await self._fed[name].start()
        for name, state in live.items():
            if state == Model.BUILDING and not await self._fed[name].lag():
                changed = await self._store.write(_taking(name))
                if changed:
                    log.info("another read model serves", model=name)
        # Another replica may have dropped one and deleted it since the last look.
        self._leaving.update(name for name in (*found, *self._fed) if name not in live)
        return any([await self._drop(name) for name in sorted(self._leaving)])

    async def _drop(self, name: str) -> bool:
        """Delete some of a model; whether there is more. What is begun again is deleted again."""
        follower = self._fed.pop(name, None)
        if follower:
            await follower.stop()
        for table, column in (
            *((table, "model") for table in self._tables),
            ("mesh_inbox", "subscription"),
            ("mesh_inbox_heads", "subscription"),
        ):
            if await self._store.write(_deleting(table, column, name)):
                return True
        await self._bus.forget(name)
        await self._store.write(_deleting("mesh_read_models", "name", name))
        self._leaving.discard(name)
        return False


async def _models(tx: Tx) -> list[tuple[str, int]]:
    rows = await tx.execute("SELECT name, state FROM mesh_read_models ORDER BY number")
    return [(name, state) for name, state in rows]


def _taking(name: str) -> Callable[[Tx], Awaitable[bool]]:
    """Return the work that lets the model *name* serve, if nothing is missing in it."""

    async def take(tx: Tx) -> bool:
        kept = await Inbox(name).counts(tx)
        ((behind,),) = await tx.execute(
            "SELECT COUNT(*) FROM mesh_inbox_heads AS serving WHERE subscription = $1"
            " AND NOT EXISTS (SELECT 1 FROM mesh_inbox_heads AS built"
            " WHERE built.subscription = $2 AND built.topic = serving.topic"
            " AND built.aggregate = serving.aggregate AND built.version >= serving.version)",
            await current(tx),
            name,
        )
        if behind or any(kept[state] for state in State):
            return False
        await tx.execute(
            "UPDATE mesh_read_models SET state = $1 WHERE state = $2", Model.DROPPED, Model.SERVING
        )
        await tx.execute(
            "UPDATE mesh_read_models SET state = $1 WHERE name = $2", Model.SERVING, name
        )
        return True

    return take


def _deleting(table: str, column: str, name: str) -> Callable[[Tx], Awaitable[int]]:
    return functools.partial(delete_some, table=table, column=column, value=name)
