"""What a storage must do, whatever it keeps things in. The same tests run on every kind (tests/storage/).

`load`, `commit` and `close` are called from one writer thread; `lookup`, `fetch`, `places`, `history` and the other
reads from one reader thread, at the same time as commits. Everything raises StorageError with a sentence for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from p2pchat.core.log import Batch, Entry, LogId, decode_entry
from p2pchat.core.records import (
    Change,
    KnownConversation,
    LogFacts,
    LogKey,
    Position,
    Relation,
    ShownKey,
    Start,
    Stored,
    StoredUser,
    Token,
    newness,
)
from p2pchat.protocol import ConversationId, Mark, RunId, UserId

SortKey = tuple[int, UserId, RunId, int]  # (c, user, run, seq): the order of history, the same on every peer


@dataclass(frozen=True, slots=True)
class RelatedEntry:
    """A released entry that counts for how another is shown: an edit, a deletion, or a reaction."""

    log: LogId
    seq: int
    raw: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Edits:
    """What became of one entry by others: the newest edit or deletion of its writer, None for neither, and the newest
    reaction of each person, the oldest of them first; an empty one, which takes back those before it, is left out."""

    newest: RelatedEntry | None
    reactions: tuple[RelatedEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class ReleasedEntry:
    """One released entry as programs read it: its log and seq, the JSON text, its place and that stretch's flags.

    `edits` is None where nothing was edited, deleted or reacted to.
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
    """One conversation of which something is stored: who wrote there and which logs forked, each in the order they
    came. Who wrote in forked logs only is no writer."""

    talk: KnownConversation
    writers: tuple[UserId, ...]
    forked: tuple[LogId, ...] = ()


class Storage(Protocol):
    """Keeps everything durable of one peer."""

    durable: bool  # False for memory: accepted then means "held by this process"

    def load(self, hosted: Sequence[UserId]) -> Stored:
        """Return what a starting node needs; `heard` only of logs of the hosted users."""

    def meta(self) -> dict[str, str]:
        """Return what load has as `meta`, alone."""

    def hosted(self) -> list[StoredUser]:
        """Return the users hosted here, in the order they came."""

    def load_users(self, users: Sequence[UserId]) -> Stored:
        """Return what load has of these users beside the rest: `heard` of their logs, and their `reads`, alone."""

    def token(self, hash: bytes) -> Token | None:
        """Return the token with this hash; None when there is none, or its user is hosted no more."""

    def tokens(self, user: UserId | None = None) -> list[Token]:
        """Return the tokens of a user, or (None) all, in the order they were made."""

    def commit(self, changes: Sequence[Change]) -> None:
        """Apply these in order in one transaction; durable when this returns. All or nothing."""

    def warm(self) -> None:
        """Make the first commits as quick as later ones; takes a moment, so for when nothing waits."""

    def tidy(self) -> None:
        """Do what commits leave for later, if it is due: after one was answered, when nothing waits."""

    def check_writable(self) -> None:
        """Write something and take it away again. StorageError when a commit could not be kept now."""

    def lookup(
        self, logs: Sequence[LogKey], older: Sequence[tuple[ConversationId, UserId]]
    ) -> tuple[dict[LogKey, LogFacts], dict[tuple[ConversationId, UserId], list[Mark]]]:
        """Return facts of the logs that are held, and for `older` the marks of the 1st, 2nd, 4th ... newest log."""

    def logs_of(self, conversation: ConversationId, user: UserId) -> list[LogFacts]:
        """Return all logs of a user in one conversation, in the order they were stored."""

    def fetch(
        self, conversation: ConversationId, user: UserId, start: Start, *, batches: int
    ) -> tuple[list[Batch], Position | None]:
        """Return at most so many batches of what a user wrote from `start` on, and where to go on, None at the end.

        Logs come in the order they were stored; each batch runs from the cursor to the farthest head within the
        batch limits, never as it once came. Forked logs are left out, but for the evidence that a ForkStart asks for.
        A tip whose chain is not the one stored here under its seq is not known. Batch.entries is None.
        """

    def stored_conversations(self) -> list[StoredConversation]:
        """Return what `fetch` can be asked for: conversations in the order they came."""

    def places(
        self, after: int, limit: int, conversations: Sequence[ConversationId] | None = None
    ) -> list[ReleasedEntry]:
        """Return released entries with place > after, in order of place; none that Change.seen took away since.

        conversations None means all; others are passed over without being read.
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
        """Return released entries sorted by (c, user, run, seq), oldest first; none that Change.seen took away.

        conversation None means all. With `before` (or nothing) the newest ones below it, with `after` the oldest above
        it; both are such sort keys. `since` is a c to begin at. limit 0 means no limit.
        """

    def entry(self, log: LogId, seq: int) -> ReleasedEntry | None:
        """Return one released entry, None when it is not here."""

    def first_heard(self, user: UserId) -> int:
        """Return when something a user wrote was received here first, UTC microseconds; 0 when nothing ever was."""

    def heard(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        """Return every member said to hold this entry of a hosted user's log, with the highest seq that follows.

        What was heard of later logs that build on this one counts too. Sorted by member.
        """

    def readers(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        """Return every user said to have read this entry, as `heard`."""

    def shown_by(self, key: ShownKey) -> list[tuple[LogId, int]]:
        """Return how far each of these logs had been shown at a place, as (log, last seq).

        In place of a log that had not been shown at all stand those that it builds on, and so on.
        """

    def size_bytes(self, user: UserId, conversation: ConversationId = "") -> int:
        """Return the entry bytes stored of one user, in one conversation or in all. A question for each log."""

    def close(self) -> None:
        """Finish; idempotent."""


# ---- mended
#
# What edits, deletions and reactions make of one message: the same in every storage.


Candidate = tuple[Relation, str]  # the newest of one person for one message, and its JSON text


def current_body(shown: ReleasedEntry, entry: Entry) -> Any:
    """Return the body of an entry as it counts now: the newest one, None once it is deleted."""
    if shown.edits is None or shown.edits.newest is None:
        return entry.b
    return decode_entry(shown.edits.newest.raw).b


def edits_of(user: UserId, candidates: Iterable[Candidate]) -> Edits | None:
    """Return what the newest of each person make of a message of this user; None for nothing."""
    newest = None
    reactions: list[Candidate] = []
    for mending, raw in candidates:
        if mending.reaction:
            reactions.append((mending, raw))
        elif mending.log.user == user:  # not only one whose id begins alike
            newest = RelatedEntry(mending.log, mending.seq, raw)
    reactions.sort(key=lambda one: newness(one[0]))
    kept = tuple(RelatedEntry(one.log, one.seq, raw) for one, raw in reactions if decode_entry(raw).b)
    return Edits(newest, kept) if newest is not None or kept else None
