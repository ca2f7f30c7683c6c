"""Progress on standard error: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

LINE_EVERY_S: Final = 5.0


class Progress:
    """Shows how far the tasks of a run are."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)

    def say(self, text: str) -> None:
        """Print a line of text as it is."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        """A task of `total` parts; call the result after each."""
        task = self._bar if self._console.is_terminal else self._lines
        with task(name, total) as done:
            yield done

    @contextmanager
    def counters(self) -> Iterator[Callable[[str, int], None]]:
        """Counts of what has no known end: call the result with a name and how many more."""
        show = self._counting_bars if self._console.is_terminal else self._counting_lines
        with show() as tell:
            yield tell

    @contextmanager
    def _counting_bars(self) -> Iterator[Callable[[str, int], None]]:
        columns = (
            TextColumn("{task.description:<12}"),
            BarColumn(),
            TextColumn("{task.completed:,}"),
        )
        tasks: dict[str, TaskID] = {}
        with Bars(*columns, TimeElapsedColumn(), console=self._console) as bars:

            def tell(name: str, count: int) -> None:
                if name not in tasks:
                    for done in tasks.values():
                        bars.update(done, total=bars.tasks[done].completed)
                    tasks[name] = bars.add_task(name, total=None)
                bars.advance(tasks[name], count)

            yield tell

    @contextmanager
    def _counting_lines(self) -> Iterator[Callable[[str, int], None]]:
        start = next_line = time.monotonic()
        counts: Counter[str] = Counter()

        def tell(name: str, count: int) -> None:
            nonlocal next_line
            counts[name] += count
            if time.monotonic() >= next_line + LINE_EVERY_S:
                next_line = time.monotonic()
                self.say(f"{name}: {counts[name]:,} after {next_line - start:.0f} s")

        yield tell

    @contextmanager
    def _bar(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        columns = (
            TextColumn(f"{name:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=self._console) as bars:
            task = bars.add_task(name, total=total)
            yield lambda: bars.advance(task)

    @contextmanager
    def _lines(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        start = next_line = time.monotonic()
        count = 0

        def done() -> None:
            nonlocal count, next_line
            count += 1
            if time.monotonic() >= next_line + LINE_EVERY_S:
                next_line = time.monotonic()
                self.say(f"{name}: {count} of {total}")

        try:
            yield done
        finally:
            self.say(f"{name}: {count} of {total} in {time.monotonic() - start:.1f} s")
