"""The process of one mutant: it imports the package with the fault, then runs what should catch it.

    python -m tests.mutants.infected < PICKLED_MUTANT

The exit code is CAUGHT if the test failed, or a history broke the rule; how many it took is then in the output. 0 means
that nothing was caught, and every other exit code that the process failed.
"""

from __future__ import annotations

import gc
import pickle
import sys

import pytest

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
    """A plugin of pytest that notes whether a test itself failed, and not only its setup or its end."""

    def __init__(self) -> None:
        self.is_there = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.is_there |= report.when == "call" and report.failed


def fails(test: str) -> bool:
    """Run one test, by its file below tests/ and its name; return whether it fails. A test that hangs does."""
    failure = Failure()
    # Without the rewriting of assertions, which has a cache of its own and would come before the mutant.
    options = ["-q", "-x", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", f"timeout={TIMEOUT}"]
    pytest.main([*options, f"tests/{test}"], plugins=[failure])
    return failure.is_there


def main() -> int:
    mutant: Mutant = pickle.load(sys.stdin.buffer)
    infect(mutant)
    gc.set_threshold(50_000, 50, 50)  # as in other runs of histories: collection takes a tenth of their time
    if isinstance(mutant.caught_by, str):
        caught = fails(mutant.caught_by)
    else:
        seed = seed_of_broken(mutant.caught_by)
        caught = seed is not None
        print(f"seed {seed}")
    return CAUGHT if caught else 0


if __name__ == "__main__":
    sys.exit(main())
