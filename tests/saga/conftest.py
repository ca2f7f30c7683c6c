"""Hundreds of databases are made here, and no disk is tested: they are kept in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.testing.databases import memory_folder


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder
