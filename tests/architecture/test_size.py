"""No file over 300 lines and no function over 60, in what we ship: generated code aside."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("mesh", "services", "gateway", "observability", "replay")
FILE_LINES_MAX, FUNCTION_LINES_MAX = 300, 60

FILES = [
    file
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
    if "_pb2" not in file.name
]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_nothing_is_too_long_to_be_read_at_once(file: Path) -> None:
    text = file.read_text()
    lines = len(text.splitlines())
    assert lines <= FILE_LINES_MAX, f"{lines} lines"
    for function in functions(ast.parse(text)):
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= FUNCTION_LINES_MAX, f"{function.name}: {lines} lines"
