"""The watermark: what is older is forgotten, and what names it is refused.

A key that begins with a UUIDv7 tells when it was made. Once keys from before some moment are
deleted, one of them that comes late would look new; it is refused instead, and neither executed nor
voided. (Expiry by count alone charges twice, as the simulator shows.) Keys that do not tell their
age are never deleted.
"""

from __future__ import annotations

import re

from ..errors import KeyExpired
from .port import Tx

#: Nothing younger is ever forgotten: far beyond any deadline, retry or clock's error.
RETENTION_MIN_S = 24 * 3600.0

_UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def born_at(key: str) -> float | None:
    """Return when *key* was made, in seconds since the epoch; None if it does not tell."""
    match = _UUID7.match(key)
    return int(match[1] + match[2], 16) / 1000 if match else None


def first_key(at: float) -> str:
    """Return what every UUIDv7 of the moment *at* or later is not below."""
    millis = f"{max(0, int(at * 1000)):012x}"
    return f"{millis[:8]}-{millis[8:]}"


async def check(tx: Tx, key: str) -> None:
    """Refuse *key*, of which nothing is known, if that may be because it was forgotten.

    Raises:
        KeyExpired: it is older than what is remembered.
    """
    born = born_at(key)
    if born is None or born > tx.now() - RETENTION_MIN_S / 2:
        return  # too young to have been forgotten, even if the clock was set back: no need to look
    if born < await low(tx):
        raise KeyExpired("whether this was done is no longer known: its key is too old")


async def low(tx: Tx) -> float:
    """Return the watermark, in seconds since the epoch."""
    ((value,),) = await tx.execute("SELECT low FROM mesh_retention")
    return float(value)


async def raise_to(tx: Tx, moment: float) -> float:
    """Move the watermark up to *moment*, unless it is there; return what is old by now.

    That is below the watermark, if the clock was ahead when that rose: what is young is not
    forgotten then.
    """
    wanted = min(moment, tx.now() - RETENTION_MIN_S)
    await tx.execute("UPDATE mesh_retention SET low = $1 WHERE low < $1", wanted)
    return wanted
