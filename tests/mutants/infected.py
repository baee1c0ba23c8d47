"""The process of one mutant: it imports the package with the fault, then runs what should catch it.

    python -m tests.mutants.infected < PICKLED_MUTANT

The exit code is CAUGHT if the test failed, or a history broke the rule; how many it took is then in the output. 0 means
that nothing was caught, and every other exit code that the process failed.
"""

from __future__ import annotations

import gc
import os
import pickle
import sys

import pytest

from tests import deadlines
from tests.mutants.mutant import Mutant, Rule, infect

CAUGHT = 10  # neither Python nor pytest ends with it
TIMEOUT = 40  # seconds of a test, which then fails; each of the table takes a second or two


def seed_of_broken(rule: Rule) -> int | None:
    """Return the seed of the first history, of those played, that breaks a rule; None if none does."""
    from simulation.random_histories import WantedEvents, check_history

    wanted = WantedEvents(**{rule.having: True} if rule.having else {})
    for seed in sorted(range(rule.within), key=lambda seed: seed != rule.seed):
        if any(fault.rule == rule.name for fault in check_history(seed, wanted=wanted)):
            return seed
    return None


class Failure:
    """A plugin of pytest that ends the process when a test itself failed, before its end, which a fault may hang."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.failed:
            print(report.longreprtext, flush=True)
            os._exit(CAUGHT)


def survive(test: str) -> None:
    """Run one test, by its file below tests/ and its name; end the process if it fails. A test that hangs does."""
    # Without the rewriting of assertions, which has a cache of its own and would come before the mutant.
    options = ["-q", "-x", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", f"timeout={TIMEOUT}"]
    pytest.main([*options, f"tests/{test}"], plugins=[Failure()])


def main() -> int:
    # The alarm of the timeout may come in any task: a test names what it waits for before.
    deadlines.WAIT = TIMEOUT / 2
    mutant: Mutant = pickle.load(sys.stdin.buffer)
    infect(mutant)
    gc.set_threshold(50_000, 50, 50)  # as in other runs of histories: collection takes a tenth of their time
    if isinstance(mutant.caught_by, str):
        survive(mutant.caught_by)
        return 0
    seed = seed_of_broken(mutant.caught_by)
    print(f"seed {seed}")
    return 0 if seed is None else CAUGHT


if __name__ == "__main__":
    sys.exit(main())
