"""The rules by name, and what a person should do where one is broken."""

from __future__ import annotations

from typing import Final, NamedTuple

RULES: Final = {
    "SAGA_PARKED": "A person must decide: read why it is parked in GET /v1/sagas/{saga_id}, mend"
    " that, and set it going again.",
    "SAGA_STUCK": "Read in GET /v1/sagas/{saga_id} which step is UNKNOWN and whom it waits for;"
    " bring that service back, or mend what it refuses.",
    "DOUBLE_CHARGE": "The customer paid more than once: refund all charges but one at the"
    " provider, by their keys, and find out who sent the second key.",
    "CONFIRMED_AND_REFUNDED": "The parcel goes out unpaid: stop it if it has not left, otherwise"
    " charge again. Then find out who refunded.",
    "CONFIRMED_UNPAID": "The parcel goes out unpaid: charge the order, or cancel it.",
    "WRONG_AMOUNT": "Charge or refund the difference at the provider.",
    "NOT_REFUNDED": "The customer paid for nothing: refund the charge at the provider, by its key.",
    "LEDGER_DIFFERS": "The provider is right about what moved: correct the ledger by an entry,"
    " never by a change.",
    "PAYMENT_DIFFERS": "Compare the payment with its charge at the provider, which is right about"
    " what moved.",
    "STOCK_LEAKED": "Units are set aside for an order that will not take them: release or return"
    " the reservation.",
    "STOCK_NOT_TAKEN": "The order will be packed from units that are not set aside for it: commit"
    " its reservation, or reserve again.",
    "LINES_DIFFER": "What is reserved or sent is not what was ordered: compare the lines before"
    " the parcel leaves.",
    "PARCEL_MISSING": "A paid order is not going to be sent: create and release its shipment.",
    "PARCEL_OF_CANCELLED": "A parcel goes out for an order that was cancelled: cancel it.",
    "ORDER_LOST": "The order was accepted and is not there: write it down again from its saga's"
    " request, and find out where it went.",
    "ORDER_UNDECIDED": "No saga will confirm or cancel it any more: find out what became of its"
    " saga, then confirm or cancel it.",
    "ORDER_AND_SAGA_DIFFER": "One of the two was changed by another hand: the saga's journal tells"
    " what was done.",
    "ORPHAN": "Something is kept for an order that there is not: undo it.",
    "TOTAL_WRONG": "The total is not the sum of the lines: the charge follows the total.",
    "STOCK_NOT_CONSERVED": "Units came from nowhere or went nowhere: count the shelf, and correct"
    " the stock by a restock.",
    "STOCK_DIFFERS": "The counters of the item and its reservations disagree: count the shelf;"
    " the reservations are right.",
}


class Finding(NamedTuple):
    """A broken rule. `subject`: the order's id, or the SKU; `text`: what is wrong with it."""

    rule: str
    subject: str
    text: str
