"""Makes a database with a long history, quickly and exactly as if a peer had written it.

Every entry has its clock and its chain, every batch its head, every entry its place. Written one by one means one
commit's worth for each entry: a batch of one, a stretch of one, a head that takes the place of the one before. Of
those a million heads the storage keeps one in a few hundred; only these are signed (afterwards, with the real key
over the real chain), so that the database is what signing all of them would have left, in a tenth of the time.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import text
from benchmarks.workers import Channel

IN_A_TRANSACTION = 20_000  # entries
UNSIGNED = bytes(64)


async def write(channel: Channel, data: str, entries: int, one_by_one: bool) -> None:
    """Worker: write a history of the room by the user of the profile at `data`; say the last entry's id."""
    from p2pchat.core.log import LogId
    from p2pchat.core.sync.conversations import room_id
    from p2pchat.identity.profile import Profile
    from p2pchat.peer.message import message_id
    from p2pchat.storage.connect import sqlite_url
    from p2pchat.storage.sql import SqlStorage

    begun = time.perf_counter()
    with Profile.open(data=data) as profile:
        log = LogId(room_id(profile.network.id), profile.identity.peer_id, "0123456789abcdef")
        storage = SqlStorage(sqlite_url(profile.database))
        for changes in _transactions(log, profile.identity.sign, entries, 1 if one_by_one else 256):
            storage.commit(changes)
        storage.close()
        if one_by_one:
            _sign_what_was_kept(profile.database, log, profile.identity.sign)
    channel.tell(last=message_id(log, entries), seconds=time.perf_counter() - begun)


def _transactions(log: Any, sign: Any, count: int, a_batch: int) -> Iterator[list[Any]]:
    from p2pchat.core.records import Change

    changes: list[Change] = []
    gathered = 0
    for change in _changes(log, sign, count, a_batch):
        changes.append(change)
        gathered += len(change.batches[0].raws)
        if gathered >= IN_A_TRANSACTION:
            yield changes
            changes, gathered = [], 0
    if changes:
        yield changes


def _changes(log: Any, sign: Any, count: int, a_batch: int) -> Iterator[Any]:
    """Yield one change a batch: what a peer commits when its user writes so many texts at once."""
    from p2pchat.core.log import Batch, Entry, encode_entry, extend_chain, first_chain, head_message
    from p2pchat.core.records import Change, KnownUser, NewLog, Stretch, Talk
    from p2pchat.protocol import Naming

    chain = first_chain(log)
    at = time.time_ns() // 1000 - 2 * count
    for first in range(1, count + 1, a_batch):
        last = min(count, first + a_batch - 1)
        if first == 1:  # a log in the room begins with its writer's profile
            entries = [Entry("profile", at, at, b={"name": "writer"})]
            entries += [Entry("text", at, at + seq, b=text(seq)) for seq in range(2, last + 1)]
        else:
            entries = [Entry("text", at + seq, at + seq, b=text(seq)) for seq in range(first, last + 1)]
        raws = [encode_entry(entry) for entry in entries]
        prev, chain = chain, extend_chain(chain, raws)
        head = sign(head_message(log, last, chain)) if a_batch > 1 else UNSIGNED
        change = Change(batches=[Batch(log, first, raws, entries, prev, chain, head)])
        change.stretches.append(Stretch(first, log, first, last - first + 1, at, False, False))
        if first == 1:
            change.logs.append(NewLog(log, (), True))
            change.talks.append(Talk(log.conversation, Naming(room=True)))
            change.users.append(KnownUser(log.user, "writer", at))
        yield change


def _sign_what_was_kept(database: Path, log: Any, sign: Any) -> None:
    from p2pchat.core.log import head_message
    from p2pchat.storage.tables import SEQS

    db = sqlite3.connect(database)
    heads = db.execute("select id, chain from heads").fetchall()
    signed = [(sign(head_message(log, id % SEQS, chain)), id) for id, chain in heads]
    db.executemany("update heads set sig = ? where id = ?", signed)
    db.commit()
    db.close()
