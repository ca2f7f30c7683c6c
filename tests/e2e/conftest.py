"""For the tests on real processes: what they share, and the logs where one fails."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e import december
from tests.e2e import system as systems
from tests.e2e.books import Books, read_books
from tests.e2e.system import System


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system for all tests of a module: each has orders, users and items of its own."""
    with systems.running(tmp_path_factory.mktemp("system")) as system:
        yield system


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder for data on PostgreSQL: as root, the server is somebody else, who must get there."""
    folder = Path(tempfile.mkdtemp(prefix="mesh-e2e-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Books:
    """The books after December with orders that fail, and nothing going wrong beside.

    One of pytest's workers makes them for all.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    found = shared / "undisturbed.txt"
    with (shared / "undisturbed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            data = tmp_path_factory.mktemp("undisturbed")
            with systems.running(data) as system:
                december.replay(system, *december.FAILING)
            found.write_text(str(data))
    return read_books(Path(found.read_text()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of every system that is up when a test fails."""
    report = yield
    if report.failed:
        for system in systems.up:
            report.sections.append((f"logs in {system.data}", system.log_tails()))
    return report
