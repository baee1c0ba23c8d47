"""Full-text search: the time to create an index and its size, and the time of a search with and without it.

The history has a fifth of the entries of `catchup`. The words of its texts are drawn from some thousands, with a
realistic frequency.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from benchmarks.results import Row, Setting, middle, shown
from benchmarks.workers import Channel, Worker

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
    """Run as a worker: write a history, index it, and search it both ways."""
    from p2pchat import Settings, TCPPeer, open_history

    async with TCPPeer(data=data, settings=Settings(start_timeout=0.0)) as peer:
        await peer.send_many("room", texts(entries))
    async with open_history(data) as history:
        indexing = history._indexer
        assert indexing is not None
        begun = time.perf_counter()
        usable = await indexing.catch_up()
        indexed = time.perf_counter() - begun
        assert usable
        with_index = [await _took(history, asked) for asked in ASKED]
    (Path(data) / "search.db").unlink()
    async with open_history(data) as history:
        assert history._opened is not None
        history._opened = history._opened._replace(indexer=None)
        without = [await _took(history, asked) for asked in ASKED]
    channel.send(indexed=indexed, found=[[took for took, _ in one] for one in (with_index, without)],
                 same=[ids for _, ids in with_index] == [ids for _, ids in without])  # fmt: skip


async def _took(history: Any, asked: str) -> tuple[float, list[str]]:
    begun = time.perf_counter()
    found = await history.search(asked)
    return time.perf_counter() - begun, [post.id for post in found]


def run(setting: Setting) -> list[Row]:
    """Measure all of it in one process."""
    home = setting.directory / "search"
    home.mkdir()
    entries = max(1, setting.entries // PART)
    with Worker("search.search", home=home, data=str(home / "searched"), entries=entries) as worker:
        said = worker.get()
    if not said["same"]:
        raise RuntimeError("a search with the index finds other messages than one without")
    with_index, without = said["found"]
    what = f"of {entries:,} entries"
    beside = f"without an index {shown(middle(without))} s, at most {shown(max(without))}"
    return [
        Row(f"an index of words {what} is made", entries / said["indexed"], "/s", note="once, when somebody searches"),
        Row(
            f"a search {what}, the newest 50",
            middle(with_index),
            "s",
            "",
            beside,
            f"at most {shown(max(with_index))} s",
        ),
    ]
