"""Full-text search: the time to create an index, and the time of a search.

The history has a fifth of the entries of `catchup`. The words of its texts are drawn from some thousands, with a
realistic frequency.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from benchmarks.results import Row, Setting, middle, shown
from benchmarks.workers import Channel, Worker

if TYPE_CHECKING:
    from p2pchat import History

PART = 5
WORDS = 8_000
ASKED = ("w7 w31", '"w1 w2"', "w4000", "w12 w900", "nothing", "w3")  # rare, frequent, a phrase, missing


def texts(count: int) -> list[str]:
    """Return `count` texts of a dozen words."""
    chance = random.Random(7)
    weights = [1 / rank for rank in range(1, WORDS + 1)]
    words = [f"w{rank}" for rank in range(1, WORDS + 1)]
    return [" ".join(chance.choices(words, weights, k=12)) for _ in range(count)]


async def search(channel: Channel, data: str, entries: int) -> None:
    """Run as a worker: write a history, index it, and search it."""
    from p2pchat import Settings, TCPPeer, open_history

    async with TCPPeer(data=data, settings=Settings(start_timeout=0.0)) as peer:
        await peer.send_many("room", texts(entries))
    async with open_history(data) as history:
        begun = time.perf_counter()
        await history._indexer.catch_up()
        indexed = time.perf_counter() - begun
        channel.send(indexed=indexed, took=[await _took(history, asked) for asked in ASKED])


async def _took(history: History, asked: str) -> float:
    begun = time.perf_counter()
    await history.search(asked)
    return time.perf_counter() - begun


def run(setting: Setting) -> list[Row]:
    """Measure all of it in one process."""
    home = setting.directory / "search"
    home.mkdir()
    entries = max(1, setting.entries // PART)
    with Worker("search.search", home=home, data=str(home / "searched"), entries=entries) as worker:
        said = worker.get()
    took, what = said["took"], f"of {entries:,} entries"
    return [
        Row(f"an index of words {what} is made", entries / said["indexed"], "/s", note="once, when somebody searches"),
        Row(f"a search {what}, the newest 50", middle(took), "s", "", "", f"at most {shown(max(took))} s"),
    ]
