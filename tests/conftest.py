"""For every suite: nothing may be left out unseen.

Where `REQUIRE_ALL=1` (CI), a skipped or expected-to-fail test is a failure: there, whatever a test
needs is installed, so a skip means that something is not being tested.
"""

import os
from collections.abc import Generator, Iterator
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

from mesh.scope import Scope, scope
from tests.support.databases import ENGINES, Database
from tests.support.postgres import FAST, PostgresServer, postgres

R = TypeVar("R", pytest.TestReport, pytest.CollectReport)

# How long an example takes says how busy the machine is.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

REQUIRE_ALL = os.environ.get("REQUIRE_ALL") == "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make soak-faults` runs what chance decides many times."""
    how = "run each test that chance decides (with a `turn`) N times, from another seed each time"
    parser.addoption("--turns", type=int, default=1, metavar="N", help=how)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test its turns."""
    if "turn" in metafunc.fixturenames:
        turns = range(metafunc.config.getoption("turns"))
        metafunc.parametrize("turn", [pytest.param(n, marks=pytest.mark.turns) for n in turns])


def pytest_report_header() -> list[str]:
    """Say what decides whether this run can be compared with another."""
    skips = "every skip is a failure" if REQUIRE_ALL else "off, skips are allowed"
    hash_seed = os.environ.get("PYTHONHASHSEED", "random")
    return [
        f"REQUIRE_ALL: {skips}",
        f"PYTHONHASHSEED: {hash_seed} (a simulation seed repeats with 0 only; `make test` sets it)",
    ]


@pytest.fixture(autouse=True)
def nobody_is_served() -> Iterator[None]:
    """A test begins as a process does: whatever an earlier one was serving is over."""
    entered = scope.set(Scope())
    yield
    scope.reset(entered)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL, shared by the tests of a session."""
    with postgres(*FAST) as server:
        yield server


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest) -> Database:
    """Databases of each engine: a test that takes it is run on all."""
    return ENGINES[request.param](request)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a test's skip or expected failure into a failure in CI."""
    report = yield
    return _fail_if_left_out(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same to a module that skips itself while it is collected."""
    report = yield
    return _fail_if_left_out(report)


def _fail_if_left_out(report: R) -> R:
    if REQUIRE_ALL and report.skipped:
        reason = getattr(report, "wasxfail", None)
        if reason is None:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        else:
            del report.wasxfail  # pytest shows a report that has it as an expected failure
            reason = f"expected to fail: {reason}"
        report.outcome = "failed"
        report.longrepr = f"REQUIRE_ALL=1 allows no skip. {report.nodeid}: {reason}"
    return report
