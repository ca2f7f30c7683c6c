"""What your services reach that is not of the mesh: a mail server, a company's HTTP API.

Give the service clients that come here instead of opening a socket::

    class Mail:
        async def send(self, mail: EmailMessage) -> str:
            return await reach("mail", "send", lambda: box.take(mail))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from .network import Message
from .process import running_as

if TYPE_CHECKING:
    from .life import Life

T = TypeVar("T")


async def reach(system: str, method: str, serve: Callable[[], T], key: str = "") -> T:
    """Have *system* do *serve*, over a network on which messages are lost, late and repeated.

    Args:
        system: a name, for the story of a run.
        method: what it is asked.
        serve: what it does; each call of it is the request arriving once.
        key: by which it may know a request again, for the story.

    Raises:
        Unavailable: there was no answer; whether it was done is unknown.
    """
    life = cast("Life", running_as.get())
    message = Message(life.name, system, method, key)

    async def send() -> T:
        return serve()

    answered: T = await life.network.pass_on(message, send)
    return answered
