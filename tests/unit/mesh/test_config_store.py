"""Where databases are: files, one of the configuration's stores, or a URL."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.runtime.clock import Runtime
from mesh.runtime.config import Config, ConfigError, ProcessConfig, load
from mesh.storage.engines import open_store
from mesh.storage.port import StorageError

SYSTEM = """
[service.user]
module = "services.user.service"
port = 50051

[store.postgres]
url = "postgresql://{name}@127.0.0.1:{postgres}/{name}?passfile={data}/{name}.pgpass"

[ports]
postgres = 5432
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


@pytest.mark.parametrize("chosen", [{}, {"STORE": ""}, {"STORE": "sqlite"}])
def test_it_is_files_unless_asked_otherwise(loaded: Load, chosen: dict[str, str]) -> None:
    assert loaded(**chosen).database_url("user") == ""


def test_a_store_of_the_configuration_is_chosen_by_name(loaded: Load) -> None:
    config = loaded(STORE="postgres", MESH_PORT_OFFSET="100", MESH_DATA_DIR="/var/my data")
    assert config.database_url("user") == (
        "postgresql://user@127.0.0.1:5532/user?passfile=/var/my%20data/user.pgpass"
    )


def test_a_url_may_hold_what_it_likes_beside_the_name(loaded: Load) -> None:
    url = "postgres://{name}:%7Bx{y}@one,two:5433/db_{name}?sslmode=verify-full"
    assert loaded(MESH_DATABASE_URL=url).database_url("user") == url.replace("{name}", "user")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"STORE": "mysql"}, "STORE=mysql: there are sqlite, postgres"),
        (
            {"STORE": "postgres", "MESH_DATABASE_URL": "postgresql://x/y"},
            "STORE=postgres and MESH_DATABASE_URL are both set",
        ),
        ({"MESH_DATABASE_URL": "mysql://u:hush@x/y"}, "postgresql://… is known, and nothing else"),
    ],
)
def test_what_cannot_be_is_told(loaded: Load, environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        loaded(**environment)
    assert "hush" not in str(caught.value)


def test_a_store_has_a_url_and_nothing_else(loaded: Load) -> None:
    with pytest.raises(ConfigError, match=r"\[store.postgres\]: url is missing"):
        loaded(SYSTEM.replace("url =", "urls ="))
    with pytest.raises(ConfigError, match=r"\[store.postgres\]: unknown: more"):
        loaded(SYSTEM.replace("url =", 'more = "x"\nurl ='))


@pytest.mark.parametrize(
    ("store", "wanted"), [(None, False), ("", False), ("sqlite", False), ("postgres", True)]
)
def test_a_process_may_depend_on_what_a_variable_is(store: str | None, wanted: bool) -> None:
    environment = {} if store is None else {"STORE": store}
    process = ProcessConfig("postgres", ("x",), when="STORE=postgres")
    assert process.wanted(environment) is wanted


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [("", "apsw", "sqlite"), ("postgresql://x/y", "asyncpg", "postgres")],
)
async def test_a_driver_that_is_not_there_is_told(
    url: str, driver: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*sys.modules]:
        if name == driver or name.startswith(("mesh.storage.sqlite", "mesh.storage.postgres.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(StorageError, match=rf"{driver} is not .*proxyless-mesh\[{extra}\]"):
        await open_store("user", url, tmp_path, Runtime(), [])


REPLICATED = SYSTEM.replace("port = 50051", "port = 50051\nreplicas = 2")


def test_replicas_listen_beside_one_another(loaded: Load) -> None:
    config = loaded(REPLICATED, STORE="postgres", MESH_PORT_OFFSET="100")
    assert config.addresses_of("user") == ["127.0.0.1:50151", "127.0.0.1:50161"]
    assert config.words()["services"] == "user=127.0.0.1:50151,user=127.0.0.1:50161"
    assert {port for port, _ in config.listeners()} == {50151, 50161, 60151, 60161, 5532}


def test_the_variable_is_stronger_than_the_file(loaded: Load) -> None:
    config = loaded(REPLICATED, STORE="postgres", MESH_REPLICAS="user=3")
    assert len(config.addresses_of("user")) == 3
    assert len(loaded(REPLICATED, MESH_REPLICAS="user=1").addresses_of("user")) == 1


def test_replicas_need_a_database_that_they_can_share(loaded: Load) -> None:
    with pytest.raises(ConfigError, match=r"user\] replicas: 2: a SQLite file .* STORE=postgres"):
        loaded(REPLICATED)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("user", "SERVICE=COUNT"),
        ("user=two", "SERVICE=COUNT"),
        ("user=0", "1 to 5 is possible"),
        ("user=6", "1 to 5 is possible"),
        ("usr=2", "no service 'usr'; there are user"),
    ],
)
def test_a_count_of_replicas_that_cannot_be(loaded: Load, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        loaded(STORE="postgres", MESH_REPLICAS=text)
