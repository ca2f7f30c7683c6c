"""No test is left out of `make test` because nobody named its folder."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_folder_with_tests_is_run() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
    named = set(options.get("ini_options", options)["testpaths"])
    found = {file.relative_to(ROOT) for file in (ROOT / "tests").rglob("test_*.py")}
    assert {"/".join(file.parts[:2]) for file in found} == named
