"""Jaeger's query API v3 over HTTP, read from a TraceStore.

Same paths, parameters, bodies and statuses as Jaeger 1.76 (v2) with its memory storage, held
against the real one by a test. Differences, on purpose: the content type says `application/json`
(Jaeger: text/plain); `services` is `[]` when there are none (Jaeger leaves it out); spans come back
as exported (Jaeger sorts attributes and events, lengthens spans of no duration to 1 ns, drops links
without a trace id, and notes what it changed in an attribute `@jaeger@warnings`); a span without a
valid id is refused (in Jaeger an all-zero trace id hides every older trace from searches).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from observability.otlp_json import resource_spans_to_json
from observability.query import ApiError, check_get, parse_find, parse_trace_id
from observability.store import TraceStore

PATHS: Final = (
    "/api/v3/services",
    "/api/v3/operations",
    "/api/v3/traces",
    "/api/v3/traces/{trace_id}",
)
JSON: Final = "application/json"

Handler = Callable[[Request], Awaitable[Response]]


def api_routes(store: TraceStore) -> list[Route]:
    """The four routes of the API."""
    api = _Api(store)
    handlers: tuple[Handler, ...] = (api.services, api.operations, api.find, api.trace)
    return [
        Route(path, _with_errors(handler), methods=["GET"])
        for path, handler in zip(PATHS, handlers, strict=True)
    ]


def error_response(status: int, message: str) -> Response:
    """An error in the body Jaeger gives it."""
    return _json({"error": {"httpCode": status, "message": message}}, status)


class _Api:
    def __init__(self, store: TraceStore) -> None:
        self._store = store

    async def services(self, request: Request) -> Response:
        return _json({"services": self._store.services()})

    async def operations(self, request: Request) -> Response:
        params = request.query_params
        found = self._store.operations(params.get("service", ""), params.get("span_kind", ""))
        operations = [
            {"name": operation.name} | ({"spanKind": kind} if (kind := operation.span_kind) else {})
            for operation in found
        ]
        return _json({"operations": operations})

    async def trace(self, request: Request) -> Response:
        trace_id = parse_trace_id(request.path_params["trace_id"])
        check_get(request.query_params)
        return self._traces([trace_id])

    async def find(self, request: Request) -> Response:
        query = parse_find(request.query_params, self._store.limits.traces)
        return self._traces(self._store.find(query))

    def _traces(self, trace_ids: list[bytes]) -> Response:
        if not any(self._store.trace_exists(trace_id) for trace_id in trace_ids):
            raise ApiError(404, "No traces found")
        return StreamingResponse(_stream(self._store, trace_ids), media_type=JSON)


async def _stream(store: TraceStore, trace_ids: Iterable[bytes]) -> AsyncIterator[bytes]:
    """`{"result": {"resourceSpans": [...]}}`, a trace at a time: exports are served between."""
    yield b'{"result":{"resourceSpans":['
    separator = ""
    for trace_id in trace_ids:
        elements = [_dump(resource_spans_to_json(item)) for item in store.trace(trace_id)]
        if elements:  # else evicted since the search
            yield (separator + ",".join(elements)).encode()
            separator = ","
        await asyncio.sleep(0)
    yield b"]}}"


def _with_errors(handler: Handler) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except ApiError as error:
            return error_response(error.status, str(error))

    return handle


def _json(body: object, status: int = 200) -> Response:
    return Response(_dump(body).encode(), status, media_type=JSON)


def _dump(body: object) -> str:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
