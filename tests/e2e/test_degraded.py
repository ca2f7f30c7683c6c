"""Quotes over REST while inventory, and then the user service, answer nothing."""

from pathlib import Path

import httpx

from mesh.metadata import DEGRADED
from tests.e2e.shop import add_item, customer
from tests.e2e.system import System, running

STOCK = "shop.inventory.v1.InventoryService/BatchGetItems"
USER = "shop.user.v1.UserService/GetUser"


def test_a_quote_is_made_of_the_last_known_stock_and_says_so(tmp_path: Path) -> None:
    with running(tmp_path) as system:
        quote = Quote(system)
        fresh = quote.ask("KNOWN")
        assert fresh.status_code == 200
        assert DEGRADED not in fresh.headers
        with system.frozen("inventory"):
            degraded = quote.ask("KNOWN")
            assert degraded.status_code == 200, degraded.text
            assert degraded.headers[DEGRADED].startswith(f"{STOCK};age=")
            assert degraded.json() == fresh.json()
            assert quote.ask("NEVER-ASKED").status_code == 504
        with system.frozen("user"):
            assert quote.ask("KNOWN").status_code == 504, "nobody is quoted who may not order"


def test_by_configuration_the_user_may_be_the_last_known_one_too(tmp_path: Path) -> None:
    said = {
        "MESH_POLICY__USER__GETUSER__FALLBACK__LAST_GOOD_S": "300",
        "MESH_POLICY__USER__GETUSER__TIMEOUT_S": "2",
    }
    with running(tmp_path, **said) as system:
        quote = Quote(system)
        fresh = quote.ask("KNOWN")
        with system.frozen("user"):
            degraded = quote.ask("KNOWN")
            assert degraded.status_code == 200, degraded.text
            assert degraded.headers[DEGRADED].startswith(f"{USER};age=")
            assert degraded.json() == fresh.json()


class Quote:
    """A customer who wants to know what two things cost."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.buyer = customer(system)
        for sku in ("KNOWN", "NEVER-ASKED"):
            add_item(system, sku)

    def ask(self, sku: str) -> httpx.Response:
        body = {"userId": self.buyer.user_id, "lines": [{"sku": sku, "quantity": 1}]}
        return self.system.post("/v1/orders:quote", body)
