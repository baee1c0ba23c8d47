"""The newest released entries in memory, so that readers at the tip need no database.

Entries are kept as spans, in order of place and without holes. When a released entry is not at hand (it waited on disk
for the entry it follows), everything before it is dropped, and readers that are behind read from storage. The size is
bounded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from p2pchat.core.durable_changes import Relation, Stretch
from p2pchat.core.log import Batch, Entry, LogId, decode_entries
from p2pchat.protocol import ConversationId

# At full speed one transaction releases up to 8192 entries. A reader that keeps up with that must find them here.
MAX_BYTES = 4 * 1024 * 1024  # of memory, so 8192 entries of 200 characters
MAX_EDITED = 16_384  # entries of one log; a guess
READ_BYTES = 256 * 1024  # above it, what all readers have read is dropped; a guess
SPAN_BYTES = 400  # of memory besides its entries: measured, with the log and its user
ENTRY_BYTES = 250  # of memory besides its text: measured
MAX_EDITED_LOGS = 1000  # a guess


class EntrySpan(NamedTuple):
    """Consecutive entries of one log with consecutive places; at least one."""

    place: int  # of the first entry
    end: int  # the place after the last entry
    log: LogId
    first: int
    entries: list[Entry]
    received_at: int
    old: bool
    gap: bool
    size_bytes: int


class RecentEntries:
    """The newest released entries.

    Attributes:
        newest: The last released place, in memory or not.
        wanted: Return whether any reader is open. Nothing is kept while none is.
        read_to: Return the place up to which all readers have read.
        edited: Numbers of entries that were edited, deleted or reacted to since this process began, by conversation and
            log. The spans here do not show that. The oldest logs are forgotten: their entries have long left here.
    """

    def __init__(
        self, newest: int, wanted: Callable[[], bool] = lambda: True, read_to: Callable[[], int] = lambda: 0
    ) -> None:
        self.newest: int = newest
        self.wanted = wanted
        self.read_to = read_to
        self.edited: dict[tuple[ConversationId, str], set[int]] = {}
        self._spans: list[EntrySpan] = []  # oldest first
        self._bytes = 0
        self._bytes_until_asked = READ_BYTES  # to be added until readers are asked next

    def add(self, span: EntrySpan) -> None:
        """Add the entries that were released next."""
        if span.place != self.newest + 1:
            self.skip(self.newest)
        self._spans.append(span)
        self._bytes += span.size_bytes
        self.newest = span.end - 1
        self._bytes_until_asked -= span.size_bytes
        if self._bytes_until_asked < 0:
            self._drop_read()
        while self._bytes > MAX_BYTES and len(self._spans) > 1:
            self._drop(1)

    def note_edited(self, relations: Iterable[Relation]) -> None:
        """Note that the entries named by these relations are no longer shown as they were written."""
        for relation in relations:
            seqs = self.edited.setdefault((relation.log.conversation, relation.re.log), set())
            if len(seqs) >= MAX_EDITED:
                seqs.clear()
            seqs.add(relation.re.seq)
        while len(self.edited) > MAX_EDITED_LOGS:
            del self.edited[next(iter(self.edited))]

    def skip(self, newest: int) -> None:
        """Note that entries up to this place were released that are not at hand."""
        self._drop(len(self._spans))
        self._bytes_until_asked = READ_BYTES
        self.newest = newest

    def after(self, place: int) -> EntrySpan | None:
        """Return the span that holds place + 1; None when it is not in memory."""
        i = bisect_right(self._spans, place + 1, key=lambda span: span.place) - 1
        return self._spans[i] if i >= 0 and place + 1 < self._spans[i].end else None

    def _drop(self, count: int) -> None:
        """Drop the oldest spans. The lists are short: a span is a whole released batch."""
        for span in self._spans[:count]:
            self._bytes -= span.size_bytes
        del self._spans[:count]

    def _drop_read(self) -> None:
        """Drop what all readers have read.

        There may be thousands of them: they are asked again once as many bytes were added as are left now.
        """
        read_to = self.read_to()
        self._drop(sum(span.end - 1 <= read_to for span in self._spans))
        self._bytes_until_asked = max(READ_BYTES - self._bytes, self._bytes)


def spans_of(stretch: Stretch, batches: Sequence[Batch]) -> list[EntrySpan] | None:
    """Return the entries of a stretch, cut out of committed batches; None when the batches do not hold all of them."""
    spans: list[EntrySpan] = []
    seq, end = stretch.first, stretch.first + stretch.count
    shift, rest = stretch.first_place - seq, (stretch.received_at, stretch.old, stretch.gap)
    for batch in batches:
        first, after = batch.first, batch.last + 1
        if not first <= seq < after:
            continue
        stop = min(end, after)
        part = slice(seq - first, stop - first)
        entries = decode_entries(batch.raws[part]) if batch.entries is None else batch.entries[part]
        size = SPAN_BYTES + ENTRY_BYTES * len(entries) + batch.size
        spans.append(EntrySpan(seq + shift, stop + shift, stretch.log, seq, entries, *rest, size))
        seq = stop
        if seq == end:
            return spans
    return None
