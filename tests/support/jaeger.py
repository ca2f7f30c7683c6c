"""The real Jaeger, for tests of what reaches it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from observability.jaeger.build import BINARY, ensure_jaeger


def built_jaeger() -> Path:
    """Return the binary; without one the test is skipped.

    CI builds it beside the other tests: there it is waited for.
    """
    if os.environ.get("REQUIRE_ALL") == "1":
        return ensure_jaeger()
    if not BINARY.exists():
        pytest.skip(f"no Jaeger at {BINARY}: `make jaeger` builds it")
    return BINARY
