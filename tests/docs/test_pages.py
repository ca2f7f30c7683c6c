"""Every block of every page is run, used, or compared with what it quotes.

`sh` is typed into a shell that the page keeps. `python`, `proto`, `sql` and `toml` whose first line
is `# FILE` are written to that file; with `# from FILE` they must quote this repository's. Other
`python` is run as if typed into `python -m asyncio`. `text output` must have been printed by the
block before, `text output of: make run` by that; `text` alone is a picture. Anything else fails.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import elsewhere
from tests.docs.fences import PAGES, ROOT, Fence, fences
from tests.docs.first_day import FirstDay, make_run
from tests.docs.shell import Shell
from tests.docs.shown import missing

FILES = ("python", "proto", "sql", "toml")
#: Pages that go on from others are read after them.
CHAINS = [["docs/write-a-service.md", "docs/write-a-saga.md", "docs/simulation.md"]]
CHAINS += [[page] for page in PAGES if page not in CHAINS[0] and [*fences(page)]]
SNIPPET = Path(__file__).with_name("snippet.py")


@pytest.fixture(scope="session")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirstDay]:
    with make_run(tmp_path_factory.mktemp("docs")) as day:
        yield day


class Reader:
    """Does what pages say, one block after the other."""

    def __init__(self, day: FirstDay, scratch: Path) -> None:
        self._day = day
        self._scratch = scratch
        self.shell = Shell(day.checkout, day.environment, scratch)
        self._printed = ""

    def follow(self, fence: Fence) -> None:
        if fence.info == "sh":
            if not set(fence.commands) <= elsewhere.ELSEWHERE.keys():
                self._printed = self.shell.run(self._day.moved(fence.body))
        elif fence.info in FILES and fence.quotes:
            check_quote(fence, (ROOT / fence.path).read_text())
        elif fence.info in FILES and fence.path:
            file = self.shell.folder / fence.path
            file.parent.mkdir(parents=True, exist_ok=True)
            assert not file.resolve().is_relative_to(ROOT), f"{fence.where} would write {file}"
            file.write_text(fence.body)
        elif fence.info == "python":
            snippet = self._scratch / "snippet.py"
            snippet.write_text(self._day.moved(fence.body))
            command = shlex.join([sys.executable, str(SNIPPET), str(snippet)])
            self._printed = self.shell.run(command)
        elif fence.info == "text output of: make run":
            check_shown(fence, self._day.printed())
        elif fence.info == "text output":
            check_shown(fence, self._printed)
        else:
            assert fence.info == "text", f"{fence.where}: nothing runs ```{fence.info}"


def check_quote(fence: Fence, source: str) -> None:
    """The block's lines are the file's, in order; between them it may leave out some."""
    rest = iter(source.splitlines())
    for line in fence.body.splitlines()[1:]:
        assert not line or line in rest, f"{fence.where}: {fence.path} has no {line!r} (any more)"


def check_shown(fence: Fence, printed: str) -> None:
    lines = missing(fence.body, printed)
    assert not lines, f"{fence.where} shows {lines}, printed was:\n{printed}"


@pytest.mark.parametrize("chain", CHAINS, ids="+".join)
def test_a_reader_can_do_what_the_page_says(
    chain: list[str], day: FirstDay, tmp_path: Path
) -> None:
    reader = Reader(day, tmp_path)
    try:
        for page in chain:
            for fence in fences(page):
                try:
                    reader.follow(fence)
                except AssertionError as error:
                    raise AssertionError(f"{fence.where}: {error}") from error
    finally:
        reader.shell.close()


@pytest.mark.parametrize("command", elsewhere.ELSEWHERE)
def test_what_is_not_run_here_would_run(command: str) -> None:
    elsewhere.check(command)


def test_only_what_the_pages_say_is_excused() -> None:
    said = {command for page in PAGES for fence in fences(page) for command in fence.commands}
    assert elsewhere.ELSEWHERE.keys() <= said
