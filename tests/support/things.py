"""An event type for tests, `tests.events.v1.ThingEvent {string thing_id = 1; int64 number = 2}`."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message_factory import GetMessageClass

from mesh.events.port import Event


def _register() -> Any:
    file = FileDescriptorProto(
        name="tests/things.proto", package="tests.events.v1", syntax="proto3"
    )
    optional = FieldDescriptorProto.LABEL_OPTIONAL
    for name, fields in {
        "ThingEvent": {"thing_id": FieldDescriptorProto.TYPE_STRING},
        "NoEvent": {"count": FieldDescriptorProto.TYPE_INT64},
    }.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(
            {**fields, "number": FieldDescriptorProto.TYPE_INT64}.items(), 1
        ):
            message.field.add(name=field, number=number, type=kind, label=optional)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return [
        GetMessageClass(m) for m in pool.FindFileByName(file.name).message_types_by_name.values()
    ]


ThingEvent, NoEvent = _register()
TOPIC = ThingEvent.DESCRIPTOR.full_name


def thing(aggregate: str = "a", version: int = 1, number: int | None = None) -> Event:
    """Return an event as it comes from the bus; its number is its version unless told."""
    message = ThingEvent(thing_id=aggregate, number=version if number is None else number)
    return Event(
        topic=TOPIC,
        aggregate=aggregate,
        version=version,
        event_id=f"{aggregate}/{version}",
        payload=message.SerializeToString(),
        source="things",
        time=1.5,
        correlation_id="c-1",
    )
