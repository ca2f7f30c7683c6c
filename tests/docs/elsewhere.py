"""The commands of the pages that are not run here: why, and what is checked instead."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Sequence

import pytest
import yaml

from benchmarks import __main__ as bench
from benchmarks.events import __main__ as bench_events
from benchmarks.overload import __main__ as bench_overload
from benchmarks.sagas import __main__ as bench_sagas
from mesh import cli
from replay.options import read_options
from tests.docs.fences import ROOT
from tests.soak import __main__ as soak

ELSEWHERE = {
    "make run": "the fixture runs it, and the pages' commands talk to what it started",
    "make test": "these tests are part of it",
    "make run JAEGER=1": "builds Jaeger, six minutes; tests/e2e runs on it where it is built",
    "make run UP_FLAGS=--one-process": "the ports are taken by the one that is up",
    "make run STORE=postgres": "tests/e2e/test_postgres.py runs it",
    'make run STORE=postgres UP_FLAGS="--replicas user=2,order=2"': "tests/e2e/test_replicas.py",
    "make replay": "tests/e2e replays the month",
    'make replay ARGS="--concurrency 32 --decline 0.1 --short-stock 0.05"': "the same",
    "make bench": "measures for minutes",
    "make bench-events": "four minutes; in small: tests/contract/test_event_kills.py",
    "make bench-overload": "four minutes; in small: tests/unit/test_bench_overload.py",
    "make bench-sagas": "likewise; tests/unit runs the parts of it",
    "make bench-sagas ARGS=--quick": "the same",
    'make bench-sagas ARGS="--finished 1000000"': "the same",
    'make bench-sagas ARGS="--crash 10000"': "the same",
    "make soak": "tests/e2e/test_soak.py is the short form",
    "make soak KILLS=1000 SEED=7 STORE=postgres": "the same",
    "make soak-faults": "tests/disk and tests/e2e take a turn each",
    "docker compose up --build --wait": "needs Docker; tests/architecture reads the file",
    "docker compose --env-file deploy/postgres/compose.env up --build --wait": "the same",
}

#: What reads the options of the programs that make starts.
PARSERS: dict[str, Callable[[Sequence[str]], object]] = {
    "mesh": cli.parser().parse_args,
    "replay": read_options,
    "benchmarks": bench.parser().parse_args,
    "benchmarks.events": bench_events.parser().parse_args,
    "benchmarks.overload": bench_overload.parser().parse_args,
    "benchmarks.sagas": bench_sagas.parser().parse_args,
    "tests.soak": soak.parser().parse_args,
}
#: What make would install first.
SETS = ("run", "dev", "peers")


def check(command: str) -> None:
    """Hold *command* against the Makefile, and what that would run against its parser."""
    program, *arguments = shlex.split(command)
    if program == "docker":
        assert "services" in yaml.safe_load((ROOT / "docker-compose.yml").read_text())
        return
    planned = subprocess.run(
        [
            program,
            "--dry-run",
            "--assume-old=.venv/.run",
            "--assume-old=.venv/.run-postgres",
            "--assume-old=.venv/.dev",
            "--assume-old=.venv/.peers",
            *arguments,
        ],
        cwd=ROOT,
        env={n: v for n, v in os.environ.items() if not n.startswith(("MAKE", "MFLAGS"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert planned.returncode == 0, planned.stderr
    words = shlex.split(planned.stdout.splitlines()[-1])
    module = words[words.index("-m") + 1 :]
    if module[0] in PARSERS:
        try:
            PARSERS[module[0]](module[1:])
        except SystemExit:
            pytest.fail(f"{command}: {shlex.join(words)} is refused")
    else:
        assert module[0] == "pytest", planned.stdout
