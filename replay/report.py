"""The end of a run: what the services say, beside what they should. Pure, but for printing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from replay.books import Books, Summary, differences, summarize
from replay.invoices import Invoices, Remark

MAX_LISTED: Final = 20  # of a kind of remark, on the terminal
MAX_IN_JSON: Final = 1000


@dataclass(frozen=True, slots=True)
class Report:
    """What a run found.

    already_placed: orders that were at their end before it. failures: orders that got no clear
    answer. is_settled: whether every saga ended while it waited. differences: where `actual` and
    `expected` differ.
    """

    file: str
    invoices: Invoices
    orders: int
    placed: int
    already_placed: int
    failures: Sequence[str]
    duration_s: float
    is_settled: bool
    actual: Books
    expected: Books
    differences: Sequence[str]

    @property
    def is_ok(self) -> bool:
        """Whether the services hold just what they should. The client's own view has no say."""
        return not self.differences

    @property
    def orders_per_s(self) -> float:
        """Orders brought to their end, by the second."""
        return self.placed / self.duration_s if self.duration_s > 0 else 0.0


def compare(actual: Books, expected: Books) -> tuple[str, ...]:
    """Where the books differ, a sentence each."""
    return tuple(differences(actual, expected))


def to_json(report: Report) -> dict[str, Any]:
    """The report as one JSON object; amounts are strings, lists of remarks are bounded."""
    return {
        "ok": report.is_ok,
        "file": report.file,
        "digest": report.invoices.digest,
        "orders": report.orders,
        "placed": report.placed,
        "already_placed": report.already_placed,
        "duration_s": round(report.duration_s, 3),
        "orders_per_s": round(report.orders_per_s, 1),
        "settled": report.is_settled,
        "services": summarize(report.actual),
        "expected": summarize(report.expected),
        "difference_count": len(report.differences),
        "differences": list(report.differences[:MAX_IN_JSON]),
        "failures": list(report.failures[:MAX_IN_JSON]),
        "malformed_count": len(report.invoices.malformed),
        "malformed": [
            {"line": remark.line_number, "reason": remark.text}
            for remark in report.invoices.malformed[:MAX_IN_JSON]
        ],
    }


def print_report(report: Report, console: Console) -> None:
    """Print the table, then whatever is not as it should be."""
    console.print(_table(report))
    _print_list(console, "without a clear answer", report.failures)
    if not report.is_settled:
        console.print("[yellow]some sagas are still on their way[/]")
    _print_list(console, "not as expected", report.differences)
    pace = f"{report.placed} orders in {report.duration_s:.1f} s, {report.orders_per_s:.0f} /s"
    counts = [pace] if report.placed else []
    if report.already_placed:
        counts.append(f"{report.already_placed} already placed")
    verdict = "[green]everything as expected[/]" if report.is_ok else "[red]not as expected[/]"
    console.print("; ".join([*counts, verdict]), highlight=False)


def print_remarks(invoices: Invoices, say: Console) -> None:
    """Print which rows were left out, and which were taken with something assumed."""
    _print_list(say, "malformed, left out", [_line(remark) for remark in invoices.malformed])
    _print_list(say, "taken", [_line(remark) for remark in invoices.notices])


def _line(remark: Remark) -> str:
    return f"line {remark.line_number}: {remark.text}"


def _print_list(console: Console, title: str, texts: Sequence[str]) -> None:
    if not texts:
        return
    console.print(f"{len(texts)} {title}:", style="yellow")
    for text in texts[:MAX_LISTED]:
        console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)
    if len(texts) > MAX_LISTED:
        console.print(f"  and {len(texts) - MAX_LISTED} more")


def _table(report: Report) -> Table:
    table = Table(title="What the services say")
    table.add_column("")
    table.add_column("found", justify="right")
    table.add_column("expected", justify="right")
    actual = dict(_rows(summarize(report.actual)))
    expected = dict(_rows(summarize(report.expected)))
    section = ""
    for name in dict.fromkeys([*expected, *actual]):
        if section and not name.startswith(section):
            table.add_section()
        section = name.split(" ", 1)[0]
        found, wanted = actual.get(name, "0"), expected.get(name, "0")
        style = "" if found == wanted else "red"
        table.add_row(name, Text(found, style=style), Text(wanted))
    return table


def _rows(summary: Summary, prefix: str = "") -> Iterator[tuple[str, str]]:
    """`{"orders": {"CONFIRMED": 3}}` as `orders CONFIRMED`, `3`."""
    for name, value in summary.items():
        label = f"{prefix} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            yield from _rows(value, label)
        else:
            yield label, f"{value:,}" if isinstance(value, int) else value
