"""For the contract suites: what their engines run on."""

from collections.abc import Iterator

import pytest

from tests.support.postgres import FAST, PostgresServer, postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL, shared by the tests of a session."""
    with postgres(*FAST) as server:
        yield server
