"""Records that storage returns: released entries, conversations, deleted parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from p2pchat.core.durable_changes import KnownConversation, Record
from p2pchat.core.edits import EntryEdits
from p2pchat.core.log import Entry, FileRef, LogId, RawEntry, attachments_of, decode_entry
from p2pchat.kinds import KINDS
from p2pchat.protocol import RunId, UserId

ALL_MESSAGES = 1 << 62  # more than any storage has
PROFILE_BEGINS = '{"k":"profile"'  # as p2pchat writes one; another that is written differently counts as a message
SortKey = tuple[int, UserId, RunId, int]  # (c, user, run, seq): the order of history, the same on every peer


@dataclass(frozen=True, slots=True)
class ReleasedEntry:
    """A released entry as programs read it: log, seq, clock and text, place, and the flags of its stretch.

    `edits` is None if nothing was edited, deleted or reacted to.
    """

    log: LogId
    seq: int
    raw: RawEntry = field(repr=False)
    place: int
    received_at: int  # UTC microseconds
    old: bool
    gap: bool
    edits: EntryEdits | None = None


class StoredConversation(Record):
    """A conversation with stored entries: its writers and its forked logs, each in the order they came.

    A user all of whose logs forked is no writer.
    """

    conversation: KnownConversation
    writers: tuple[UserId, ...]
    forked: tuple[LogId, ...] = ()


class DeletedPart(Record):
    """The beginning of a log, deleted here: so many messages of its user. `c` and `key` sort it in history."""

    user: UserId
    messages: int
    key: SortKey  # of its last entry


def count_messages(raws: Iterable[RawEntry]) -> int:
    """Return how many of these entries are messages."""
    return sum(decode_entry(raw).is_message for raw in raws)


def current_body(shown: ReleasedEntry, entry: Entry) -> Any:
    """Return the body of an entry as it is now: the newest one, None once it is deleted."""
    if shown.edits is None or shown.edits.newest is None:
        return entry.b
    return shown.edits.newest.entry.b


def files_of(shown: ReleasedEntry | None) -> tuple[FileRef, ...]:
    """Return the attachments of a message as it is now; () for a deleted one, and for what is not there."""
    return () if shown is None or is_deleted(shown.edits) else attachments_of(decode_entry(shown.raw))


def is_deleted(edits: EntryEdits | None) -> bool:
    """Return whether the writer of an entry has deleted it."""
    return edits is not None and edits.newest is not None and KINDS[edits.newest.entry.k].is_deletion
