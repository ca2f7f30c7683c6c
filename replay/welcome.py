"""What `make run` leaves on the screen: where everything is, and three commands to try."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Final

from rich.console import Console

from replay.addresses import Addresses

#: Of the first real orders: a customer and an item that exist once they were placed.
CUSTOMER, SKU = "17850", "85123A"
_BUF_CURL: Final = ".venv/bin/buf curl --protocol grpc --http2-prior-knowledge"


def welcome(
    addresses: Addresses, *, has_orders: bool = True, console: Console | None = None
) -> None:
    """Print the addresses, and commands that use them.

    has_orders: whether orders of the first day were placed; if not, the commands begin with placing
    them.
    """
    console = console or Console()
    console.print()
    rows = {"gateway": addresses.gateway, "traces": addresses.traces, **addresses.services}
    width = max(map(len, rows))
    for name, address in rows.items():
        console.print(f"  {name:<{width}}  {address}", highlight=False)
    console.print("\nTry, in another terminal:" if has_orders else "\nBegin, in another terminal:")
    for number, (what, command) in enumerate(commands(addresses, has_orders=has_orders), start=1):
        console.print(f"\n  {number}. {what}", highlight=False)
        # Not wrapped, so that it can be copied.
        console.out(f"     {command}", highlight=False)
    console.print("\nCtrl-C stops everything; what it holds stays for the next start.")


def commands(addresses: Addresses, *, has_orders: bool) -> list[tuple[str, str]]:
    """What to try, as (what it does, the command)."""
    gateway = addresses.gateway
    look = f".venv/bin/python -m webbrowser {addresses.traces}"
    if not has_orders:
        return [
            ("place a month of real orders", "make replay"),
            ("look at the newest of them", f"curl -s '{gateway}/v1/orders?pageSize=1'"),
            ("follow an order through the services", look),
        ]
    order = {
        "orderId": "my-first-order",
        "userId": CUSTOMER,
        "lines": [{"sku": SKU, "quantity": 1}],
        "paymentToken": "tok_ok",
        "wait": True,
    }
    restock = {"sku": SKU, "quantity": 1}
    inventory = f"http://{addresses.services['inventory']}/shop.inventory.v1.InventoryService"
    return [
        (
            "put one more on the shelf: gRPC, found by reflection",
            f"{_BUF_CURL} -d {_quoted(restock)} {inventory}/RestockItem",
        ),
        (
            "buy it, through the gateway; once more, and you get the same answer",
            f"curl -s {gateway}/v1/orders -H 'content-type: application/json' -d {_quoted(order)}",
        ),
        ("follow your order through the services: the newest trace", look),
    ]


def _quoted(body: Mapping[str, object]) -> str:
    return shlex.quote(json.dumps(body, separators=(",", ":")))
