"""A service's process, from its start to its end."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from mesh.call import Method
from mesh.runtime import lifecycle
from mesh.runtime.config import load
from mesh.runtime.lifecycle import ServiceProcess

from .programs import Folder
from .vault import VAULT


async def test_the_rules_of_all_it_serves_are_compiled_before_the_first_call(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []

    def note(methods: Iterable[Method]) -> None:
        compiled.extend(method.full_name for method in methods)

    monkeypatch.setattr(lifecycle, "warm_up", note)
    monkeypatch.setattr(lifecycle, "NOTICE_S", 0.0)
    folder.service("one")
    places = {"MESH_CONFIG": "mesh.toml", "MESH_DATA_DIR": ".data"}
    config = load({name: str(folder.path / place) for name, place in places.items()})
    process = ServiceProcess(config, "one")
    await process.start()
    await process.drain()
    assert {f"{VAULT.full_name}/{method.name}" for method in VAULT.methods} <= {*compiled}
