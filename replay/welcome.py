"""What `make run` leaves on the screen: where everything is, and three commands to try."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from rich.console import Console

#: Of the first real orders: a customer and an item that exist once they were placed.
CUSTOMER, SKU = "17850", "85123A"
GATEWAY, TRACES, INVENTORY = "gateway", "traces", "inventory"

_BUF_CURL = ".venv/bin/buf curl --protocol grpc --http2-prior-knowledge"


def welcome(
    addresses: Mapping[str, str], *, has_orders: bool = True, console: Console | None = None
) -> None:
    """Print the addresses by name, and commands that use them.

    addresses: for `gateway` and `traces` a URL, for services `HOST:PORT`; more may be there, and
    are printed. has_orders: whether the first day's orders were placed; if not, the commands begin
    with placing them.
    """
    console = console or Console()
    console.print()
    width = max(map(len, addresses))
    for name, address in addresses.items():
        console.print(f"  {name:<{width}}  {address}", highlight=False)
    console.print("\nTry, in another terminal:" if has_orders else "\nBegin, in another terminal:")
    for number, (what, command) in enumerate(commands(addresses, has_orders=has_orders), start=1):
        console.print(f"\n  {number}. {what}", highlight=False)
        # Not wrapped, so that it can be copied.
        console.out(f"     {command}", highlight=False)
    console.print("\nCtrl-C stops everything; what it holds stays for the next start.")


def commands(addresses: Mapping[str, str], *, has_orders: bool) -> list[tuple[str, str]]:
    """What to try, as (what it does, the command)."""
    gateway, traces = addresses[GATEWAY], addresses[TRACES]
    if not has_orders:
        return [
            ("place a month of real orders", "make replay"),
            ("look at the newest of them", f"curl -s '{gateway}/v1/orders?pageSize=1'"),
            ("follow an order through the services", _opener(traces)),
        ]
    order = {
        "orderId": "my-first-order",
        "userId": CUSTOMER,
        "lines": [{"sku": SKU, "quantity": 1}],
        "paymentToken": "tok_ok",
        "wait": True,
    }
    restock = {"sku": SKU, "quantity": 1}
    method = f"http://{addresses[INVENTORY]}/shop.inventory.v1.InventoryService/RestockItem"
    return [
        (
            "put one more on the shelf: gRPC, found by reflection",
            f"{_BUF_CURL} -d {_quoted(restock)} {method}",
        ),
        (
            "buy it, through the gateway; once more, and you get the same answer",
            f"curl -s {gateway}/v1/orders -H 'content-type: application/json' -d {_quoted(order)}",
        ),
        ("follow your order through the services: the newest trace", _opener(traces)),
    ]


def _quoted(body: Mapping[str, object]) -> str:
    return shlex.quote(json.dumps(body, separators=(",", ":")))


def _opener(url: str) -> str:
    return f".venv/bin/python -m webbrowser {url}"
