"""Which traces are recorded: OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: (follows the caller's decision, the share of the others; None: from the argument).
_SAMPLERS: Mapping[str, tuple[bool, float | None]] = {
    "always_on": (False, 1.0),
    "always_off": (False, 0.0),
    "traceidratio": (False, None),
    "parentbased_always_on": (True, 1.0),
    "parentbased_always_off": (True, 0.0),
    "parentbased_traceidratio": (True, None),
}
_LOW_64_BITS = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Sampling:
    """Record the share `ratio` of all traces; with `parent_based`, what the caller records.

    Whether a trace belongs to the share is read from its id, as OpenTelemetry's SDKs do, so that
    processes agree without asking.
    """

    ratio: float = 1.0
    parent_based: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.ratio <= 1.0:
            raise ValueError(f"the share of traces to record is from 0 to 1, not {self.ratio}")

    def records(self, trace_id: int) -> bool:
        """Whether the trace is one of the share."""
        return (trace_id & _LOW_64_BITS) < round(self.ratio * (_LOW_64_BITS + 1))

    @staticmethod
    def of(environ: Mapping[str, str]) -> Sampling:
        """Return what *environ* asks for.

        Raises:
            ValueError: there is no such sampler, or its argument is no share.
        """
        name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
        if name not in _SAMPLERS:
            raise ValueError(f"OTEL_TRACES_SAMPLER={name}: one of {', '.join(_SAMPLERS)}")
        parent_based, ratio = _SAMPLERS[name]
        if ratio is None:
            argument = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1.0"
            try:
                return Sampling(float(argument), parent_based)
            except ValueError:
                found = f"OTEL_TRACES_SAMPLER_ARG={argument}: a share from 0 to 1"
                raise ValueError(found) from None
        return Sampling(ratio, parent_based)
