"""Events on real processes: the broker and a listener killed while orders are placed."""

from __future__ import annotations

import mailbox
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e import december
from tests.e2e.system import System, running
from tests.support.waiting import eventually

ORDERS = 120
MAILS_BETWEEN_KILLS = 5
NOTIFICATION_KILLS, BROKER_KILLS = 4, 2
SETTLED_S = 90.0


def test_every_event_has_its_mail_whoever_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path) as system:
        command = [sys.executable, "-m", "replay", str(december.FILE), f"--limit={ORDERS}"]
        replay = system.start(command, tmp_path / "replay.log")
        for number in range(NOTIFICATION_KILLS):
            wait_for_mails(tmp_path, len(in_mailbox(tmp_path)) + MAILS_BETWEEN_KILLS)
            if number < BROKER_KILLS:
                system.wait_restarted("nats", system.kill("nats"))
            system.wait_restarted("notification", system.kill("notification"), "notification")
        assert replay.wait(december.REPLAY_S) == 0, (tmp_path / "replay.log").read_text()
        eventually(lambda: len(set(in_mailbox(tmp_path))) >= 2 * ORDERS, within_s=SETTLED_S)
        eventually(lambda: noted(system) == 2 * ORDERS, within_s=SETTLED_S)
        assert system.run(sys.executable, "-m", "mesh", "dlq", "list", "notification").stdout == (
            "notification: no dead letters\n"
        )
    copies = Counter(in_mailbox(tmp_path))
    assert set(copies) == published(tmp_path)
    duplicates = copies.total() - len(copies)
    with capsys.disabled():
        print(
            f"\n{len(copies)} mails, {duplicates} twice, {NOTIFICATION_KILLS} kills of notification"
        )
    assert duplicates <= NOTIFICATION_KILLS


def wait_for_mails(data: Path, count: int) -> None:
    eventually(lambda: len(in_mailbox(data)) >= count, within_s=SETTLED_S)


def in_mailbox(data: Path) -> list[str]:
    """The Message-ID of each mail that was taken."""
    if not (data / "mail").is_dir():
        return []
    box = mailbox.Maildir(data / "mail", create=False)
    return [str(box.get_message(key)["Message-ID"]).strip("<>") for key in box.keys()]  # noqa: SIM118


def noted(system: System) -> int:
    """How many mails the notification service knows to be sent."""
    return len(system.read("/v1/mails", page_size=1000).get("mails", []))


def published(data: Path) -> set[str]:
    """The Message-ID that each event of an order must have, from the order service's own file."""
    with sqlite3.connect(f"file:{data / 'order.db'}?mode=ro", uri=True) as file:
        rows = file.execute("SELECT event_id, published_at FROM mesh_outbox").fetchall()
    assert all(published_at is not None for _, published_at in rows)
    return {f"{event_id}@shop.example" for event_id, _ in rows}
