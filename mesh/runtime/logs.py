"""Structured logs: one JSON object a line, each with its correlation and trace id.

They go through the standard library's logger ``mesh``, so that in somebody else's process they
obey that process's logging; our own processes call `configure_logging`.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Any

import structlog
from opentelemetry import trace
from structlog.typing import EventDict

from ..scope import scope

_logger = logging.getLogger("mesh")


#: Whether debug lines are wanted: ask before making one on a hot path.
debugging = partial(_logger.isEnabledFor, logging.DEBUG)


def _correlate(_: Any, __: str, event: EventDict) -> EventDict:
    if correlation_id := scope.get().correlation_id:
        event.setdefault("correlation_id", correlation_id)
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event.setdefault("trace_id", f"{span.trace_id:032x}")
    return event


#: The mesh's logger: ``log.info("what happened", key=value)``.
log: Any = structlog.wrap_logger(
    _logger,
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[
        structlog.stdlib.filter_by_level,
        _correlate,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ],
)


def configure_logging(level: str = "INFO") -> None:
    """Send this process's logs to stderr; once, before gRPC starts.

    Raises:
        ValueError: no such level.
    """
    levels = logging.getLevelNamesMapping()
    if level.upper() not in levels:
        raise ValueError(f"LOG_LEVEL={level}: one of {', '.join(levels)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _logger.handlers[:] = [handler]
    _logger.setLevel(levels[level.upper()])
    _logger.propagate = False
