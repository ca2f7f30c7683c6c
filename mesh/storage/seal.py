"""Seals: what a contract marks `debug_redact` is encrypted in the tables that the mesh keeps.

A message whose type has such a field, however deep, is sealed whole: AES-256-GCM-SIV (RFC 8452),
bound to the place it is kept at, so that it opens nowhere else. Sealed bytes begin with a zero,
which no message does: what is no secret, or was kept before there was a key, reads as ever.

    0 | id of the key, 8 bytes | nonce, 12 bytes | what is sealed, and 16 bytes that prove it
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from ..runtime.clock import Runtime
from .port import StorageError, Store, Tx

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

KEY_BYTES = 32
_MARK = b"\0"
_ID_BYTES = 8
_NONCE_BYTES = 12
_HEAD_BYTES = len(_MARK) + _ID_BYTES

#: Where sealed messages are: table and column.
KEPT = (
    ("mesh_effects", "request"),
    ("mesh_sagas", "request"),
    ("mesh_saga_steps", "request"),
    ("mesh_saga_steps", "undo_request"),
    ("mesh_saga_steps", "answer"),
)


class SealError(StorageError):
    """What is sealed cannot be opened: the key is missing, or it is not what was kept here."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="STORAGE_SEALED")


class Seal:
    """Keys of 32 bytes: the first seals, each opens what it sealed. Without one nothing is sealed.

    Chance is *runtime*'s.
    """

    def __init__(self, keys: Sequence[bytes] = (), runtime: Runtime | None = None) -> None:
        self._ciphers = {key_id(key): _cipher(key) for key in keys}
        self._first = key_id(keys[0]) if keys else b""
        self._random = (runtime or Runtime()).random

    def close(self, message: bytes, place: str) -> bytes:
        """Return *message* as it may be kept at *place*."""
        if not message or not self._first:
            return message
        head = _MARK + self._first
        nonce = self._random.getrandbits(8 * _NONCE_BYTES).to_bytes(_NONCE_BYTES, "big")
        return (
            head + nonce + self._ciphers[self._first].encrypt(nonce, message, _bound(head, place))
        )

    def open(self, kept: bytes, place: str) -> bytes:
        """Return the message that is *kept* at *place*.

        Raises:
            SealError: it cannot be opened.
        """
        if not kept.startswith(_MARK):
            return kept
        from cryptography.exceptions import InvalidTag

        head, nonce = kept[:_HEAD_BYTES], kept[_HEAD_BYTES : _HEAD_BYTES + _NONCE_BYTES]
        cipher = self._ciphers.get(head[len(_MARK) :])
        if cipher is None:
            raise _missing([head[len(_MARK) :]])
        try:
            return cipher.decrypt(nonce, kept[_HEAD_BYTES + _NONCE_BYTES :], _bound(head, place))
        except InvalidTag:
            raise SealError(f"what is at {place} was not sealed there, or was changed") from None

    async def check(self, store: Store) -> None:
        """Note in *store* whose seals are in it; look whether all of them can be opened.

        Raises:
            SealError: something in it is sealed with a key that is not among ours.
        """

        async def work(tx: Tx) -> None:
            rows = await tx.execute("SELECT key_id FROM mesh_seals")
            strange = [bytes(row[0]) for row in rows if bytes(row[0]) not in self._ciphers]
            if needed := [name for name in strange if await _is_used(tx, name)]:
                raise _missing(needed)
            for name in strange:
                await tx.execute("DELETE FROM mesh_seals WHERE key_id = $1", name)
            if self._first and self._first not in [bytes(row[0]) for row in rows]:
                await tx.execute("INSERT INTO mesh_seals (key_id) VALUES ($1)", self._first)

        await store.write(work)


#: Keeps everything as it is.
CLEAR = Seal()


def key_id(key: bytes) -> bytes:
    """Return what a key is known by."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key is {KEY_BYTES} bytes, not {len(key)}")
    return blake2b(key, digest_size=_ID_BYTES, person=b"mesh seal key id").digest()


def _cipher(key: bytes) -> AESGCMSIV:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
    except ImportError as error:
        raise SealError("a key is set: pip install cryptography") from error
    return AESGCMSIV(key)


def is_secret(kind: type[Message]) -> bool:
    """Whether a message of this type can hold what its contract marks `debug_redact`."""
    return _marks(kind.DESCRIPTOR)


@lru_cache(maxsize=4096)
def _marks(kind: Any) -> bool:
    met, unseen = {kind.full_name}, [kind]
    while unseen:
        for field in unseen.pop().fields:
            if field.GetOptions().debug_redact:
                return True
            part = field.message_type
            if part is not None and part.full_name not in met:
                met.add(part.full_name)
                unseen.append(part)
    return False


def _bound(head: bytes, place: str) -> bytes:
    return head + place.encode()


async def _is_used(tx: Tx, name: bytes) -> bool:
    """Whether anything is sealed with that key. It reads all there is: a key went missing."""
    for table, column in KEPT:
        begins = f"substr({column}, 1, {_HEAD_BYTES})"
        sql = f"SELECT 1 FROM {table} WHERE {begins} = $1 LIMIT 1"  # noqa: S608  # our own names
        if await tx.execute(sql, _MARK + name):
            return True
    return False


def _missing(names: Sequence[bytes]) -> SealError:
    named = ", ".join(name.hex() for name in names)
    return SealError(
        f"messages are sealed with the key {named}, which is not there: have it in MESH_SEAL_KEY,"
        " or its file in the data folder (docs/secrets.md)"
    )
