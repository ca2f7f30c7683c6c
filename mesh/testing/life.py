"""One life of a node: from its start to its death."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..runtime.clock import Runtime
from ..server import Application
from ..storage.sqlite import SqliteStore
from .process import Handle

if TYPE_CHECKING:
    from .network import Network


@dataclass(eq=False)
class Life:
    """What dies with a node. Whatever runs as it never goes on once it is `dead`."""

    name: str
    fuse: int
    burnt_out: Callable[[str], None]
    dead: bool = False
    stopped: list[Handle] | None = None
    runtime: Runtime = field(init=False)
    store: SqliteStore = field(init=False)
    application: Application = field(init=False)
    network: Network = field(init=False)
    #: What is told of its death.
    mourners: list[Callable[[], None]] = field(default_factory=list)
    #: The answers that somebody waits for.
    owed: dict[asyncio.Future[Any], None] = field(default_factory=dict)

    def burn_out(self) -> None:
        """Die here, between two steps, unless the faults think better of it."""
        self.burnt_out(self.name)
