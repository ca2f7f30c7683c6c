"""Server: whatever a handler raises leaves as one of our errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ..call import Call, Handler, Layer, StreamHandler
from ..errors import Internal, MeshError, Unavailable
from ..metadata import CORRELATION_ID
from ..runtime.cancelling import is_stopped
from ..runtime.clock import Runtime
from ..runtime.logs import log
from ..scope import scope
from ..storage.port import StorageError
from .deadline import LATENCY_S, Overrun
from .streams import Reading


class Failures(Layer):
    """Our errors pass; anything else is INTERNAL with an id, and its text stays in the log."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def _translate(self, call: Call, error: BaseException) -> MeshError:
        if isinstance(error, grpc.RpcError):  # of a stock stub that a handler used
            failed = "a service behind this one failed"
            wait_s = getattr(error.__cause__, "retry_after_s", None)  # below 0 if retries ran out
            return _correlated(
                Unavailable(failed, reason="DOWNSTREAM_FAILED", retry_after_s=wait_s)
            )
        if isinstance(error, StorageError):  # the store has logged it, once for all
            return _correlated(_unstored(error))
        error_id = self._runtime.new_id()
        log.error("handler failed", method=call.method.full_name, error_id=error_id, exc_info=error)
        found = "an internal error; its id finds it in the log"
        return _correlated(Internal(found, info={"error_id": error_id}))

    def _overrun(self, call: Call, error: BaseException) -> None:
        """Say that it was the deadline which ended *call*, if it was."""
        if self._runtime.clock.monotonic() >= call.deadline - LATENCY_S:
            raise Overrun from error

    def __call__(self, inner: Handler) -> Handler:
        """Translate what a handler raises."""

        async def translated(call: Call) -> Any:
            try:
                return await inner(call)
            except MeshError as error:
                _correlated(error)
                raise
            except Exception as error:
                raise self._translate(call, error) from error
            except asyncio.CancelledError as error:
                if is_stopped(error):
                    self._overrun(call, error)
                    raise
                raise self._translate(call, error) from error

        return translated

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """The same."""

        async def translated(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            try:
                async with Reading(inner(call, requests)) as replies:
                    async for reply in replies:
                        yield reply
            except MeshError as error:
                _correlated(error)
                raise
            except Exception as error:
                raise self._translate(call, error) from error
            except asyncio.CancelledError as error:
                if is_stopped(error):
                    self._overrun(call, error)
                    raise
                raise self._translate(call, error) from error

        return translated


def _correlated(error: MeshError) -> MeshError:
    # A refusal that was kept with its key says who asks now, not who asked first.
    error.info[CORRELATION_ID] = scope.get().correlation_id
    return error


def _unstored(error: StorageError) -> MeshError:
    """What the caller may know: who repeats the call under its key learns how it ended."""
    if error.reason == "STORAGE_CORRUPT":
        damaged = "the service's database is damaged"
        return MeshError(damaged, reason=error.reason, status=grpc.StatusCode.DATA_LOSS)
    return Unavailable("the service's database failed", reason=error.reason)
