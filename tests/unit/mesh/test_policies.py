"""A configuration's policies, as channels, interceptors and servers take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mesh
from mesh.call import Criticality, Idempotency, Method
from mesh.client import Channel, Policy
from mesh.dial import Dial
from mesh.errors import CircuitOpenError, Unavailable
from mesh.layers.breaker import Breaker
from mesh.layers.circuit import CircuitConfig
from mesh.node import Node
from mesh.policies import Policies
from mesh.runtime.config import ConfigError, load
from mesh.server import ServerSettings
from mesh.service import Service
from mesh.transport.memory import MemoryNetwork
from mesh.transport.wire import WireConfig
from tests.support.echo import ADD, COUNT, DESCRIPTOR, PUT, READ, EchoRequest, EchoStub
from tests.support.runtime import FakeRuntime

SYSTEM = """
[service.echo]
module = "echo"
port = 50051

[target.legacy]
addresses = ["legacy:50051", "spare:50051"]
"""

Made = Callable[..., Policies]


@pytest.fixture
def policies(tmp_path: Path) -> Made:
    """Return the policies of the system with some more lines and some variables."""

    def made(lines: str = "", **variables: str) -> Policies:
        path = tmp_path / "mesh.toml"
        path.write_text(SYSTEM + lines)
        return Policies(load({"MESH_CONFIG": str(path), **variables}))

    return made


def test_every_method_has_a_policy_of_its_own(policies: Made) -> None:
    found = policies(
        """
        [policy]
        timeout_s = 5.0
        [policy.echo.circuit]
        failures = 2
        [policy.echo.Read]
        retry = "none"
        """,
        MESH_POLICY__ECHO__READ__ATTEMPT_TIMEOUT_S="0.5",
    )
    circuit = CircuitConfig(failures=2)
    assert found.of("legacy", READ) == Policy(timeout_s=5.0)
    assert found.of("echo", PUT) == Policy(timeout_s=5.0, circuit=circuit)
    read = Policy(timeout_s=5.0, attempt_timeout_s=0.5, retry=None, circuit=circuit)
    assert found.of("echo", READ) == read
    put = found.of("echo", PUT)
    assert found.once("echo")(PUT) == replace(put, retry=None, criticality=Criticality.CRITICAL)


def test_every_method_served_has_settings_of_its_own(policies: Made) -> None:
    found = policies("[server.echo.Read]\ntimeout_s = 1.0", MESH_SERVER__ECHO__TIMEOUT_S="2")
    assert found.served("echo", READ) == ServerSettings(timeout_s=1.0)
    assert found.served("echo", PUT) == ServerSettings(timeout_s=2.0)
    assert found.served("other", PUT) == ServerSettings()


@pytest.mark.parametrize(
    ("lines", "variables", "told"),
    [
        ("[policy.nobody]\ntimeout_s = 1.0", {}, "'nobody' is neither .* names echo, legacy;"),
        ("[server.nobody]\ntimeout_s = 1.0", {}, "'nobody' is neither .* names echo, legacy;"),
        ("[server]\ntimeout_s = 0.0", {}, r"\[server\] timeout_s: timeout_s is more than 0"),
        ("", {"MESH_POLICY__ECHO__SPEED": "1"}, "MESH_POLICY__ECHO__SPEED: names no setting"),
        ("", {"MESH_POLICIES": "1"}, "unknown: MESH_POLICIES; known are .*MESH_POLICY__"),
        ("[target.echo]", {}, "echo is both a service and a target"),
        ("[policy.echo.circuit]\nfailures = 0", {}, "policy.echo.circuit. failures: failures and"),
        ("[policy]\ntimeout_s = 0.0", {}, r"\[policy\] timeout_s: timeout_s .* more than 0"),
        ("", {"MESH_POLICY__TIMEOUT_S": "-1"}, "MESH_POLICY__TIMEOUT_S: timeout_s .* more than 0"),
        ("[policy.echo]\nattempt_timeout_s = 0", {}, r"\[policy.echo\] .* are more than 0"),
        ("[policy.echo.Read.retry]\nattempts_max = 0", {}, r"Read.retry\] .* is at least 1"),
        ("", {"MESH_POLICY__RETRY__ATTEMPTS_MAX": "-5"}, "ATTEMPTS_MAX: .* is at least 1"),
        ("[policy.retry.backoff]\nbase_s = -1", {}, r"\[policy.retry.backoff\] .* not negative"),
        ("", {"MESH_POLICY__RETRY__BACKOFF__MAX_S": "-1"}, "MAX_S: .* are not negative"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes_are_told(
    policies: Made, lines: str, variables: dict[str, str], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        policies(lines, **variables)


class Clients:
    def __init__(self, dial: Dial) -> None:
        self.legacy = EchoStub(dial("legacy", "Read"))


def test_a_service_checks_what_is_said_of_it_and_of_the_targets_it_calls(policies: Made) -> None:
    service: Service[Any] = Service(DESCRIPTOR, Clients)
    own = [READ, PUT]
    policies("[policy.echo.Put]\ntimeout_s = 1.0\n[policy.legacy.Add]\ntimeout_s = 1.0").check(
        "echo", service, own
    )
    for lines, told in [
        ("[policy.echo.Add]\ntimeout_s = 1.0", "echo has no such method; it has Put, Read"),
        ("[server.echo.Add]\ntimeout_s = 1.0", "echo has no such method; it has Put, Read"),
        ("[policy.legacy.Reed]\ntimeout_s = 1.0", "legacy has no such .* Add, Chat, Count, Pour"),
    ]:
        with pytest.raises(ConfigError, match=told):
            policies(lines).check("echo", service, own)


class TestOnAChannel:
    """Nobody answers: what happens is the policy's doing."""

    @pytest.fixture
    def runtime(self) -> FakeRuntime:
        return FakeRuntime()

    def stub(self, runtime: FakeRuntime, policy: Callable[[Method], Policy]) -> EchoStub:
        node = Node(runtime=runtime)
        return EchoStub(Channel(node, "echo", ["a"], MemoryNetwork(runtime), policy))

    async def test_each_method_is_called_under_its_own(
        self, policies: Made, runtime: FakeRuntime
    ) -> None:
        found = policies(
            """
            [policy.echo]
            retry = "none"
            circuit = { failures = 1 }
            [policy.echo.Put]
            retry = { attempts_max = 3 }
            circuit = { failures = 9 }
            """
        )
        stub = self.stub(runtime, found.toward("echo"))
        with pytest.raises(Unavailable):
            await stub.Read(EchoRequest())
        with pytest.raises(CircuitOpenError):
            await stub.Read(EchoRequest())
        assert not runtime.clock.slept
        with pytest.raises(Unavailable):
            await stub.Put(EchoRequest())
        assert len(runtime.clock.slept) == 2

    async def test_what_a_proto_does_not_promise_can_be_declared(
        self, policies: Made, runtime: FakeRuntime
    ) -> None:
        found = policies('[policy.echo.Add]\nidempotency = "IDEMPOTENT"')
        stub = self.stub(runtime, found.toward("echo"))
        assert stub.Add.method.idempotency is Idempotency.IDEMPOTENT
        assert stub.Add.method.path == ADD.path
        assert stub.Pour.method.idempotency is Idempotency.UNKNOWN
        with pytest.raises(Unavailable):
            await stub.Add(EchoRequest())
        assert len(runtime.clock.slept) == Policy().retry.attempts_max - 1  # type: ignore[union-attr]

    def test_contradicting_a_proto_fails_at_once(
        self, policies: Made, runtime: FakeRuntime
    ) -> None:
        found = policies('[policy.echo.Read]\nidempotency = "IDEMPOTENT"')
        with pytest.raises(
            ValueError, match="Read: idempotency IDEMPOTENT: its proto says NO_SIDE"
        ):
            self.stub(runtime, found.toward("echo"))

    async def test_methods_of_one_target_share_its_budget(
        self, policies: Made, runtime: FakeRuntime
    ) -> None:
        found = policies(
            """
            [policy.echo.retry]
            attempts_max = 9
            budget = { share = 0.0, per_s = 0.0, burst = 5.0 }
            [policy.echo.Put.retry]
            attempts_max = 4
            """
        )
        stub = self.stub(runtime, found.toward("echo"))
        for send, retries in ((stub.Put, 3), (stub.Read, 5)):
            with pytest.raises(Unavailable):
                await send(EchoRequest())
            assert len(runtime.clock.slept) == retries

    async def test_channels_of_one_process_share_their_targets_circuits(
        self, runtime: FakeRuntime
    ) -> None:
        node, network = Node(runtime=runtime), MemoryNetwork(runtime)
        policy = Policy(retry=None, circuit=CircuitConfig(failures=1))
        one, other = (EchoStub(Channel(node, "echo", ["a"], network, policy)) for _ in range(2))
        elsewhere = EchoStub(Channel(node, "elsewhere", ["a"], network, policy))
        with pytest.raises(Unavailable):
            await one.Read(EchoRequest())
        with pytest.raises(CircuitOpenError):
            await other.Read(EchoRequest())
        with pytest.raises(Unavailable, match=r"^UNAVAILABLE"):
            await elsewhere.Read(EchoRequest())


async def test_channels_and_interceptors_take_what_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mesh.toml"
    path.write_text(SYSTEM + '[policy.legacy.Add]\nidempotency = "IDEMPOTENT"')
    monkeypatch.setenv("MESH_CONFIG", str(path))
    channel: Any = mesh.channel("legacy")
    assert EchoStub(channel).Add.method.repeatable
    assert not EchoStub(mesh.channel("legacy", "a", policy=Policy())).Add.method.repeatable
    assert mesh.interceptors("legacy")
    monkeypatch.setenv("MESH_POLICY__LEGACY__SPEED", "1")
    with pytest.raises(ConfigError, match="MESH_POLICY__LEGACY__SPEED"):
        mesh.interceptors("legacy")
    monkeypatch.delenv("MESH_POLICY__LEGACY__SPEED")
    path.unlink()
    assert not EchoStub(mesh.channel("legacy", "a")).Add.method.repeatable
    assert COUNT.repeatable


@pytest.mark.parametrize(
    ("lines", "variables", "told"),
    [
        (
            "[policy.bulkhead]\nqueue_max = 5",
            {},
            r"mesh.toml: \[policy.bulkhead\] queue_max: Bulkhead waits",
        ),
        ("[policy.echo.bulkhead]\nqueue_max = 5", {}, r"\[policy.echo.bulkhead\] queue_max: Bulk"),
        ("", {"MESH_POLICY__ECHO__READ__HEDGE": "default"}, "^MESH_POLICY__ECHO__READ__HEDGE: Hed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_sync_interceptors_refuse_what_is_configured_when_they_are_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: str,
    variables: dict[str, str],
    told: str,
) -> None:
    path = tmp_path / "mesh.toml"
    path.write_text(SYSTEM + lines)
    monkeypatch.setenv("MESH_CONFIG", str(path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=told):
        mesh.sync.interceptors("echo")
    assert mesh.sync.interceptors("echo", only=[Breaker])
    assert mesh.sync.interceptors("echo", policy=Policy())
    if "echo" in told.lower():
        assert mesh.sync.interceptors("legacy")


def test_every_server_has_its_wire(policies: Made) -> None:
    found = policies("[wire]\nstreams_max = 7", MESH_WIRE__ECHO__CONNECTIONS_MAX="9")
    assert found.wire("echo") == WireConfig(streams_max=7, connections_max=9)
    with pytest.raises(ConfigError, match="every limit is more than 0"):
        policies("[wire]\nstreams_max = 0")
