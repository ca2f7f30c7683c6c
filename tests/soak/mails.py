"""The mails of orders: each of their events has one, under an id that never changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from email import message_from_binary_file
from email.policy import compat32
from pathlib import Path
from typing import Final

from services.notification.domain import message_id
from tests.soak.databases import Databases

_ALL: Final = "SELECT event_id FROM mesh_outbox"


class Mailbox:
    """The folder to which the system's mail goes (a Maildir); a file is read once."""

    def __init__(self, data: Path) -> None:
        self._new = data / "mail" / "new"
        self._ids: dict[str, str] = {}

    def copies(self) -> Counter[str]:
        """How many mails have arrived under each Message-ID."""
        for file in self._new.iterdir() if self._new.exists() else ():
            if file.name not in self._ids:
                with file.open("rb") as mail:
                    found = message_from_binary_file(mail, policy=compat32)["Message-ID"]
                self._ids[file.name] = str(found).strip("<>")
        return Counter(self._ids.values())


@dataclass(frozen=True)
class Mails:
    """What was to be written about, by Message-ID, and what was written."""

    due: frozenset[str]
    copies: Counter[str]

    @property
    def twice(self) -> int:
        """How many mails are copies of others."""
        return self.copies.total() - len(self.copies)

    @property
    def are_all_there(self) -> bool:
        """Whether every event has its mail."""
        return self.due <= self.copies.keys()

    def faults(self) -> Iterable[str]:
        """What can never be right at the end, a sentence each."""
        for event in sorted(self.due - self.copies.keys()):
            yield f"there is no mail {event}"
        for event in sorted(self.copies.keys() - self.due):
            yield f"the mail {event} is of no event"


async def read_mails(databases: Databases, mailbox: Mailbox) -> Mails:
    """The mails so far. Every event of an order is one that its customer hears of.

    Raises:
        Away: the database server does not answer.
    """
    due = frozenset(message_id(event_id) for (event_id,) in await databases.rows("order", _ALL))
    return Mails(due, mailbox.copies())
