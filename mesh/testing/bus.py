"""The broker as a node has it: what goes there and comes from there is a message like any other."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence

from ..errors import DeadlineExceeded, MeshError
from ..events.memory import MemoryBus
from ..events.port import BusError, Deliver, Event, Subscription
from .faults import Point
from .life import Life
from .network import Gone, Message, Network, context_of

#: The broker's name where messages have a caller and a target.
BROKER = "bus"
#: After so long without the broker's confirmation an event counts as not published.
PUBLISH_TIMEOUT_S = 5.0


class NodeBus:
    """The bus port for one life of a node, to a broker that outlives it."""

    def __init__(self, broker: MemoryBus, network: Network, life: Life) -> None:
        self._broker = broker
        self._network = network
        self._life = life

    async def publish(self, event: Event) -> None:
        """Send *event* to the broker, and wait until it confirms."""
        name, passing = self._life.name, self._network.point
        await passing(self._life, Point(name, "publish", event.topic))
        message = _message(name, BROKER, event)
        timer = asyncio.get_running_loop().call_later(
            PUBLISH_TIMEOUT_S, message.fail, DeadlineExceeded("the broker does not confirm")
        )
        send = functools.partial(self._broker.publish, event)
        try:
            await self._network.pass_on(message, send)
        except MeshError as error:
            raise BusError(str(error)) from error
        finally:
            timer.cancel()
        await passing(self._life, Point(name, "publish", event.topic, after=True))

    async def subscribe(self, group: str, topics: Sequence[str], deliver: Deliver) -> Subscription:
        """Join *group*; its events are handed to this life until it ends."""

        async def hand_over(event: Event) -> None:
            message = _message(BROKER, self._life.name, event)
            await self._network.pass_on(message, functools.partial(self._take, event, deliver))

        async def join() -> Subscription:
            subscription = await self._broker.subscribe(group, topics, hand_over)
            if self._life.dead:
                subscription.drop()
            self._life.mourners.append(subscription.drop)
            return subscription

        return await asyncio.get_running_loop().create_task(join(), context=context_of(None))

    async def forget(self, group: str) -> None:
        """Let the broker forget *group*."""
        await self._broker.forget(group)

    async def close(self) -> None:
        """Nothing to close."""

    async def _take(self, event: Event, deliver: Deliver) -> None:
        """As the node: take *event*; the answer comes from this life or never."""
        life = self._life
        if life.dead:
            raise Gone(f"{life.name} is gone")
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        life.owed[taken] = None

        async def work() -> None:
            error: Exception | None = None
            try:
                await deliver(event)
            except Exception as raised:  # noqa: BLE001  # the broker delivers it again
                error = raised
            if not taken.done():
                taken.set_exception(error) if error else taken.set_result(None)

        asyncio.get_running_loop().create_task(work(), context=context_of(life))
        try:
            await taken
        finally:
            life.owed.pop(taken, None)


def _message(caller: str, target: str, event: Event) -> Message:
    return Message(caller, target, event.topic.rpartition(".")[2], event.event_id)
