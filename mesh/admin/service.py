"""`mesh.admin.v1.AdminService`: a process and its calls, seen and changed by operators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from grpc import StatusCode

from ..call import Method, Principal
from ..errors import InvalidArgument
from ..layers.circuit import Mode
from ..layers.faults import Fault
from ..layers.identity import OPERATOR, require
from ..node import Node
from ..runtime.logs import log
from ..service import Context, Service
from ..target import Target
from . import describe
from .v1 import admin_pb2 as pb

#: The largest share of a method's calls that an operator lets fail: some are to get through.
SHARE_MAX = 0.5


def admin_service(
    node: Node,
    own: Target,
    calls: Sequence[tuple[str, Method]],
    settings: Iterable[pb.Setting] = (),
) -> Service[Any]:
    """Return the service of one process.

    Args:
        node: the process.
        own: what its server's methods share.
        calls: the (target, method)s that it calls.
        settings: what it is configured with.
    """
    service: Service[Any] = Service(pb.DESCRIPTOR.services_by_name["AdminService"])
    admin = _Admin(node, own, calls, tuple(settings))
    for call in (
        admin.get_status,
        admin.set_circuit_mode,
        admin.inject_fault,
        admin.clear_faults,
    ):
        service.call(call)
    return service


class _Admin:
    def __init__(
        self,
        node: Node,
        own: Target,
        calls: Sequence[tuple[str, Method]],
        settings: Sequence[pb.Setting],
    ) -> None:
        self._node = node
        self._own = own
        self._calls = calls
        self._settings = settings

    async def get_status(
        self, ctx: Context[Any], request: pb.GetStatusRequest
    ) -> pb.GetStatusResponse:
        require(ctx.principal, OPERATOR)
        return describe.status(self._node, self._own, self._settings)

    async def set_circuit_mode(
        self, ctx: Context[Any], request: pb.SetCircuitModeRequest
    ) -> pb.SetCircuitModeResponse:
        require(ctx.principal, OPERATOR)
        targets = [target for target, _ in self._calls]
        if request.target not in targets:
            raise _unknown("target", request.target, targets)
        methods = [method for target, method in self._calls if target == request.target]
        method = _full_name(methods, request.method, "method") if request.method else ""
        mode = Mode[pb.Circuit.Mode.Name(request.mode)]
        target = self._node.target(request.target)
        effects = describe.effects_of(target, mode, request.address, method)
        if not request.validate_only:
            target.set_mode(mode, request.address, method, request.reason)
            where = f"{request.target} {request.address} {method}"
            self._audit(ctx.principal, mode.value, " ".join(where.split()), request.reason)
        return pb.SetCircuitModeResponse(effects=effects)

    async def inject_fault(
        self, ctx: Context[Any], request: pb.InjectFaultRequest
    ) -> pb.InjectFaultResponse:
        require(ctx.principal, OPERATOR)
        asked = request.fault
        method = _full_name([method for _, method in self._calls], asked.method, "fault.method")
        try:
            fault = _fault(asked)
            if not request.validate_only:
                self._node.faults.inject(method, fault)
        except ValueError as error:
            raise InvalidArgument(violations=[("fault", str(error))]) from None
        if not request.validate_only:
            self._audit(ctx.principal, "fault", method, request.reason)
        return pb.InjectFaultResponse(effects=describe.effects_of_fault(method, fault))

    async def clear_faults(
        self, ctx: Context[Any], request: pb.ClearFaultsRequest
    ) -> pb.ClearFaultsResponse:
        require(ctx.principal, OPERATOR)
        self._audit(ctx.principal, "clear_faults", "", request.reason)
        return pb.ClearFaultsResponse(cleared=self._node.faults.clear())

    def _audit(self, who: Principal, action: str, what: str, why: str) -> None:
        log.warning("operator", by=who.name, action=action, what=what, reason=why)
        self._node.metrics.operator_actions.labels(action, who.name).inc()


def setting(facts: tuple[str, str, str, str, str]) -> pb.Setting:
    """Return (target, method, name, value, source) as it goes over the wire."""
    target, method, name, value, source = facts
    return pb.Setting(target=target, method=method, name=name, value=value, source=source)


def _fault(asked: pb.Fault) -> Fault:
    if asked.code and asked.code not in StatusCode.__members__:
        raise ValueError(f"code: one of {', '.join(StatusCode.__members__)}, not {asked.code!r}")
    if asked.share > SHARE_MAX:
        raise ValueError(f"share: at most {SHARE_MAX:g} is allowed")
    return Fault(
        code=StatusCode[asked.code] if asked.code else None,
        delay_s=asked.delay_seconds,
        share=asked.share,
        after_execution=asked.after_execution,
        duration_s=asked.ends_in_seconds,
    )


def _full_name(methods: Iterable[Method], name: str, field: str) -> str:
    """Return the full name of the method that is called *name*, bare or in full."""
    known = {method.full_name: method.name for method in methods}
    meant = [full for full, bare in known.items() if name in (full, bare)]
    if len(meant) != 1:
        raise _unknown(field, name, meant or known.values())
    return meant[0]


def _unknown(field: str, name: str, there: Iterable[str]) -> InvalidArgument:
    known = ", ".join(sorted(set(there))) or "none"
    return InvalidArgument(
        violations=[(field, f"this process calls no {name!r}; there are {known}")]
    )
