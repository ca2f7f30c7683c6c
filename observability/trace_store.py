"""The embedded trace store: OTLP/gRPC in, Jaeger's query API v3 and a trace page out.

    python -m observability.trace_store --otlp-port 4317 --http-port 8081

It stands in for Jaeger on a developer's machine: the newest traces, in memory, gone when it stops.
With `--jaeger URL` it receives nothing and serves the page on top of that Jaeger instead.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from observability.api_v3 import api_routes
from observability.otlp import PortInUseError, Receiver, join_address, listen
from observability.page import PROXY_TIMEOUT_S, JaegerProxy, SecurityHeaders, page_routes
from observability.store import Limits, TraceStore

__all__ = ["Config", "Limits", "PortInUseError", "Running", "TraceStore", "main", "running"]

STOP_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class Config:
    """Where to serve. Port 0: any free one. jaeger_url: proxy to it instead of receiving spans.

    allowed_hosts: Host names accepted beside the loopback ones and `host`; a host other than
    loopback accepts any unless some are named.
    """

    host: str = "127.0.0.1"
    otlp_port: int = 4317
    http_port: int = 8081
    limits: Limits = field(default_factory=Limits)
    jaeger_url: str = ""
    allowed_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Running:
    """A started store. otlp_port is None in front of a real Jaeger; http_url has no final slash."""

    store: TraceStore
    otlp_port: int | None
    http_port: int
    http_url: str


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Running]:
    """Serve in this event loop until the block ends. Raises PortInUseError, OSError."""
    store = TraceStore(config.limits)
    receiver = Receiver(store)
    async with contextlib.AsyncExitStack() as stack:
        socket = stack.enter_context(listen(config.host, config.http_port))
        otlp_port: int | None = None
        if config.jaeger_url:
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=PROXY_TIMEOUT_S))
            routes = _proxy_routes(JaegerProxy(config.jaeger_url, client))
        else:
            otlp_port = await receiver.start(config.host, config.otlp_port)
            stack.push_async_callback(receiver.stop, STOP_GRACE_S)
            routes = _store_routes(store, receiver)
        http_port: int = socket.getsockname()[1]
        app = SecurityHeaders(Starlette(routes=[*routes, *page_routes()]), _allowed_hosts(config))
        server = _HttpServer(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=int(STOP_GRACE_S),
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[socket]))
        try:
            url = f"http://{join_address(config.host, http_port)}"
            yield Running(store, otlp_port, http_port, url)
        finally:
            server.should_exit = True
            await serving


class _HttpServer(uvicorn.Server):
    """uvicorn, leaving the process's signal handlers to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _store_routes(store: TraceStore, receiver: Receiver) -> list[BaseRoute]:
    async def healthz(request: Request) -> Response:
        status = "serving" if receiver.serving else "stopping"
        body = {"status": status, "store": asdict(store.stats), "limits": asdict(store.limits)}
        return JSONResponse(body, 200 if receiver.serving else 503)

    return [Route("/healthz", healthz, methods=["GET"]), *api_routes(store)]


def _proxy_routes(proxy: JaegerProxy) -> list[BaseRoute]:
    async def healthz(request: Request) -> Response:
        is_serving = await proxy.is_serving()
        status = "serving" if is_serving else "jaeger does not answer"
        return JSONResponse({"status": status}, 200 if is_serving else 503)

    return [Route("/healthz", healthz, methods=["GET"]), *proxy.routes()]


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _allowed_hosts(config: Config) -> frozenset[str]:
    if not _is_loopback(config.host) and not config.allowed_hosts:
        return frozenset()
    return config.allowed_hosts | {"127.0.0.1", "localhost", "::1", config.host}


async def _serve_until_signal(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(config) as started:
        if started.otlp_port is None:
            print(f"reading traces from Jaeger at {config.jaeger_url}")
        else:
            print(f"receiving OTLP/gRPC at {join_address(config.host, started.otlp_port)}")
        print(f"trace page: {started.http_url}/   API: {started.http_url}/api/v3", flush=True)
        await stop.wait()
        print("stopping", flush=True)


def _parser() -> argparse.ArgumentParser:
    defaults, limits = Config(), Limits()
    parser = argparse.ArgumentParser(
        prog="python -m observability.trace_store",
        description="Embedded trace store: receives OTLP/gRPC, keeps the newest traces in memory, "
        "serves Jaeger's query API v3 and a trace page.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default=defaults.host, help="address to listen on")
    add("--otlp-port", type=int, default=defaults.otlp_port, help="OTLP/gRPC; 0: any free one")
    add("--http-port", type=int, default=defaults.http_port, help="API and page; 0: any free one")
    add("--max-traces", type=int, default=limits.traces, help="traces kept")
    add("--max-spans-per-trace", type=int, default=limits.spans_per_trace, help="spans kept of one")
    add("--max-mib", type=int, default=limits.bytes // 2**20, help="memory for spans, in MiB")
    add("--jaeger", metavar="URL", default="", help="serve the page on top of this real Jaeger")
    add("--allow-host", metavar="NAME", action="append", default=[], help="accept this Host header")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 0, or 1 for an unusable address, 2 for bad arguments."""
    parser = _parser()
    options = parser.parse_args(arguments)
    mib = 2**20
    try:
        limits = Limits(options.max_traces, options.max_spans_per_trace, options.max_mib * mib)
    except ValueError as error:
        parser.error(str(error))
    if options.jaeger and not options.jaeger.startswith(("http://", "https://")):
        parser.error(f"--jaeger takes a URL such as http://127.0.0.1:16686, not {options.jaeger!r}")
    config = Config(
        host=options.host,
        otlp_port=options.otlp_port,
        http_port=options.http_port,
        limits=limits,
        jaeger_url=options.jaeger,
        allowed_hosts=frozenset(options.allow_host),
    )
    try:
        asyncio.run(_serve_until_signal(config))
    except PortInUseError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot listen on {config.host}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
