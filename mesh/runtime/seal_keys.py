"""Where the keys come from that seal what the mesh keeps of others' secrets.

From MESH_SEAL_KEY; else from a file in the data folder, which is made when it is first needed and
nobody but its owner may read.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from ..storage.seal import KEY_BYTES
from ..storage.sqlite_file import make_folder
from .config import Config, ConfigError

FILE = "seal.key"


def load(config: Config) -> tuple[bytes, ...]:
    """Return the keys, the one that seals first.

    Raises:
        ConfigError: they are no keys, or others may read their file.
    """
    if config.seal_key:
        return _keys("MESH_SEAL_KEY", config.seal_key.split(","))
    path = config.data_dir / FILE
    if not path.exists():
        make(path, path.with_name(f"{FILE}.{os.getpid()}"))
    if (mode := path.stat().st_mode & 0o777) & 0o077:
        raise ConfigError(f"{path} has mode {mode:o}, others may read it: chmod 600 {path}")
    return _keys(str(path), path.read_text().split())


def _keys(where: str, texts: Sequence[str]) -> tuple[bytes, ...]:
    try:
        keys = tuple(base64.b64decode(text.strip(), validate=True) for text in texts)
    except (binascii.Error, ValueError):
        keys = ()
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ConfigError(f"{where}: each key is {KEY_BYTES} bytes in base64 (docs/secrets.md)")
    return keys


def make(path: Path, mine: Path) -> None:
    """Make a file of one key at *path*, whole, by way of *mine*; of many at once, one wins."""
    make_folder(path.parent)
    mine.unlink(missing_ok=True)
    handle = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(mine)
    except FileExistsError:
        pass
    finally:
        mine.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
