"""Errors of the layers, as callers of stock sync stubs expect them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc import StatusCode

from ..errors import MeshError
from ..metadata import STATUS_DETAILS
from ..status import to_status


class SyncRpcError(grpc.RpcError, grpc.Call):
    """An error of the layers, as callers of stock sync stubs expect it."""

    def __init__(
        self, status: StatusCode, details: str, trailing: tuple[tuple[str, bytes], ...] = ()
    ) -> None:
        super().__init__(details)
        self._status = status
        self._details = details
        self._trailing = trailing

    def code(self) -> StatusCode:
        """Return its status."""
        return self._status

    def details(self) -> str:
        """Return what is said of it."""
        return self._details

    def initial_metadata(self) -> tuple[()]:
        """Return nothing: no server said anything."""
        return ()

    def trailing_metadata(self) -> Any:
        """Return the error as a `google.rpc.Status`."""
        return self._trailing

    def is_active(self) -> bool:
        """It is over."""
        return False

    def time_remaining(self) -> Any:
        """It is over."""

    def cancel(self) -> bool:
        """It is over."""
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """It is over."""
        return False

    def __str__(self) -> str:
        """Return the status and what is said of it."""
        return f"{self._status}: {self._details}"


def stock_error(error: BaseException) -> BaseException:
    """Return *error* as callers of stock stubs expect it."""
    if isinstance(error, asyncio.CancelledError):
        return SyncRpcError(StatusCode.CANCELLED, "Locally cancelled by application!")
    if not isinstance(error, MeshError):
        return error
    stock = error.__cause__
    if not isinstance(stock, grpc.RpcError) or isinstance(stock, MeshError):
        details = to_status(error).SerializeToString()
        stock = SyncRpcError(error.status, str(error), ((STATUS_DETAILS, details),))
    error.__cause__ = None  # it is about to become the cause of its own cause
    stock.__cause__ = error
    return stock
