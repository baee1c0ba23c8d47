"""How much the tests do of what they repeat: a sample in `poe test`, everything in `poe test-long`.

A test that repeats one thing many times (histories, kills, places of a cut, examples) takes the number from here and is
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


# Seeds of tests/core/test_histories.py; the soak plays others. The sample leaves out seed 3, which takes as long as all
# fifteen: it has a crowd, as seed 16 has.
HISTORIES = _amount(range(4, 19), range(500))
RELAYED_HISTORIES = _amount(range(4, 14), range(200))  # with an engine
HISTORIES_WITH_FILES = _amount(range(6, 9), range(100))
HISTORY_JOBS = _amount(1, 2)  # processes that play them; each imports everything once more
FILE_KILLS = _amount(2, 20)  # of each side of a transfer
KILLS = int(os.environ.get("P2PCHAT_TEST_KILLS", _amount("1", "6")))  # of each side; 20 for a release
FAILPOINT_TIMES = _amount((1,), (1, 3))  # a life dies the first time it reaches a point, or the third
STRIDE = _amount(4, 1)  # of the places that a test kills at, one after the other or each in its test: every fourth
CUT_PLACES = _amount(8, 1)  # of about 150 bytes of a link at which it is cut: every eighth
RULES_DIFFER = _amount(3, 12)  # histories whose members have other rules, of one test
MODEL_CONNECTIONS = _amount(2, 3)  # at once, of tests/core/mesh/test_go_model.py; a fourth would cost minutes
EXAMPLES = _amount(16, 1)  # of docs/: every sixteenth
KIT_RULES = 3  # of the conformance kit, tried on p2pchat: every third, by sample()
OFFERS = _amount(20_000, 100_000)  # files of a member that offers too many; twice and ten times what may wait
GENERATED = _amount(30, 100)  # inputs of each test with hypothesis that names no other number
OPENAPI_EXAMPLES = _amount(2, 5)  # requests for each call of REST and each way to generate them
CLAIMS = _amount(200, 1000)  # pairs of claims of one name, at two doors of a cluster at once
PEER_FAULT_PARTS = _amount(1, 4)  # of four, of the faults that the conformance kit must find
FUZZ_PARTS = _amount(2, 1)  # one of these many parts of the inputs of a fuzz target
