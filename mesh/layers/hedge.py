"""Hedging: when a read takes longer than nearly all do, ask another endpoint too.

The first reply counts and the other attempt is cancelled. "Longer" is a percentile of how long
the method's own calls took lately, so that few are sent twice; a budget of its own bounds that when
all become slow at once. Only for methods that promise to change nothing.
(Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013; gRFC A6 hedging.)

It stands where retry stands, in its place: an attempt that fails is a reason to ask the other
endpoint at once. There are two attempts at most, and one under somebody's retry.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ..call import Call, Handler, Kind, Layer, Method
from ..errors import EXHAUSTED_S, MeshError
from ..runtime.clock import Runtime
from ..runtime.metrics import Metrics
from ..scope import scope
from .budget import Budget, BudgetConfig
from .quantile import Quantile
from .retry import RETRYABLE, fail, fits, may_help


@dataclass(frozen=True)
class HedgeConfig:
    """When a second attempt is sent: once a call takes longer than the share `percentile` of all.

    Not before `samples_min` replies have shown how long that is, and never within `delay_min_s`.
    """

    percentile: float = 0.95
    samples_min: int = 100
    delay_min_s: float = 0.001
    budget: BudgetConfig = field(default_factory=lambda: BudgetConfig(per_s=0.0))

    def __post_init__(self) -> None:
        if not 0.0 < self.percentile < 1.0:
            raise ValueError("percentile is a share of the calls: between 0 and 1")
        if self.samples_min < 1 or self.delay_min_s < 0.0:
            raise ValueError("samples_min is at least 1, delay_min_s is not negative")

    def check(self, method: Method) -> None:
        """Fail unless calls of *method* may be sent twice at a time.

        Raises:
            ValueError: it may change something, or streams.
        """
        if not method.reads or method.kind is not Kind.UNARY_UNARY:
            raise ValueError(
                f"{method.full_name} cannot be hedged: that takes a method with one request, one"
                " reply and idempotency_level = NO_SIDE_EFFECTS"
            )


class Hedging:
    """When to send the second attempt of a call of one method. Pure.

    Args:
        config: how.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, config: HedgeConfig, now: Callable[[], float]) -> None:
        self._config = config
        self._usual = Quantile(config.percentile, config.samples_min)
        self.budget = Budget(config.budget, now)

    def delay_s(self) -> float | None:
        """Return how long the first attempt has for itself; None: all the time there is."""
        usual_s = self._usual.estimate_s
        return None if usual_s is None else max(usual_s, self._config.delay_min_s)

    def replied(self, duration_s: float) -> None:
        """A call got its reply.

        Of one that was hedged it is known only that its first attempt took longer than the
        estimate. So did the whole call, which is enough: who is on which side of the percentile
        stays right, though slow calls have become faster.
        """
        self._usual.observe(duration_s)


class Hedge(Layer):
    """The hedging of one target: for each method by itself."""

    suspends = True

    def __init__(
        self, config: HedgeConfig, runtime: Runtime, metrics: Metrics | None = None
    ) -> None:
        self._clock = runtime.clock
        self._metrics = metrics
        now = runtime.clock.monotonic
        self.methods: defaultdict[str, Hedging] = defaultdict(lambda: Hedging(config, now))

    def __call__(self, inner: Handler) -> Handler:
        """Send calls once, and slow or failed ones twice."""
        now = self._clock.monotonic

        async def hedged(call: Call) -> Any:
            hedging = self.methods[call.method.path]
            hedging.budget.deposit()
            began = now()
            if scope.get().attempt > 1:
                reply = await inner(call)
            else:
                reply = await _Race(self, inner, call.replace(tried=[]), began).won()
            hedging.replied(now() - began)
            return reply

        return hedged

    def sends(self, call: Call, began: float, delay_s: float = 0.0) -> bool:
        """Whether a second attempt of a call that *began* then may be sent in *delay_s* seconds."""
        return fits(call.deadline, began, self._clock.monotonic() + delay_s)

    def pays(self, call: Call) -> bool:
        """Whether there is budget for a second attempt; if so, it is paid."""
        paid = self.methods[call.method.path].budget.withdraw()
        self.count(call, "sent" if paid else "budget")
        return paid

    def count(self, call: Call, decision: str) -> None:
        """Note what was decided."""
        call.note("mesh.hedge", decision=decision)
        if self._metrics:
            self._metrics.hedges.labels(call.method.full_name, decision).inc()

    def timer(self, call: Call) -> Coroutine[Any, Any, None] | None:
        """Return what ends when the second attempt is due; None: never."""
        delay_s = self.methods[call.method.path].delay_s()
        if delay_s is None or not self.sends(call, self._clock.monotonic(), delay_s):
            return None
        return self._clock.sleep(delay_s)


class _Race:
    """The attempts of one call."""

    def __init__(self, hedge: Hedge, inner: Handler, call: Call, began: float) -> None:
        self._began = began
        self._hedge = hedge
        self._inner = inner
        self._call = call
        self._ended: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[Any]] = []
        self._attempts: list[asyncio.Task[Any]] = []

    async def won(self) -> Any:
        """Return the first reply; whatever else is under way is cancelled."""
        try:
            self._send(self._call)
            waiting = self._hedge.timer(self._call)
            timer = self._start(waiting) if waiting else None
            while True:
                ended = await self._ended.get()
                if ended is timer:
                    if len(self._attempts) == 1 and self._hedge.pays(self._call):
                        self._send_second()
                elif ended.cancelled():
                    raise asyncio.CancelledError
                elif (error := ended.exception()) is None:
                    if ended is not self._attempts[0]:
                        self._hedge.count(self._call, "won")
                    return ended.result()
                elif not self._goes_on(error):
                    self._fail(error)
        finally:
            for task in self._tasks:
                task.cancel()

    def _goes_on(self, error: BaseException) -> bool:
        """Whether there is still somebody to wait for after an attempt failed."""
        if not isinstance(error, MeshError) or error.status not in RETRYABLE:
            return False
        if any(not attempt.done() for attempt in self._attempts):
            return True
        if error.retry_after_s is not None or not may_help(self._call, error):
            return False  # when to ask again, and whether, is said: by now it cannot be
        if len(self._attempts) == 1:
            if not self._hedge.sends(self._call, self._began):
                return False
            if self._hedge.pays(self._call):
                self._send_second()
                return True
        error.retry_after_s = EXHAUSTED_S
        return False

    def _fail(self, error: BaseException) -> NoReturn:
        """Raise what the call ends with; reads that are sent twice are never sure."""
        if isinstance(error, MeshError):
            fail(error, unsure=len(self._attempts) > 1)
        raise error

    def _send_second(self) -> None:
        self._send(self._call.replace(attempt=self._call.attempt + 1))

    def _send(self, call: Call) -> None:
        self._attempts.append(self._start(_await(self._inner, call)))

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._note)
        self._tasks.append(task)
        return task

    def _note(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # a loser's failure is no news
        self._ended.put_nowait(task)


async def _await(inner: Handler, call: Call) -> Any:
    return await inner(call)
