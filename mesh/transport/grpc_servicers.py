"""What the server stack knows of servicers as they come with gRPC, aio and sync.

They say how a call ended in ways of their own: ``abort``, ``set_code``, an exception. The layers
see each as an error with its status; the wire is left as the servicer had it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import grpc
from grpc import StatusCode

from ..call import Call, Method
from ..errors import MeshError
from ..metadata import STATUS_DETAILS
from ..runtime.clock import Runtime
from ..runtime.logs import log
from ..status import CODES, to_status
from .grpc_server import pushback
from .port import incoming

#: gRPC's own services: whoever asks for health gets an answer in any case.
EXEMPT = ("/grpc.health.", "/grpc.reflection.", "/grpc.channelz.")
#: A deadline further away is gRPC's way to say that there is none, in seconds.
_FAR_S = 1e8


#: A servicer's function: ``(request or requests, context)``.
Behaviour: TypeAlias = Callable[..., Any]


class Served(NamedTuple):
    """A call's carrier at a server: what is to be called, and with what."""

    behaviour: Behaviour
    context: Any


class Said(MeshError):
    """The servicer told gRPC by itself how the call ended.

    `raised` is gRPC's own exception, to be raised again; `reply` what the servicer returned.
    """

    raised: BaseException | None = None
    reply: Any = None


class Handlers:
    """The handlers of a server with layers around them, each made once.

    What *around* returns for (handler, method, behaviour) stands for the handler.
    """

    def __init__(self, around: Callable[[Any, Method, Behaviour], Any]) -> None:
        self._around = around
        self._made: dict[str, tuple[Any, Any]] = {}

    def of(self, handler: Any, path: str) -> Any:
        """Return what is to serve *path* in the place of *handler*."""
        original, made = self._made.get(path, (None, None))
        if handler is None or handler is original:
            return made if handler else None
        method = _described(path)
        behaviour = getattr(handler, method.kind.name.lower()) if method else None
        if method is None or behaviour is None:
            return handler
        made = self._around(handler, method, behaviour)
        self._made[path] = handler, made  # there are no more than methods
        return made


def _described(path: str) -> Method | None:
    """Return the method at *path*; None if the layers have no business with it."""
    if path.startswith(EXEMPT):
        return None
    try:
        return Method.at(path)
    except KeyError:
        log.warning("no imported stub describes this method: it has no layers", path=path)
        return None


def arrived(method: Method, request: Any, served: Served, runtime: Runtime) -> Call:
    """Return the call that gRPC brings."""
    context = served.context
    entries = context.invocation_metadata() or ()
    metadata = {name: value for name, value in entries if isinstance(value, str)}
    remaining_s = context.time_remaining()
    if remaining_s is not None and remaining_s > _FAR_S:
        remaining_s = None
    return incoming(method, request, metadata, remaining_s, runtime)._replace(carrier=served)


def meant(context: Any, error: Exception, *, aborted: bool) -> Exception:
    """Return what the layers are to see of *error*, which a servicer raised."""
    code = _status_code(context.code())
    if aborted:
        said = _said(context, code or StatusCode.UNKNOWN)
        said.raised = error
        return said
    if code is not None and not isinstance(error, MeshError):
        log.error("handler failed", status=code.name, exc_info=error)
        return _said(context, code)
    return error


def check(context: Any, reply: Any = None) -> None:
    """Raise what the servicer told gRPC before it returned *reply*, if that is no success."""
    code = _status_code(context.code())
    if code is not None:
        said = _said(context, code)
        said.reply = reply
        raise said


def trailing(context: Any, error: MeshError) -> tuple[tuple[str, Any], ...]:
    """Return what ends the call: what the servicer gave, and what there is to say of *error*."""
    given = tuple(context.trailing_metadata() or ())
    if isinstance(error, Said):
        return given
    details = to_status(error).SerializeToString()
    return (*given, (STATUS_DETAILS, details), *pushback(error.retry_after_s))


def is_async(behaviour: Behaviour) -> bool:
    """Whether gRPC would await *behaviour* rather than give it a thread."""
    return inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)


def with_behaviour(handler: Any, method: Method, behaviour: Behaviour) -> Any:
    """Return *handler* with another *behaviour*."""
    make = getattr(grpc, f"{method.kind.name.lower()}_rpc_method_handler")
    return make(behaviour, handler.request_deserializer, handler.response_serializer)


def _status_code(code: Any) -> StatusCode | None:
    if isinstance(code, int):
        code = CODES.get(code, StatusCode.UNKNOWN)
    return None if code is StatusCode.OK else code


def _said(context: Any, code: StatusCode) -> Said:
    details = context.details() or ""
    text = details.decode(errors="replace") if isinstance(details, bytes) else details
    return Said(text, status=code, reason=code.name)
