"""The servers that contestants need: the order system, Temporal, PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import socket
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Callable, Container, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.sagas.processes import ROOT, START_TIMEOUT_S, Process, ProcessError, running

#: Offsets that leave every port of mesh.toml, and each service's /metrics, between 1024 and 65535.
OFFSETS = range(-3200, 5400, 20)
PORTS_TRIES = 20
MESH_TOML = ROOT / "mesh.toml"
POLL_S = 0.1


def only(toml: str, keep: Callable[[str], bool]) -> str:
    """Return those services and processes of a mesh.toml that are to be kept, and all else."""
    sections = re.split(r"^(?=\[)", toml, flags=re.MULTILINE)
    named = (
        (re.match(r"\[(?:service|process)\.(\w+)\]", section), section) for section in sections
    )
    return "".join(section for name, section in named if not name or keep(name[1]))


@asynccontextmanager
async def order_system(
    folder: Path, leave_out: Container[str]
) -> AsyncIterator[tuple[Process, Mapping[str, str]]]:
    """The order system as `mesh up` starts it, without tracing; and the variables that find it.

    Services and processes to *leave_out* do not run.
    """
    config = _write(folder / "mesh.toml", only(MESH_TOML.read_text(), lambda n: n not in leave_out))
    command = [sys.executable, "-m", "mesh", "up", "--no-welcome"]
    for _ in range(PORTS_TRIES):
        offset = random.choice(OFFSETS)  # noqa: S311  # any will do
        environment = _environment(folder, config, offset)
        async with running("system", command, folder, environment) as process:
            try:
                while "serve after" not in await process.line():
                    pass
            except ProcessError as error:
                if "in use" not in str(error):
                    raise
                continue
            yield process, environment
            return
    raise ProcessError("no ports are free for the order system")


def _write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def _environment(folder: Path, config: Path, offset: int) -> dict[str, str]:
    ours = {n: v for n, v in os.environ.items() if not n.startswith(("MESH_", "OTEL_"))}
    ours.pop("JAEGER", None)
    moved = {
        "MESH_CONFIG": str(config),
        "MESH_PORT_OFFSET": str(offset),
        "MESH_DATA_DIR": str(folder / "data"),
    }
    return {**ours, **moved, "OTEL_TRACES_EXPORTER": "none", "LOG_LEVEL": "ERROR"}


@asynccontextmanager
async def temporal(folder: Path, *options: str) -> AsyncIterator[tuple[Process, str]]:
    """Temporal's development server, and its address."""
    binary = Path(sysconfig.get_path("scripts")) / "temporal"
    port = free_port()
    command = [
        *(str(binary), "server", "start-dev", "--headless", "--log-level", "error"),
        *("--ip", "127.0.0.1", "--port", str(port), *options),
    ]
    async with running("temporal", command, folder, heard=False) as process:
        await _until_it_listens(port)
        yield process, f"127.0.0.1:{port}"


@asynccontextmanager
async def postgres(folder: Path, services: str) -> AsyncIterator[tuple[Process, str]]:
    """A PostgreSQL with a database for each of *services*; where one is, with {name} for it."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "mesh.storage.postgres.server", "--services", services),
        *("--data", str(folder / "data"), "--port", str(port)),
    ]
    async with running("postgres", command, folder, heard=False) as process:
        await _until_it_listens(port)
        passfile = folder / "data" / "{name}.pgpass"
        yield process, f"postgresql://{{name}}@127.0.0.1:{port}/{{name}}?passfile={passfile}"


async def _until_it_listens(port: int) -> None:
    ends = time.monotonic() + START_TIMEOUT_S
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        if time.monotonic() > ends:
            raise ProcessError(f"nobody listens on port {port} after {START_TIMEOUT_S:.0f} s")
        await asyncio.sleep(POLL_S)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])
