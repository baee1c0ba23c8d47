"""Runs of one user: each start begins a new log in every conversation, which builds on the previous one.

Ada has started so many times and written one message each time; her peer and Bob's hold the same. Her peer starts once
more and links with Bob's; then a newcomer fetches everything from her.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.catchup import fetched
from benchmarks.crowded import started_and_linked
from benchmarks.growth.curves import Curve
from benchmarks.growth.starts import Starts
from benchmarks.results import text
from benchmarks.workers import Channel, Worker

STEPS = (1, 10, 100, 1_000, 10_000)


async def make(channel: Channel, ada: str, bob: str, runs: int) -> None:
    """Run as a worker: create both profiles with all their data; report the id of the last entry."""
    from p2pchat import TCPPeer
    from p2pchat.core.durable_changes import DeliveredMark
    from p2pchat.core.log import message_id
    from p2pchat.identity.profile import Profile
    from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
    from p2pchat.storage.sql_storage import SqlStorage

    async with TCPPeer(data=ada, name="ada") as one, TCPPeer(0, one.endpoint, data=bob, name="bob") as other:
        for peer in (other, one):
            await (await peer.broadcast("here I am")).delivered()
    with Profile.open(data=ada) as own, Profile.open(data=bob) as others:
        storages = [SqlStorage(sqlite_url(profile.database)) for profile in (own, others)]
        stored = [storage.load([own.identity.peer_id]) for storage in storages]
        (tip,) = [facts for facts in stored[0].tips if facts.log.user == own.identity.peer_id]
        written = list(_further_runs(own.identity.sign, tip, runs - 1))
        for storage, found in zip(storages, stored, strict=True):
            changes = [_kept(mark, batch, found.next_place + 2 * n) for n, (mark, batch) in enumerate(written)]
            if storage is storages[0]:
                for change in changes:  # Bob was online each time, and acknowledged it
                    change.delivered.append(DeliveredMark(change.batches[0].log, others.identity.peer_id, 2))
            storage.commit(changes)
            storage.close()
    last = written[-1][1].log if written else tip.log
    channel.send(last=message_id(last, 2))


def _further_runs(sign: Callable[[bytes], bytes], tip: Any, runs: int) -> Iterator[Any]:
    """Yield the mark that each run builds on, and its entries: a profile and one text."""
    from p2pchat.core.log import (
        Batch,
        Entry,
        LogId,
        encode_entry,
        encode_header,
        extend_chain,
        first_chain,
        head_message,
        size_bytes,
    )
    from p2pchat.protocol import Mark

    mark = Mark(tip.log.run, tip.seq, tip.chain.hex())
    at = time.time_ns() // 1000
    for number in range(runs):
        log = LogId(tip.log.conversation, tip.log.user, secrets.token_hex(8))
        stamp = at + 2 * number
        profile, before = Entry("profile", stamp, stamp, b={"name": "ada"}), mark
        entries = [profile, Entry("text", stamp + 1, stamp + 1, b=text(number))]
        header = encode_header(log, (before,), None)
        raws, prev = [encode_entry(entry) for entry in entries], first_chain(header)
        chain = extend_chain(prev, raws)
        mark = Mark(log.run, 2, chain.hex())
        head = sign(head_message(log, 2, chain))
        yield before, Batch(log, 1, raws, entries, prev, chain, head, size_bytes(raws), header)


def _kept(mark: Any, batch: Any, place: int) -> Any:
    """Return the change that stores a run, shown from that place on."""
    from p2pchat.core.durable_changes import Change, NewLog, Stretch

    change = Change(batches=[batch], logs=[NewLog(batch.log, (mark,), True)])
    change.covered.append(batch.log._replace(run=mark.run))
    change.stretches.append(Stretch(place, batch.log, 1, 2, batch.entries[0].at, False, False))
    return change


async def use(channel: Channel, data: str, endpoint: str) -> None:
    """Run as a worker: start once more, link up with a peer that holds the same, and send one message."""
    async with started_and_linked(data, endpoint) as (peer, found):
        begun = time.perf_counter()
        await (await peer.broadcast("here I am again")).delivered()
        channel.send(**found, delivered=time.perf_counter() - begun)


def run(place: Path, steps: list[int], say: Callable[[str], None], quick: bool = False) -> list[Curve]:
    """Measure a user for each number of runs."""
    starts = Starts()
    delivered = Curve("the first message of the new run is delivered", "ms")
    fetching = Curve("a newcomer fetches everything", "s", note="2 entries a run: who writes, and one text")
    for runs in steps:
        say(f"{runs:,} runs")
        home = place / str(runs)
        home.mkdir()
        ada, bob = str(home / "ada"), str(home / "bob")
        with Worker("growth.runs.make", home=home, ada=ada, bob=bob, runs=runs) as making:
            last = making.get()["last"]
        fetching.add(runs, fetched(home, ada, last, 2 * runs + 2)[0])
        delivered.add(runs, starts.measure(runs, home, "growth.runs.use")["delivered"] * 1e3)
    return [*starts.curves, delivered, fetching]
