"""Validation: requests obey the `buf.validate` rules of their contract."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import protovalidate
from google.protobuf.message import Message

from ..call import Call, Method, Prepare, StreamHandler
from ..errors import InvalidArgument

#: Of a request that breaks many rules at many places, this many are told.
VIOLATIONS_MAX = 20
_VALIDATOR = protovalidate.Validator()


class Validate(Prepare):
    """Refuse a request that breaks its contract, naming the fields and never their values."""

    def prepare(self, call: Call) -> Call:
        """Check the request."""
        violations = _VALIDATOR.collect_violations(call.request)
        if violations:
            raise _invalid(violations)
        return call

    def stream(self, inner: StreamHandler) -> StreamHandler:
        """Check the request, or each of them as the handler reads it."""
        prepared = super().stream(inner)

        def checked(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            if call.method.client_streams:
                return inner(call, _validated(requests))
            return prepared(call, requests)

        return checked


def warm_up(methods: Iterable[Method]) -> None:
    """Compile the rules of *methods* now: for some it takes 50 ms, in which nobody is served."""
    for method in methods:
        _VALIDATOR.collect_violations(method.request_type())


def validate(request: Message) -> None:
    """Check *request*.

    Raises:
        InvalidArgument: with a violation for each broken rule.
    """
    violations = _VALIDATOR.collect_violations(request)
    if violations:
        raise _invalid(violations)


def _invalid(violations: Sequence[Any]) -> InvalidArgument:
    return InvalidArgument(
        violations=[
            (_path(v.proto.field), v.proto.message or v.proto.rule_id)
            for v in violations[:VIOLATIONS_MAX]
        ]
    )


async def _validated(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        validate(request)
        yield request


def _path(field: object) -> str:
    """Return ``lines[3].sku`` or ``prices["GBP"].units`` of a `buf.validate.FieldPath`."""
    parts = []
    for element in getattr(field, "elements", ()):
        subscript = getattr(element, "subscript", None)
        # As JSON: a map's key is in quotes, and cannot pass for more of the path.
        index = "" if subscript is None else f"[{json.dumps(subscript.value)}]"
        parts.append(element.field_name + index)
    return ".".join(parts)
