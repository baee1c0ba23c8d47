"""The newest released entries, kept in memory so that readers at the tip need no database. Bounded, and droppable.

Entries are kept as the runs they were released in, in order of place without holes. When something released is not
at hand (it waited on disk for what it follows), everything before it is dropped: readers behind read from storage.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from p2pchat.core.log import Batch, Entry, LogId, decode_entry
from p2pchat.core.records import Relation, Stretch
from p2pchat.protocol import ConversationId

# At full speed one transaction releases up to Settings.max_uncommitted_entries (8192) at once: a reader that keeps up
# with that must find them here.
MOST_ENTRIES = 16_384
MOST_BYTES = 4 * 1024 * 1024
MOST_MENDED = 1000  # logs; a guess


class EntrySpan(NamedTuple):
    """Consecutive entries of one log with consecutive places; never empty."""

    place: int  # of the first
    log: LogId
    first: int
    entries: list[Entry]
    received_at: int
    old: bool
    gap: bool
    size_bytes: int

    @property
    def end(self) -> int:
        """The place after the last."""
        return self.place + len(self.entries)


class RecentEntries:
    """The runs, oldest first.

    Attributes:
        newest: The last place released, in memory or not.
        wanted: Says whether anybody reads messages now; while nobody does nothing is kept.
        mended: Numbers of what was edited, deleted or reacted to since this process began, by how a log is named: what
            is kept here of it is no longer all there is to tell. The oldest are forgotten: they have long left here.
    """

    def __init__(self, newest: int, wanted: Callable[[], bool] = lambda: True) -> None:
        self.newest = newest
        self.wanted = wanted
        self.edits: dict[tuple[ConversationId, str], set[int]] = {}
        self._runs: list[EntrySpan] = []
        self._places: list[int] = []  # of their first entries
        self._entries = 0
        self._bytes = 0

    def add(self, run: EntrySpan) -> None:
        """Take what was released next."""
        if run.place != self.newest + 1:
            self._drop_all()
        self._runs.append(run)
        self._places.append(run.place)
        self._entries += len(run.entries)
        self._bytes += run.size_bytes
        self.newest = run.end - 1
        while len(self._runs) > 1 and (self._entries > MOST_ENTRIES or self._bytes > MOST_BYTES):
            self._drop_first()

    def note_mended(self, mendings: Iterable[Relation]) -> None:
        """These are being released: what they name is not shown as it was written any more."""
        for mending in mendings:
            seqs = self.edits.setdefault((mending.log.conversation, mending.re.log), set())
            if len(seqs) >= MOST_ENTRIES:
                seqs.clear()
            seqs.add(mending.re.seq)
        while len(self.edits) > MOST_MENDED:
            del self.edits[next(iter(self.edits))]

    def skip(self, newest: int) -> None:
        """Something up to this place was released that is not at hand."""
        self._drop_all()
        self.newest = newest

    def after(self, place: int) -> EntrySpan | None:
        """Return the run that holds place + 1; None when it is not in memory."""
        i = bisect_right(self._places, place + 1) - 1
        return self._runs[i] if i >= 0 and place + 1 < self._runs[i].end else None

    def _drop_first(self) -> None:
        run = self._runs.pop(0)  # few and short: a run is a whole released batch
        del self._places[0]
        self._entries -= len(run.entries)
        self._bytes -= run.size_bytes

    def _drop_all(self) -> None:
        self._runs.clear()
        self._places.clear()
        self._entries = self._bytes = 0


def spans_of(stretch: Stretch, batches: Sequence[Batch]) -> list[EntrySpan] | None:
    """Return a stretch with its entries, cut out of the batches just committed; None when they are not all there."""
    runs: list[EntrySpan] = []
    seq, end = stretch.first, stretch.first + stretch.count
    for batch in batches:
        if not batch.first <= seq <= batch.last:
            continue
        stop = min(end, batch.last + 1)
        part = slice(seq - batch.first, stop - batch.first)
        raws = batch.raws[part]
        entries: list[Entry] = [decode_entry(raw) for raw in raws] if batch.entries is None else batch.entries[part]
        place = stretch.first_place + seq - stretch.first
        size = sum(map(len, raws))
        runs.append(EntrySpan(place, stretch.log, seq, entries, stretch.received_at, stretch.old, stretch.gap, size))
        seq = stop
        if seq == end:
            return runs
    return None
