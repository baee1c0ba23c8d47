"""Stored entries: a room with messages of four writers, written singly and in turn (stored.py).

Each start is a new process. The writer has used the file before, so it may be in the system's cache, as after a restart
of the program.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.catchup import fetched
from benchmarks.growth.curves import Curve
from benchmarks.results import middle, text
from benchmarks.stored import last_of
from benchmarks.workers import Channel, Worker, resident_kib, settle

STEPS = (1_000, 10_000, 100_000, 1_000_000)  # and 10_000_000 on request (its cost: __main__.py)
WRITERS = 4  # a user may fill 1 GiB, so 10**7 entries of 260 bytes are at least three users'
INDEXED_MOST = 1_000_000  # an index of more entries takes minutes
FETCHED_MOST = 1_000_000
TIMES = 9  # repetitions of short operations; the median counts
SINGLES = 40


async def use(channel: Channel, data: str, entries: int) -> None:
    """Run as a worker: start a peer with everything stored, read pages, write, search."""
    from p2pchat import TCPPeer

    before, worked, begun = resident_kib(), time.process_time(), time.perf_counter()
    async with TCPPeer(data=data) as peer:
        found: dict[str, float] = {"ready": time.perf_counter() - begun, "cpu": time.process_time() - worked}
        settle()
        found["memory"] = resident_kib() - before
        found["page"] = await _middle_of(lambda: peer.history(peer.room, limit=100))
        middle_of_it = await _middle_entry(peer)
        found["middle"] = await _middle_of(lambda: peer.history(peer.room, before=middle_of_it, limit=100))
        found["accepted"] = await _middle_of(lambda: peer.broadcast(text(0)), SINGLES)
        if entries <= INDEXED_MOST:
            begun = time.perf_counter()
            await peer.search(RARE)
            found["first"] = time.perf_counter() - begun
            found["rare"] = await _middle_of(lambda: peer.search(RARE))
            found["frequent"] = await _middle_of(lambda: peer.search("fox"))
        found["after"] = resident_kib() - before
        channel.send(**found)


RARE = "00000007"  # the beginning of the seventh text of each writer, which is among the oldest


async def _middle_entry(peer: Any) -> datetime:
    """Return the time in the middle of all stored entries."""
    newest = (await peer.history(peer.room, limit=1))[0]
    oldest = (await peer.history(peer.room, after=datetime.fromtimestamp(0, UTC), limit=1))[0]
    between: datetime = oldest.sent_at + (newest.sent_at - oldest.sent_at) / 2
    return between


async def _middle_of(what: Callable[[], Awaitable[Any]], times: int = TIMES) -> float:
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        await what()
        took.append(time.perf_counter() - begun)
    return middle(took)


def run(place: Path, steps: list[int], say: Callable[[str], None], quick: bool = False) -> list[Curve]:
    """Measure a history of each length."""
    ready, cpu = Curve("start, until ready", "s"), Curve("CPU time of that", "s")
    memory, after = Curve("memory used by the start", "MiB"), Curve("memory after pages and searches", "MiB")
    page, between = Curve("the newest page of 100", "ms"), Curve("a page of 100 in the middle", "ms")
    accepted = Curve("a message is accepted", "ms")
    first = Curve("the first search, which indexes all words", "s")
    rare, frequent = Curve("a search for a rare word", "ms"), Curve("a search for a word in every text", "ms")
    fetching = Curve("a newcomer fetches everything", "s")
    size = Curve("disk space per entry", "B")
    for entries in steps:
        say(f"{entries:,} entries are written")
        home = place / str(entries)
        home.mkdir()
        data, writers = str(home / "writer"), min(WRITERS, entries)
        common = {"data": data, "entries": entries}
        with Worker("stored.write", home=home, **common, one_by_one=True, writers=writers) as writing:
            last = last_of(writing, say)
        stored = _bytes_in(home)
        if entries <= FETCHED_MOST:
            say(f"{entries:,} entries: a newcomer fetches them")
            fetching.add(entries, fetched(home, data, last, entries)[0])
        say(f"{entries:,} entries: a peer starts with them")
        with Worker("growth.history.use", home=home, **common) as using:
            found = using.get()
        for curve, name, unit in (
            (ready, "ready", 1), (cpu, "cpu", 1), (memory, "memory", 1 / 1024), (after, "after", 1 / 1024),
            (page, "page", 1e3), (between, "middle", 1e3), (accepted, "accepted", 1e3), (first, "first", 1),
            (rare, "rare", 1e3), (frequent, "frequent", 1e3),
        ):  # fmt: skip
            if name in found:
                curve.add(entries, found[name] * unit)
        size.add(entries, stored / entries)
        shutil.rmtree(home)  # the next is ten times as large
    return [ready, cpu, memory, after, page, between, accepted, first, rare, frequent, fetching, size]


def _bytes_in(home: Path) -> int:
    """Return the size of the databases there, including their write-ahead logs."""
    return sum(file.stat().st_size for file in home.rglob("*.db*"))
