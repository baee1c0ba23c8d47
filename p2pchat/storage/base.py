"""The contract of every storage. The same tests run on every kind (tests/storage/).

One writer thread calls `load`, `commit` and `close`. One reader thread calls `lookup`, `fetch`, `places`, `history` and
the other reads, also while a commit runs. Every call raises StorageError, with a sentence for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from p2pchat.core.edits import Edits
from p2pchat.core.log import Batch, Entry, LogId, decode_entry
from p2pchat.core.records import (
    Change,
    KnownConversation,
    LogFacts,
    LogKey,
    Position,
    ShownKey,
    Start,
    Stored,
    StoredUser,
    Token,
)
from p2pchat.protocol import ConversationId, Mark, RunId, UserId

SortKey = tuple[int, UserId, RunId, int]  # (c, user, run, seq): the order of history, the same on every peer


@dataclass(frozen=True, slots=True)
class ReleasedEntry:
    """A released entry as programs read it: log, seq, JSON text, place, and the flags of its stretch.

    `edits` is None if nothing was edited, deleted or reacted to.
    """

    log: LogId
    seq: int
    raw: str = field(repr=False)
    place: int
    received_at: int  # UTC microseconds
    old: bool
    gap: bool
    edits: Edits | None = None


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A conversation with stored entries: its writers and its forked logs, each in the order they came.

    A user all of whose logs forked is no writer.
    """

    conversation: KnownConversation
    writers: tuple[UserId, ...]
    forked: tuple[LogId, ...] = ()


class Storage(Protocol):
    """Keeps everything durable of one peer."""

    durable: bool  # False for memory: accepted then means "held by this process"

    def load(self, hosted: Sequence[UserId]) -> Stored:
        """Return what a starting node needs; `delivered` only for logs of the hosted users."""

    def meta(self) -> dict[str, str]:
        """Return the `meta` of `load`."""

    def hosted(self) -> list[StoredUser]:
        """Return the users hosted here, in the order they came."""

    def load_users(self, users: Sequence[UserId]) -> Stored:
        """Return what `load` returns for these users only: `delivered` for their logs, and their `reads`."""

    def token(self, hash: bytes) -> Token | None:
        """Return the token with this hash; None if there is none, or its user is no longer hosted."""

    def tokens(self, user: UserId | None = None) -> list[Token]:
        """Return the tokens of a user, or (None) all, in the order they were made."""

    def commit(self, changes: Sequence[Change]) -> None:
        """Apply these changes in order in one transaction, all or nothing; durable when this returns."""

    def warm(self) -> None:
        """Make the first commits as quick as later ones. It takes a moment; call it when nothing waits."""

    def tidy(self) -> None:
        """Do what commits leave for later, if it is due. Call it after a commit was answered, when nothing waits."""

    def check_writable(self) -> None:
        """Write something and delete it. Raises StorageError if a commit would fail now."""

    def lookup(
        self, logs: Sequence[LogKey], older: Sequence[tuple[ConversationId, UserId]]
    ) -> tuple[dict[LogKey, LogFacts], dict[tuple[ConversationId, UserId], list[Mark]]]:
        """Return facts of the logs that are held, and for `older` the marks of the 1st, 2nd, 4th ... newest log."""

    def logs_of(self, conversation: ConversationId, user: UserId) -> list[LogFacts]:
        """Return all logs of a user in one conversation, in the order they were stored."""

    def fetch(
        self, conversation: ConversationId, user: UserId, start: Start, *, batches: int
    ) -> tuple[list[Batch], Position | None]:
        """Return batches of what a user wrote, from `start` on.

        Logs come in the order they were stored. Each batch runs from the cursor to the farthest head within the batch
        limits, whatever batches the entries came in. Forked logs are left out, except for the evidence that a ForkStart
        asks for. A tip is unknown if its chain differs from the one stored here at its seq.

        Args:
            batches: Most batches to return.
        Returns:
            The batches, with Batch.entries None, and where to continue; None at the end.
        """

    def stored_conversations(self) -> list[StoredConversation]:
        """Return the conversations that `fetch` can be asked for, in the order they came."""

    def places(
        self, after: int, limit: int, conversations: Sequence[ConversationId] | None = None
    ) -> list[ReleasedEntry]:
        """Return released entries with place > after, in order of place.

        Entries that Change.visible has hidden are left out. `conversations` None means all; entries of others are
        skipped without being read.
        """

    def history(
        self,
        conversation: ConversationId | None,
        *,
        before: SortKey | None = None,
        after: SortKey | None = None,
        since: int | None = None,
        limit: int = 100,
    ) -> list[ReleasedEntry]:
        """Return released entries sorted by (c, user, run, seq), oldest first.

        Entries that Change.visible has hidden are left out.

        Args:
            conversation: None means all.
            before: Return the newest entries below this key; also the default, with no key.
            after: Return the oldest entries above this key instead.
            since: The lowest c.
            limit: Most entries to return; 0 means no limit.
        """

    def entry(self, log: LogId, seq: int) -> ReleasedEntry | None:
        """Return one released entry; None if it is not here."""

    def first_received_at(self, user: UserId) -> int:
        """Return when something a user wrote was first received here, in UTC microseconds; 0 for never."""

    def delivered_to(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        """Return every member known to hold this entry of a hosted user's log, with the highest seq they hold.

        Marks on later logs that build on this one count too. Sorted by member.
        """

    def readers(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        """Return every user known to have read this entry, in the form of `delivered_to`."""

    def shown_by(self, key: ShownKey) -> list[tuple[LogId, int]]:
        """Return how far each of these logs had been shown at a place, as (log, last seq).

        A log that had not been shown at all is replaced by those that it builds on, and so on.
        """

    def size_bytes(self, user: UserId, conversation: ConversationId = "") -> int:
        """Return the bytes of all stored entries of a user, in one conversation or ("") in all."""

    def close(self) -> None:
        """Close the storage; idempotent."""


def current_body(shown: ReleasedEntry, entry: Entry) -> Any:
    """Return the body of an entry as it is now: the newest one, None once it is deleted."""
    if shown.edits is None or shown.edits.newest is None:
        return entry.b
    return decode_entry(shown.edits.newest.raw).b
