"""Processes killed with -9, one after the other, while December is being placed."""

from pathlib import Path

import pytest

from tests.e2e import december
from tests.e2e.books import Books, check, check_same, count_resumed, read_books
from tests.e2e.system import PROVIDER, SERVICES, System, running

#: Sagas in flight at each kill. A few may end between the look and the signal: hence the margin.
IN_FLIGHT, MARGIN = 20, 10
#: The orchestrator first, then those it calls, then the one outside.
VICTIMS = ("orchestrator", *(name for name in SERVICES if name != "orchestrator"), PROVIDER)


def test_the_books_are_as_if_nobody_had_been_killed(
    tmp_path: Path, undisturbed: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: dict[str, int] = {}
    with running(tmp_path) as system:
        command = december.replay_command(*december.FAILING)
        replay = system.start(command, tmp_path / "replay.log")
        try:
            for victim in VICTIMS:
                killed[victim] = kill_in_flight(system, victim)
            assert replay.wait(december.REPLAY_S) == 0, (tmp_path / "replay.log").read_text()
        finally:
            replay.kill()
            replay.wait()
    resumed = count_resumed(tmp_path)
    with capsys.disabled():
        print(f"\nin flight when killed: {killed}; {resumed} sagas resumed")
    assert resumed >= IN_FLIGHT
    books = read_books(tmp_path)
    check(books)
    check_same(books, undisturbed)


def kill_in_flight(system: System, victim: str) -> int:
    """Kill *victim* while enough sagas run; return how many, once it has been restarted."""
    count = system.wait_in_flight(IN_FLIGHT + MARGIN)
    pid = system.kill(victim)
    if victim != "orchestrator":
        assert system.sagas_running() >= IN_FLIGHT
    system.wait_restarted(victim, pid, victim)
    return count
