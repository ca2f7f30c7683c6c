"""What a server of ours says of retrying to clients of gRPC that know nothing of us."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from mesh.errors import EXHAUSTED_S, Unavailable
from mesh.metadata import PUSHBACK
from mesh.runtime.clock import Runtime
from mesh.transport.grpc_server import GrpcServer, pushback
from tests.support.echo import SERVICE, Echo, EchoRequest, EchoStub

RETRYING = {
    "methodConfig": [
        {
            "name": [{"service": SERVICE}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.01s",
                "backoffMultiplier": 1,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


class Served:
    """An echo that fails, and a stock stub that retries."""

    def __init__(self, port: int) -> None:
        options = [("grpc.service_config", json.dumps(RETRYING)), ("grpc.enable_retries", 1)]
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
        self.wait_s: float | None = None
        self.count = 0

    async def fail(self, _: Any) -> Any:
        self.count += 1
        raise Unavailable(retry_after_s=self.wait_s)

    async def trailing(self) -> dict[str, Any]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await EchoStub(self.channel).Read(EchoRequest())
        return dict(caught.value.trailing_metadata())


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    echo, server = Echo(), GrpcServer(Runtime())
    server.add(echo.routes())
    made = Served(await server.start("127.0.0.1:0"))
    echo.on_unary = made.fail
    yield made
    await made.channel.close()
    await server.stop(0)


async def test_a_stock_client_that_retries_is_told_not_to(served: Served) -> None:
    served.wait_s = EXHAUSTED_S
    assert (await served.trailing())[PUSHBACK] == "-1"
    assert served.count == 1


async def test_without_a_word_it_retries(served: Served) -> None:
    assert PUSHBACK not in await served.trailing()
    assert served.count == 3


async def test_it_waits_as_long_as_it_is_told(served: Served) -> None:
    served.wait_s = 0.0101
    assert (await served.trailing())[PUSHBACK] == "11"
    assert served.count == 3


@pytest.mark.parametrize(
    ("wait_s", "told"),
    [
        (None, ()),
        (0.0, ((PUSHBACK, "0"),)),
        (1.5, ((PUSHBACK, "1500"),)),
        (-0.5, ((PUSHBACK, "-1"),)),
        (float("-inf"), ((PUSHBACK, "-1"),)),
        (1e300, ((PUSHBACK, str(2_147_483_000)),)),
        (float("inf"), ((PUSHBACK, str(2_147_483_000)),)),
        (float("nan"), ()),
    ],
)
def test_any_wait_has_a_form(wait_s: float | None, told: tuple[tuple[str, str], ...]) -> None:
    assert pushback(wait_s) == told
