"""How much the tests do of what they repeat: a sample in `poe test`, everything in `poe test-long`.

A test that repeats one thing many times (histories, kills of a transfer, examples) takes the number from here and is
marked `sampled`. `poe test` runs the sample, which is the same in each run. `poe test-long` sets P2PCHAT_TEST_LONG and
runs the marked tests again in full, with those marked `long` (tests/conftest.py), too long for `poe test` even once.
`.ci/run` runs both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
LONG = bool(os.environ.get("P2PCHAT_TEST_LONG"))


def _amount(sample: T, full: T) -> T:
    return full if LONG else sample


def sample(cases: Sequence[T], every: int) -> Sequence[T]:
    """Return the first of this many cases, the first of the next ones, and so on; in `poe test-long` all cases."""
    return cases[:: _amount(every, 1)]


RULES_DIFFER = _amount(3, 12)  # histories whose members have other rules, of one test
MODEL_CONNECTIONS = _amount(2, 3)  # at once, of tests/core/mesh/test_go_model.py; a fourth would cost minutes
OFFERS = _amount(20_000, 100_000)  # files of a member that offers too many; twice and ten times what may wait
GENERATED = _amount(30, 100)  # inputs of each test with hypothesis that names no other number
FUZZ_PARTS = _amount(2, 1)  # one of these many parts of the inputs of a fuzz target
MUTANTS_HUNTED = _amount(1, 10)  # of those that few histories find
