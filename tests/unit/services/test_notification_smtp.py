"""What the mail server says, and what we make of it: on a real SMTP server."""

from __future__ import annotations

import asyncio
import mailbox
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP

from mesh.errors import Unavailable
from services.notification.smtp import MailServer
from shop.notification.v1.notification_pb2 import Mail


class Post:
    """An SMTP server whose answer to the recipient a test may set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answer = "250 OK"
        self._keeps = Mailbox(folder)

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if self.answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> Any:  # noqa: N802
        return await self._keeps.handle_DATA(server, session, envelope)

    def mails(self) -> list[Any]:
        return list(mailbox.Maildir(self.folder))


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[tuple[Post, MailServer]]:
    handler = Post(tmp_path / "mail")
    loop = asyncio.get_running_loop()
    make: Callable[[], SMTP] = lambda: SMTP(handler, loop=loop)  # noqa: E731
    server = await loop.create_server(make, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield handler, MailServer("127.0.0.1", port)
    server.close()
    await server.wait_closed()


def letter() -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"] = "orders@shop.example", "ann@example.com"
    mail["Message-ID"] = "<1@shop.example>"
    mail.set_content("hello")
    return mail


async def test_a_mail_that_is_taken(post: tuple[Post, MailServer]) -> None:
    handler, server = post
    state, answer = await server.send(letter())
    assert state == Mail.SENT
    assert "OK" in answer
    assert [mail["Message-ID"] for mail in handler.mails()] == ["<1@shop.example>"]


async def test_a_refusal_for_good_is_an_answer_without_the_address(
    post: tuple[Post, MailServer],
) -> None:
    handler, server = post
    handler.answer = "550 no such mailbox ann@example.com"
    assert await server.send(letter()) == (Mail.REFUSED, "550")


@pytest.mark.parametrize("answer", ["450 mailbox busy", "451 try again later"])
async def test_a_refusal_for_now_is_none(post: tuple[Post, MailServer], answer: str) -> None:
    handler, server = post
    handler.answer = answer
    with pytest.raises(Unavailable):
        await server.send(letter())
    assert handler.mails() == []


async def test_nobody_there() -> None:
    with pytest.raises(Unavailable):
        await MailServer("127.0.0.1", 1).send(letter())


def test_where_the_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_URL", "smtps://me:p%40ss@mail.example:465")
    server = MailServer.from_environment()
    assert server == MailServer("mail.example", 465, "me", "p@ss", tls=True)
    assert "p@ss" not in repr(server)
    monkeypatch.setenv("SMTP_URL", "http://mail.example")
    with pytest.raises(ValueError, match="smtp://HOST:PORT"):
        MailServer.from_environment()
