"""The whole system on real processes, as `mesh up` starts it, for the tests of it.

Each has ports and data of its own. The tests are its customers: they speak HTTP to the gateway and
gRPC to the services, kill processes by their ids, and read the database files when it is down.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.runtime import config as configuration
from mesh.runtime.config import ADMIN_PORT_OFFSET, Config
from mesh.runtime.config_parts import REPLICA_PORT_STEP
from tests.support import children
from tests.support.waiting import eventually

ROOT: Final = Path(__file__).resolve().parents[2]
#: The services that an order goes through, and the payment company.
SERVICES: Final = ("user", "order", "inventory", "payment", "shipping", "orchestrator")
PROVIDER: Final = "provider"
START_S: Final = 90.0
IN_FLIGHT_S: Final = 300.0
STOP_S: Final = 60.0
REQUEST_S: Final = 40.0  # more than the gateway's own 30
TAIL_LINES: Final = 30
_PORTS: Final = [
    port for port, _ in configuration.load({"MESH_CONFIG": str(ROOT / "mesh.toml")}).listeners()
]
#: Offsets that leave every port of mesh.toml, and /metrics of a service's second replica, between
#: 1024 and 65535.
OFFSETS: Final = range(1024 - min(_PORTS), 65_536 - max(_PORTS) - REPLICA_PORT_STEP, 20)

#: Those that are up, so that a test that fails can show the logs of what it shares with others.
up: Final[list[System]] = []


class Between(Protocol):
    """What stands between the processes of a system."""

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which they find one another over it."""

    def connect(self, config: Config) -> None:
        """Stand between those of this one, which is to be started."""


@dataclass
class System:
    """A running system."""

    data: Path
    config: Config
    flags: Sequence[str]
    environment: Mapping[str, str]
    supervisor: subprocess.Popen[bytes]
    http: httpx.Client = field(repr=False)

    @property
    def jaeger(self) -> str:
        """Where the real Jaeger answers, if the system has one."""
        return f"http://127.0.0.1:{self.config.ports['jaeger']}"

    @property
    def otlp(self) -> str:
        """Where spans go."""
        return f"http://127.0.0.1:{self.config.ports['otlp']}"

    @property
    def pids(self) -> dict[str, int]:
        """Each process's id, by name."""
        pids: dict[str, int] = json.loads((self.data / "pids.json").read_text())
        return pids

    def address(self, process: str) -> str:
        """Where a service's gRPC is, or that of its replica: ``user-2``."""
        service, _, replica = process.partition("-")
        return self.config.address_of(service, int(replica or 1))

    # --- what customers do ----------------------------------------------------------------------

    def get(self, path: str, **query: Any) -> httpx.Response:
        """GET from the gateway."""
        return self.http.get(path, params=query)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """POST to the gateway; `Idempotency_Key="1"` is a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(path, json=body, headers=named)

    def read(self, path: str, **query: Any) -> Any:
        """What the gateway has there; it must have it."""
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @contextmanager
    def channel(self, service: str) -> Iterator[grpc.Channel]:
        """A stock channel to a service."""
        with grpc.insecure_channel(self.address(service)) as channel:
            yield channel

    # --- what operators do ----------------------------------------------------------------------

    def start(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start one of the project's programs beside the system; what it says goes to *log*."""
        with log.open("wb") as output:
            return children.start(
                command, cwd=ROOT, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )

    def run(
        self, *command: str, timeout_s: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one of them to its end."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr[-3000:]}"
        return done

    def sagas_running(self) -> int:
        """How many sagas are in flight, as the orchestrators' own metrics have it."""
        running = 0
        for port in self.config.service("orchestrator").ports:
            address = f"http://127.0.0.1:{port + ADMIN_PORT_OFFSET}"
            text = httpx.get(f"{address}/metrics", timeout=5).text
            (line,) = [line for line in text.splitlines() if line.startswith("mesh_sagas_running ")]
            running += int(float(line.split()[1]))
        return running

    def wait_in_flight(self, wanted: int) -> int:
        """Wait until so many sagas are in flight at least; return how many are."""

        def enough() -> int:
            count = self.sagas_running()
            return count if count >= wanted else 0

        return eventually(enough, within_s=IN_FLIGHT_S)

    def kill(self, process: str) -> int:
        """Kill a process with -9; return the id it had."""
        pid = self.pids[process]
        os.kill(pid, signal.SIGKILL)
        return pid

    @contextmanager
    def frozen(self, process: str) -> Iterator[None]:
        """Let a process take connections and answer nothing."""
        pid = self.pids[process]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):  # the supervisor has no patience with such a one
                os.kill(pid, signal.SIGCONT)

    def kill_supervisor(self) -> None:
        """Kill `mesh up` itself with -9; its processes learn of it from the system (Linux)."""
        self.supervisor.kill()
        self.supervisor.wait()

    def start_again(self) -> None:
        """Run `mesh up` once more, on the same ports and data; return when all of it serves."""
        self.supervisor = _run_up(self.data, self.flags, self.environment)
        eventually(self.is_up_or_ended, within_s=START_S)
        assert self.supervisor.poll() is None, self.said()

    def wait_restarted(self, process: str, old_pid: int, *services: str) -> None:
        """Wait until the supervisor has put another in its place, and *services* serve."""

        def restarted() -> bool:
            return self.pids.get(process, old_pid) != old_pid and all(map(self.serves, services))

        eventually(restarted, within_s=START_S)

    def is_up_or_ended(self) -> bool:
        """Whether it has started, for better or worse."""
        return self.supervisor.poll() is not None or "processes serve" in self.said()

    def serves(self, service: str) -> bool:
        """Whether a service says that it serves."""
        with self.channel(service) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.RpcError:
                return False
            return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Drain it. The data stays; calling again does nothing."""
        if self in up:
            up.remove(self)
            self.http.close()
            self.supervisor.terminate()
            status = self.supervisor.wait(STOP_S)
            assert status == 0, f"`mesh up` ended with status {status}:\n{self.said()}"

    def said(self) -> str:
        """What `mesh up` has printed."""
        return (self.data / "up.log").read_text(errors="replace")

    def log_tails(self) -> str:
        """The end of every log."""
        logs = [self.data / "up.log", *sorted((self.data / "logs").glob("*.log"))]
        return "\n".join(f"--- {log.name}\n{_tail(log)}" for log in logs if log.exists())


@contextmanager
def running(data: Path, *flags: str, **variables: str) -> Iterator[System]:
    """Run `mesh up` with *flags* on the folder *data*; yield when all of it serves."""
    with running_over(None, data, *flags, **variables) as system:
        yield system


@contextmanager
def running_over(
    network: Between | None, data: Path, *flags: str, **variables: str
) -> Iterator[System]:
    """The same, with *network* between its processes."""
    data.mkdir(parents=True, exist_ok=True)
    variables |= network.environment if network else {}
    system = _start(data, flags, variables, network)
    try:
        yield system
    except BaseException as error:
        error.add_note(system.log_tails())
        raise
    finally:
        try:
            system.stop()
        finally:
            if system.supervisor.poll() is None:
                system.supervisor.kill()
                system.supervisor.wait()


def _start(
    data: Path, flags: Sequence[str], variables: Mapping[str, str], network: Between | None
) -> System:
    """Start one where its ports are free."""
    while True:
        environment = _environment(data, random.choice(OFFSETS), variables)
        if network:
            network.connect(configuration.load(environment))
        system = _launch(data, flags, environment)
        eventually(system.is_up_or_ended, within_s=START_S)
        if system.supervisor.poll() is None:
            up.append(system)
            return system
        system.http.close()
        assert "in use" in system.said(), system.said() + system.log_tails()


def _launch(data: Path, flags: Sequence[str], environment: Mapping[str, str]) -> System:
    config = configuration.load(environment)
    supervisor = _run_up(data, flags, environment)
    gateway = f"http://127.0.0.1:{config.ports['gateway']}"
    http = httpx.Client(base_url=gateway, timeout=REQUEST_S)
    return System(data, config, flags, environment, supervisor, http)


def _run_up(
    data: Path, flags: Sequence[str], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    with (data / "up.log").open("wb") as log:
        return children.start(
            (sys.executable, "-m", "mesh", "up", "--no-welcome", *flags),
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _environment(data: Path, offset: int, variables: Mapping[str, str]) -> dict[str, str]:
    """Ours, without what would change the system."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MESH_", "OTEL_")) and name not in ("JAEGER", "ORDERS", "STORE")
    }
    moved = {"MESH_PORT_OFFSET": str(offset), "MESH_DATA_DIR": str(data)}
    return {**ours, **moved, **variables}


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
