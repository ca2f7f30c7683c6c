"""The audit command: what it shows of an order, and that wrong books do not pass."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from rich.console import Console

from mesh.errors import NotFound, Refused
from mesh.storage.port import Tx
from services.payment.audit import reading, show
from services.payment.audit.__main__ import UNUSABLE, main
from services.payment.audit.checks import FAULTS_MAX, Faults
from services.payment.audit.reading import Report, check_books, read_trail
from shop.payment.v1 import payment_pb2 as pb
from tests.support.databases import Database, PostgresDatabase, SqliteDatabase
from tests.unit.services.paying import Shop


@pytest.fixture
async def shop(database: Database) -> AsyncIterator[Shop]:
    """Three payments: charged, refunded, declined."""
    shop = await Shop.open(database)
    await shop.charge("o1", minor=100)
    await shop.charge("o2", minor=12_345_678)
    await shop.refund("o2")
    with pytest.raises(Refused):
        await shop.charge("o3", "tok_declined")
    yield shop
    await shop.close()


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def printed(console: Console) -> list[list[str]]:
    """The printed lines, as their cells."""
    lines = cast("io.StringIO", console.file).getvalue().splitlines()
    return [[cell.strip() for cell in line.strip("│┃").split("│")] for line in lines]


async def check(shop: Shop) -> Report:
    return await check_books(shop.payment, lambda name, count: None)


# --- one order ------------------------------------------------------------------------------------


async def test_the_trail_of_an_order_with_its_running_balances(
    shop: Shop, console: Console
) -> None:
    records = await read_trail(shop.payment, "o2")
    show.trail(records, console)
    lines = printed(console)
    assert lines[0] == ["order o2: GBP 123,456.78 from user ann"]
    happened = [line for line in lines if len(line) == 6]
    assert [(line[0], line[2], line[3]) for line in happened] == [
        ("1", "charge requested", "saga"),
        ("2", "charged", "saga"),
        ("3", "refund requested", "saga"),
        ("4", "refunded", "saga"),
    ]
    assert [line[4] for line in happened] == [record.correlation_id for record in records]
    booked = [line for line in lines if len(line) == 7]
    assert booked == [
        ["2", "2", "assets:provider", "income:sales", "123,456.78", "123,456.78", "-123,456.78"],
        ["3", "4", "income:sales", "assets:provider", "123,456.78", "0.00", "0.00"],
    ]


async def test_the_trail_of_an_order_that_moved_nothing(shop: Shop, console: Console) -> None:
    show.trail(await read_trail(shop.payment, "o3"), console)
    assert printed(console)[-1] == ["no money moved"]
    assert any("INSUFFICIENT_FUNDS" in line[-1] for line in printed(console))


async def test_a_trail_as_json(shop: Shop) -> None:
    found = json.loads(json.dumps(show.trail_json(await read_trail(shop.payment, "o2"))))
    assert found["order_id"] == "o2"
    assert [record.get("balances_minor") for record in found["records"]] == [
        None,
        {"assets:provider": 12_345_678, "income:sales": -12_345_678},
        None,
        {"assets:provider": 0, "income:sales": 0},
    ]
    assert found["records"][3]["entry"]["kind"] == "REFUND"


async def test_an_order_without_a_payment_is_said_to_have_none(shop: Shop) -> None:
    with pytest.raises(NotFound, match="order 'o9' has no payment"):
        await read_trail(shop.payment, "o9")


# --- all books ------------------------------------------------------------------------------------


async def test_right_books(shop: Shop, console: Console) -> None:
    report = await check(shop)
    assert report.faults == Faults()
    show.report(report, console)
    assert printed(console)[-1] == ["3 payments, 8 events, 3 entries: the books are right"]
    assert ["sum", "GBP", "", "", "0.00"] in printed(console)
    assert ["assets:provider", "GBP", "123,457.78", "123,456.78", "1.00"] in printed(console)
    assert show.report_json(report)["ok"] is True


async def test_no_books_are_right(database: Database) -> None:
    empty = await Shop.open(database)
    report = await check(empty)
    assert (report.payments, report.events, report.entries) == (0, 0, 0)
    assert report.faults == Faults()
    await empty.close()


UNLOCK = {
    SqliteDatabase: [
        f"DROP TRIGGER {table}_are_not_{done}"
        for table in ("payment_events", "ledger_entries")
        for done in ("changed", "removed")
    ],
    PostgresDatabase: [
        f"DROP TRIGGER append_only ON {table}" for table in ("payment_events", "ledger_entries")
    ],
}
WRONG = {
    "UPDATE payments SET state = 5 WHERE order_id = 'o1'": [
        "order 'o1' is listed as REFUNDED, which its events do not say"
    ],
    "UPDATE payments SET amount_minor = 99 WHERE order_id = 'o1'": [
        "order 'o1' is listed as CHARGED, which its events do not say"
    ],
    "DELETE FROM payments WHERE order_id = 'o2'": ["order 'o2' has events and is in no list"],
    "INSERT INTO payments SELECT 'o9', version, user_id, currency, amount_minor, state, charge_key,"
    " refund_key, provider_charge_id, decline_reason, create_time, update_time, charge_time,"
    " refund_time FROM payments WHERE order_id = 'o1'": ["order 'o9' is listed and has no events"],
    "DELETE FROM ledger_entries WHERE entry_number = 3": [
        "order 'o2', event 4 refunded: no entry in the ledger"
    ],
    "DELETE FROM ledger_entries WHERE entry_number = 1": [
        "the ledger goes on from entry 0 to 2",
        "order 'o1', event 2 charged: no entry in the ledger",
    ],
    "UPDATE ledger_entries SET amount_minor = 1 WHERE entry_number = 1": [
        "order 'o1', event 2 charged: entry 1 does not say the same"
    ],
    "UPDATE ledger_entries SET debit_account = 'assets:mine' WHERE entry_number = 1": [
        "order 'o1', event 2 charged: entry 1 does not say the same"
    ],
    "UPDATE ledger_entries SET version = 1 WHERE entry_number = 1": [
        "order 'o1', event 1 charge_requested: an entry in the ledger",
        "order 'o1', event 2 charged: no entry in the ledger",
    ],
    "UPDATE payment_events SET what = 'declined' WHERE order_id = 'o1' AND version = 2": [
        "order 'o1', event 2 declined: an entry in the ledger",
        "order 'o1' is listed as CHARGED, which its events do not say",
    ],
    "DELETE FROM payment_events WHERE order_id = 'o2' AND version = 3": [
        "order 'o2': event 4 refunded after event 2, which left it CHARGED",
        "order 'o2' is listed as REFUNDED, which its events do not say",
    ],
}


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
async def test_wrong_books_are_found(
    shop: Shop, database: Database, console: Console, wrong: str
) -> None:
    async def forge(tx: Tx) -> None:
        for statement in (*UNLOCK[type(database)], wrong):
            await tx.execute(statement)

    await shop.store.write(forge)
    report = await check(shop)
    assert report.faults.kept == WRONG[wrong]
    show.report(report, console)
    assert printed(console)[-1][0].endswith(f": {len(WRONG[wrong])} faults")
    assert show.report_json(report)["ok"] is False


async def test_a_trial_balance_that_is_not_the_ledgers_sum_is_found(shop: Shop) -> None:
    class Forged:
        """The service, but for one answer."""

        def __getattr__(self, name: str) -> object:
            return getattr(shop.payment, name)

        async def GetTrialBalance(self, request: object) -> pb.TrialBalance:  # noqa: N802
            balance = await shop.payment.GetTrialBalance(pb.GetTrialBalanceRequest())
            balance.accounts[0].debited.units += 5
            return balance

    report = await check_books(Forged(), lambda name, count: None)  # type: ignore[arg-type]
    assert report.faults.kept == [
        "the trial balance is out of balance by GBP 5.00",
        "the trial balance is not the sum of the ledger's entries",
    ]


async def test_books_that_are_written_meanwhile_are_right(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAGE", 2)

    class Busy:
        """The service, in which something happens after the first answers of each method."""

        def __init__(self) -> None:
            self.answers = Counter[str]()
            self.orders = 0

        def __getattr__(self, name: str) -> Callable[[Any], Awaitable[Any]]:
            async def answer(request: Any) -> Any:
                reply = await getattr(shop.payment, name)(request)
                self.answers[name] += 1
                if self.answers[name] <= 3:
                    await self.trade()
                return reply

            return answer

        async def trade(self) -> None:
            """Charge for the next orders, at both ends of every list; refund the ones before."""
            for letter in "az":
                await shop.charge(f"{letter}{self.orders + 1}")
                if self.orders:
                    await shop.refund(f"{letter}{self.orders}")
            self.orders += 1

    busy: Any = Busy()
    report = await check_books(busy, lambda name, count: None)
    assert report.faults == Faults()
    assert len(busy.answers) == 4
    assert min(busy.answers.values()) > 1


def test_faults_beyond_a_hundred_are_counted() -> None:
    faults = Faults()
    faults.add(str(number) for number in range(FAULTS_MAX + 5))
    assert (faults.count, len(faults.kept)) == (FAULTS_MAX + 5, FAULTS_MAX)


def test_where_nobody_listens_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["o1", "--address", "127.0.0.1:1"]) == UNUSABLE
    assert "error: UNAVAILABLE: failed to connect" in capsys.readouterr().err
