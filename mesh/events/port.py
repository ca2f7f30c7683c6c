"""The bus port: what the mesh asks of a message broker.

Delivery is at least once and, for the events of one aggregate, first delivered in order. Applying
them once, in order, whatever is delivered again, is the inbox's work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

#: The longest event, in bytes: a broker's default limit for a message is 1 MiB, headers included.
EVENT_LIMIT_BYTES = 256 * 1024


class BusError(Exception):
    """The broker did not confirm; whether it has the event is unknown."""


class EventTypeError(TypeError):
    """A message that cannot be an event."""


@dataclass(frozen=True, slots=True)
class Event:
    """A fact about one aggregate, as it travels.

    `topic` is the full name of its message type, `version` counts the events of (topic,
    aggregate) from 1 without a gap, `event_id` is a UUIDv7, `time` is in seconds since the epoch.
    """

    topic: str
    aggregate: str
    version: int
    event_id: str
    payload: bytes
    source: str
    time: float
    correlation_id: str = ""
    traceparent: str = ""

    def message(self) -> Message:
        """Return the payload, parsed.

        Raises:
            KeyError: no imported stub describes the topic.
        """
        descriptor = descriptor_pool.Default().FindMessageTypeByName(self.topic)
        return GetMessageClass(descriptor).FromString(self.payload)


Deliver: TypeAlias = Callable[[Event], Awaitable[None]]


class Subscription(Protocol):
    """A group's hold on its topics."""

    async def lag(self) -> int:
        """Return how many published events the group has not confirmed yet.

        Raises:
            BusError: the broker does not say.
        """
        ...

    async def close(self) -> None:
        """Stop; what is not confirmed is delivered again to whoever subscribes next."""
        ...


class Bus(Protocol):
    """A broker, or the way to one: it may be out of reach at any time."""

    async def publish(self, event: Event) -> None:
        """Return once the broker has *event* for good.

        Raises:
            BusError: it did not say so.
        """
        ...

    async def subscribe(self, group: str, topics: Sequence[str], deliver: Deliver) -> Subscription:
        """Give every event of *topics*, from the very first, to *group*: to one of its members.

        An event is delivered again until *deliver* has returned. It comes back at once also if
        the broker is out of reach: the subscription begins as soon as it is back.
        """
        ...

    async def forget(self, group: str) -> None:
        """Let the broker forget *group*, which nobody subscribes to any more.

        Raises:
            BusError: it did not say so.
        """
        ...

    async def close(self) -> None:
        """Let go of the broker."""
        ...


def topic_of(kind: type[Message]) -> str:
    """Return the topic of an event type: one message type for each kind of aggregate.

    Raises:
        EventTypeError: field 1, the aggregate's id, is no text.
    """
    descriptor = kind.DESCRIPTOR
    first = descriptor.fields_by_number.get(1)
    if first is None or first.type != FieldDescriptor.TYPE_STRING or first.is_repeated:
        raise EventTypeError(
            f"{descriptor.full_name} is no event: its field 1 must be a string, the id of what"
            " the event is about"
        )
    return str(descriptor.full_name)


def aggregate_of(event: Message) -> str:
    """Return the id of what *event* is about: its field 1.

    Raises:
        EventTypeError: it is no event, or does not say what it is about.
    """
    topic = topic_of(type(event))
    field = event.DESCRIPTOR.fields_by_number[1]
    aggregate: str = getattr(event, field.name)
    if not aggregate:
        raise EventTypeError(f"{topic}: {field.name} is empty")
    return aggregate
