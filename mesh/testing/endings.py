"""What must be true of any system once nothing goes wrong any more, from its own databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..saga.v1.saga_pb2 import Saga
from ..storage.port import Tx
from .databases import ENDED

if TYPE_CHECKING:
    from .cluster import Cluster

#: (topic, aggregate) -> version
Versions = dict[tuple[str, str], int]


async def open_ends(cluster: Cluster) -> list[str]:
    """Return what has not come to its end: sagas, effects, events on their way."""
    if not cluster.complete:
        return ["a node is down"]
    found = [f"{cluster.undelivered} events are with the broker"] * bool(cluster.undelivered)
    return found + [
        f"{name}: {what}"
        for name in cluster.names
        for what in await cluster.store(name).read(_open)
    ]


async def _open(tx: Tx) -> list[str]:
    sagas = await tx.execute(
        f"SELECT name, key, state FROM mesh_sagas WHERE state NOT IN ({ENDED})"  # noqa: S608
    )
    effects = await tx.execute("SELECT method, key FROM mesh_effects")
    waiting = await tx.execute(
        "SELECT topic, aggregate, version FROM mesh_outbox WHERE published_at IS NULL"
    )
    kept = await tx.execute("SELECT topic, aggregate, version, error FROM mesh_inbox")
    return [
        *(f"saga {name} of {key!r} is {Saga.State.Name(state)}" for name, key, state in sagas),
        *(f"effect {method} of {key!r} is open" for method, key in effects),
        *(f"event {topic} {name!r} {n} is not published" for topic, name, n in waiting),
        *(f"event {topic} {name!r} {n} is not applied: {error}" for topic, name, n, error in kept),
    ]


async def risen(cluster: Cluster) -> list[str]:
    """Return the sagas that went on although they had ended."""
    return [
        f"{name}: saga {saga} {saga_id} had ended, and went on"
        for name in cluster.services
        for saga_id, saga in await cluster.store(name).read(_witnessed)
    ]


async def _witnessed(tx: Tx) -> list[Any]:
    return await tx.execute("SELECT DISTINCT saga_id, name FROM witnessed")


async def lost_events(cluster: Cluster) -> list[str]:
    """Return the events that a subscription has not applied up to the last, in order."""
    published: Versions = {}
    for name in cluster.names:
        published |= await cluster.store(name).read(_published)
    found = []
    for name, service in cluster.services.items():
        wanted = {at: n for at, n in published.items() if at[0] in service.subscribers}
        applied = await cluster.store(name).read(_applied)
        for subscription, heads in applied.items():
            found += [
                f"{subscription} is at {heads.get(at, 0)} of {n} events of {at[0]} {at[1]!r}"
                for at, n in wanted.items()
                if heads.get(at, 0) != n
            ]
        if wanted and not applied:
            found.append(f"{name} has applied no event")
    return found


async def _published(tx: Tx) -> Versions:
    rows = await tx.execute("SELECT topic, aggregate, version FROM mesh_aggregates")
    return {(topic, aggregate): version for topic, aggregate, version in rows}


async def _applied(tx: Tx) -> dict[str, Versions]:
    heads: dict[str, Versions] = {}
    for subscription, topic, aggregate, version in await tx.execute(
        "SELECT subscription, topic, aggregate, version FROM mesh_inbox_heads"
    ):
        heads.setdefault(subscription, {})[topic, aggregate] = version
    return heads
