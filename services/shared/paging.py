"""Pages of a list, by key: https://google.aip.dev/158.

A page's query asks for what follows the last key of the page before, so that a page costs the
same however far down it is, and what is added or removed meanwhile neither repeats nor hides a
row. The token carries that key, and a fingerprint of the request it was given for: a token used
with other filters is refused rather than answered with something arbitrary::

    page = open_page(request)
    rows, last = page.cut(await tx.execute("... WHERE id > $1 ORDER BY id LIMIT $2",
                                           page.after, page.limit))
    return ListThingsResponse(things=..., next_page_token=next_token(request, last))
"""

from __future__ import annotations

import base64
import binascii
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

from google.protobuf.descriptor import Descriptor

from mesh.errors import InvalidArgument

R = TypeVar("R", bound=Sequence[Any])

_FINGERPRINT_BYTES = 8


class PagedRequest(Protocol):
    """A request message with the two fields of AIP-158."""

    DESCRIPTOR: Descriptor
    page_size: int
    page_token: str

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes:  # noqa: N802
        """Return the message's bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """Which page is asked for: at most `size` rows, those after the key `after` ("" at first)."""

    size: int
    after: str

    @property
    def limit(self) -> int:
        """How many rows to query: one more than the page holds tells whether another follows."""
        return self.size + 1

    @property
    def before(self) -> str:
        """The key to stay below in a list of ids (UUIDs) that is read newest first."""
        return self.after or "z"

    def key(self, *kinds: Callable[[str], Any], first: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the parts of a key like ``a/1``, each read by its *kinds*; on page one *first*.

        Raises:
            InvalidArgument: it is no such key.
        """
        if not self.after:
            return first
        try:
            return tuple(
                kind(part) for kind, part in zip(kinds, self.after.split("/"), strict=True)
            )
        except ValueError:
            raise _invalid("is not a token of this list") from None

    def cut(self, rows: Sequence[R]) -> tuple[Sequence[R], str]:
        """Return the page's *rows*, and its last key if more follow, else "".

        The key is the first column of a row.
        """
        if len(rows) <= self.size:
            return rows, ""
        return rows[: self.size], str(rows[self.size - 1][0])


def open_page(request: PagedRequest, size_default: int = 50, size_max: int = 1000) -> Page:
    """Return the page that *request* asks for.

    Raises:
        InvalidArgument: its token is not one of ours, or is one for other filters.
    """
    size = min(request.page_size if request.page_size > 0 else size_default, size_max)
    if not request.page_token:
        return Page(size, "")
    try:
        token = base64.b64decode(_padded(request.page_token), altchars=b"-_", validate=True)
        key = token[_FINGERPRINT_BYTES:].decode()
    except (binascii.Error, ValueError):
        raise _invalid("is not a token of this list") from None
    if not key:
        raise _invalid("is not a token of this list")
    if token[:_FINGERPRINT_BYTES] != _fingerprint(request):
        raise _invalid("belongs to another list, or to other filters")
    return Page(size, key)


def next_token(request: PagedRequest, last_key: str) -> str:
    """Return the token of the page after the one that ends with *last_key*; "" for ""."""
    if not last_key:
        return ""
    token = _fingerprint(request) + last_key.encode()
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def _fingerprint(request: PagedRequest) -> bytes:
    """Return what tells one method's request from another's, size and token aside."""
    filters = copy.deepcopy(request)
    filters.page_size, filters.page_token = 0, ""
    hashed = blake2b(request.DESCRIPTOR.full_name.encode(), digest_size=_FINGERPRINT_BYTES)
    hashed.update(filters.SerializeToString(deterministic=True))
    return hashed.digest()


def _padded(token: str) -> str:
    return token + "=" * (-len(token) % 4)


def _invalid(what: str) -> InvalidArgument:
    return InvalidArgument(violations=[("page_token", what)])
