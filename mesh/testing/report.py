"""A failed seed, told to people."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from .schedule import CLIENT
from .simulation import Result, Simulation

#: Of a longer story, the beginning and the end are told.
LINES_MAX = 160


def name_of(simulation: type[Simulation]) -> str:
    """Return how the command line knows *simulation*."""
    return f"{simulation.__module__}:{simulation.__qualname__}"


def replay_command(simulation: type[Simulation], result: Result, change: str = "") -> str:
    """Return the command that runs *result*, found with *change*, again."""
    ids = ";".join(fault.id for fault in result.faults)
    target = name_of(simulation)
    command = ["python", "-m", "mesh.testing", target, "--start", str(result.seed), "--seeds", "1"]
    changed = ["--change", change] if change else []
    return shlex.join([*command, *changed, "--only", ids])


def explain(simulation: type[Simulation], failed: Result, least: Result, change: str = "") -> str:
    """Return what failed, what is enough to make it fail, what happened, how to see it again.

    Args:
        simulation: of what.
        failed: the run as it was found.
        least: the same shrunk, with its story.
        change: the name of the bug that was put in, if one was.
    """
    told = _paragraphs(failed, least)
    command = replay_command(simulation, least if least.problems else failed, change)
    return "\n".join([*told, "\nto see it again:", f"  {command}"])


def _paragraphs(failed: Result, least: Result) -> Iterator[str]:
    yield f"seed {failed.seed} fails:"
    yield from (f"  {problem}" for problem in failed.problems[:10])
    if least.problems:
        faults = [fault for fault in least.faults if fault.kind != CLIENT]
        drawn = sum(fault.kind != CLIENT for fault in failed.faults)
        yield f"\n{len(faults)} of its {drawn} faults are enough, with what clients do:"
        yield from (f"  {fault}" for fault in least.faults)
        yield "\nthen it fails:"
        yield from (f"  {problem}" for problem in least.problems[:10])
        yield "\nwhat happened:"
        yield from _shortened(least.story)


def _shortened(story: list[str]) -> list[str]:
    if len(story) <= LINES_MAX:
        return story
    half = LINES_MAX // 2
    return [*story[:half], f"… {len(story) - 2 * half} lines …", *story[-half:]]
