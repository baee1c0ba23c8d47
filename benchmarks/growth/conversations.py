"""Conversations of one user: half of them groups, half direct conversations with users who have left.

The work of crowded.py, with no known users except those of the conversations.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.growth.curves import Curve
from benchmarks.growth.starts import Starts
from benchmarks.workers import Worker

STEPS = (2, 10, 100, 1_000, 10_000)
MEMBERS = 3  # members of the group that gets another member


def run(place: Path, steps: list[int], say: Callable[[str], None], quick: bool = False) -> list[Curve]:
    """Measure a user for each number of conversations."""
    starts = Starts()
    adding, listing = Curve("a member is added to a small group", "ms"), Curve("/list, for people", "ms")
    for count in steps:
        say(f"{count:,} conversations")
        home = place / str(count)
        home.mkdir()
        sizes = {"users": count // 2, "addresses": 0, "conversations": count, "members": MEMBERS}
        with Worker("crowded.make", home=home, ada=str(home / "ada"), bob=str(home / "bob"), **sizes) as making:
            making.get()
        found = starts.measure(count, home, "crowded.use")
        adding.add(count, found["adding"][0] * 1e3)
        listing.add(count, found["list"][0] * 1e3)
    return [*starts.curves, adding, listing]
