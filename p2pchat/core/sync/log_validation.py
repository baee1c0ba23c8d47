"""Validation of entries: their clocks, their chain, their heads, and the start of new logs.

A head proves every entry before it. So of contiguous frames only heads at most one batch apart are verified. Each entry
is checked for a rising clock; what its text says is its author's business. A log may begin only if everything it builds
on is held and its writer does not have too many tips. An EntrySource says where entries came from, and hears what
became of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from operator import ge
from typing import Literal

from p2pchat.core.durable_changes import Collected
from p2pchat.core.log import (
    UNREADABLE,
    Batch,
    Entry,
    LogId,
    RawEntry,
    WriterKey,
    before_of,
    clock_of,
    decode_entries,
    has_stubs,
    is_one_batch,
    kind_of,
    size_bytes,
)
from p2pchat.core.sync.conversation_state import ConversationState, LogState
from p2pchat.core.sync.remote_state import ForkEvidence, RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, Entries, Mark, Naming
from p2pchat.settings import Settings


class LogExtension(Collected):
    """Contiguous batches that extend one log, decoded and not proven yet, of one read or one frame of a file."""

    log: LogState
    source: EntrySource
    batches: list[Batch] = []
    frame: Entries | None = None  # that brought the last one

    @property
    def next_seq(self) -> int:
        return self.batches[-1].last + 1 if self.batches else self.log.seq + 1

    @property
    def chain(self) -> bytes:
        return self.batches[-1].chain if self.batches else self.log.chain

    @property
    def last_c(self) -> int:
        return self.batches[-1].raws[-1][0] if self.batches else self.log.last_c

    def drop(self, why: Why) -> None:
        """Tell the source that the batches are dropped."""
        assert self.frame is not None
        self.source.on_dropped(why, self.log.id, self.frame)


def joined(batches: Sequence[Batch]) -> Batch:
    """Return contiguous batches as one: the last head proves all of it."""
    first, last = batches[0], batches[-1]
    if first is last:
        return first
    raws = [raw for batch in batches for raw in batch.raws]
    entries = [entry for batch in batches for entry in batch.entries or ()]
    size = sum(batch.size for batch in batches)
    return Batch(first.log, first.first, raws, entries, first.prev, last.chain, last.head, size, first.header)


def count_fitting(batches: Sequence[Batch], settings: Settings) -> int:
    """Return how many of these batches fit into one."""
    entries = size = count = 0
    for batch in batches:
        entries += len(batch.raws)
        size += batch.size
        ends = has_stubs(batch.raws)  # nobody knows how long the texts were
        if count and (ends or not is_one_batch(entries, size, settings)):
            break
        count += 1
        if ends:
            break
    return count


def decode_checked(raws: list[RawEntry], first: int, last_c: int, most: int) -> tuple[list[Entry], int]:
    """Decode entries first, first+1, ... of a log. Return them, and their bytes.

    Raises LogError for a clock that does not exceed last_c, a text that no program can send, or one above `most` bytes.
    """
    size = size_bytes(raws)
    if size > most and any(size_bytes([raw]) > most for raw in raws):
        raise LogError(f"an entry of more than {most} bytes", code="limit")
    clocks = [last_c, *map(clock_of, raws)]
    falls = [*map(ge, clocks, clocks[1:])]
    if True in falls:
        seq = first + falls.index(True)
        raise LogError("an entry whose clock does not rise", expected_seq=seq, got_seq=seq)
    entries = decode_entries(raws)
    if UNREADABLE in map(kind_of, entries) and any(_find_control(text) for _, text in raws if isinstance(text, str)):
        raise LogError("a control character in the text of an entry", code="malformed")
    return entries, size


# In a frame such a character takes six bytes, so that a batch of them would fit in none.
_find_control = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f]").search


# ---- new logs


def count_tips_with(log: LogState) -> int:
    """Return how many tips the writer would have if this log began or continued."""
    writer = log.conversation.writers.get(log.user)
    if writer is None:
        return 1
    covered = {mark.run: mark.seq for mark in log.builds_on} if not log.seq else {}
    return 1 + sum(covered.get(tip.id.run) != tip.seq for tip in writer.tail_tips())


class NewLogChecks:
    """Checks of a log that begins."""

    def __init__(self, sync: SyncContext) -> None:
        self._sync = sync
        self._ctx = sync.ctx

    def begin(self, source: EntrySource, conversation: ConversationState, id: LogId, frame: Entries) -> LogState | None:
        """Return a new log if this frame begins it and everything it builds on is held; else None."""
        log = LogState(conversation, id)
        if frame.first != 1:
            source.on_dropped("early", id, frame)
            return None
        log.before = before_of(frame)
        log.begin(frame.h)
        held = {mark: self._holds(conversation, id, mark) for mark in log.before}
        if None in held.values():
            source.on_dropped("unsure", id, frame)
            source.on_dropped("early", id, frame)
            return None
        if False in held.values():
            source.on_dropped("early", id, frame)
            return None
        if count_tips_with(log) > self._ctx.settings.max_tips:
            self.refuse(source, id, frame)
            return None
        return log

    def refuse(self, source: EntrySource, id: LogId, frame: Entries) -> None:
        """Refuse a writer with too many tips, and tell the source."""
        self._ctx.count("too_many_tips")
        source.on_dropped("full", id, frame)

    def _holds(self, conversation: ConversationState, id: LogId, mark: Mark) -> bool | None:
        """Return whether what a mark says is held; None while storage is asked for the chain in the middle of a log.

        Few new logs build on the middle of one: their writer lost what follows, or signed another version of it.
        """
        log, group = conversation.log(id.user, mark.run), conversation.group
        if conversation.is_talk and group is not None and mark in group.facts:
            return True
        if log is None or log.forked or mark.seq >= log.seq:
            return log is not None and (log.forked or log.tail_mark == mark)
        chain = self._sync.chain_at(log, mark.seq)
        return None if chain is None else chain.hex() == mark.chain


# ---- sources


# Why a frame is dropped: what comes before it is missing; storage has to be asked first, and knows when it comes again;
# nobody named its member; no more of its writer is taken; there is no place for its group, or for those whom that
# names; none of it is visible; no more of its log is taken; it proved a fork, and is kept only as evidence.
Why = Literal["early", "unsure", "unnamed", "full", "group", "cut", "forked", "fork"]


class EntrySource:
    """The origin of entries: a link or a file.

    Validation is the same for every source; only error reporting and follow-up differ. The remote peer of a link is
    asked for missing entries, blamed for a wrong head and sent new marks (LinkSource). Entries of a file are only
    counted (import_file.py). The default of each method is to do nothing.

    Attributes:
        remote: Who brings the entries; None for a file.
        evidence: What it brought of forks.
    """

    remote: RemoteState | None = None
    evidence: ForkEvidence

    def learn_namings(self, namings: Iterable[Naming]) -> None:
        """Store the names of conversation ids that it sent."""
        raise NotImplementedError

    def find_conversation(self, conversation: ConversationId) -> ConversationState | None:
        """Return a conversation of which it may bring entries, else None."""
        raise NotImplementedError

    def blamed_for(self, key: WriterKey, error: LogError) -> LogError | None:
        """Take that entries of a writer are false. Return the fault if it is that of the source; else None."""
        return error

    # ---- results of a frame

    def on_dropped(self, why: Why, log: LogId, frame: Entries) -> None:
        """The frame was dropped."""

    def on_repeated(self, count: int) -> None:
        """So many of its entries were here already."""

    def on_kept(self, key: WriterKey, count: int, size: int) -> None:
        """So many of its entries, of so many bytes, are proven, new and about to be stored."""
