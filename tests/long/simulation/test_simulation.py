"""Long tests of `tests/simulation/test_simulation.py`."""

from __future__ import annotations

import os
import subprocess
import sys

# With files, with deletions where two conversations wait at a start, and with members where a pardon resumes dials.
FINGERPRINTS = """
from simulation.random_histories import play, WantedEvents as Wanted
for seed, wanted in (
    (7, Wanted()), (11, Wanted(files=True)), (1354010, Wanted(deletions=True)), (296, Wanted(members=True))
):
    print(play(seed, wanted=wanted)[0].fingerprint())
"""


def test_a_seed_replays_exactly_with_any_hash_seed() -> None:
    assert fingerprints(hash_seed="1") == fingerprints(hash_seed="2") == fingerprints(hash_seed="3")


def fingerprints(*, hash_seed: str) -> list[str]:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", FINGERPRINTS], env=environment, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()
