"""Choose the address for each attempt: one that can be reached, then the one least busy.

Another attempt of a call goes elsewhere, and equally busy addresses take turns. One whose circuit
is open is passed over, which makes the circuit breaker the outlier ejection. One that has refused a
call for want of room comes after the others for as long as it asked for: who refuses answers at
once, and would look the least busy of all.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any

from ..call import Call, Handler, Layer, StreamHandler
from ..discovery import Directory, Listed, Reach
from ..errors import MeshError, Overloaded
from .streams import Reading

#: An address that refused comes after the others for so long; at most, and if it did not say.
REFUSED_MAX_S = 5.0
REFUSED_S = 1.0


class Endpoints:
    """The addresses of a target, and how busy they are with our calls.

    Args:
        directory: where the target is.
        reach: whether an address can be reached, as far as the transport knows.
        forget: is told of an address that is gone, once no call of ours is under way there.
        now: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        directory: Directory,
        reach: Callable[[str], Reach],
        forget: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._reach = reach
        self._forget = forget
        self._now = now
        self._known: Sequence[str] = ()
        self._turn = itertools.count(1)
        self._turns: dict[str, int] = {}
        self._under_way: Counter[str] = Counter()
        self._refusing_until: dict[str, float] = {}

    @property
    def sole(self) -> str | None:
        """The one address there ever is: nothing to choose, nothing to count."""
        if isinstance(self._directory, Listed) and len(self._directory.all) == 1:
            return self._directory.all[0]
        return None

    async def pick(self, call: Call, admits: Callable[[Call], bool]) -> Call:
        """Return *call* with the address that it goes to; `ended` is told when it is over.

        If no address is admitted, the breaker says until when. One that it went to already, as far
        as it says so, is picked only if no other can be reached and has room.
        """
        addresses = await self._directory.addresses(call.deadline)
        if addresses is not self._known:
            self._know(addresses)
        reach = {address: self._reach(address) for address in addresses}
        if max(reach.values()) > Reach.UNTRIED:
            self._directory.doubt()

        tried, refusing = call.tried or (), self._refusing()

        def cost(sent: Call) -> tuple[bool, bool, bool, int, Reach, int, int]:
            # Of equals, who was picked longest ago: so that all take over from one left out.
            address = sent.address
            reached, turn = reach[address], self._turns.get(address, 0)
            fails, full, again = reached > Reach.UNTRIED, address in refusing, tried.count(address)
            return not admits(sent), fails, full, again, reached, self._under_way[address], turn

        picked = min((call.replace(address=address) for address in addresses), key=cost)
        self._turns[picked.address] = next(self._turn)
        self._under_way[picked.address] += 1
        if call.tried is not None:
            call.tried.append(picked.address)
        return picked

    def failed(self, call: Call, error: MeshError) -> None:
        """Take note of what a picked call has failed with."""
        if error.reason == Overloaded.reason and call.address in self._known:
            asked_s = error.retry_after_s
            wait_s = REFUSED_S if asked_s is None or asked_s < 0.0 else min(asked_s, REFUSED_MAX_S)
            self._refusing_until[call.address] = self._now() + wait_s

    def ended(self, call: Call) -> None:
        """Take note that a picked call is over."""
        self._under_way[call.address] -= 1
        if not self._under_way[call.address]:
            del self._under_way[call.address]
            if call.address not in self._known:
                self._forget(call.address)

    def _refusing(self) -> Collection[str]:
        """Return who has refused a call, and is not to be asked yet."""
        if self._refusing_until:
            now = self._now()
            still = {who: until for who, until in self._refusing_until.items() if until > now}
            self._refusing_until = still
        return self._refusing_until

    def _know(self, addresses: Sequence[str]) -> None:
        gone = set(self._known) - set(addresses) - self._under_way.keys()
        self._known = addresses
        self._turns = {address: self._turns.get(address, 0) for address in addresses}
        for address in set(self._refusing_until) - set(addresses):
            del self._refusing_until[address]
        for address in gone:
            self._forget(address)


class Balance(Layer):
    """Sets `call.address`. `admits` says whether the breaker lets a call to its address through."""

    def __init__(self, endpoints: Endpoints, admits: Callable[[Call], bool]) -> None:
        self._endpoints = endpoints
        self._admits = admits

    def __call__(self, inner: Handler) -> Handler:
        """Send each call to the address chosen for it."""
        endpoints, sole = self._endpoints, self._endpoints.sole
        if sole is not None:

            def to_sole(call: Call) -> Awaitable[Any]:
                return inner(call.replace(address=sole))

            return to_sole

        async def balanced(call: Call) -> Any:
            picked = await endpoints.pick(call, self._admits)
            try:
                return await inner(picked)
            except MeshError as error:
                endpoints.failed(picked, error)
                raise
            finally:
                endpoints.ended(picked)

        return balanced

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """The same; a stream keeps its address busy until its end."""
        endpoints = self._endpoints

        async def balanced(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            picked = await endpoints.pick(call, self._admits)
            try:
                async with Reading(inner(picked, requests)) as replies:
                    async for reply in replies:
                        yield reply
            except MeshError as error:
                endpoints.failed(picked, error)
                raise
            finally:
                endpoints.ended(picked)

        return balanced
