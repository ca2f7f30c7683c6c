"""The command's options and exit statuses, the order it shows, and the commands it suggests."""

from __future__ import annotations

import io
import json
import shlex
from datetime import date
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from replay import cli, showcase, welcome
from replay.addresses import Addresses
from replay.gateway import Gateway
from replay.invoices import Order
from replay.options import read_options
from replay.placing import Placed
from replay.plan import Outcome, PlannedOrder
from replay.rows import HEADER, Line
from replay.welcome import commands

ROW = "536365,85123A,HEART,6,2010-12-01T08:26,2.55,17850,United Kingdom"
ADDRESSES = Addresses(
    gateway="http://127.0.0.1:8080",
    traces="http://127.0.0.1:8081",
    services={"inventory": "127.0.0.1:50053"},
)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MESH_PORT_OFFSET", "ORDERS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    path.write_text(f"{','.join(HEADER)}\n{ROW}\nbroken\n")
    return path


def test_a_file_that_cannot_be_read_ends_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([str(tmp_path / "none.csv")]) == 2
    assert capsys.readouterr().err.endswith("none.csv: there is no such file\n")


@pytest.mark.parametrize(
    "options",
    [
        ["f", "g"],
        ["f", "--decline", "1.5"],
        ["f", "--decline", "nan"],
        ["f", "--short-stock", "some"],
        ["f", "--decline", "0.6", "--short-stock", "0.6"],
        ["f", "--concurrency", "0"],
        ["f", "--limit", "-1"],
        ["f", "--gateway", "127.0.0.1:8080"],
        ["f", "--service", "user"],
        ["f", "--service", "nobody=127.0.0.1:1"],
    ],
)
def test_wrong_options_end_with_status_2(options: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(options)
    assert caught.value.code == 2


def test_a_system_that_is_not_there_ends_with_status_2(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "FIRST_ANSWER_S", 0.0)
    assert cli.main([str(file), "--gateway", "http://127.0.0.1:9"]) == 2
    said = capsys.readouterr().err
    assert "line 3: 1 columns, not 8" in said
    assert "no answer from http://127.0.0.1:9 to GET /v1/orders" in said
    assert "Is the system running?" in said


def test_an_interrupt_says_how_far_it_came(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(_: object, __: object, placed: Placed, ___: object) -> None:
        placed.states.update({"CONFIRMED": 5, "CANCELLED": 2})
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    assert cli.main([str(file)]) == 130
    said = capsys.readouterr().err
    assert "interrupted: 7 orders were brought to their end (2 CANCELLED, 5 CONFIRMED)." in said


def test_ports_move_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_PORT_OFFSET", "100")
    there = read_options(["--host", "shop", "--service", "user=other:1"]).addresses
    assert there.gateway == "http://shop:8180"
    assert there.traces == "http://shop:8181"
    assert there.services["user"] == "other:1"
    assert there.services["inventory"] == "shop:50153"


def test_the_first_day_heeds_the_environments_number_of_orders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORDERS", "7")
    assert read_options(["--first-day"]).limit == 7
    assert read_options(["--first-day", "--orders", "3"]).limit == 3
    assert read_options([]).limit is None
    monkeypatch.setenv("ORDERS", "")
    assert read_options(["--first-day"]).limit is None


def test_no_orders_at_all_still_welcomes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORDERS", "0")
    assert cli.main(["--first-day"]) == 0
    assert "make replay" in capsys.readouterr().out


def order_of(lines: int, outcome: Outcome) -> PlannedOrder:
    line = Line("A", 1, Decimal("1.00"))
    return PlannedOrder(
        Order(f"{lines}", "17850", "GB", date(2010, 12, 1), (line,) * lines), outcome
    )


def test_the_order_shown_is_one_that_goes_through_and_is_not_long() -> None:
    orders = [
        order_of(4, Outcome.DECLINED),
        order_of(90, Outcome.CONFIRMED),
        order_of(5, Outcome.CONFIRMED),
        order_of(1, Outcome.CONFIRMED),
    ]
    assert showcase.choose(orders) is orders[2]


async def test_an_order_is_shown_even_without_its_trace() -> None:
    saga = {
        "state": "FAILED",
        "traceId": "a1",
        "steps": [
            {
                "position": 1,
                "method": "shop.order.v1.OrderService/CreateOrder",
                "state": "UNDONE",
                "attempts": 1,
                "undoState": "UNDO_DONE",
                "startTime": "2026-01-01T00:00:00.001Z",
                "endTime": "2026-01-01T00:00:00.003500Z",
            },
            {"position": 2, "method": "shop.payment.v1.PaymentService/ChargePayment"},
        ],
    }

    def answer(request: httpx.Request) -> httpx.Response:
        placing = request.method == "POST"
        return httpx.Response(200, json={"sagaId": "s", "state": "CANCELLED"} if placing else saga)

    out = io.StringIO()
    async with Gateway("http://shop", transport=httpx.MockTransport(answer)) as gateway:
        await showcase.show_order(
            gateway,
            order_of(2, Outcome.DECLINED),
            Console(file=out, width=100),
            "http://127.0.0.1:9",
            timeout_s=0,
        )
    text = out.getvalue()
    assert "Order 2: 2 lines, £2.00. Its saga s is FAILED" in text
    assert "CreateOrder" in text
    assert "2.5 ms" in text
    assert "could not be read: no answer from http://127.0.0.1:9" in text


def test_the_commands_suggested_can_be_copied() -> None:
    out = io.StringIO()
    welcome(ADDRESSES, console=Console(file=out, width=60))
    suggested = [command for _, command in commands(ADDRESSES, has_orders=True)]
    assert len(suggested) == 3
    assert all(f"\n     {command}\n" in out.getvalue() for command in suggested)
    grpc_call, rest_call, _ = map(shlex.split, suggested)
    sku = json.loads(grpc_call[grpc_call.index("-d") + 1])["sku"]
    order = json.loads(rest_call[rest_call.index("-d") + 1])
    assert [line["sku"] for line in order["lines"]] == [sku]


def test_without_orders_the_commands_begin_with_placing_them() -> None:
    first, *_ = commands(ADDRESSES, has_orders=False)
    assert first == ("place a month of real orders", "make replay")
