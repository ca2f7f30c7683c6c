"""Ask a process how it is: by gRPC's standard health protocol, over HTTP, or if it listens."""

from __future__ import annotations

import asyncio
import http.client
import urllib.error
import urllib.request
from enum import Enum

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


class Health(Enum):
    """What was heard from a process."""

    SERVES = "serves"
    NOT_YET = "does not serve"
    #: Its port takes connections and nothing comes back: it is frozen, or busy beyond measure.
    SILENT = "does not answer"


async def probe(address: str, timeout_s: float = 1.0) -> Health:
    """Ask the gRPC server at *address*."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            reply = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout_s
            )
        except grpc.aio.AioRpcError as error:
            silent = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            return Health.SILENT if silent else Health.NOT_YET
    serving = reply.status == health_pb2.HealthCheckResponse.SERVING
    return Health.SERVES if serving else Health.NOT_YET


async def probe_http(url: str, timeout_s: float = 1.0) -> Health:
    """Ask *url*, which answers 200 if it serves."""

    def ask() -> Health:
        try:
            with urllib.request.urlopen(url, timeout=timeout_s) as reply:  # noqa: S310  # our own
                return Health.SERVES if reply.status == 200 else Health.NOT_YET
        except TimeoutError:
            return Health.SILENT
        except urllib.error.URLError as error:
            return Health.SILENT if isinstance(error.reason, TimeoutError) else Health.NOT_YET
        except (OSError, http.client.HTTPException):
            return Health.NOT_YET

    return await asyncio.to_thread(ask)


async def probe_url(url: str, timeout_s: float = 1.0) -> Health:
    """Ask *url*: ``http://``, which answers 200 if it serves, or ``tcp://``, which listens."""
    if not url.startswith("tcp://"):
        return await probe_http(url, timeout_s)
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, int(port))
    except TimeoutError:
        return Health.SILENT
    except OSError:
        return Health.NOT_YET
    writer.close()
    return Health.SERVES


async def serves(address: str, timeout_s: float = 1.0) -> bool:
    """Whether the gRPC server at *address* says SERVING."""
    return await probe(address, timeout_s) is Health.SERVES
