"""The far end of a stack under test: it answers by a script and keeps what reached it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from mesh.call import Call
from tests.support.echo import EchoReply


class Target:
    """Gives its answers in order, then empty replies. An exception among them is raised.

    For streams an answer is a list of messages, of which an exception may be the last.
    """

    def __init__(self, *answers: Any) -> None:
        self._answers = iter(answers)
        self.calls: list[Call] = []
        self.left = asyncio.Event()

    async def unary(self, call: Call) -> Any:
        self.calls.append(call)
        answer = next(self._answers, None)
        if isinstance(answer, BaseException):
            raise answer
        return EchoReply() if answer is None else answer

    async def stream(self, call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self.calls.append(call)
        try:
            for message in next(self._answers, [EchoReply()]):
                if isinstance(message, BaseException):
                    raise message
                yield message
        finally:
            self.left.set()


async def forever(_: Call) -> Any:
    """Answer never; end only by being cancelled."""
    await asyncio.get_running_loop().create_future()
