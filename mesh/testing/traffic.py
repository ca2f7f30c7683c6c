"""What becomes of messages: lost, late, twice, or stopped where the way is cut."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Container, Sequence
from contextvars import Context
from typing import Any

from google.rpc.status_pb2 import Status

from ..errors import Unavailable
from ..status import from_status
from .draws import Draws
from .network import Gone, Message

#: What is delayed arrives before this.
DELAY_MAX_S = 120.0

_LATER = ("repeat", "delayed request", "delayed reply")


class Traffic:
    """Carries messages, well or badly.

    Args:
        draws: the chance of the seed.
        silent: the nodes that died with their machine, which sends nobody word.
    """

    def __init__(self, draws: Draws, silent: Container[str]) -> None:
        self._draws = draws
        self._silent = silent
        self._cuts: dict[int, tuple[frozenset[str], bool]] = {}
        #: Messages that are on their way.
        self.in_the_air = 0

    async def carry(self, message: Message, send: Callable[[], Awaitable[Any]]) -> Any:
        """Deliver *message*; may delay, repeat or lose it, or its answer."""
        kind, waits_s, silent, there_s, back_s = self._fate(message)
        self._say(message, "asks")
        self.in_the_air += 1
        try:
            await asyncio.sleep(there_s)
            await self._pass(message)
            if kind == "lost request":
                await self._lose(message, silent)
            if kind == "repeat":
                later = self._deliver_later(message, send, waits_s)
                asyncio.get_running_loop().create_task(later)  # the loop keeps it
            if kind == "delayed request":
                await asyncio.sleep(waits_s)
                self._meet_late("late request", message)
            answered = await self._ask(message, send)
            if kind == "lost reply":
                await self._lose(message, silent)
            await asyncio.sleep(waits_s if kind == "delayed reply" else back_s)
            await self._pass(message)
        finally:
            self.in_the_air -= 1
        self._say(message, "gets", _told(answered))
        return answered

    async def cut_now_and_then(self, ends: Sequence[str]) -> None:
        """Cut the ways between pairs of *ends*, for ever."""
        rates = self._draws.rates
        if not rates.cut_every_s:
            return
        loop = asyncio.get_running_loop()
        for number in itertools.count():
            random = self._draws.random(f"cut/{number}")
            await asyncio.sleep(random.expovariate(1 / rates.cut_every_s))
            pair = random.sample(ends, 2)
            lasts_s, silent = random.expovariate(1 / rates.cut_s), random.random() < 0.5
            where = "-".join(pair)
            if self._draws.admits("cut", where, number, f"{lasts_s:.1f} s"):
                self._cuts[number] = frozenset(pair), silent
                self._draws.note(f"the way {where} is cut")
                loop.call_later(lasts_s, self._heal, number, where, context=Context())

    def heal(self) -> None:
        """Open all ways."""
        self._cuts.clear()

    def _heal(self, number: int, where: str) -> None:
        if self._cuts.pop(number, None):
            self._draws.note(f"the way {where} is open again")

    def _fate(self, message: Message) -> tuple[str, float, bool, float, float]:
        """Return what goes wrong, for how long, how silently; and the times there and back."""
        where = f"{message.caller or 'outside'}>{message.target}.{message.method}"
        random, rates = self._draws.stream("net", where), self._draws.rates
        number = self._draws.occasion("net", where)
        drawn, kind = random.random(), ""
        there_s, back_s = (random.expovariate(1 / rates.latency_s) for _ in range(2))
        waits_s = min(DELAY_MAX_S, random.expovariate(1 / rates.delay_s))
        silent = random.random() < 0.5
        for name, share in (
            ("lost request", rates.lost_requests),
            ("lost reply", rates.lost_replies),
            ("repeat", rates.repeats),
            ("delayed request", rates.delays),
            ("delayed reply", rates.delays),
        ):
            if drawn < share:
                kind = name
                break
            drawn -= share
        detail = f"{waits_s:.1f} s" if kind in _LATER else "silently" * silent
        if kind and not self._draws.admits(kind, where, number, detail, [message.method]):
            kind = ""
        return kind, waits_s, silent, there_s, back_s

    async def _ask(self, message: Message, send: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await send()
        except Gone:
            if message.target in self._silent:
                await self._vanish()
            raise

    async def _deliver_later(
        self, message: Message, send: Callable[[], Awaitable[Any]], delay_s: float
    ) -> None:
        self.in_the_air += 1
        await asyncio.sleep(delay_s)
        self._meet_late("late repeat", message)
        self._say(message, "asks again")
        with contextlib.suppress(Exception):  # nobody waits for this one
            await send()
        self.in_the_air -= 1

    async def _lose(self, message: Message, silent: bool) -> None:
        if silent:
            await self._vanish()
        self._say(message, "lost its connection to")
        raise Unavailable("the connection broke")

    async def _vanish(self) -> None:
        """The message is gone without a trace; its caller waits until its deadline."""
        self.in_the_air -= 1
        await asyncio.get_running_loop().create_future()

    async def _pass(self, message: Message) -> None:
        """Go through, unless the way is cut."""
        ends = {message.caller or "outside", message.target}
        for cut, silent in self._cuts.values():
            if ends == cut:
                self._draws.meet("cut", message.method)
                await self._lose(message, silent)

    def _meet_late(self, kind: str, message: Message) -> None:
        if message.answer.done():  # nobody waits for it any more
            self._draws.meet(kind, message.method)

    def _say(self, message: Message, what: str, more: str = "") -> None:
        key = f" [{message.key}]" * bool(message.key)
        who = f"{message.caller or 'outside'} {what} {message.target}"
        self._draws.note(f"{who}: {message.method}{key} {more}".rstrip())


def _told(answered: Any) -> str:
    if isinstance(answered, Status):
        error = from_status(answered)
        return f"{error.outcome.value} {error.reason}"
    return "ok"
