"""Mails in the database."""

from __future__ import annotations

from mesh.storage.port import Tx
from services.shared.paging import Page
from services.shared.times import to_timestamp
from shop.notification.v1 import notification_pb2 as pb

from .domain import Sent


async def note(tx: Tx, order_id: str, user_id: str, sent: Sent | None) -> None:
    """Record what became of a mail, if there was one."""
    if sent is None:
        return
    await tx.execute(
        "INSERT INTO mails (message_id, position, order_id, user_id, template, state, answer,"
        " create_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        sent.message_id,
        tx.new_id(),
        order_id,
        user_id,
        sent.template,
        sent.state,
        sent.answer,
        tx.now(),
    )


async def newest(tx: Tx, order_id: str, state: int, page: Page) -> tuple[list[pb.Mail], str]:
    """Return a page of mails, the newest first, and its key; "" and 0 are any."""
    rows, last = page.cut(
        await tx.execute(
            "SELECT position, message_id, order_id, user_id, template, state, answer, create_time"
            " FROM mails WHERE position < $1 AND ($2 = '' OR order_id = $2)"
            " AND ($3 = 0 OR state = $3) ORDER BY position DESC LIMIT $4",
            page.before,
            order_id,
            state,
            page.limit,
        )
    )
    return [
        pb.Mail(
            message_id=message_id,
            order_id=of,
            user_id=user_id,
            template=template,
            state=ended,
            answer=answer,
            create_time=to_timestamp(create_time),
        )
        for _, message_id, of, user_id, template, ended, answer, create_time in rows
    ], last
