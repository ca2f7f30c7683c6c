"""The pages' tests fail where they should."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.fences import ROOT, Fence
from tests.docs.first_day import FirstDay
from tests.docs.shell import Shell
from tests.docs.shown import missing
from tests.docs.test_pages import Reader
from tests.support.waiting import eventually


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(FirstDay(tmp_path, os.environ, 0, tmp_path / "log"), tmp_path)
    yield reader
    reader.shell.close()


@pytest.mark.parametrize(
    ("info", "body"),
    [
        ("sh", "false | true\ntrue\n"),
        ("sh", "exit 3\n"),
        ("sh", "echo $UNSET\n"),
        ("python", "1 / 0\n"),
        ("python", "# from mesh/__init__.py\nno such line\n"),
        ("toml", "a = 1\n"),
        ("bash", "true\n"),
        ("", "true\n"),
        ("text output", "never printed\n"),
    ],
)
def test_a_block_that_does_not_hold_fails(reader: Reader, info: str, body: str) -> None:
    with pytest.raises(AssertionError):
        reader.follow(Fence("page", 1, info, body))


def test_what_is_shown_must_have_been_printed(reader: Reader) -> None:
    reader.follow(Fence("page", 1, "sh", "mkdir sub; cd sub; X='took 3.1 ms'\n"))
    reader.follow(Fence("page", 5, "python", "# more/made.py\nprint(await_ := 1)\n"))
    reader.follow(Fence("page", 9, "sh", "python3 more/made.py; echo $X; pwd\n"))
    reader.follow(Fence("page", 13, "text output", "1\ntook 94 ms\n…/sub\n"))
    with pytest.raises(AssertionError, match="took 94 s"):
        reader.follow(Fence("page", 17, "text output", "took 94 s of them\n"))


def test_a_jobs_end_is_waited_for(tmp_path: Path) -> None:
    shell = Shell(tmp_path, os.environ, tmp_path)
    job = "trap 'sleep 0.2; touch ended; exit' TERM; touch begun; while :; do sleep 0.05; done"
    shell.run(f'sh -c "{job}" &\nuntil test -e begun; do sleep 0.05; done\n')
    shell.close()
    assert (tmp_path / "ended").exists()


def test_killed_it_takes_its_jobs_with_it(tmp_path: Path) -> None:
    job = "trap 'touch ended; exit' TERM; touch begun; while :; do sleep 0.05; done"
    (tmp_path / "job.sh").write_text(job)
    block = "sh job.sh >/dev/null 2>&1 &\nuntil test -e begun; do sleep 0.05; done\n"
    reader = (
        "import os, pathlib, time; from tests.docs.shell import Shell\n"
        f"here = pathlib.Path({str(tmp_path)!r}); shell = Shell(here, os.environ, here)\n"
        f"shell.run({block!r}); print('runs', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", reader], cwd=ROOT, stdout=subprocess.PIPE) as test:
        assert test.stdout
        assert test.stdout.readline() == b"runs\n"
        test.kill()
    eventually((tmp_path / "ended").exists)


def test_numbers_must_be_right_and_times_need_not() -> None:
    assert missing("121 orders in 4.3 s", "121 orders in  900 ms\n") == []
    assert missing("121 orders in 4.3 s", "120 orders in 4.3 s\n") != []
