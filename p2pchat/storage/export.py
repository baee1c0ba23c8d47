"""Export of a storage as the frames of one file, in an order in which they can be shown as they are read.

The file has one conversation after the other. Inside a conversation, the batch that was written earliest comes next,
whoever wrote it: a reply stands behind what it answers, so that a reader keeps little waiting. At most some megabytes
are in memory, however much is stored: a few batches of each of a few writers, or one batch at a time of many. Forked
logs are left out, as on a link; the evidence of the fork stands in their place, before the logs that build on them.

Source: docs/protocol.md, "Files".
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count, takewhile
from typing import NamedTuple

from p2pchat.core.groups.state import talk_id
from p2pchat.core.log import Batch, decode_entry, frame_of
from p2pchat.core.records import ForkStart, Start, WantStart
from p2pchat.protocol import FILE_VERSION, MAX_INT, ConversationId, Entries, File, FileEnd, Frame, UserId
from p2pchat.storage.base import Storage, StoredConversation

MOST_HELD = 64  # batches read and not yet written, of at most 96 KiB each: 6 MiB
MOST_READ = 8  # batches in one read


class Cursor(NamedTuple):
    """Position in what one writer wrote. Sorted by `c`, a clock not above that of the next entry; `n` breaks ties."""

    c: int
    n: int
    user: UserId
    held: list[Batch]
    more: Start | None


def file_pages(storage: Storage, room: ConversationId, only: ConversationId | None = None) -> Iterator[list[Frame]]:
    """Yield the frames of a file, in pages that are never empty; each page takes one or two reads of storage.

    Args:
        room: The id of the network's room.
        only: One conversation; if it is the talk of a group, the group comes too. None for all.
    """
    entries, held = 0, storage.stored_conversations()
    groups = {
        holding.conversation.id
        for holding in held
        if holding.conversation.naming.group and talk_id(holding.conversation.id) == only
    }
    yield [File(FILE_VERSION, room)]
    for holding in held:
        if only in (None, holding.conversation.id) or holding.conversation.id in groups:
            named = False
            for page in filter(None, _entries(storage, holding)):
                if not named:
                    page[0].names, named = [holding.conversation.naming], True
                entries += sum(len(frame.e) for frame in page if not frame.fork)
                yield list[Frame](page)
    yield [FileEnd(entries)]


def _entries(storage: Storage, holding: StoredConversation) -> Iterator[list[Entries]]:
    conversation = holding.conversation.id
    for log in holding.forked:
        evidence, _ = storage.fetch(conversation, log.user, ForkStart(log.run), batches=MOST_READ)
        yield [frame_of(batch, fork=True) for batch in evidence]
    for batches in _merged(storage, conversation, holding.writers):
        yield [frame_of(batch) for batch in batches]


def _merged(storage: Storage, conversation: ConversationId, writers: tuple[UserId, ...]) -> Iterator[list[Batch]]:
    """Yield what these users wrote, the earliest batches first."""
    most = max(1, min(MOST_READ, MOST_HELD // max(1, len(writers))))
    numbers = count()
    cursors: list[Cursor] = []

    def put(c: int, user: UserId, held: list[Batch], more: Start | None) -> None:
        heappush(cursors, Cursor(c, next(numbers), user, held, more))

    for user in writers:
        first, more = storage.fetch(conversation, user, WantStart(()), batches=most)
        if first and len(writers) <= MOST_HELD:
            put(_first_c(first[0]), user, first, more)
        elif first:  # too many writers to keep what was read: it is read again when it is due
            put(_first_c(first[0]), user, [], WantStart(()))
    while cursors:
        cursor = heappop(cursors)
        batches, rest = cursor.held, cursor.more
        if not batches and rest is not None:
            batches, rest = storage.fetch(conversation, cursor.user, rest, batches=most)
        due = _due(batches, cursors[0].c if cursors else MAX_INT)
        yield batches[:due]
        if due < len(batches):
            put(_first_c(batches[due]), cursor.user, batches[due:], rest)
        elif rest is not None and batches:
            put(_last_c(batches[-1]), cursor.user, [], rest)


def _due(batches: list[Batch], until: int) -> int:
    """Return how many of these come before the turn of the next writer, at clock `until`; at least one."""
    return 1 + sum(1 for _ in takewhile(lambda batch: _first_c(batch) <= until, batches[1:]))


def _first_c(batch: Batch) -> int:
    return decode_entry(batch.raws[0]).c


def _last_c(batch: Batch) -> int:
    return decode_entry(batch.raws[-1]).c
