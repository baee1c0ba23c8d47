"""One log in memory: its entries, the heads that were kept, and where its entries were shown."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace

from p2pchat.config import Settings
from p2pchat.core.log import Batch, LogId, extend_chain, first_chain
from p2pchat.core.records import EVERYTHING, Cite, LogFacts, Stretch
from p2pchat.protocol import Mark
from p2pchat.storage.base import Shown, SortKey
from p2pchat.storage.batches import Head, Numbered, clocks, entry_bytes, fits


@dataclass(slots=True)
class MemoryLog:
    """One log: entry seq is raws[seq - 1], its clock clocks[seq - 1]; stretches in order of seq."""

    number: int
    id: LogId
    whole: bool
    before: tuple[Mark, ...]
    covered: bool = False
    forked: bool = False
    released: int = 0
    raws: list[str] = field(default_factory=list)
    clocks: list[int] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    cites: list[Cite] = field(default_factory=list)
    seen: int = EVERYTHING

    @property
    def numbered(self) -> Numbered:
        return Numbered(self.number, self.id.run, self.whole, self.before)

    @property
    def size(self) -> int:
        return self.heads[-1].size if self.heads else 0

    @property
    def is_tip(self) -> bool:
        """Whether no later log of its user builds on it, nor did it fork."""
        return bool(self.raws) and not (self.covered or self.forked)

    def copy(self) -> MemoryLog:
        return replace(
            self,
            raws=list(self.raws),
            clocks=list(self.clocks),
            heads=list(self.heads),
            stretches=list(self.stretches),
            cites=list(self.cites),
        )

    def head_below(self, seq: int) -> Head:
        """Return the newest stored head at or below seq, one of seq 0 when there is none."""
        at = bisect_right(self.heads, seq, key=lambda head: head.seq)
        return self.heads[at - 1] if at else Head(0, 0, 0, first_chain(self.id), b"")

    def at(self, seq: int) -> Head:
        """Return size and chain at seq, recomputed from the head below; its signature is empty."""
        below = self.head_below(seq)
        raws = self.raws[below.seq : seq]
        size = below.size + sum(map(entry_bytes, raws))
        return Head(seq, size, 0, extend_chain(below.chain, raws), b"")

    def extend(self, batch: Batch, settings: Settings) -> None:
        self.raws += batch.raws
        self.clocks += clocks(batch)
        size = self.size + sum(map(entry_bytes, batch.raws))
        head = Head(batch.last, size, self.clocks[-1], batch.chain, batch.head)
        anchor = self.heads[-2] if len(self.heads) > 1 else Head(0, 0, 0, b"", b"")
        if self.heads and fits(anchor.seq, anchor.size, head, settings):
            self.heads[-1] = head
        else:
            self.heads.append(head)

    @property
    def mark(self) -> Mark:
        return Mark(self.id.run, len(self.raws), self.heads[-1].chain[:8].hex())

    def newest_batch(self) -> Batch:
        """Return what lies between the last two heads."""
        end = self.heads[-1]
        at = self.at(self.heads[-2].seq if len(self.heads) > 1 else 0)
        return Batch(self.id, at.seq + 1, self.raws[at.seq :], None, at.chain, end.chain, end.sig)

    def facts(self, seq: int = 0) -> LogFacts:
        """Return what is known of this log, with the chain at seq when that is held; seq 0 asks for none."""
        last = self.head_below(len(self.raws))
        return LogFacts(
            self.id,
            last.seq,
            last.chain,
            last.c,
            self.released,
            self.covered,
            self.forked,
            self.before,
            tuple(self.cites),
            self.seen,
            self.at(seq).chain if 0 < seq <= last.seq else None,
        )

    def may_be_read(self, seq: int) -> bool:
        return self.seen == EVERYTHING or seq <= self.seen

    def shown_by(self, place: int) -> int:
        """Return the last entry that had been shown when this place was given, 0 for none."""
        at = bisect_right(self.stretches, place, key=lambda each: each.first_place)
        if not at:
            return 0
        last = self.stretches[at - 1]
        return last.first + min(last.count, place - last.first_place + 1) - 1

    def shown(self, seq: int) -> Shown:
        stretch = self.stretches[bisect_right(self.stretches, seq, key=lambda each: each.first) - 1]
        place = stretch.first_place + seq - stretch.first
        return Shown(self.id, seq, self.raws[seq - 1], place, stretch.received_at, stretch.old, stretch.gap)

    def first_not_below(self, key: SortKey) -> int:
        """Return the index of the first entry whose sort key is not below `key`."""
        at = bisect_left(self.clocks, key[0])
        same_clock = at < len(self.clocks) and self.clocks[at] == key[0]
        return at + (same_clock and (self.id.user, self.id.run, at + 1) < key[1:])
