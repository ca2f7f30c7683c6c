"""The fenced blocks of the pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"))
)

_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: A first line that is a comment and names a file: `# wallet/service.py`, `// …`, `-- from …`.
_PATH = re.compile(r"(?:#|//|--) (from )?([\w./-]+\.\w+)\n")


@dataclass(frozen=True)
class Fence:
    """One block: what is behind its opening, and what is in it."""

    page: str
    line: int
    info: str
    body: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def path(self) -> str:
        """The file that the block says it is, or is from; "" if it says nothing."""
        named = _PATH.match(self.body)
        return named[2] if named else ""

    @property
    def quotes(self) -> bool:
        """Whether the block is from a file of this repository."""
        named = _PATH.match(self.body)
        return bool(named and named[1])

    @property
    def commands(self) -> list[str]:
        """A shell block's commands, lines that go on in the next one joined."""
        return self.body.replace("\\\n", " ").splitlines()


def read(page: str) -> str:
    return (ROOT / page).read_text()


def fences(page: str) -> Iterator[Fence]:
    text = read(page)
    assert len(re.findall(r"^\s*```", text, re.MULTILINE)) == 2 * len(_FENCE.findall(text)), page
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Fence(page, line, found[1].strip(), found[2])
