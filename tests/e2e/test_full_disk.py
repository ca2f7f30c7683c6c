"""A real process whose real disk is full: what it refuses, still does, and keeps."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
import httpx
import pytest
from google.type.money_pb2 import Money
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.errors import MeshError, Outcome
from mesh.metadata import STATUS_DETAILS
from mesh.runtime.config import ADMIN_PORT_OFFSET
from mesh.status import from_wire
from shop.inventory.v1 import inventory_pb2 as pb
from shop.inventory.v1.inventory_pb2_grpc import InventoryServiceStub
from tests.support.waiting import eventually
from tests.unit.mesh.programs import Folder, free_port

ATTEMPTS: Final = 100
MOUNT: Final = "mount -t tmpfs -o size=4m none data && exec {command} >>data/log 2>&1"


class Room(Protocol):
    """A disk with little room."""

    def command(self, folder: Path) -> list[str]:
        """How to run the service on it; it keeps its data in `data`."""
        ...

    def fill(self, pid: int, data: Path) -> None:
        """Let there be no room for the process *pid*, whose files are in *data*."""
        ...

    def free(self, pid: int, data: Path) -> None:
        """Let there be room again."""
        ...


RUN: Final = [sys.executable, "-m", "mesh", "run", "inventory"]


class SmallDisk:
    """A file system of 4 MB, which the service's log is on too."""

    def command(self, folder: Path) -> list[str]:
        (folder / "run.sh").write_text(MOUNT.format(command=" ".join(RUN)))
        return ["unshare", "--user", "--map-root-user", "--mount", "bash", "run.sh"]

    def fill(self, pid: int, data: Path) -> None:
        with (data / "ballast").open("ab", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4096):
                pass

    def free(self, pid: int, data: Path) -> None:
        (data / "ballast").unlink()


class Limit:
    """No file may grow: the kernel refuses it with another error, EFBIG."""

    def command(self, folder: Path) -> list[str]:
        return RUN

    def fill(self, pid: int, data: Path) -> None:
        size = (data / "inventory.db-wal").stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def free(self, pid: int, data: Path) -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


def rooms() -> Iterator[tuple[Room, str]]:
    """What this machine can do, and what a refusal's reason is there."""
    yield Limit(), "STORAGE_FAILED"
    probe = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "x", "/mnt"]
    if not subprocess.run(probe, capture_output=True, check=False).returncode:
        yield SmallDisk(), "STORAGE_FULL"


@dataclass
class Inventory:
    """The service, alone."""

    room: Room
    folder: Path
    port: int = field(default_factory=free_port)

    @contextmanager
    def running(self) -> Iterator[InventoryServiceStub]:
        """Run it."""
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "mesh.toml").write_text(
            f'[service.inventory]\nmodule = "services.inventory.service"\nport = {self.port}\n'
            f'[bus]\nurl = "nats://127.0.0.1:{free_port()}"\n'  # which is away
        )
        environment = {"MESH_DATA_DIR": "data", "OTEL_SDK_DISABLED": "true"}
        self.process = subprocess.Popen(
            self.room.command(self.folder),
            cwd=self.folder,
            env={**Folder.environment(), **environment},
        )
        # It may have a file system of its own.
        self.data = Path(f"/proc/{self.process.pid}/root") / self.folder.relative_to("/") / "data"
        try:
            with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
                self.health = health_pb2_grpc.HealthStub(channel)
                eventually(self.serves, within_s=60)
                yield InventoryServiceStub(channel)
        finally:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def serves(self) -> bool:
        """Whether it says so."""
        assert self.process.poll() is None
        try:
            reply = self.health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.RpcError:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def says_that_its_database_fails(self) -> bool:
        """What its metrics say."""
        text = httpx.get(f"http://127.0.0.1:{self.port + ADMIN_PORT_OFFSET}/metrics").text
        return "mesh_database_failing 1.0" in text


@pytest.mark.parametrize(
    ("room", "reason"), [pytest.param(*case, id=type(case[0]).__name__) for case in rooms()]
)
def test_writes_are_refused_reads_go_on_and_nothing_is_lost(
    room: Room, reason: str, tmp_path: Path
) -> None:
    inventory = Inventory(room, tmp_path)
    added: set[str] = set()
    with inventory.running() as stub:
        for number in range(10):
            add(stub, f"before-{number}", added)
        pid, data = inventory.process.pid, inventory.data

        room.fill(pid, data)
        refused: dict[str, MeshError] = {}
        for number in range(ATTEMPTS):
            try:
                add(stub, f"full-{number}", added)
            except grpc.RpcError as error:
                refused[f"full-{number}"] = read(error)
        assert len(refused) >= ATTEMPTS / 2  # the log's last pages may have had some room
        assert {(e.status.name, e.reason) for e in refused.values()} == {("UNAVAILABLE", reason)}
        assert stub.GetItem(pb.GetItemRequest(sku="before-3"), timeout=5).stock.free == 1
        assert inventory.serves()
        assert inventory.says_that_its_database_fails()

        room.free(pid, data)
        add(stub, "after", added)
        assert not inventory.says_that_its_database_fails()
        stock = stub.ListStock(pb.ListStockRequest(page_size=500), timeout=5).stock
    unknown = {sku for sku, error in refused.items() if error.outcome is Outcome.UNKNOWN}
    assert added <= {one.sku for one in stock} <= added | unknown


def add(stub: InventoryServiceStub, sku: str, added: set[str]) -> None:
    price = Money(currency_code="GBP", units=1)
    stub.CreateItem(pb.CreateItemRequest(sku=sku, unit_price=price, quantity=1), timeout=20)
    added.add(sku)


def read(error: grpc.RpcError) -> MeshError:
    """The error as it was on the wire."""
    trailers: Any = error.trailing_metadata()
    return from_wire(error.code(), error.details() or "", dict(trailers).get(STATUS_DETAILS))
