"""Validation: requests obey the `buf.validate` rules of their contract."""

from __future__ import annotations

import protovalidate
from google.protobuf.message import Message

from ..call import Call, Method, Prepare
from ..errors import InvalidArgument

#: Of a request that breaks many rules at many places, this many are told.
VIOLATIONS_MAX = 20


class Validate(Prepare):
    """Refuse a request that breaks its contract, naming the fields and never their values."""

    def prepare(self, call: Call) -> Call:
        """Check the first, and for most methods only, message."""
        validate(call.request)
        return call

    def warm_up(self, methods: list[Method]) -> None:
        """Compile the rules of *methods* now rather than in the first call of each."""
        for method in methods:
            protovalidate.collect_violations(method.request_type())


def validate(request: Message) -> None:
    """Check *request*.

    Raises:
        InvalidArgument: with a violation for each broken rule.
    """
    violations = protovalidate.collect_violations(request)
    if violations:
        raise InvalidArgument(
            violations=[
                (_path(v.proto.field), v.proto.message or v.proto.rule_id)
                for v in violations[:VIOLATIONS_MAX]
            ]
        )


def _path(field: object) -> str:
    """Return ``lines[3].sku`` of a `buf.validate.FieldPath`."""
    parts = []
    for element in getattr(field, "elements", ()):
        index = getattr(element, "subscript", None)
        parts.append(element.field_name + (f"[{index.value}]" if index is not None else ""))
    return ".".join(parts)
