"""The gateway's REST API, as far as a replay needs it: patient, and safe to repeat."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Final

import httpx

PAGE_SIZE: Final = 200  # orders with all their lines: well under the 4 MiB of a gRPC message
PATIENCE_S: Final = 120.0  # for one request, with its repetitions: a service may be restarting
FIRST_DELAY_S: Final = 0.1
MAX_DELAY_S: Final = 3.0
_RETRIED: Final = frozenset({429, 502, 503, 504})
# Longer than the gateway lets a call wait.
_TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0, pool=None)


class GatewayError(Exception):
    """The gateway refused a request. `status`: the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class UnreachableError(Exception):
    """There was no answer, however often it was asked."""


class Gateway:
    """A client of the gateway, as an async context manager.

    Every request that it sends is safe to repeat: reads, and orders under ids of their own. So it
    repeats them, with jittered exponential backoff, for as long as `patience_s`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        concurrency: int = 32,
        patience_s: float = PATIENCE_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._patience_s = patience_s
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            transport=transport,
            trust_env=False,  # the way to the gateway leads through no proxy
        )

    async def __aenter__(self) -> Gateway:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def get(self, path: str, *, patience_s: float | None = None, **query: Any) -> Any:
        """The JSON at a path. Raises GatewayError, UnreachableError."""
        return await self._send("GET", path, patience_s=patience_s, params=query)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON of the answer. Raises GatewayError, UnreachableError."""
        return await self._send("POST", path, json=body)

    async def each(self, path: str, name: str, /, **query: Any) -> AsyncIterator[Any]:
        """Each element of a list, page by page; `name`: the field that holds a page's elements."""
        token = ""
        while True:
            page = await self.get(path, pageSize=PAGE_SIZE, pageToken=token, **query)
            for element in page.get(name, ()):
                yield element
            token = page.get("nextPageToken", "")
            if not token:
                return

    async def _send(
        self, method: str, path: str, *, patience_s: float | None = None, **request: Any
    ) -> Any:
        patience_s = self._patience_s if patience_s is None else patience_s
        give_up = time.monotonic() + patience_s
        delay_s = FIRST_DELAY_S
        while True:
            try:
                answer = await self._http.request(method, path, **request)
                if answer.status_code not in _RETRIED:
                    return _read(answer)
                problem = f"status {answer.status_code}"
            except httpx.TransportError as error:
                problem = str(error) or type(error).__name__
            pause_s = delay_s * random.uniform(0.5, 1)  # noqa: S311  # jitter
            if time.monotonic() + pause_s > give_up:
                raise UnreachableError(
                    f"no answer from {self.base_url} to {method} {path}: {problem}"
                )
            await asyncio.sleep(pause_s)
            delay_s = min(MAX_DELAY_S, delay_s * 2)


def _read(answer: httpx.Response) -> Any:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if answer.is_success and isinstance(body, dict):
        return body
    message = body.get("message", "") if isinstance(body, dict) else answer.text[:200]
    raise GatewayError(answer.status_code, message or answer.reason_phrase)
