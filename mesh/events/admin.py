"""`mesh.events.v1`: dead letters and read models, seen and set going again by operators."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from ..errors import InvalidArgument, NotFound
from ..layers.identity import OPERATOR, require
from ..redaction import clear_secrets
from ..runtime.clock import timestamp
from ..runtime.logs import log
from ..service import Service
from ..storage.port import Tx
from . import inbox, read_models
from .inbox import Inbox, Kept, State
from .v1 import dead_letters_pb2 as pb
from .v1 import read_models_pb2 as models_pb

PAGE_SIZE = 50
#: How many events of an aggregate are shown.
SHOWN_MAX = 100


def dead_letter_service(name: str) -> Service[Any]:
    """Return the service for what *name*, or one of its read models, could not apply."""
    service: Service[Any] = Service(pb.DESCRIPTOR.services_by_name["DeadLetterService"])

    @service.rpc
    async def list_dead_letters(
        tx: Tx, request: pb.ListDeadLettersRequest
    ) -> pb.ListDeadLettersResponse:
        require(tx.principal, OPERATOR)
        size = request.page_size or PAGE_SIZE
        among = await _subscriptions(tx)
        found = await inbox.dead(tx, among, _after(request.page_token), size + 1)
        letters = [_letter(*one) for one in found[:size]]
        return pb.ListDeadLettersResponse(
            letters=letters, next_page_token=_token(letters[-1]) if len(found) > size else ""
        )

    @service.rpc
    async def get_dead_letter(tx: Tx, request: pb.GetDeadLetterRequest) -> pb.GetDeadLetterResponse:
        require(tx.principal, OPERATOR)
        letter, kept = await _find(tx, request)
        return pb.GetDeadLetterResponse(
            letter=letter, events=[_shown(one.event.message()) for one in kept[:SHOWN_MAX]]
        )

    @service.rpc
    async def redrive_dead_letter(
        tx: Tx, request: pb.RedriveDeadLetterRequest
    ) -> pb.RedriveDeadLetterResponse:
        require(tx.principal, OPERATOR)
        letter, _ = await _find(tx, request)
        await Inbox(letter.subscription).redrive(tx, letter.topic, letter.aggregate)
        log.info(
            "dead letter redriven",
            by=tx.principal.name,
            subscription=letter.subscription,
            topic=letter.topic,
            event_id=letter.event_id,
        )
        return pb.RedriveDeadLetterResponse(letter=letter)

    async def _subscriptions(tx: Tx) -> list[str]:
        return await read_models.names(tx) or [name]

    async def _find(
        tx: Tx, request: pb.GetDeadLetterRequest | pb.RedriveDeadLetterRequest
    ) -> tuple[pb.DeadLetter, list[Kept]]:
        for subscription in sorted(await _subscriptions(tx)):
            if request.subscription in ("", subscription):
                of = Inbox(subscription)
                kept = await of.of(tx, request.topic, request.aggregate, SHOWN_MAX + 1)
                if kept and kept[0].state is State.DEAD:
                    return _letter(subscription, kept[0], len(kept) - 1), kept
        raise NotFound("that aggregate has no dead letter", reason="NO_DEAD_LETTER")

    return service


def read_model_service(name: str) -> Service[Any]:
    """Return the service for the read model of the service called *name*."""
    service: Service[Any] = Service(models_pb.DESCRIPTOR.services_by_name["ReadModelService"])

    @service.rpc
    async def list_read_models(
        tx: Tx, request: models_pb.ListReadModelsRequest
    ) -> models_pb.ListReadModelsResponse:
        require(tx.principal, OPERATOR)
        return models_pb.ListReadModelsResponse(models=await read_models.describe(tx))

    @service.rpc
    async def rebuild_read_model(
        tx: Tx, request: models_pb.RebuildReadModelRequest
    ) -> models_pb.RebuildReadModelResponse:
        require(tx.principal, OPERATOR)
        begun = await read_models.begin(tx, name)
        (model,) = [one for one in await read_models.describe(tx) if one.name == begun]
        log.info("read model begun", by=tx.principal.name, model=begun)
        return models_pb.RebuildReadModelResponse(model=model)

    return service


def _token(letter: pb.DeadLetter) -> str:
    return json.dumps([letter.subscription, letter.topic, letter.aggregate])


def _after(token: str) -> tuple[str, str, str]:
    try:
        subscription, topic, aggregate = json.loads(token) if token else ("", "", "")
    except ValueError:
        raise InvalidArgument(violations=[("page_token", "is of no page")]) from None
    return str(subscription), str(topic), str(aggregate)


def _letter(subscription: str, kept: Kept, waiting: int) -> pb.DeadLetter:
    event = kept.event
    return pb.DeadLetter(
        topic=event.topic,
        aggregate=event.aggregate,
        version=event.version,
        event_id=event.event_id,
        source=event.source,
        publish_time=timestamp(event.time),
        correlation_id=event.correlation_id,
        attempts=kept.attempts,
        error=kept.error,
        waiting=waiting,
        subscription=subscription,
    )


def _shown(message: Message) -> str:
    """Return *message* as JSON, without what its contract marks as not to be shown."""
    clear_secrets(message)
    return MessageToJson(message, indent=None, preserving_proto_field_name=True)
