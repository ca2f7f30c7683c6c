"""Makes the recordings of the order's sagas, by running them in a simulated shop.

``python -m tests.saga.record`` writes those that are missing. One that is there stays as it is: it
stands for sagas in flight, and goes with the last version of a function that wrote such.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mesh.saga.v1 import saga_pb2 as pb
from mesh.saga.v1.saga_pb2_grpc import SagaServiceStub
from mesh.testing.cluster import Faults
from mesh.testing.databases import memory_folder
from mesh.testing.loop import run_virtual
from mesh.testing.network import Message
from tests.saga.shop import SCENARIOS, Shop

FOLDER = Path(__file__).parent / "recordings"
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


class Charging(Faults):
    """Tells when the money is about to be taken, and waits with it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def deliver(self, message: Message, send: Callable[[], Awaitable[Any]]) -> Any:
        if message.method == "ChargePayment":
            self.begun.set()
            await self.go_on.wait()
        return await send()


async def placed(scenario: str, folder: Path) -> dict[str, str]:
    """Place an order; return the recordings of its sagas, by their names."""
    async with Shop(folder) as shop:
        await shop.place(BY_NAME[scenario])
        return await exported(shop)


async def interrupted(folder: Path, *, cancelled: bool) -> dict[str, str]:
    """Place an order; record it while its charge is under way, or cancelled then."""
    faults = Charging()
    async with Shop(folder, faults) as shop:
        placing = asyncio.ensure_future(shop.place(BY_NAME["success"]))
        await faults.begun.wait()
        if not cancelled:
            return await exported(shop)
        cancelling = asyncio.ensure_future(shop.cancel())
        await shop.cluster.runtime.clock.sleep(1.0)
        faults.go_on.set()
        await asyncio.gather(placing, cancelling)
        return await exported(shop)


async def exported(shop: Shop) -> dict[str, str]:
    """Return the recordings of all sagas of *shop*, by their names."""
    sagas = SagaServiceStub(shop.cluster.channel("orchestrator"))
    listed = (await sagas.ListSagas(pb.ListSagasRequest())).sagas
    return {
        saga.name: (await sagas.ExportSaga(pb.ExportSagaRequest(saga_id=saga.saga_id))).recording
        for saga in listed
    }


#: File -> the saga in it, and the order it is of.
RECORDINGS: dict[str, tuple[str, Callable[[Path], Awaitable[dict[str, str]]]]] = {
    "confirmed": ("place_order", lambda folder: placed("success", folder)),
    "out_of_stock": ("place_order", lambda folder: placed("out of stock", folder)),
    "declined": ("place_order", lambda folder: placed("declined", folder)),
    "suspended": ("place_order", lambda folder: placed("suspended user", folder)),
    "charging": ("place_order", lambda folder: interrupted(folder, cancelled=False)),
    "cancelled_while_placing": (
        "place_order",
        lambda folder: interrupted(folder, cancelled=True),
    ),
    "taken_back": ("cancel_order", lambda folder: placed("cancelled when confirmed", folder)),
}


def record(name: str) -> str:
    """Make one of the recordings."""
    saga, story = RECORDINGS[name]

    async def told(folder: Path) -> dict[str, str]:
        return await story(folder)

    with memory_folder() as folder:
        return run_virtual(told(folder))[saga]


def main() -> None:
    """Write the recordings that are missing."""
    FOLDER.mkdir(exist_ok=True)
    for name, (saga, _) in RECORDINGS.items():
        recording = FOLDER / f"{saga}_v1_{name}.json"
        if not recording.exists():
            recording.write_text(record(name), encoding="utf-8")
            print(recording)


if __name__ == "__main__":
    main()
