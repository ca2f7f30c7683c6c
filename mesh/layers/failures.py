"""Server: whatever a handler raises leaves as one of our errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ..call import Call, Handler, Layer, StreamHandler
from ..errors import (
    DeadlineExceeded,
    Expired,
    Internal,
    MeshError,
    NotExecuted,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    UndeclaredCall,
)
from ..metadata import CORRELATION_ID
from ..runtime.cancelling import is_stopped
from ..runtime.clock import Runtime
from ..runtime.logs import log
from ..scope import scope
from ..status import from_rpc_error
from ..storage.port import StorageError
from .deadline import LATENCY_S, Overrun
from .streams import Reading

#: What a service is told that calls what it must not: however often it is asked again.
_MAY_NOT = (Unauthenticated, PermissionDenied, UndeclaredCall)


class Failures(Layer):
    """Our errors pass; anything else is INTERNAL with an id, and its text stays in the log."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def _meant(self, call: Call, error: BaseException) -> BaseException:
        """Return *error* if the layers above may see it as it is, or what stands for it."""
        if is_stopped(error):
            meant = self._stopped(call, error)
        else:
            meant = self._told(call, error)
            # A refusal that was kept with its key says who asks now, not who asked first.
            meant.info[CORRELATION_ID] = scope.get().correlation_id
        if meant is not error:
            meant.__cause__ = error
        return meant

    def _stopped(self, call: Call, error: BaseException) -> BaseException:
        """What ended a call that was cancelled: its deadline, or its caller."""
        late = self._runtime.clock.monotonic() >= call.deadline - LATENCY_S
        return Overrun() if late else error

    def _told(self, call: Call, error: BaseException) -> MeshError:
        """What the caller is told."""
        if isinstance(error, MeshError):
            if not error.of_call or not isinstance(error, NotExecuted):
                return error
            return self._bug(call, error) if isinstance(error, _MAY_NOT) else _behind(error)
        if isinstance(error, grpc.RpcError):  # of a stock stub that a handler used
            failed = "a service behind this one failed"
            return Unavailable(failed, reason="DOWNSTREAM_FAILED", retry_after_s=_wait_s(error))
        if isinstance(error, StorageError):  # the store has logged it, once for all
            return _unstored(error)
        return self._bug(call, error)

    def _bug(self, call: Call, error: BaseException) -> Internal:
        error_id = self._runtime.new_id()
        log.error("handler failed", method=call.method.full_name, error_id=error_id, exc_info=error)
        found = "an internal error; its id finds it in the log"
        return Internal(found, info={"error_id": error_id})

    def __call__(self, inner: Handler) -> Handler:
        """Translate what a handler raises."""

        async def translated(call: Call) -> Any:
            try:
                return await inner(call)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                raise self._meant(call, error)  # noqa: B904  # it has its cause

        return translated

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """The same."""

        async def translated(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            try:
                async with Reading(inner(call, requests)) as replies:
                    async for reply in replies:
                        yield reply
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                raise self._meant(call, error)  # noqa: B904  # it has its cause

        return translated


def _behind(error: NotExecuted) -> MeshError:
    """What our caller may conclude of a call of ours that was not executed: nothing."""
    if isinstance(error, Expired):  # the time was the caller's
        return DeadlineExceeded(error.message, retry_after_s=error.retry_after_s)
    return Unavailable(
        f"a service behind this one is not available: {error.message}",
        reason="DOWNSTREAM_UNAVAILABLE",
        retry_after_s=error.retry_after_s,
    )


def _wait_s(error: grpc.RpcError) -> float | None:
    """When a stock stub was told to try again; below 0: not at all, or that has been done."""
    if isinstance(error.__cause__, MeshError):
        return error.__cause__.retry_after_s
    coded = isinstance(error, (grpc.aio.AioRpcError, grpc.Call))
    return from_rpc_error(error).retry_after_s if coded else None


def _unstored(error: StorageError) -> MeshError:
    """What the caller may know: who repeats the call under its key learns how it ended."""
    if error.reason == "STORAGE_CORRUPT":
        damaged = "the service's database is damaged"
        return MeshError(damaged, reason=error.reason, status=grpc.StatusCode.DATA_LOSS)
    return Unavailable("the service's database failed", reason=error.reason)
