"""What the commands have in common that show something of a service, or change it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

#: How commands end that ask before they change something; for their help.
EXIT_STATUS = "Exit status: 0 done; 1 refused, not confirmed, or no answer; 2 a wrong command."


def print_lines(lines: Iterable[str]) -> None:
    """Print *lines*, for people."""
    for line in lines:
        print(line)
    sys.stdout.flush()


def print_json(message: Message, beside: Mapping[str, Any] | None = None) -> None:
    """Print *message* as one line, for programs, with the fields *beside* it."""
    fields = MessageToDict(message, preserving_proto_field_name=True)
    print(json.dumps({**(beside or {}), **fields}), flush=True)


def table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table whose columns are as wide as they must be; its head is a row."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(cells).rstrip()


def confirmed() -> bool:
    """Whether the person at the terminal wants to go on; without one, nobody does."""
    if not sys.stdin.isatty():
        print("nothing was done: say --yes to do it", file=sys.stderr)
        return False
    if input("Do this? [y/N] ").strip().lower() in ("y", "yes"):
        return True
    print("nothing was done", file=sys.stderr)
    return False
