"""Conversations of one user, half of them groups and half direct ones, each of those with somebody who is gone.

The work of crowded.py with few others known: whoever one talks with directly, and nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.growth.curves import Curve
from benchmarks.workers import Worker

STEPS = (2, 10, 100, 1_000, 10_000)
MEMBERS = 3  # of the one group that gets another member


def run(place: Path, steps: list[int], say: Callable[[str], None], quick: bool = False) -> list[Curve]:
    """Measure a user of each number of conversations."""
    ready, cpu = Curve("start, until ready", "ms"), Curve("processor's time of that", "ms")
    memory = Curve("memory by the start", "MiB")
    size, linking = Curve("link-up in step: bytes, both ways", "B"), Curve("processor's time of that", "ms")
    adding, listing = Curve("a member is added to a small group", "ms"), Curve("/list, as people get it", "ms")
    for count in steps:
        say(f"{count:,} conversations")
        home = place / str(count)
        home.mkdir()
        ada, bob = str(home / "ada"), str(home / "bob")
        sizes = {"users": count // 2, "addresses": 0, "conversations": count, "members": MEMBERS}
        with Worker("crowded.make", home=home, ada=ada, bob=bob, **sizes) as making:
            making.get()
        with Worker("crowded.hold", home=home, data=bob) as other:
            endpoint = other.get()["endpoint"]
            with Worker("crowded.use", home=home, data=ada, endpoint=endpoint) as using:
                found = using.get()
        ready.add(count, found["started"][0] * 1e3)
        cpu.add(count, found["started"][1] * 1e3)
        memory.add(count, found["grown"] / 1024)
        size.add(count, found["bytes"])
        linking.add(count, found["linked"][1] * 1e3)
        adding.add(count, found["adding"][0] * 1e3)
        listing.add(count, found["list"][0] * 1e3)
    return [ready, cpu, memory, size, linking, adding, listing]
