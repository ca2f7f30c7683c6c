"""The mail server, over SMTP (RFC 5321).

It takes a mail with 250. When that answer is lost, or we die before we have noted it, the mail is
sent again with the same Message-ID: SMTP offers nothing stronger.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import aiosmtplib

from mesh.errors import Unavailable
from shop.notification.v1.notification_pb2 import Mail

DEFAULT_URL = "smtp://127.0.0.1:50025"
TIMEOUT_S = 20.0
#: An answer is kept as far as it is this long.
ANSWER_MAX = 100


@dataclass(frozen=True)
class MailServer:
    """How to reach it. `tls` from the first byte is the scheme ``smtps``."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False

    @staticmethod
    def from_environment() -> MailServer:
        """Return the one that SMTP_URL names: ``smtp[s]://[USER:PASSWORD@]HOST:PORT``.

        Raises:
            ValueError: it names none.
        """
        url = os.environ.get("SMTP_URL", DEFAULT_URL)
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError("SMTP_URL: smtp://HOST:PORT is wanted, or smtps://")
        return MailServer(
            parts.hostname,
            parts.port or 25,
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            tls=parts.scheme == "smtps",
        )

    async def send(self, mail: EmailMessage) -> tuple[Mail.State.ValueType, str]:
        """Hand *mail* over; return whether it was taken, and the answer.

        Raises:
            Unavailable: there was no answer, or one that says to try again later.
        """
        try:
            _, answer = await aiosmtplib.send(
                mail,
                hostname=self.host,
                port=self.port,
                username=self.username,
                password=self.password,
                use_tls=self.tls,
                timeout=TIMEOUT_S,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            (refused,) = error.recipients
            return _refused(refused.code, refused.message)
        except aiosmtplib.SMTPAuthenticationError as error:
            raise Unavailable("the mail server does not let us in") from error
        except aiosmtplib.SMTPResponseException as error:
            return _refused(error.code, error.message)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Unavailable(f"no mail server answers: {type(error).__name__}") from error
        return Mail.SENT, answer[:ANSWER_MAX]


def _refused(code: int, answer: str) -> tuple[Mail.State.ValueType, str]:
    """Return a refusal for good; 4yz is one for now (RFC 5321, section 4.2.1)."""
    if code < 500:
        raise Unavailable(f"the mail server says {code}: later")
    # Its text may repeat the address.
    return Mail.REFUSED, str(code)
