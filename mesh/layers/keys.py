"""Idempotency keys, client side: every attempt of a mutating call carries the same key."""

from __future__ import annotations

from ..call import Call, Prepare
from ..metadata import KEY, OUTSIDE_KEY
from ..runtime.clock import Runtime


class AssignKey(Prepare):
    """Give a mutating call a key, unless it has one."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def prepare(self, call: Call) -> Call:
        """Put the key into the metadata."""
        if call.method.reads or call.metadata.get(OUTSIDE_KEY):
            return call
        key = call.key or call.metadata.get(KEY) or self._runtime.new_id()
        return call.replace(key=key, metadata={**call.metadata, KEY: key})
