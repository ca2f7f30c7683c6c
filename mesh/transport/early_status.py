"""Who is still sending requests when the server answers hears what the server said.

gRPC answers an RPC whose write fails with INTERNAL, "Internal error from Core", in place of the
status that the server has sent, or is about to: https://github.com/grpc/grpc/issues/36066, open in
grpcio 1.85. A write fails only because the RPC is over, so Core's word is waited for instead.
"""

from __future__ import annotations

import asyncio
from typing import Any

#: Core tells an RPC's status at once. If it does not, gRPC's own word has to do.
PATIENCE_S = 1.0


class _Patient:
    """A call of gRPC's C core, which knows better than a failed write how it ended."""

    def __init__(self, core: Any) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def set_internal_error(self, error: str) -> None:
        """Be over with *error*, unless Core says how it ended."""
        asyncio.get_running_loop().call_later(PATIENCE_S, self._give_up, error)

    def _give_up(self, error: str) -> None:
        if not self._core.done():
            self._core.set_internal_error(error)


def heed_early_status(rpc: Any) -> None:
    """Let *rpc*, which was just begun on a grpc.aio channel, end with the status of its server."""
    rpc._cython_call = _Patient(rpc._cython_call)  # noqa: SLF001
