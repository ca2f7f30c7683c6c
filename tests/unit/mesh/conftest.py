"""What several tests of the library share: a system in a folder, a vault with a bank behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mesh.storage.port import Store

from .bank import Bank, Clock, Till
from .programs import Folder
from .vault import open_vault


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    yield folder
    folder.clean()


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_vault(tmp_path)
    yield store
    await store.close()


@pytest.fixture
async def till(store: Store, bank: Bank, clock: Clock) -> AsyncIterator[Till]:
    till = Till(store, bank, clock)
    yield till
    await till.effects.stop()
