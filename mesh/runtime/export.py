"""Batches: what is produced on the path of calls is sent beside it, by a thread of its own.

OpenTelemetry's batching processor in its rules and variables
(https://opentelemetry.io/docs/specs/otel/trace/sdk/#batching-processor): bounded, and what does
not fit is dropped and counted; a caller never waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .logs import log


@dataclass(frozen=True)
class BatchLimits:
    """When to send how much. The defaults are OpenTelemetry's."""

    queue: int = 2048
    batch: int = 512
    delay_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.batch <= self.queue or self.delay_s <= 0:
            raise ValueError(f"a batch is from 1 to the queue's size, a delay above 0: {self}")

    @staticmethod
    def of(environ: Mapping[str, str]) -> BatchLimits:
        """Return what OTEL_BSP_* ask for.

        Raises:
            ValueError: one of them is no number, or they contradict each other.
        """

        def number(name: str, default: int) -> int:
            text = environ.get(name, "").strip() or str(default)
            if not text.isdecimal():
                raise ValueError(f"{name}={text}: a whole number")
            return int(text)

        queue = number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", min(512, queue))
        return BatchLimits(queue, batch, number("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000)


class Batches:
    """A queue, and a thread that sends what is in it.

    Args:
        send: sends a batch, however long that takes; says whether it arrived.
        limits: the sizes.
        dropped: told how many were lost, and why: "queue_full", "not_sent" or "closed".
    """

    def __init__(
        self,
        send: Callable[[list[bytes]], bool],
        limits: BatchLimits,
        dropped: Callable[[int, str], None],
    ) -> None:
        self._send = send
        self._limits = limits
        self._dropped = dropped
        self._queue: deque[bytes] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="mesh-export", daemon=True)
        self._thread.start()

    def add(self, item: bytes) -> None:
        """Take *item*, unless the queue is full."""
        waiting = len(self._queue)
        if waiting >= self._limits.queue or self._closing:
            self._dropped(1, "closed" if self._closing else "queue_full")
            return
        self._queue.append(item)
        if waiting + 1 == self._limits.batch:
            self._wake.set()

    def close(self, timeout_s: float) -> None:
        """Send what is left, for *timeout_s* seconds at most."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while not self._closing:
            full = self._wake.wait(self._limits.delay_s)
            self._wake.clear()
            self._drain(self._limits.batch if full else 1)
        self._drain(1)

    def _drain(self, least: int) -> None:
        while len(self._queue) >= least:
            size = min(self._limits.batch, len(self._queue))
            batch = [self._queue.popleft() for _ in range(size)]
            try:
                sent = self._send(batch)
            except Exception as error:  # noqa: BLE001  # the thread must outlive whatever it meets
                log.error("spans could not be sent", exc_info=error)
                sent = False
            if not sent:
                self._dropped(size, "not_sent")
