"""What must be true of the books, told from what the service lists. Pure.

The service goes on while its pages are read, so nothing here compares two moments: what only ever
grows must lie between what was read before it and after it, and a payment in a list must be one
that its events have made at some time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from services.payment import messages
from services.payment.accounts import ACCOUNTS, MOVES
from services.payment.domain import NO_PAYMENT, BrokenStreamError, Payment, evolve
from services.shared.money import to_minor, to_text
from shop.payment.v1 import payment_pb2 as pb

#: Faults beyond these are counted, not kept.
FAULTS_MAX = 100


@dataclass
class Faults:
    """What is wrong, a sentence each."""

    count: int = 0
    kept: list[str] = field(default_factory=list)

    def add(self, found: Iterable[str]) -> None:
        """Take *found* in."""
        for fault in found:
            self.count += 1
            if len(self.kept) < FAULTS_MAX:
                self.kept.append(fault)


class Sums:
    """Debits and credits by (currency, account), in minor units."""

    def __init__(self, balance: pb.TrialBalance | None = None) -> None:
        self.debits: Counter[tuple[str, str]] = Counter()
        self.credits: Counter[tuple[str, str]] = Counter()
        for row in balance.accounts if balance else ():
            key = row.currency_code, row.account
            self.debits[key] = to_minor(row.debited)[1]
            self.credits[key] = to_minor(row.credited)[1]

    def post(self, entry: pb.LedgerEntry) -> None:
        """Add an entry."""
        currency, minor = to_minor(entry.amount)
        self.debits[currency, entry.debit_account] += minor
        self.credits[currency, entry.credit_account] += minor

    def balances(self) -> dict[tuple[str, str], int]:
        """Return debits less credits, by (currency, account)."""
        keys = sorted(self.debits.keys() | self.credits.keys())
        return {key: self.debits[key] - self.credits[key] for key in keys}

    def totals(self) -> dict[str, int]:
        """Return the sum of all balances, by currency: zero, or the books are out of balance."""
        totals: defaultdict[str, int] = defaultdict(int)
        for (currency, _), minor in self.balances().items():
            totals[currency] += minor
        return dict(totals)

    def faults(self, what: str) -> Iterator[str]:
        """Find currencies out of balance."""
        for currency, minor in self.totals().items():
            if minor:
                yield f"{what} is out of balance by {currency} {to_text(currency, minor)}"

    def beyond(self, later: Sums) -> bool:
        """Whether there is more in some account than there was *later*."""
        return not (self.debits <= later.debits and self.credits <= later.credits)


class EntryCheck:
    """Takes the ledger's entries in, in their sequence."""

    def __init__(self) -> None:
        self.sums = Sums()
        self.count = 0

    def add(self, entry: pb.LedgerEntry) -> Iterator[str]:
        """Find what is wrong with the next entry."""
        self.count += 1
        if entry.entry_number != self.count:
            yield f"the ledger goes on from entry {self.count - 1} to {entry.entry_number}"
            self.count = entry.entry_number
        self.sums.post(entry)


class TrailCheck:
    """Takes records in, by order and version, and holds them against the payments of a list."""

    def __init__(self, listed: dict[str, pb.Payment]) -> None:
        self._listed = listed
        self._payment = NO_PAYMENT
        self._seen: list[pb.Payment] = []
        self.events = self.payments = 0
        #: What is in no list: perhaps it is newer than the list.
        self.unlisted: set[str] = set()

    def add(self, record: pb.AuditRecord) -> Iterator[str]:
        """Find what is wrong with the next record, and with the order that it ends."""
        event = messages.recorded(record)
        if event.order_id != self._payment.order_id:
            yield from self.end()
        self.events += 1
        yield from _faults_of_entry(record)
        try:
            self._payment = evolve(self._payment, event)
        except BrokenStreamError as error:
            yield str(error)
            self._payment = Payment(order_id=event.order_id, version=event.version)
        self._seen.append(messages.payment(self._payment))

    def end(self) -> Iterator[str]:
        """Find what is wrong with the last order."""
        order_id = self._payment.order_id
        if not order_id:
            return
        self.payments += 1
        listed = self._listed.pop(order_id, None)
        if listed is None:
            self.unlisted.add(order_id)
        elif listed not in self._seen:
            state = pb.Payment.State.Name(listed.state)
            yield f"order {order_id!r} is listed as {state}, which its events do not say"
        self._payment, self._seen = NO_PAYMENT, []

    def faults_of_list(self) -> Iterator[str]:
        """Find what was listed and has no events."""
        for order_id in self._listed:
            yield f"order {order_id!r} is listed and has no events"


def _faults_of_entry(record: pb.AuditRecord) -> Iterator[str]:
    event = messages.recorded(record)
    where = f"order {event.order_id!r}, event {event.version} {event.what}"
    if (event.what in MOVES) != record.HasField("entry"):
        yield f"{where}: {'an entry' if record.HasField('entry') else 'no entry'} in the ledger"
    elif record.HasField("entry"):
        entry, kind = record.entry, MOVES[event.what]
        accounts = (entry.debit_account, entry.credit_account)
        if (entry.kind, entry.amount, accounts) != (kind, record.event.amount, ACCOUNTS[kind]):
            yield f"{where}: entry {entry.entry_number} does not say the same"
