"""What users of the library hold on to, against `public_api.txt`: a change of it is a decision.

To accept one, write what the test shows into the file, and say it in CHANGELOG.md.
"""

import difflib
import importlib
import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Any, Generic

FILE = Path(__file__).with_name("public_api.txt")
#: Module -> its public names; None: its `__all__`.
SURFACE: dict[str, list[str] | None] = {
    "mesh": None,
    "mesh.saga": None,
    "mesh.service": ["Context", "Effect", "Service"],
    "mesh.dial": ["DeclarationError", "Dial"],
    "mesh.storage.port": ["Store", "Tx"],
    "mesh.errors": [
        "AlreadyExists",
        "DeadlineExceeded",
        "Expired",
        "Internal",
        "InvalidArgument",
        "KeyInFlight",
        "NotExecuted",
        "NotFound",
        "Outcome",
        "Overloaded",
        "PermissionDenied",
        "Unauthenticated",
        "Unavailable",
        "UndeclaredCall",
    ],
    "mesh.testing.cluster": ["Cluster", "Faults", "Point"],
    "mesh.testing.loop": ["run_virtual"],
    "mesh.testing.simulation": ["Result", "Simulation", "run_seed"],
    "mesh.testing.campaign": ["Report", "simulate"],
    "mesh.testing.outside": ["reach"],
    "mesh.testing.replay": None,
}


def test_the_public_api_is_what_was_agreed() -> None:
    found = "\n".join(describe_surface()) + "\n"
    changes = difflib.unified_diff(
        FILE.read_text().splitlines(), found.splitlines(), "agreed", "found", lineterm=""
    )
    assert found == FILE.read_text(), "\n".join(changes)


def describe_surface() -> Iterator[str]:
    for module_name, names in SURFACE.items():
        module = importlib.import_module(module_name)
        for name in sorted(module.__all__ if names is None else names):
            yield from describe(f"{module_name}.{name}", getattr(module, name))


def describe(name: str, value: Any) -> Iterator[str]:
    """A line for a function; for a class, its bases, then a line for each thing to call or ask."""
    if not inspect.isclass(value):
        yield f"{name}{parameters(value)}"
        return
    bases = ", ".join(base.__name__ for base in value.__bases__ if base not in (object, Generic))
    called = inspect.isfunction(value.__init__) and not issubclass(value, Enum)
    made = parameters(value) if called and "Protocol" not in bases else ""
    yield f"{name}{made}: {bases}".removesuffix(": ")
    own = (value,) if issubclass(value, Enum) else ()
    fields = getattr(value, "__dataclass_fields__", {})  # a default that is a function is no method
    for member, attribute in sorted(vars(value).items()):
        asked = isinstance(attribute, (FunctionType, staticmethod, property, *own))
        if asked and not member.startswith("_") and member not in fields:
            yield f"    .{member}{parameters(attribute)}"


def parameters(value: Any) -> str:
    """Names and defaults; "" of what is not called. Types are mypy's business."""
    if isinstance(value, staticmethod):
        value = value.__func__
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        return ""
    signature = inspect.signature(value)
    shown = [
        p.replace(
            annotation=p.empty,
            default=p.default if isinstance(p.default, str | int | float | None) else ...,
        )
        if p.default is not p.empty
        else p.replace(annotation=p.empty)
        for p in signature.parameters.values()
        if p.name != "self"
    ]
    plain = signature.replace(parameters=shown, return_annotation=signature.empty)
    return str(plain).replace("Ellipsis", "...")
