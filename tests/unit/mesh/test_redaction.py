"""Secrets are cleared wherever a message may hold them."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from mesh.redaction import clear_secrets

Field = descriptor_pb2.FieldDescriptorProto


def _message_type() -> Any:
    """``Order {Card card; repeated Card cards; map<string, Card> by_name; map<…> notes}``."""
    file = descriptor_pb2.FileDescriptorProto(name="redaction.proto", package="redaction")
    card = file.message_type.add(name="Card")
    card.field.add(name="number", number=1, type=Field.TYPE_STRING).options.debug_redact = True
    card.field.add(name="holder", number=2, type=Field.TYPE_STRING)
    order = file.message_type.add(name="Order")
    _add(order, "card", ".redaction.Card")
    _add(order, "cards", ".redaction.Card", Field.LABEL_REPEATED)
    for name, value in (("by_name", ".redaction.Card"), ("notes", "")):
        entry = order.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add(entry, "key")
        _add(entry, "value", value)
        _add(order, name, f".redaction.Order.{entry.name}", Field.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("redaction.Order"))


def _add(message: Any, name: str, kind: str = "", label: Any = Field.LABEL_OPTIONAL) -> None:
    """Add the next field: of the message type *kind*, or of text."""
    message.field.add(
        name=name,
        number=len(message.field) + 1,
        label=label,
        type=Field.TYPE_MESSAGE if kind else Field.TYPE_STRING,
        type_name=kind or None,
    )


def test_secrets_are_cleared_however_deep_and_nothing_else() -> None:
    order = _message_type()()
    for card in (order.card, order.cards.add(), order.by_name["a"]):
        card.number, card.holder = "4111", "A. Holder"
    order.notes["b"] = "ring twice"
    clear_secrets(order)
    cards = [order.card, order.cards[0], order.by_name["a"]]
    assert [(card.number, card.holder) for card in cards] == [("", "A. Holder")] * 3
    assert dict(order.notes) == {"b": "ring twice"}
