"""Correlation ids: one id that every span, log line and error of a request carries."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from ..call import Call, Handler, Layer, Prepare, StreamHandler
from ..metadata import ATTEMPT, CORRELATION_ID
from ..runtime.clock import Runtime
from ..scope import Scope, scope

_VALID = re.compile(r"[A-Za-z0-9._~:-]{1,128}")


class Correlate(Prepare):
    """Client: hand on the correlation id of the call being served, or begin one.

    Below a call that is a retry everything is one: its number goes on too.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def prepare(self, call: Call) -> Call:
        """Add the id, unless the caller gave one that servers will take."""
        above = scope.get()
        if above.attempt > 1:
            call = call.replace(metadata={**call.metadata, ATTEMPT: str(above.attempt)})
        given = call.metadata.get(CORRELATION_ID)
        if given and _VALID.fullmatch(given):
            return call
        correlation_id = above.correlation_id or self._runtime.new_id()
        return call.replace(metadata={**call.metadata, CORRELATION_ID: correlation_id})


def _attempt(text: str) -> int:
    return max(1, int(text)) if text.isdecimal() and len(text) < 4 else 1


class EnterScope(Layer):
    """Server: make the call's correlation id, deadline and attempt known to what it calls."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def _enter(self, call: Call) -> None:
        given = call.metadata.get(CORRELATION_ID, "")
        scope.set(
            Scope(
                correlation_id=given if _VALID.fullmatch(given) else self._runtime.new_id(),
                deadline=call.deadline,
                attempt=_attempt(call.metadata[ATTEMPT]) if ATTEMPT in call.metadata else 1,
                degraded=[],
            )
        )

    def __call__(self, inner: Handler) -> Handler:
        """Each call is served in a task, and so in a context, of its own."""

        def enter(call: Call) -> Awaitable[Any]:
            self._enter(call)
            return inner(call)

        return enter

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """The same."""

        def enter(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            self._enter(call)
            return inner(call, requests)

        return enter
