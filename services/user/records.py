"""Accounts in the database.

An account is read *brief*, without its addresses, or whole. Replies to changes are brief: the
mesh keeps them for ever, and personal data should not lie about in copies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from google.type.postal_address_pb2 import PostalAddress

from mesh.errors import AlreadyExists, NotFound
from mesh.storage.port import Tx
from services.shared.paging import Page
from services.shared.times import to_timestamp
from shop.user.v1 import user_pb2 as pb

from . import domain


async def insert(tx: Tx, user: pb.User) -> pb.User:
    """Record a new account, without addresses; refuse if its id or email address is taken."""
    rows = await tx.execute(
        "INSERT INTO users (user_id, email, email_key, display_name, state, default_address_id,"
        " create_time, update_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)"
        " ON CONFLICT DO NOTHING"
        " RETURNING user_id, email, display_name, state, default_address_id,"
        " create_time, update_time",
        user.user_id,
        user.email,
        domain.email_key(user.email),
        user.display_name,
        user.state,
        user.default_address_id,
        tx.now(),
    )
    if rows:
        return _brief(rows[0])
    if await tx.execute("SELECT 1 FROM users WHERE user_id = $1", user.user_id):
        raise AlreadyExists(f"there is a user {user.user_id!r}", reason="USER_EXISTS")
    raise _email_taken()


async def brief(tx: Tx, user_id: str) -> pb.User:
    """Return an account without its addresses."""
    rows = await tx.execute(
        "SELECT user_id, email, display_name, state, default_address_id, create_time, update_time"
        " FROM users WHERE user_id = $1",
        user_id,
    )
    if not rows:
        # An id has up to 64 characters; what was asked for may have any number.
        raise NotFound(f"no user {user_id!r:.66}", reason="USER_NOT_FOUND")
    return _brief(rows[0])


async def whole(tx: Tx, user_id: str) -> pb.User:
    """Return an account with its addresses."""
    user = await brief(tx, user_id)
    rows = await tx.execute(
        "SELECT address_id, label, postal_address FROM user_addresses"
        " WHERE user_id = $1 ORDER BY number",
        user_id,
    )
    for address_id, label, postal_address in rows:
        user.addresses.add(
            address_id=address_id,
            label=label,
            postal_address=PostalAddress.FromString(bytes(postal_address)),
        )
    return user


async def by_id(tx: Tx, page: Page, state: int) -> list[tuple[str, pb.User]]:
    """Return a page of (id, brief account) by ascending id; *state* 0 is any."""
    rows = await tx.execute(
        "SELECT user_id, email, display_name, state, default_address_id, create_time, update_time"
        " FROM users WHERE user_id > $1 AND ($2 = 0 OR state = $2) ORDER BY user_id LIMIT $3",
        page.after,
        state,
        page.limit,
    )
    return [(row[0], _brief(row)) for row in rows]


async def of_email(tx: Tx, email: str, state: int) -> list[tuple[str, pb.User]]:
    """Return the one (id, brief account) with that email address, if it is in that state."""
    rows = await tx.execute(
        "SELECT user_id, email, display_name, state, default_address_id, create_time, update_time"
        " FROM users WHERE email_key = $1 AND ($2 = 0 OR state = $2)",
        domain.email_key(email),
        state,
    )
    return [(row[0], _brief(row)) for row in rows]


async def save(tx: Tx, user: pb.User) -> pb.User:
    """Record what may change of an account; refuse an email address that another one has."""
    key = domain.email_key(user.email)
    if await tx.execute(
        "SELECT 1 FROM users WHERE email_key = $1 AND user_id <> $2", key, user.user_id
    ):
        raise _email_taken()
    rows = await tx.execute(
        "UPDATE users SET email = $2, email_key = $3, display_name = $4, state = $5,"
        " default_address_id = $6, update_time = $7 WHERE user_id = $1"
        " RETURNING user_id, email, display_name, state, default_address_id,"
        " create_time, update_time",
        user.user_id,
        user.email,
        key,
        user.display_name,
        user.state,
        user.default_address_id,
        tx.now(),
    )
    return _brief(rows[0])


async def record_state(tx: Tx, user_id: str, state: int, reason: str) -> None:
    """Append to the record of why an account was suspended or reactivated."""
    await tx.execute(
        "INSERT INTO user_state_changes (change_id, user_id, state, time, reason)"
        " VALUES ($1, $2, $3, $4, $5)",
        tx.new_id(),
        user_id,
        state,
        tx.now(),
        reason,
    )


async def address_ids(tx: Tx, user_id: str) -> list[str]:
    """Return the ids of an account's addresses, in the order they were added."""
    rows = await tx.execute(
        "SELECT address_id FROM user_addresses WHERE user_id = $1 ORDER BY number", user_id
    )
    return [address_id for (address_id,) in rows]


async def add_addresses(tx: Tx, user_id: str, addresses: Iterable[pb.Address]) -> None:
    """Append addresses to an account's."""
    ((last,),) = await tx.execute(
        "SELECT COALESCE(MAX(number), 0) FROM user_addresses WHERE user_id = $1", user_id
    )
    for number, address in enumerate(addresses, last + 1):
        await tx.execute(
            "INSERT INTO user_addresses (user_id, address_id, number, label, postal_address)"
            " VALUES ($1, $2, $3, $4, $5)",
            user_id,
            address.address_id,
            number,
            address.label,
            address.postal_address.SerializeToString(deterministic=True),
        )


async def remove_address(tx: Tx, user_id: str, address_id: str) -> None:
    """Delete one address."""
    await tx.execute(
        "DELETE FROM user_addresses WHERE user_id = $1 AND address_id = $2", user_id, address_id
    )


def _brief(row: Sequence[Any]) -> pb.User:
    user_id, email, display_name, state, default_address_id, create_time, update_time = row
    return pb.User(
        user_id=user_id,
        email=email,
        display_name=display_name,
        state=state,
        default_address_id=default_address_id,
        create_time=to_timestamp(create_time),
        update_time=to_timestamp(update_time),
    )


def _email_taken() -> AlreadyExists:
    return AlreadyExists("the email address belongs to another account", reason="EMAIL_TAKEN")
