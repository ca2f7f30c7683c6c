"""The rules of accounts. Pure: no database, no clock."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from mesh.errors import AlreadyExists, NotFound, Refused
from shop.user.v1 import user_pb2 as pb

#: An account has at most this many addresses; the contract says the same of a whole account.
ADDRESSES_MAX = 100


def email_key(email: str) -> str:
    """Return what two spellings of one email address have in common.

    Mail systems may tell `Ann@example.org` from `ann@example.org`, and none that matters does.
    """
    return email.lower()


def opening_default(wanted: str, address_ids: Sequence[str]) -> str:
    """Return the default address of a new account: the one *wanted*, or else the first."""
    return wanted or next(iter(address_ids), "")


def check_default(default: str, address_ids: Collection[str]) -> None:
    """Refuse a default that is no address of the account; "" is right while there is none."""
    if default not in address_ids and (default or address_ids):
        raise Refused(
            "the default must be one of the account's addresses", reason="UNKNOWN_DEFAULT_ADDRESS"
        )


def default_after_adding(
    default: str, address_ids: Collection[str], added: str, *, make_default: bool
) -> str:
    """Return the default once *added* has joined *address_ids*, or refuse to add it."""
    if added in address_ids:
        raise AlreadyExists(f"the account has an address {added!r}", reason="ADDRESS_EXISTS")
    if len(address_ids) >= ADDRESSES_MAX:
        raise Refused(
            f"an account has at most {ADDRESSES_MAX} addresses", reason="TOO_MANY_ADDRESSES"
        )
    return added if make_default or not default else default


def default_after_removing(default: str, address_ids: Collection[str], removed: str) -> str:
    """Return the default once *removed* has left *address_ids*, or refuse to remove it.

    Which address comes next is the customer's to say, so the default goes last.
    """
    if removed not in address_ids:
        raise NotFound("the account has no such address", reason="ADDRESS_NOT_FOUND")
    if removed != default:
        return default
    if len(address_ids) > 1:
        raise Refused("choose another default address first", reason="DEFAULT_ADDRESS")
    return ""


def updated(user: pb.User, values: pb.User, mask: FieldMask) -> pb.User:
    """Return *user* with the fields that *mask* names taken from *values*."""
    result = pb.User()
    result.CopyFrom(user)
    mask.MergeMessage(values, result)
    return result
