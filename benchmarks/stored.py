"""A database with a long history, created quickly and identical to one that a peer wrote.

Every entry has its clock, chain and place, every batch its head. "One by one" means one commit per entry: a batch of
one, a stretch of one, a head that replaces the previous one. Storage keeps one of a few hundred of those heads, so only
these are signed (afterwards, with the real key over the real chain). The database is the same as if all had been
signed, in a tenth of the time.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import text
from benchmarks.workers import Channel, Worker

IN_A_TRANSACTION = 20_000  # entries
REPORTED_EVERY = 25  # transactions: half a million entries, about 10 s
UNSIGNED = bytes(64)


async def write(channel: Channel, data: str, entries: int, one_by_one: bool, writers: int = 1) -> None:
    """Run as a worker: write a history of the room by the user of the profile at `data`; report the last entry's id.

    Further writers are users who have left. All take turns, and the user of the profile is the last. Report `written`
    from time to time, and `last` at the end.
    """
    from p2pchat.core.log import message_id
    from p2pchat.core.members.statement import room_id
    from p2pchat.identity.identity import Identity
    from p2pchat.identity.profile import Profile
    from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
    from p2pchat.storage.sql_storage import SqlStorage

    begun = time.perf_counter()
    with Profile.open(data=data) as profile:
        room = room_id(profile.network.id)
        a_batch = 1 if one_by_one else 256
        taking_turns = [LogWriter(room, Identity.generate(), number) for number in range(1, writers)]
        own = LogWriter(room, profile.identity, 0)
        taking_turns.insert((math.ceil(entries / a_batch) - 1) % writers, own)
        storage = SqlStorage(sqlite_url(profile.database))
        for number, changes in enumerate(transactions(taking_turns, entries, a_batch), 1):
            storage.commit(changes)
            if number % REPORTED_EVERY == 0:
                channel.send(written=number * IN_A_TRANSACTION, of=entries)
        storage.close()
        if one_by_one:
            sign_what_was_kept(profile.database, taking_turns)
    channel.send(last=message_id(own.log, own.seq), seconds=time.perf_counter() - begun)


def last_of(writing: Worker, say: Callable[[str], None] = lambda words: None) -> str:
    """Wait for a writing worker, and report its progress. Return the id of the last entry."""
    while "last" not in (reported := writing.get()):
        say(f"{reported['written']:,} of {reported['of']:,} entries are written")
    last: str = reported["last"]
    return last


class LogWriter:
    """The log of one user in the room, up to the last written entry."""

    def __init__(self, room: str, identity: Any, number: int) -> None:
        from p2pchat.core.log import LogId, encode_header, first_chain

        self.log = LogId(room, identity.peer_id, "0123456789abcdef")
        self.sign = identity.sign
        self.name = f"writer {number}"
        self.seq = 0
        self.header = encode_header(self.log, (), None)
        self._chain = first_chain(self.header)

    def write(self, count: int, at: int, place: int, signed: bool) -> Any:
        """Return the change that stores `count` more entries, the first of them with that time and place."""
        from p2pchat.core.durable_changes import Change, KnownConversation, KnownUser, NewLog, Stretch
        from p2pchat.core.log import Batch, Entry, encode_entry, extend_chain, head_message, size_bytes
        from p2pchat.protocol import Naming

        first, log = self.seq + 1, self.log
        stamps = range(at, at + count)
        entries = [Entry("text", stamp, stamp, b=text(seq)) for seq, stamp in enumerate(stamps, first)]
        if first == 1:  # a log in the room begins with its writer's profile
            entries[0] = Entry("profile", at, at, b={"name": self.name})
        raws = [encode_entry(entry) for entry in entries]
        prev, self._chain = self._chain, extend_chain(self._chain, raws)
        self.seq += count
        head = self.sign(head_message(log, self.seq, self._chain)) if signed else UNSIGNED
        header = self.header if first == 1 else ""
        change = Change(batches=[Batch(log, first, raws, entries, prev, self._chain, head, size_bytes(raws), header)])
        change.stretches.append(Stretch(place, log, first, count, at, False, False))
        if first == 1:
            change.logs.append(NewLog(log, (), True))
            change.conversations.append(KnownConversation(log.conversation, Naming(room=True)))
            change.users.append(KnownUser(log.user, self.name, at))
        return change


def transactions(writers: list[LogWriter], count: int, a_batch: int) -> Iterator[list[Any]]:
    """Yield the changes of each commit, as created by a user who writes `a_batch` texts at once."""
    changes: list[Any] = []
    gathered = 0
    at = time.time_ns() // 1000 - 2 * count
    for turn, written in enumerate(range(0, count, a_batch)):
        more = min(a_batch, count - written)
        changes.append(writers[turn % len(writers)].write(more, at + written, written + 1, a_batch > 1))
        gathered += more
        if gathered >= IN_A_TRANSACTION:
            yield changes
            changes, gathered = [], 0
    if changes:
        yield changes


def sign_what_was_kept(database: Path, writers: list[LogWriter]) -> None:
    """Sign the remaining heads of a history written one by one."""
    from p2pchat.core.log import head_message
    from p2pchat.storage.schema import SEQS

    db = sqlite3.connect(database)
    users = dict(db.execute("select logs.number, users.id from logs join users on users.number = logs.writer"))
    by_user = {bytes.fromhex(each.log.user): each for each in writers}
    signed = []
    for id, chain in db.execute("select id, chain from heads"):
        writing = by_user[users[id // SEQS]]
        signed.append((writing.sign(head_message(writing.log, id % SEQS, chain)), id))
    db.executemany("update heads set sig = ? where id = ?", signed)
    db.commit()
    db.close()
