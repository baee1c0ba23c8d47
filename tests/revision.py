"""What of many like tests a gate runs: a part that the revision chooses, the same at each run of one revision."""

from __future__ import annotations

import subprocess

from tests.mutants.mutant import ROOT


def part_of(count: int) -> int:
    """Return a number below `count` that the commit decides; 0 outside of a repository."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return int(found.stdout.strip() or "0", 16) % count
