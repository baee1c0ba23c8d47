"""Writers for storage tests: real keys, real chains, real heads, from fixed seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from p2pchat.core.durable_changes import Change, LogKey, NewLog, Stretch
from p2pchat.core.log import (
    Batch,
    Entry,
    FileRef,
    LogId,
    Marks,
    RawEntry,
    Ref,
    encode_entry,
    encode_header,
    extend_chain,
    first_chain,
    head_message,
    ref_key,
    size_bytes,
    verify,
)
from p2pchat.protocol import ConversationId, Mark, UserId

ROOM: ConversationId = "c0" * 32
DM: ConversationId = "d1" * 32
MORNING = 1_700_000_000_000_000  # UTC microseconds


@cache
def key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))


@cache
def user(name: str) -> UserId:
    return key(name).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


class Author:
    """The writer of one log; each call of `write` makes a signed batch that follows the one before."""

    def __init__(self, name: str, run: int, conversation: ConversationId = ROOM, before: Sequence[Mark] = ()) -> None:
        self.key = key(name)
        self.log = LogId(conversation, user(name), f"{run:016x}")
        self.before = tuple(before)
        self.seq = 0
        self.header = encode_header(self.log, self.before, None)
        self.chain = first_chain(self.header)
        self.raws: list[RawEntry] = []

    @property
    def mark(self) -> Mark:
        return Mark(self.log.run, self.seq, self.chain.hex())

    def mark_at(self, seq: int) -> Mark:
        """Return the mark of everything up to an earlier entry."""
        return Mark(self.log.run, seq, extend_chain(first_chain(self.header), self.raws[:seq]).hex())

    @property
    def lookup(self) -> LogKey:
        return LogKey(self.log.conversation, ref_key(self.log.user, self.log.run))

    def write(self, *texts: str, c: int | None = None, files: Mapping[int, tuple[FileRef, ...]] | None = None) -> Batch:
        """Return a batch of these texts. The first one has clock c, by default later than all entries before.

        `files` are the attachments of some, by their number in the log.
        """
        begin, named = MORNING + self.seq * 1000 if c is None else c, files or {}
        entries = [Entry("text", begin + at, begin + at, b=text) for at, text in enumerate(texts)]
        return self._sign([Marks(named.get(seq, ())).put_on(each) for seq, each in enumerate(entries, self.seq + 1)])

    def _sign(self, entries: list[Entry]) -> Batch:
        raws = [encode_entry(entry) for entry in entries]
        first, prev = self.seq + 1, self.chain
        self.chain = extend_chain(prev, raws)
        self.seq += len(raws)
        self.raws += raws
        signature = self.key.sign(head_message(self.log, self.seq, self.chain))
        header = self.header if first == 1 else ""
        return Batch(self.log, first, raws, entries, prev, self.chain, signature, size_bytes(raws), header)

    def begins(
        self,
        *texts: str,
        whole: bool = True,
        c: int | None = None,
        files: Mapping[int, tuple[FileRef, ...]] | None = None,
    ) -> Change:
        """Return the change that begins this log with a batch of these texts."""
        return Change(logs=[NewLog(self.log, self.before, whole)], batches=[self.write(*texts, c=c, files=files)])

    def appends(
        self, *texts: str, c: int | None = None, files: Mapping[int, tuple[FileRef, ...]] | None = None
    ) -> Change:
        return Change(batches=[self.write(*texts, c=c, files=files)])

    def changes(self, kind: str, of: LogId, seq: int, c: int, text: str | None = None) -> Change:
        """Return the change that appends an edit, deletion or reaction of an entry, not released."""
        entry = Entry(kind, c, c, Ref(ref_key(of.user, of.run), seq), b=text)
        return Change(batches=[self._sign([entry])])

    def renames(self, name: str) -> Change:
        """Return the change that appends a profile."""
        c = MORNING + self.seq * 1000
        return Change(batches=[self._sign([Entry("profile", c, c, b={"name": name})])])


def many(count: int, size: int = 1) -> list[str]:
    return ["x" * size] * count


def released(change: Change, place: int, *, old: bool = False, gap: bool = False) -> Change:
    """Return the change with all its entries released, from this place on."""
    for batch in change.batches:
        change.stretches.append(Stretch(place, batch.log, batch.first, len(batch.raws), MORNING, old, gap))
        place += len(batch.raws)
    return change


def is_sound(batch: Batch) -> bool:
    """Return whether the entries of a batch lead from prev to chain, and its author signed that."""
    chained = extend_chain(batch.prev, batch.raws)
    message = head_message(batch.log, batch.last, chained)
    return chained == batch.chain and verify(batch.log.user, batch.head, message)
