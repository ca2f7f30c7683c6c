"""`mesh.toml` and the environment: what is taken, and what is said of mistakes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.call import Principal
from mesh.runtime.config import (
    ADMIN_PORT_OFFSET,
    ENVIRONMENT,
    Config,
    ConfigError,
    ProcessConfig,
    ServiceConfig,
    load,
)

SYSTEM = """
[service.user]
module = "services.user.service"
port = 50051

[service.order]
module = "services.order.service"
port = 50052
roles = ["sales"]

[process.gateway]
command = ["{python}", "-m", "gateway", "--port", "{gateway}", "--data", "{data}", "{services}"]
ready = "http://127.0.0.1:{gateway}/ready"
roles = ["edge"]

[ports]
gateway = 8080

[welcome]
command = ["{python}", "welcome.py"]
"""

Load = Callable[..., Config]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Return `load` for the text of a file and some variables."""

    def load_text(text: str = SYSTEM, **environment: str) -> Config:
        path = tmp_path / "mesh.toml"
        path.write_text(text)
        return load({"MESH_CONFIG": str(path), **environment})

    return load_text


# --- what is taken ------------------------------------------------------------------------------


def test_defaults(loaded: Load, tmp_path: Path) -> None:
    config = loaded()
    assert config == Config(
        services={
            "user": ServiceConfig("user", "services.user.service", 50051),
            "order": ServiceConfig("order", "services.order.service", 50052, frozenset({"sales"})),
        },
        processes={
            "gateway": ProcessConfig(
                "gateway",
                (
                    *("{python}", "-m", "gateway", "--port", "{gateway}"),
                    *("--data", "{data}", "{services}"),
                ),
                ready="http://127.0.0.1:{gateway}/ready",
                roles=frozenset({"edge"}),
            )
        },
        ports={"gateway": 8080},
        welcome=("{python}", "welcome.py"),
        profile="dev",
        bind="127.0.0.1",
        address="127.0.0.1:{port}",
        data_dir=Path(".data"),
        token_secret="",
        log_level="INFO",
        folder=tmp_path,
    )


def test_an_empty_file_is_a_system_of_nothing(loaded: Load, tmp_path: Path) -> None:
    assert loaded("") == Config(services={}, folder=tmp_path)


def test_the_configuration_of_this_repository_is_valid() -> None:
    root = Path(__file__).parents[3]
    config = load({"MESH_CONFIG": str(root / "mesh.toml")})
    assert config.service("orchestrator").roles >= {"orchestrator"}


def test_every_variable_has_its_effect(loaded: Load) -> None:
    environment = {
        "MESH_PROFILE": "dev",
        "MESH_BIND": "0.0.0.0",
        "MESH_ALLOW_PLAINTEXT": "1",
        "MESH_ADDRESS": "{name}.shop:{port}",
        "MESH_DATA_DIR": "/var/lib/shop",
        "MESH_BUS_URL": "nats://bus:4222",
        "MESH_DATABASE_URL": "postgresql://{name}:hush@base/{name}",
        "MESH_PORT_OFFSET": "1000",
        "MESH_REPLICAS": "user=2",
        "MESH_TOKEN_SECRET": "hush",
        "MESH_TOKEN": "gateway.abc",
        "MESH_SEAL_KEY": "hush hush",
        "LOG_LEVEL": "debug",
    }
    levelled = {"MESH_POLICY__", "MESH_SERVER__", "MESH_WIRE__"}  # see test_policies
    assert environment.keys() | levelled | {"MESH_CONFIG", "STORE"} == ENVIRONMENT.keys()
    bus = '[bus]\nurl = "nats://127.0.0.1:{gateway}"\n'
    assert loaded(SYSTEM + bus).bus_url == "nats://127.0.0.1:8080"
    config = loaded(SYSTEM + bus, **environment)
    assert config.bind == "0.0.0.0"
    assert config.addresses_of("user") == ["user.shop:51051", "user.shop:51061"]
    assert config.data_dir == Path("/var/lib/shop")
    assert config.ports == {"gateway": 9080}
    assert config.bus_url == "nats://bus:4222"
    assert config.database_url("user") == "postgresql://user:hush@base/user"
    assert config.token_secret == "hush"
    assert config.seal_key == "hush hush"
    assert config.log_level == "DEBUG"


def test_what_is_not_ours_is_left_alone(loaded: Load) -> None:
    assert loaded(OTEL_SERVICE_NAME="x", PATH="/bin", MESHED="y") == loaded()


def test_addresses(loaded: Load) -> None:
    assert loaded().address_of("order") == "127.0.0.1:50052"


def test_the_words_of_a_command(loaded: Load) -> None:
    assert loaded(MESH_PORT_OFFSET="1").words() == {
        "python": sys.executable,
        "data": ".data",
        "services": "user=127.0.0.1:50052,order=127.0.0.1:50053",
        "gateway": "8081",
    }


def test_who_there_is(loaded: Load) -> None:
    assert loaded().principals == {
        "user": Principal("user"),
        "order": Principal("order", frozenset({"sales"})),
        "gateway": Principal("gateway", frozenset({"edge"})),
    }


def test_the_secret_is_not_shown(loaded: Load) -> None:
    assert "hush" not in repr(loaded(MESH_TOKEN_SECRET="hush"))
    assert "hush" not in repr(loaded(MESH_DATABASE_URL="postgresql://{name}:hush@base/{name}"))


@pytest.mark.parametrize(
    ("condition", "environment", "wanted"),
    [
        ("", {}, True),
        ("when", {}, False),
        ("when", {"JAEGER": ""}, False),
        ("when", {"JAEGER": "0"}, False),
        ("when", {"JAEGER": "1"}, True),
        ("unless", {}, True),
        ("unless", {"JAEGER": "0"}, True),
        ("unless", {"JAEGER": "1"}, False),
    ],
)
def test_a_process_may_depend_on_a_variable(
    condition: str, environment: dict[str, str], wanted: bool
) -> None:
    conditions = {condition: "JAEGER"} if condition else {}
    assert ProcessConfig("jaeger", ("x",), **conditions).wanted(environment) is wanted  # type: ignore[arg-type]


# --- what is said of mistakes -------------------------------------------------------------------


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml is not there: .* set MESH_CONFIG"):
        load({"MESH_CONFIG": str(tmp_path / "absent.toml")})


def test_no_such_service(loaded: Load) -> None:
    with pytest.raises(ConfigError, match="no service 'usr'; there are order, user"):
        loaded().service("usr")


USER = '[service.user]\nmodule = "m"\nport = 50051\n'
WRONG_FILES = {
    "[service.user": r"Expected ']'",
    "[services.user]\nport = 1": r"unknown: services; known are service, process, ports, welcome",
    "service = 3": r"\[service\]: a table is wanted, not 3",
    "[service]\nuser = 3": r"\[service\.user\]: a table is wanted, not 3",
    '[service.user]\nmodule = "m"': r"\[service\.user\]: port is missing",
    "[service.user]\nport = 1": r"\[service\.user\]: module is missing",
    '[service.user]\nmodule = "m"\nport = "50051"': (
        r"\[service\.user\]: port: a whole number is wanted, not '50051'"
    ),
    '[service.user]\nmodule = "m"\nport = true': r"port: a whole number is wanted, not True",
    "[service.user]\nmodule = 7\nport = 1": r"\[service\.user\]: module: a text is wanted, not 7",
    f'{USER}roles = "sales"': r"\[service\.user\]: roles: a list of texts is wanted, not 'sales'",
    f"{USER}roles = [1]": r"roles: a list of texts is wanted, not \[1\]",
    f"{USER}prot = 1": r"\[service\.user\]: unknown: prot; known are module, port, roles",
    "[process.p]\nready = 'x'": r"\[process\.p\]: command is missing",
    "[process.p]\ncommand = 'ls'": r"\[process\.p\]: command: a list of texts is wanted, not 'ls'",
    "[process.p]\ncommand = []": r"\[process\.p\]: command: is empty",
    "[process.p]\ncommand = ['ls']\nfirst = 1": r"first: true or false is wanted, not 1",
    "[process.p]\ncommand = ['{gatway}']": r"\[process\.p\]: {gatway}: is not among \[ports\]",
    "[process.p]\ncommand = ['x']\nready = 'http://{p}'": r"\[process\.p\]: {p}: is not among",
    "[process.p]\ncommand = ['{']": r"\[process\.p\]: '{': ",
    "[ports]\ngateway = '8080'": r"\[ports\]: gateway: a whole number is wanted, not '8080'",
    "[welcome]\ncommand = 'ls'": r"\[welcome\]: command: a list of texts is wanted, not 'ls'",
    "[welcome]\ncommand = ['{nobody}']": r"\[welcome\]: {nobody}: is not among \[ports\]",
    f"{USER}\n[service.order]\nmodule = 'm'\nport = 50051": (
        "port 50051 is service user's and service order's"
    ),
    f"{USER}\n[ports]\ngateway = {50051 + ADMIN_PORT_OFFSET}": (
        f"port {50051 + ADMIN_PORT_OFFSET} is /metrics of user's and gateway's"
    ),
    '[service.user]\nmodule = "m"\nport = 56000': r"port 66000 \(/metrics of user\)",
    '[service.user]\nmodule = "m"\nport = 0': r"port 0 \(service user\)",
    f"{USER}\n[process.user]\ncommand = ['x']": "user is both a service and a process",
}


@pytest.mark.parametrize("text", WRONG_FILES)
def test_a_wrong_file_is_named_with_what_is_wrong(loaded: Load, text: str) -> None:
    with pytest.raises(ConfigError, match=WRONG_FILES[text]) as error:
        loaded(text)
    assert "mesh.toml: " in str(error.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "mesh.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"mesh\.toml: "):
        load({"MESH_CONFIG": str(path)})


WRONG_VARIABLES = {
    ("MESH_PORT_OFFSET", "many"): "MESH_PORT_OFFSET=many: a whole number is wanted",
    ("MESH_PORT_OFFSET", ""): "MESH_PORT_OFFSET=: a whole number is wanted",
    ("MESH_PORT_OFFSET", "9000"): r"port 69051 \(/metrics of user\): .*MESH_PORT_OFFSET",
    ("MESH_PORT_OFFSET", "-9000"): r"port -920 \(gateway\): .*MESH_PORT_OFFSET",
    ("MESH_PROFILE", "prod"): "MESH_PROFILE=prod: only dev is known",
    ("MESH_ADDRESS", "{nme}:{port}"): r"MESH_ADDRESS={nme}:{port}: \{name\} and \{port\} may stand",
    ("MESH_ADDRESS", "{"): r"MESH_ADDRESS={: \{name\} and \{port\} may stand",
    ("LOG_LEVEL", "LOUD"): "LOG_LEVEL=LOUD: one of .*DEBUG",
    ("MESH_PROT_OFFSET", "1"): "unknown: MESH_PROT_OFFSET; known are .*MESH_PORT_OFFSET",
}


@pytest.mark.parametrize(("name", "value"), WRONG_VARIABLES)
def test_a_wrong_variable_is_named(loaded: Load, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=WRONG_VARIABLES[name, value]):
        loaded(**{name: value})


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "10.0.0.7", "example.org", ""])
def test_the_dev_profile_stays_on_loopback(loaded: Load, bind: str) -> None:
    with pytest.raises(ConfigError, match=f"MESH_BIND={bind}: .*stays on loopback"):
        loaded(MESH_BIND=bind)
    for allowed in ("", "0", "yes"):
        with pytest.raises(ConfigError, match="MESH_ALLOW_PLAINTEXT=1"):
            loaded(MESH_BIND=bind, MESH_ALLOW_PLAINTEXT=allowed)
    assert loaded(MESH_BIND=bind, MESH_ALLOW_PLAINTEXT="1").bind == bind


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_permission(loaded: Load, bind: str) -> None:
    assert loaded(MESH_BIND=bind).bind == bind
