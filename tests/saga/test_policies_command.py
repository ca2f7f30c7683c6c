"""`mesh policies` and `mesh chaos` on a running system, and what sagas make of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from mesh import cli
from mesh.admin import cli as command
from mesh.admin.v1 import admin_pb2 as pb
from mesh.admin.v1.admin_pb2_grpc import AdminServiceStub
from mesh.errors import PermissionDenied
from mesh.layers.identity import make_token
from mesh.metadata import TOKEN
from mesh.runtime.config import Config, ConfigError, ServiceConfig
from mesh.saga.v1 import saga_pb2
from mesh.saga.v1.saga_pb2_grpc import SagaServiceStub
from mesh.testing.cluster import SECRET
from mesh.testing.loop import run_virtual
from shop.orchestrator.v1 import orchestrator_pb2, orchestrator_pb2_grpc
from tests.saga.shop import SCENARIOS, Shop

SUCCESS = SCENARIOS[0]
CONFIG = Config(services={name: ServiceConfig(name, "x", 1) for name in ("orchestrator", "user")})
WHY = ("--reason", "drill")

Mesh: TypeAlias = Callable[..., Awaitable[tuple[int, str]]]
Story: TypeAlias = Callable[[Shop, Mesh], Awaitable[None]]


@pytest.fixture
def play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Story], None]:
    """Play a story with a shop and a command line."""

    async def told(story: Story) -> None:
        async with Shop(tmp_path) as shop:

            @contextlib.asynccontextmanager
            async def channel(name: str, address: str, policy: Any) -> AsyncIterator[Any]:
                yield shop.cluster.channel(name, policy)

            monkeypatch.setattr(command, "channel", channel)

            async def mesh(*words: str) -> tuple[int, str]:
                options = cli.parser().parse_args(words)
                run = {"policies": command.run_policies, "chaos": command.run_chaos}[words[0]]
                capsys.readouterr()
                return await run(CONFIG, options), "".join(capsys.readouterr())

            await story(shop, mesh)

    return lambda story: run_virtual(told(story))


async def begin(shop: Shop, order_id: str) -> None:
    to = orchestrator_pb2_grpc.OrchestratorServiceStub(shop.cluster.channel("orchestrator"))
    line = orchestrator_pb2.PlaceOrderLine(sku=SUCCESS.sku, quantity=1)
    await to.PlaceOrder(
        orchestrator_pb2.PlaceOrderRequest(
            order_id=order_id, user_id="ann", lines=[line], payment_token=SUCCESS.token
        )
    )


async def state_of(shop: Shop, order_id: str) -> str:
    sagas = SagaServiceStub(shop.cluster.channel("orchestrator"))
    listed = await sagas.ListSagas(saga_pb2.ListSagasRequest(name="place_order", key=order_id))
    return saga_pb2.Saga.State.Name(listed.sagas[0].state)


def test_a_forced_circuit_pauses_sagas_and_a_reset_sets_them_going(
    play: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(shop: Shop, mesh: Mesh) -> None:
        await shop.place(SUCCESS, "o-1")
        status, seen = await mesh("policies", "orchestrator")
        assert status == 0
        assert "payment    ChargePayment" in seen
        assert "CLOSED" in seen

        force = ("policies", "force-open", "orchestrator", "payment", "ChargePayment", *WHY)
        status, seen = await mesh(*force)
        assert status == 1, "nobody confirmed it"
        assert "PaymentService/ChargePayment: is closed, refuses every call" in seen
        assert "FORCED_OPEN" not in (await mesh("policies", "orchestrator"))[1]

        with caplog.at_level(logging.WARNING, "mesh"):
            assert (await mesh(*force, "--yes"))[0] == 0
        assert '"by": "local"' in caplog.text
        assert '"reason": "drill"' in caplog.text
        assert "FORCED_OPEN (CLOSED)" in (await mesh("policies", "orchestrator"))[1]

        await begin(shop, "o-2")
        await shop.cluster.runtime.clock.sleep(60)
        assert await state_of(shop, "o-2") == "EXECUTING"
        reset = ("policies", "reset", "orchestrator", "payment", *WHY, "--yes")
        assert (await mesh(*reset))[0] == 0
        await shop.cluster.runtime.clock.sleep(60)
        assert await state_of(shop, "o-2") == "COMPLETED"

    play(story)


def test_chaos_ends_by_itself_and_loses_no_order(play: Any) -> None:
    async def story(shop: Shop, mesh: Mesh) -> None:
        asked = ("chaos", "orchestrator", "ChargePayment", "--code", "UNAVAILABLE", "--after")
        much = (*asked, "--share", "0.5", "--for", "60s", *WHY)
        status, seen = await mesh(*much)
        assert status == 1, "nobody confirmed it"
        assert "50% of this process's calls of" in seen
        assert "after they were executed; it ends by itself after 60 s" in seen
        assert (await mesh(*much, "--yes"))[0] == 0
        assert "FAULT shop.payment.v1" in (await mesh("policies", "orchestrator"))[1]
        for number in range(4):
            await begin(shop, f"o-{number}")
        await shop.cluster.runtime.clock.sleep(60)
        assert "FAULT" not in (await mesh("policies", "orchestrator"))[1]
        await shop.cluster.runtime.clock.sleep(60)
        states = [await state_of(shop, f"o-{number}") for number in range(4)]
        assert states == ["COMPLETED"] * 4
        assert (await mesh("chaos", "orchestrator", "--clear", *WHY))[
            1
        ] == "orchestrator: 0 ended\n"

    play(story)


def test_what_cannot_be_is_told(play: Any) -> None:
    async def story(shop: Shop, mesh: Mesh) -> None:
        for words, told in [
            (("policies", "reset", "orchestrator", "bank", *WHY), "calls no 'bank'; there are inv"),
            (
                ("policies", "reset", "orchestrator", "payment", "Pay", *WHY),
                "are ChargePayment, Re",
            ),
            (("chaos", "orchestrator", "Pay", "--code", "ABORTED", *WHY), "process calls no 'Pay'"),
            (("chaos", "orchestrator", "GetUser", "--code", "BAD", *WHY), "code: one of OK,"),
            (("chaos", "orchestrator", "GetUser", *WHY), "has a code other than OK, or a delay"),
            (
                ("chaos", "orchestrator", "GetUser", "--delay", "1s", "--share", "0.6", *WHY),
                "share: at most 0.5 is allowed",
            ),
            (
                ("chaos", "orchestrator", "GetUser", "--delay", "1s", "--for", "11m", *WHY),
                "at most 600 s",
            ),
        ]:
            status, seen = await mesh(*words, "--yes")
            assert (status, told in seen) == (1, True), seen
        for words, told in [
            (("policies", "reset", "orchestrator", "payment"), "--reason is wanted"),
            (("policies", "reset", "orchestrator"), "SERVICE TARGET"),
            (("policies", "orchestrator", "user"), "force-open, disable"),
            (("policies", "nobody"), "no service 'nobody'"),
            (("chaos", "orchestrator", *WHY), "METHOD is wanted"),
        ]:
            with pytest.raises(ConfigError, match=told):
                await mesh(*words)

    play(story)


def test_only_operators_may(play: Any) -> None:
    async def story(shop: Shop, mesh: Mesh) -> None:
        admin = AdminServiceStub(shop.cluster.channel("orchestrator"))
        order = {TOKEN: make_token(SECRET, "order")}
        fault = pb.Fault(method="GetUser", code="ABORTED", share=0.1, ends_in_seconds=1.0)
        for ask, request in [
            (admin.GetStatus, pb.GetStatusRequest()),
            (
                admin.SetCircuitMode,
                pb.SetCircuitModeRequest(target="user", mode=pb.Circuit.NORMAL, reason="x"),
            ),
            (admin.InjectFault, pb.InjectFaultRequest(fault=fault, reason="x")),
            (admin.ClearFaults, pb.ClearFaultsRequest(reason="x")),
        ]:
            with pytest.raises(PermissionDenied, match="operator"):
                await ask(request, metadata=order)

    play(story)
