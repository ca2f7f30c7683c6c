"""Leases: work that one process of a service does at a time, such as relaying events.

The time is the database's. A lease does not fence: what is done under it must bear to be done
twice, by a holder that was slow and by the next one.
"""

from __future__ import annotations

from .port import Tx


async def take(tx: Tx, name: str, holder: str, ttl_s: float) -> bool:
    """Take or renew the lease called *name* for *ttl_s*; false if somebody else has it."""
    rows = await tx.execute(
        "INSERT INTO mesh_leases (name, holder, expires_at) VALUES ($1, $2, $3)"
        " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder,"
        " expires_at = excluded.expires_at"
        # One that ends later than any now can was given before the clock was set back.
        " WHERE mesh_leases.holder = excluded.holder OR mesh_leases.expires_at <= $4"
        " OR mesh_leases.expires_at > $5 RETURNING holder",
        name,
        holder,
        tx.now() + ttl_s,
        tx.now(),
        tx.now() + 2 * ttl_s,
    )
    return bool(rows)


async def give_back(tx: Tx, name: str, holder: str) -> None:
    """End the lease called *name*, if *holder* has it."""
    await tx.execute("DELETE FROM mesh_leases WHERE name = $1 AND holder = $2", name, holder)
