"""Structured logs: one JSON object a line on stderr, each with its correlation and trace id."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from opentelemetry import trace
from structlog.typing import EventDict

from ..scope import scope

log: Any = structlog.get_logger("mesh")


def _correlate(_: Any, __: str, event: EventDict) -> EventDict:
    if correlation_id := scope.get().correlation_id:
        event.setdefault("correlation_id", correlation_id)
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event.setdefault("trace_id", f"{span.trace_id:032x}")
    return event


def configure_logging(service: str, level: str = "INFO") -> None:
    """Set up this process's logs; once, before gRPC starts.

    Raises:
        ValueError: no such level.
    """
    levels = logging.getLevelNamesMapping()
    if level.upper() not in levels:
        raise ValueError(f"LOG_LEVEL={level}: one of {', '.join(levels)}")

    def name_service(_: Any, __: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    structlog.configure(
        processors=[
            name_service,
            _correlate,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
