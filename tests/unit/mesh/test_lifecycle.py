"""A service's process, from its start to its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from mesh.call import Method
from mesh.runtime import lifecycle
from mesh.runtime.config import ConfigError, load
from mesh.runtime.lifecycle import ServiceProcess, check_kept
from services.orchestrator.service import service as orchestrator

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


async def test_keys_are_kept_for_as_long_as_sagas_ask_under_them(tmp_path: Path) -> None:
    config = load({"MESH_DATA_DIR": str(tmp_path)})
    check_kept(config.keep_days, orchestrator.sagas)
    check_kept(8, orchestrator.sagas)
    too_short = ServiceProcess(replace(config, keep_days=7), "orchestrator")
    with pytest.raises(ConfigError) as caught:
        await too_short.start()
    for told in ("[retention] days = 7", "cancel_order has 7 days", "set days to 8 or more"):
        assert told in str(caught.value)
    check_kept(1, ())
