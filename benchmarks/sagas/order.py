"""The whole order of the order system: real orders, every service durable.

A worker on `PlaceOrder` of a running system. What it places are the orders of a real shop's first
day, again and again under new ids.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import grpc

from benchmarks.sagas.worker import Run, work
from mesh.runtime import config
from mesh.runtime.clock import Runtime
from replay.invoices import read_file
from replay.loading import Services, load
from replay.money import to_money
from replay.options import DECEMBER
from replay.plan import TOKEN_OK, Failures, Load, Plan, PlannedOrder, address_id, make_plan
from replay.progress import Progress
from replay.rows import MAX_QUANTITY
from shop.orchestrator.v1 import orchestrator_pb2 as pb
from shop.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub

#: RPCs that an order takes: PlaceOrder; GetUser, CreateOrder, ReserveStock, ChargePayment,
#: CreateShipment, ConfirmOrder, CommitReservation, ReleaseShipment; and the provider's Charge.
CALLS = 10
#: Of those that load accounts, items and stock.
LOADERS = 32
PATIENCE_S = 60.0


def request_of(planned: PlannedOrder, order_id: str) -> pb.PlaceOrderRequest:
    """Return what places *planned* under another id."""
    lines = [
        pb.PlaceOrderLine(
            sku=line.sku, quantity=line.quantity, unit_price=to_money(line.unit_price)
        )
        for line in planned.lines
    ]
    return pb.PlaceOrderRequest(
        order_id=order_id,
        user_id=planned.order.user_id,
        address_id=address_id(planned.order.region),
        lines=lines,
        payment_token=TOKEN_OK,
        wait=True,
    )


async def loaded(addresses: Mapping[str, str]) -> Plan:
    """Open the accounts of the first day and fill the shelves for many such days."""
    plan = make_plan(read_file(DECEMBER), Failures(), only_first_day=True)
    loads = tuple(Load(item.sku, MAX_QUANTITY, f"{item.key}/stock") for item in plan.items)
    async with Services(addresses) as services:
        much = dataclasses.replace(plan, loads=loads)
        await load(services, much, Progress(), concurrency=LOADERS)
    return plan


@asynccontextmanager
async def orders() -> AsyncIterator[Run]:
    """Place an order and wait for its end, on the system that the environment names."""
    system = config.load()
    addresses = {name: system.address_of(name) for name in system.services}
    plan = await loaded(addresses)
    turns = itertools.cycle(plan.orders)
    new_id = Runtime().new_id
    async with grpc.aio.insecure_channel(addresses["orchestrator"]) as channel:
        place = OrchestratorServiceStub(channel).PlaceOrder

        async def run() -> None:
            reply = await place(request_of(next(turns), new_id()), timeout=PATIENCE_S)
            if reply.state != reply.CONFIRMED:
                raise AssertionError(f"an order is not confirmed: {reply}")

        yield run


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    work(orders())
