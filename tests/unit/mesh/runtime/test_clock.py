"""Chance from the machine, fetched in blocks."""

import subprocess
import sys
import uuid

from mesh.runtime.clock import OsRandom, Runtime


def test_ids_are_uuids_of_version_7_and_differ() -> None:
    runtime = Runtime()
    ids = [runtime.new_id() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert {(uuid.UUID(i).version, uuid.UUID(i).variant) for i in ids} == {(7, uuid.RFC_4122)}
    assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)


def test_bits_are_as_many_as_asked_for_and_all_of_them_vary() -> None:
    chance = OsRandom()
    for bits in (1, 8, 64, 74, 128, 129, 500):
        drawn = [chance.getrandbits(bits) for _ in range(400)]
        seen = 0
        for value in drawn:
            assert 0 <= value < 1 << bits
            seen |= value
        assert seen == (1 << bits) - 1


FORKED = """
import os
from mesh.runtime.clock import Runtime

runtime = Runtime()
runtime.new_id()  # a block is fetched
child = os.fork()
os.write(1, runtime.new_id()[-12:].encode() + b" ")
if child:
    os.waitpid(child, 0)
"""


def test_a_forked_process_draws_other_ids_than_its_parent() -> None:
    forked = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, check=True)
    ours, theirs = forked.stdout.split()
    assert ours != theirs
