"""The trace page: static files that read `/api/v3` in the browser, and a proxy to a real Jaeger.

Whatever stands in a trace was written by someone else. The page puts it on the screen as text only,
and the Content-Security-Policy forbids every script but our own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import httpx
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.api_v3 import JSON, PATHS, error_response

STATIC: Final = Path(__file__).parent / "static"
PROXY_TIMEOUT_S: Final = 30.0
PROXY_MAX_BYTES: Final = 256 * 1024 * 1024
SECURITY_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def page_routes() -> list[BaseRoute]:
    """`/`, `/trace/{trace_id}` (one document, which looks at its own address) and `/static`."""

    async def document(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html")

    return [
        Route("/", document, methods=["GET"]),
        Route("/trace/{trace_id}", document, methods=["GET"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


class JaegerProxy:
    """Passes GETs of the API's four paths to a real Jaeger, so that the page can read it."""

    def __init__(self, base_url: str, client: httpx.AsyncClient) -> None:
        self._base_url = base_url.rstrip("/")
        self._client = client

    def routes(self) -> list[Route]:
        """The API's paths, each answered by Jaeger."""
        return [Route(path, self._get, methods=["GET"]) for path in PATHS]

    async def is_serving(self) -> bool:
        """Whether Jaeger answers its query API."""
        try:
            answer = await self._client.get(f"{self._base_url}{PATHS[0]}")
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    async def _get(self, request: Request) -> Response:
        url = httpx.URL(self._base_url + request.url.path, query=request.url.query.encode())
        try:
            async with self._client.stream("GET", url) as answer:
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > PROXY_MAX_BYTES:
                        return error_response(502, "Jaeger's answer is too large; ask for less")
        except httpx.HTTPError as error:
            message = (
                f"no answer from Jaeger at {self._base_url}: {str(error) or type(error).__name__}"
            )
            return error_response(502, message)
        return Response(bytes(body), answer.status_code, media_type=JSON)


class SecurityHeaders:
    """ASGI middleware: SECURITY_HEADERS on every response; a wrong Host is refused with 421.

    The Host check keeps a hostile web page from reading a loopback server through a name of its own
    that resolves to 127.0.0.1 (DNS rebinding). allowed_hosts: names without a port; empty: any.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: frozenset[str]) -> None:
        self._app = app
        self._allowed_hosts = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), text.encode()) for name, text in SECURITY_HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        if self._allowed_hosts and Request(scope).url.hostname not in self._allowed_hosts:
            refusal = error_response(421, "this host name is not served here (see --allow-host)")
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)
