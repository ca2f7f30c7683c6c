"""Envoy's vocabulary, as far as several modules here need it."""

from __future__ import annotations

from typing import Any


def type_of(message: str) -> str:
    """Return what `@type` says of an Envoy message, named from below `envoy.`."""
    return f"type.googleapis.com/envoy.{message}"


def typed(name: str, message: str, **config: Any) -> dict[str, Any]:
    """Return an extension's configuration."""
    return {"name": name, "typed_config": {"@type": type_of(message), **config}}


def http_filter(name: str, message: str, **config: Any) -> dict[str, Any]:
    """Return an HTTP filter's configuration."""
    return typed(name, f"extensions.filters.http.{name}.v3.{message}", **config)


def header(name: str, value: str) -> dict[str, Any]:
    """Return a header to set, whatever it was; a value that comes out empty sets none."""
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def set_header(name: str, value: str) -> dict[str, Any]:
    """Return the same as a mutation."""
    return {"append": header(name, value)}


def remove_headers(prefix: str) -> dict[str, Any]:
    """Return the mutation that removes every header whose name begins so."""
    return {"remove_on_match": {"key_matcher": {"prefix": prefix}}}
