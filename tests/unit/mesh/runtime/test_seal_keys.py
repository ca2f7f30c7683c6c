"""Where the keys of seals come from."""

from __future__ import annotations

import base64
import threading
from pathlib import Path

import pytest

from mesh.runtime import seal_keys
from mesh.runtime.config import Config, ConfigError


def config(folder: Path, keys: str = "") -> Config:
    return Config(services={}, data_dir=folder, seal_key=keys)


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def test_a_key_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (key,) = seal_keys.load(config(folder))
    assert len(key) == 32
    assert seal_keys.load(config(folder)) == (key,)
    assert [file.name for file in folder.iterdir()] == ["seal.key"]
    assert (folder / "seal.key").stat().st_mode & 0o777 == 0o600


def test_those_who_make_it_at_the_same_time_have_the_same(tmp_path: Path) -> None:
    found: list[tuple[bytes, ...]] = []
    barrier = threading.Barrier(8)

    def load(number: int) -> None:
        barrier.wait()
        mine = tmp_path / f"seal.key.{number}"
        seal_keys.make(tmp_path / "seal.key", mine)
        found.append(seal_keys.load(config(tmp_path)))

    threads = [threading.Thread(target=load, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["seal.key"]


def test_the_variable_comes_first_and_may_have_several(tmp_path: Path) -> None:
    keys = (b"a" * 32, b"b" * 32)
    assert seal_keys.load(config(tmp_path, ", ".join(map(text, keys)))) == keys
    assert not list(tmp_path.iterdir())


def test_a_file_may_have_several_too(tmp_path: Path) -> None:
    file = tmp_path / "seal.key"
    file.write_text(f"{text(b'a' * 32)}\n{text(b'b' * 32)}\n")
    file.chmod(0o600)
    assert seal_keys.load(config(tmp_path)) == (b"a" * 32, b"b" * 32)


@pytest.mark.parametrize("keys", ["hush", text(b"short"), f"{text(b'a' * 32)},"])
def test_what_is_no_key_is_refused_and_not_shown(keys: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MESH_SEAL_KEY: each key is 32 bytes") as raised:
        seal_keys.load(config(tmp_path, keys))
    assert keys not in str(raised.value)
    assert keys not in repr(config(tmp_path, keys))


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    seal_keys.load(config(tmp_path))
    (tmp_path / "seal.key").chmod(0o644)
    with pytest.raises(ConfigError, match=r"mode 644.*chmod 600"):
        seal_keys.load(config(tmp_path))
