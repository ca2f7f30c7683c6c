"""What goes wrong on purpose: the first calls that a server gets, as many as FAIL_FIRST says."""

from __future__ import annotations

import itertools
import os

_CALLS = itertools.count()


def fails() -> bool:
    """Whether this call is to fail."""
    return next(_CALLS) < int(os.environ.get("FAIL_FIRST", "0"))
