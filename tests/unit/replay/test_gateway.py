"""The gateway's client: patient with what passes, and plain about what does not. And its users."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal

import httpx
import pytest

from replay import gateway as gateway_module
from replay import placing
from replay.gateway import Gateway, GatewayError, UnreachableError
from replay.invoices import Order
from replay.placing import Placed, place_all
from replay.plan import Outcome, PlannedOrder
from replay.pool import for_each
from replay.readback import settle
from replay.rows import Line

Answer = httpx.Response | Exception


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(placing, "FIRST_DELAY_S", 0.001)


def scripted(answers: list[Answer]) -> tuple[Gateway, list[httpx.Request]]:
    """A gateway that gives these answers one after another, and the requests it got."""
    seen: list[httpx.Request] = []
    rest: Iterator[Answer] = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        given = next(rest)
        if isinstance(given, Exception):
            raise given
        return given

    return Gateway("http://shop", patience_s=0.5, transport=httpx.MockTransport(answer)), seen


def ok(**body: object) -> httpx.Response:
    return httpx.Response(200, json=body)


def planned(order_id: str = "1") -> PlannedOrder:
    line = Line("A", 1, Decimal("1.00"))
    return PlannedOrder(
        Order(order_id, "17850", "GB", date(2010, 12, 1), (line,)), Outcome.CONFIRMED
    )


async def place(*orders: PlannedOrder, by: Gateway, concurrency: int = 1) -> Placed:
    placed = Placed()
    async with by:
        await place_all(by, orders, placed, lambda: None, concurrency=concurrency)
    return placed


async def test_what_passes_is_tried_again() -> None:
    problems: list[Answer] = [
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        *map(httpx.Response, (429, 502, 503, 504)),
    ]
    gateway, seen = scripted([*problems, ok(state="CONFIRMED")])
    async with gateway:
        assert await gateway.get("/v1/orders/1") == {"state": "CONFIRMED"}
    assert len(seen) == len(problems) + 1


async def test_what_does_not_pass_is_given_up() -> None:
    gateway, seen = scripted([httpx.Response(503)] * 1000)
    async with gateway:
        with pytest.raises(UnreachableError, match="http://shop to GET /v1/orders: status 503"):
            await gateway.get("/v1/orders")
    assert len(seen) > 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx.Response(400, json={"code": 3, "message": "bad line"}), "400: bad line"),
        (httpx.Response(404, text="nothing here"), "404: nothing here"),
        (httpx.Response(500), "500: Internal Server Error"),
        (httpx.Response(200, text="<html>"), "200: <html>"),
    ],
)
async def test_a_refusal_is_told_and_not_repeated(answer: httpx.Response, message: str) -> None:
    gateway, seen = scripted([answer])
    async with gateway:
        with pytest.raises(GatewayError) as caught:
            await gateway.get("/v1/orders")
    assert str(caught.value) == message
    assert len(seen) == 1


async def test_lists_are_read_to_their_last_page() -> None:
    gateway, seen = scripted(
        [ok(orders=[{"n": 1}, {"n": 2}], nextPageToken="a&b"), ok(orders=[{"n": 3}]), ok()]
    )
    async with gateway:
        assert [x["n"] async for x in gateway.each("/v1/orders", "orders", state="X")] == [1, 2, 3]
        assert [x async for x in gateway.each("/v1/orders", "orders")] == []
    asked = [request.url.params for request in seen]
    assert [query["pageToken"] for query in asked] == ["", "a&b", ""]
    assert asked[1]["state"] == "X"


async def test_an_order_is_posted_again_under_the_same_id() -> None:
    gateway, seen = scripted(
        [httpx.ReadError("reset"), ok(orderId="1", sagaId="s", state="CONFIRMED")]
    )
    placed = await place(planned(), by=gateway)
    assert [json.loads(request.content) for request in seen] == [planned().body()] * 2
    assert (placed.count, placed.sagas, placed.failures) == (1, {"1": "s"}, [])


@pytest.mark.parametrize(
    ("end", "state", "failures"),
    [
        ("COMPLETED", "CONFIRMED", []),
        ("FAILED", "CANCELLED", []),
        ("PARKED", "PARKED", ["order 1: its saga is PARKED"]),
    ],
)
async def test_an_order_that_outlives_its_call_is_waited_for(
    end: str, state: str, failures: list[str]
) -> None:
    gateway, seen = scripted(
        [
            ok(orderId="1", sagaId="s", state="EXECUTING"),
            ok(state="EXECUTING"),
            ok(state="COMPENSATING"),
            ok(state=end),
        ]
    )
    placed = await place(planned(), by=gateway)
    assert {request.url.path for request in seen[1:]} == {"/v1/sagas/s"}
    assert placed.states == {state: 1}
    assert placed.failures == failures


async def test_an_order_that_the_gateway_refuses_stops_no_other() -> None:
    gateway, _ = scripted(
        [
            httpx.Response(409, json={"message": "another request"}),
            ok(orderId="2", sagaId="s", state="CANCELLED"),
        ]
    )
    placed = await place(planned("1"), planned("2"), by=gateway)
    assert placed.failures == ["order 1: 409: another request"]
    assert placed.states == {"CANCELLED": 1}


async def test_settling_waits_for_every_saga_on_its_way() -> None:
    gateway, seen = scripted([ok(), ok(sagas=[{}]), ok(), ok(), ok(), ok()])
    async with gateway:
        assert await settle(gateway, timeout_s=5)
    assert [request.url.params["state"] for request in seen[:3]] == [
        "PENDING",
        "EXECUTING",
        "COMPENSATING",
    ]


async def test_settling_ends_even_if_a_saga_does_not() -> None:
    gateway, _ = scripted([ok(sagas=[{}])] * 6)
    async with gateway:
        assert not await settle(gateway, timeout_s=0)


async def test_at_most_so_many_at_a_time() -> None:
    running = most = 0

    async def action(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await for_each(range(20), action, concurrency=4)
    assert most == 4


@pytest.mark.parametrize("stop", [ValueError, asyncio.CancelledError])
async def test_nothing_goes_on_behind_a_failure(stop: Callable[[], BaseException]) -> None:
    finished = []

    async def action(number: int) -> None:
        if number == 1:
            raise stop()
        await asyncio.sleep(0.01)
        finished.append(number)

    with pytest.raises(BaseException) as caught:  # noqa: PT011
        await for_each(range(20), action, concurrency=3)
    assert caught.type is stop
    await asyncio.sleep(0.05)
    assert finished == []
