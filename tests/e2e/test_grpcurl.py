"""Strangers at the services' ports: `buf curl` by reflection, and stock stubs from the wheel."""

import json
import os
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from google.rpc.error_details_pb2 import ErrorInfo

from tests.e2e.shop import PRICE_JSON, STOCK, customer, new_id
from tests.e2e.system import ROOT, System

BIN = Path(sys.executable).parent
ADDRESS = {"addressId": "home", "postalAddress": {"regionCode": "GB"}}


def curl(system: System, service: str, method: str, **request: Any) -> Any:
    """Call a method of a service, knowing nothing but its address and the method's name."""
    url = f"http://{system.address(service)}/{method}"
    command = [str(BIN / "buf"), "curl", "--protocol", "grpc", "--emit-defaults"]
    done = system.run(*command, "--data", json.dumps(request), url)
    return json.loads(done.stdout)


def test_an_order_made_by_hand(system: System) -> None:
    """Every service: something written, then read."""
    user_id, sku, order_id = new_id("user"), new_id("BANK CHARGES "), new_id()
    lines = [{"sku": sku, "quantity": 3}]
    amount = {"currencyCode": "GBP", "units": "7", "nanos": 650_000_000}

    user = "shop.user.v1.UserService"
    email = "somebody@example.com"
    curl(system, "user", f"{user}/CreateUser", userId=user_id, email=email, addresses=[ADDRESS])
    read = curl(system, "user", f"{user}/GetUser", userId=user_id)
    assert (read["email"], read["state"], read["defaultAddressId"]) == (email, "ACTIVE", "home")

    inventory = "shop.inventory.v1.InventoryService"
    curl(system, "inventory", f"{inventory}/CreateItem", sku=sku, unitPrice=PRICE_JSON)
    curl(system, "inventory", f"{inventory}/RestockItem", sku=sku, quantity=5)
    curl(system, "inventory", f"{inventory}/ReserveStock", orderId=order_id, lines=lines)
    read = curl(system, "inventory", f"{inventory}/ListStock", skus=[sku])
    held = {"free": "2", "reserved": "3", "shipped": "0", "received": "5"}
    assert read["stock"] == [{"sku": sku, **held}]

    order = "shop.order.v1.OrderService"
    priced = [{**line, "unitPrice": PRICE_JSON} for line in lines]
    curl(system, "order", f"{order}/CreateOrder", orderId=order_id, userId=user_id, lines=priced)
    read = curl(system, "order", f"{order}/GetOrder", orderId=order_id)
    assert (read["state"], read["total"]) == ("PENDING", amount)

    payment = "shop.payment.v1.PaymentService"
    charge = {"orderId": order_id, "userId": user_id, "amount": amount, "paymentToken": "tok_ok"}
    curl(system, "payment", f"{payment}/ChargePayment", **charge)
    read = curl(system, "payment", f"{payment}/GetLedgerSummary")
    assert [(row["currencyCode"], row["net"]) for row in read["totals"]] == [("GBP", amount)]

    provider = "shop.provider.v1.PaymentProviderService"
    refund = {"key": new_id("refund"), "reference": order_id}
    (kept,) = curl(system, "provider", f"{provider}/ListCharges", reference=order_id)["charges"]
    assert (kept["state"], kept["amount"]) == ("APPROVED", amount)
    given_back = curl(system, "provider", f"{provider}/Refund", chargeKey=kept["key"], **refund)
    assert given_back["state"] == "REFUNDED"

    shipping = "shop.shipping.v1.ShippingService"
    curl(
        system,
        "shipping",
        f"{shipping}/CreateShipment",
        orderId=order_id,
        userId=user_id,
        address=ADDRESS["postalAddress"],
        lines=lines,
    )
    read = curl(system, "shipping", f"{shipping}/GetShipment", orderId=order_id)
    assert (read["state"], read["lines"]) == ("CREATED", [{"sku": sku, "quantity": "3"}])


def test_an_order_placed_with_buf_curl(system: System) -> None:
    buyer = customer(system)
    orchestrator = "shop.orchestrator.v1.OrchestratorService"
    placed = curl(system, "orchestrator", f"{orchestrator}/PlaceOrder", **buyer.body(new_id()))
    assert placed["state"] == "CONFIRMED"
    saga = "mesh.saga.v1.SagaService"
    read = curl(system, "orchestrator", f"{saga}/GetSaga", sagaId=placed["sagaId"])
    assert (read["key"], read["state"]) == (placed["orderId"], "COMPLETED")
    assert buyer.stock()["free"] == STOCK - 2


def test_a_refusal_is_told_in_full(system: System) -> None:
    url = f"http://{system.address('user')}/shop.user.v1.UserService/GetUser"
    command = [str(BIN / "buf"), "curl", "--protocol", "grpc", "--data", '{"userId": "no"}', url]
    done = system.run(*command, check=False)
    assert done.returncode
    error = json.loads(done.stderr)
    assert (error["code"], error["message"]) == ("not_found", "no user 'no'")
    (detail,) = error["details"]
    assert detail["type"] == ErrorInfo.DESCRIPTOR.full_name
    info = ErrorInfo.FromString(b64decode(detail["value"] + "=="))
    assert (info.reason, info.metadata["outcome"]) == ("USER_NOT_FOUND", "refused")


# --- stubs ----------------------------------------------------------------------------------------

#: All that a client needs who has nothing of ours but the wheel.
STOCK_CLIENT = """
import sys
import grpc
from shop.order.v1.order_pb2 import GetOrderRequest, Order
from shop.order.v1.order_pb2_grpc import OrderServiceStub

address, order_id = sys.argv[1:]
with grpc.insecure_channel(address) as channel:
    order = OrderServiceStub(channel).GetOrder(GetOrderRequest(order_id=order_id), timeout=5)
print(order.user_id, Order.State.Name(order.state), order.total.units)
"""


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the stubs' wheel, what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("stranger")
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}

    def uv(*arguments: str) -> None:
        done = subprocess.run(
            (BIN / "uv", *arguments),
            cwd=ROOT,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    python = folder / "venv" / "bin" / "python"
    locked = folder / "locked.txt"
    uv("build", "--quiet", "--wheel", "--package", "shop-stubs", "--out-dir", str(folder))
    uv("venv", "--quiet", "--python", sys.executable, str(folder / "venv"))
    only_stubs = ("--package", "shop-stubs", "--no-emit-workspace", "--no-hashes")
    uv("export", "--quiet", "--locked", *only_stubs, "--output-file", str(locked))
    (wheel,) = folder.glob("*.whl")
    install = ("pip", "install", "--quiet", "--python", str(python))
    uv(*install, "--requirement", str(locked), str(wheel))
    return python


def test_ten_lines_with_the_stubs_from_the_wheel(
    system: System, stranger: Path, tmp_path: Path
) -> None:
    assert len([line for line in STOCK_CLIENT.splitlines() if line]) <= 10
    buyer, order_id = customer(system), new_id()
    buyer.order(order_id)
    script = tmp_path / "client.py"
    script.write_text(STOCK_CLIENT)
    done = subprocess.run(
        (stranger, "-I", script, system.address("order"), order_id),
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [buyer.user_id, "CONFIRMED", "5"]
    assert done.stderr == ""
