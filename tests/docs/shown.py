"""Whether what a page shows is what was printed."""

from __future__ import annotations

import re
from typing import Final

#: What is another at each run.
_VARIES: Final = (
    (re.compile(r"\+?\d+(?:\.\d+)? ?(?:ns|µs|ms|s)\b"), "<time>"),
    (re.compile(r"\d+ /s\b"), "<rate>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\s+"), " "),
)


def missing(shown: str, printed: str) -> list[str]:
    """Return the lines of *shown* that *printed* does not have; `…` stands for anything."""
    real = [_masked(line) for line in printed.splitlines()]
    wanted = [line for line in shown.splitlines() if line.strip() not in ("", "…")]
    return [line for line in wanted if not any(_pattern(line).fullmatch(one) for one in real)]


def _masked(line: str) -> str:
    for pattern, name in _VARIES:
        line = pattern.sub(name, line)
    return line.strip()


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, _masked(line).split("…"))))
