"""Sagas in flight go on in today's functions: recorded journals are replayed on them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mesh.saga import Saga, Steps, saga
from mesh.service import Service
from mesh.testing.replay import DivergedError, RecordingError, replay
from services.orchestrator import ask
from services.orchestrator.clients import Clients
from services.orchestrator.place_order import place_order
from services.orchestrator.service import service as orchestrator
from shop.inventory.v1.inventory_pb2 import ReturnStockRequest
from shop.orchestrator.v1 import orchestrator_pb2 as pb
from shop.order.v1.order_pb2 import CancelOrderRequest
from shop.payment.v1.payment_pb2 import RefundPaymentRequest
from shop.shipping.v1.shipping_pb2 import CancelShipmentRequest
from tests.saga.record import FOLDER, RECORDINGS, record

FILES = sorted(FOLDER.glob("*.json"))
TAKEN_BACK = FOLDER / "cancel_order_v1_taken_back.json"
SUSPENDED = FOLDER / "place_order_v1_suspended.json"


@pytest.mark.parametrize("recording", FILES, ids=lambda path: path.stem)
def test_what_was_recorded_is_what_the_functions_do(recording: Path) -> None:
    replay(orchestrator, recording)


def test_there_is_a_recording_of_each_fate() -> None:
    wanted = {f"{name}_v1_{fate}" for fate, (name, _) in RECORDINGS.items()}
    assert wanted <= {path.stem for path in FILES}


def test_a_new_recording_replays_and_holds_no_secret(tmp_path: Path) -> None:
    made = record("declined")
    for secret in ("tok_declined", "example.com", "region_code"):
        assert secret not in made
    file = tmp_path / "made.json"
    file.write_text(made)
    replay(orchestrator, file)


def running(*sagas: Saga[Any, Any]) -> Service[Any]:
    """Return an orchestrator that has these sagas."""
    return Service(orchestrator.descriptor, clients=Clients, sagas=sagas)


def cancelling(steps: str, reason: str = "") -> Service[Any]:
    """Return an orchestrator that takes an order back in other steps, by their initials."""

    @saga(version=1, name="cancel_order")
    async def changed(step: Steps, to: Clients, it: pb.CancelOrderRequest) -> None:
        this: Any = {"order_id": it.order_id}
        asked: dict[str, Any] = {
            "P": (to.shipping.CancelShipment, CancelShipmentRequest(**this)),
            "M": (to.payment.RefundPayment, RefundPaymentRequest(**this)),
            "G": (to.inventory.ReturnStock, ReturnStockRequest(**this)),
            "O": (to.order.CancelOrder, CancelOrderRequest(**this, reason=it.reason + reason)),
        }
        for initial in steps:
            await step(*asked[initial], pivot=initial == "P")

    return running(changed)


def test_the_same_steps_in_other_words_are_the_same() -> None:
    replay(cancelling("PMGO"), TAKEN_BACK)


DIVERGED = {
    "reordered": (
        cancelling("PGMO"),
        "step 2: .* has .*RefundPayment of 'payment', the function asks .*ReturnStock",
    ),
    "removed": (cancelling("PMO"), "step 3: .* has .*ReturnStock .* asks .*CancelOrder"),
    "removed at the end": (cancelling("PMG"), "step 4: .*CancelOrder.*, the function has returned"),
    "added": (cancelling("PMMGO"), "step 3: .* has .*ReturnStock .* asks .*RefundPayment"),
    "added at the end": (
        cancelling("PMGOG"),
        "the journal was completed, the function asks .*ReturnStock as step 5",
    ),
    "changed": (cancelling("PMGO", "!"), "step 4: the request of .*CancelOrder is another: reason"),
}


@pytest.mark.parametrize("change", DIVERGED)
def test_a_change_of_the_steps_diverges(change: str) -> None:
    changed, told = DIVERGED[change]
    with pytest.raises(DivergedError, match=f"^cancel_order v1.*{told}"):
        replay(changed, TAKEN_BACK)


def edited(folder: Path, original: Path, **fields: Any) -> Path:
    """Return a copy of a recording in which *fields* are others."""
    file = folder / "edited.json"
    file.write_text(json.dumps({**json.loads(original.read_text()), **fields}))
    return file


@pytest.mark.parametrize("made", range(4))
@pytest.mark.parametrize("answered", [True, False], ids=["", "the last one is not answered"])
def test_a_saga_in_flight_is_replayed_as_far_as_it_was(
    made: int, answered: bool, tmp_path: Path
) -> None:
    steps = json.loads(TAKEN_BACK.read_text())["steps"][:made]
    if steps and not answered:
        del steps[-1]["reply"], steps[-1]["ended_at"]
    cut = edited(tmp_path, TAKEN_BACK, state="EXECUTING", steps=steps)
    replay(orchestrator, cut)
    if made > 1:
        with pytest.raises(DivergedError, match="step 1: "):
            replay(cancelling("GMPO"), cut)


def test_what_was_refused_must_be_refused() -> None:
    @saga(version=1, name="place_order")
    async def lenient(step: Steps, to: Clients, it: pb.PlaceOrderRequest) -> None:
        await step(to.user.GetUser, ask.user_of(it))
        await step(to.order.QuoteOrder, ask.quote(it))

    told = "the journal was refused with USER_SUSPENDED, the function asks .*QuoteOrder as step 2"
    with pytest.raises(DivergedError, match=told):
        replay(running(lenient), SUSPENDED)


def test_a_secret_that_is_handed_on_may_be_anything() -> None:
    @saga(version=1, name="place_order")
    async def marking(step: Steps, to: Clients, it: pb.PlaceOrderRequest) -> None:
        it.payment_token += " of the shop"
        await place_order.function(step, to, it)

    replay(running(marking), FOLDER / "place_order_v1_confirmed.json")


def test_a_version_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"OrchestratorService has no cancel_order v1: "):
        replay(running(place_order), TAKEN_BACK)
    with pytest.raises(DivergedError, match="has no cancel_order v7"):
        replay(orchestrator, edited(tmp_path, TAKEN_BACK, version=7))


def test_what_is_no_recording_is_told(tmp_path: Path) -> None:
    odd = tmp_path / "odd.json"
    odd.write_text("[]")
    with pytest.raises(RecordingError, match=re.escape(f"{odd} is no recording")):
        replay(orchestrator, odd)
    for fields, told in (
        ({"state": "DANCING"}, "DANCING"),
        ({"request": {"orderer": "ann"}}, "orderer"),
        ({"steps": [{"position": 1}]}, "method"),
    ):
        with pytest.raises(RecordingError, match=told):
            replay(orchestrator, edited(tmp_path, TAKEN_BACK, **fields))
