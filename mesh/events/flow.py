"""A service's part in the flow of events: what it publishes goes out, what it follows comes in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..call import Call
from ..node import Node
from ..service import Context, Service
from ..storage.port import Store
from .consumer import Consumer
from .port import Bus
from .read_models import ReadModels
from .relay import Relay


class EventFlow:
    """The relay and the consumers of one process."""

    def __init__(
        self,
        node: Node,
        service: Service[Any],
        store: Store,
        bus: Bus,
        context: Callable[[Call], Context[Any]],
    ) -> None:
        def follow(name: str) -> Consumer:
            return Consumer(
                node, store, bus, name, service.subscribers, context, service.events_at_once
            )

        self._relay = Relay(store, bus, node.runtime, node.metrics, node.name)
        self._incoming: Consumer | ReadModels | None = None
        if service.read_model:
            self._incoming = ReadModels(
                store, bus, node.runtime, node.name, service.read_model, follow
            )
        elif service.subscribers:
            self._incoming = follow(node.name)

    async def start(self) -> None:
        """Let events flow."""
        self._relay.start()
        if self._incoming:
            await self._incoming.start()

    async def stop(self) -> None:
        """Stop where they are; outbox, bus and inbox know where to go on."""
        if self._incoming:
            await self._incoming.stop()
        await self._relay.stop()
