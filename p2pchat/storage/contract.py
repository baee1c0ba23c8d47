"""The contract of every storage, and what all storages compute: ends of batches, what marks imply, what can be served.

The same tests run on every kind (tests/storage/). One writer thread calls `load`, `commit` and `close`. One reader
thread calls `lookup`, `fetch`, `places`, `history` and the other reads, also while a commit runs. Every call raises
StorageError, with a sentence for people.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, NamedTuple, Protocol

from p2pchat.config import Settings
from p2pchat.core.durable_changes import Change, KnownConversation, StoredUser, Token
from p2pchat.core.edits import EntryEdits
from p2pchat.core.entry_kinds import HIDDEN_KINDS
from p2pchat.core.log import Batch, Entry, FileRef, LogId, attachments_of, decode_entry, is_one_batch
from p2pchat.core.storage_answers import (
    LogFacts,
    LogKey,
    Position,
    PruneKey,
    PrunePlan,
    ShownKey,
    Start,
    Stored,
    StoredStart,
    TailStart,
    WantStart,
)
from p2pchat.protocol import ConversationId, Mark, RunId, UserId

ALL_MESSAGES = 1 << 62  # more than any storage has
MOST_SHOWN = 1000  # logs looked at by logs_shown(); logs farther back were read long ago, or never
PROFILE_BEGINS = '{"k":"profile"'  # as p2pchat writes one; another that is written differently counts as a message
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
    edits: EntryEdits | None = None


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A conversation with stored entries: its writers and its forked logs, each in the order they came.

    A user all of whose logs forked is no writer.
    """

    conversation: KnownConversation
    writers: tuple[UserId, ...]
    forked: tuple[LogId, ...] = ()


@dataclass(frozen=True, slots=True)
class DeletedPart:
    """The beginning of a log, deleted here: so many messages of its user. `c` and `key` sort it in history."""

    user: UserId
    messages: int
    key: SortKey  # of its last entry


class Storage(Protocol):
    """Keeps everything durable of one peer."""

    durable: bool  # False for memory: accepted then means "held by this process"

    def lost(self) -> str:
        """Return a sentence about commits that the disk lost, found when it was opened; "" if none were."""

    def load(self, hosted: Sequence[UserId]) -> Stored:
        """Return what a starting node needs; `delivered` only for logs of the hosted users."""

    def meta(self) -> dict[str, str]:
        """Return the `meta` of `load`."""

    def meta_values(self, names: Sequence[str]) -> dict[str, str]:
        """Return those of these values in `meta` that are there."""

    def hosted(self) -> list[StoredUser]:
        """Return the users hosted here, in the order they came."""

    def load_users(self, users: Sequence[UserId]) -> Stored:
        """Return what `load` returns for these users only: `delivered` for their logs, their `reads` and `taken`."""

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

    def release_memory(self) -> None:
        """Forget what only spares reading. Call it when nothing was committed for a while."""

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
        limits, independent of the received batches. Forked logs are left out, except for the evidence that a ForkStart
        asks for. So are logs of which the asker lacks a part that was deleted here, and those that build on such a
        part.
        A tip is unknown if its chain differs from the one stored here at its seq.

        Args:
            batches: Most batches to return.
        Returns:
            The batches, with Batch.entries None, and where to continue; None at the end.
        """

    def prunable(self, key: PruneKey) -> PrunePlan:
        """Return what one step of a deletion (core/sync/prune.py) deletes: released entries, of each log the first."""

    def deleted(self, conversation: ConversationId) -> list[DeletedPart]:
        """Return what was deleted here of a conversation: the parts with messages, in the order of history."""

    def compact(self, *, all: bool) -> None:
        """Give the room of deleted entries back to the disk; a large database only if `all` may take minutes."""

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
        within: Collection[ConversationId] | None = None,
    ) -> list[ReleasedEntry]:
        """Return released entries sorted by (c, user, run, seq), oldest first.

        Entries that Change.visible has hidden are left out.

        Args:
            conversation: None means all, or all of `within`.
            before: Return the newest entries below this key; also the default, with no key.
            after: Return the oldest entries above this key instead.
            since: The lowest c.
            limit: Most entries to return; 0 means no limit.
        """

    def entry(self, log: LogId, seq: int) -> ReleasedEntry | None:
        """Return one released entry; None if it is not here."""

    def referring(self, roots: Sequence[str], most: int = ALL_MESSAGES) -> dict[str, list[tuple[LogId, int]]]:
        """Return the stored messages that name any of these contents, by root, in the order they were stored.

        Of each content at most `most` messages are looked at, those that were stored first.

        Messages that their writer deleted, and those that were deleted here, are left out. Messages that are not
        released, or hidden, count. A root that no message names has no item.
        """

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


def count_messages(raws: Iterable[str]) -> int:
    """Return how many of these entries are messages."""
    return sum(decode_entry(raw).k not in HIDDEN_KINDS for raw in raws)


def current_body(shown: ReleasedEntry, entry: Entry) -> Any:
    """Return the body of an entry as it is now: the newest one, None once it is deleted."""
    if shown.edits is None or shown.edits.newest is None:
        return entry.b
    return decode_entry(shown.edits.newest.raw).b


def files_of(shown: ReleasedEntry | None) -> tuple[FileRef, ...]:
    """Return the attachments of a message as it is now; () for a deleted one, and for what is not there."""
    return () if shown is None or is_deleted(shown.edits) else attachments_of(decode_entry(shown.raw))


def is_deleted(edits: EntryEdits | None) -> bool:
    """Return whether the writer of an entry has deleted it."""
    return edits is not None and edits.newest is not None and decode_entry(edits.newest.raw).k == "delete"


# ---- what all storages compute
#
# Which heads to keep, where served batches end, what a mark implies: as pure functions of heads and logs that know no
# tables. Log numbers count the logs of one storage in the order they were begun; a log named in the `before` of another
# has the smaller number. Source: docs/protocol.md, "Heads" and "Pull".


class Head(NamedTuple):
    """A stored head: `size` is the bytes of entries 1..seq, `c` the clock of entry seq."""

    seq: int
    size: int
    c: int
    chain: bytes
    sig: bytes


@dataclass(frozen=True, slots=True)
class NumberedLog:
    """A log as serving needs it; `whole` says it builds on all logs of its user there with a smaller number."""

    number: int
    run: RunId
    whole: bool
    before: tuple[Mark, ...]
    forked: bool = False


def batch_ends(seq: int, size: int, heads: Sequence[Head], settings: Settings) -> Iterator[Head]:
    """Yield the heads on which batches from after (seq, size) end: each time the farthest head within the limits.

    If even the next head is beyond the limits it is yielded all the same, since a batch cannot end elsewhere.
    """
    at = 0
    while at < len(heads):
        end = heads[at]
        at += 1
        while at < len(heads) and is_one_batch(heads[at].seq - seq, heads[at].size - size, settings):
            end = heads[at]
            at += 1
        yield end
        seq, size = end.seq, end.size


def unservable(logs: Iterable[NumberedLog], pruned: Mapping[int, int], position: Position) -> frozenset[int]:
    """Return the numbers of logs that cannot be served from a position: what the asker lacks of them was deleted here,
    or they build on such a part, so that it could not take them.

    Args:
        logs: All logs of the writer there, by number in order.
        pruned: How much of each log was deleted, by number.
    """
    if position.floor < 0:
        is_gone = pruned.get(position.next_number, 0) >= position.next_seq
        return frozenset([position.next_number] if is_gone else ())
    held, found = dict(position.held), set[int]()
    ends: dict[RunId, int] = {}  # of these logs: how far the asker can have them
    for log in (log for log in logs if not log.forked):  # what builds on a forked log is taken without it
        have = held.get(log.number, 0)
        lacks = pruned.get(log.number, 0) > have or (
            not have and any(mark.seq > ends.get(mark.run, mark.seq) for mark in log.before)
        )
        if log.number > position.floor and lacks:
            found.add(log.number)
            ends[log.run] = have
    return frozenset(found)


def position_of(
    start: Position | TailStart | WantStart | StoredStart,
    find: Callable[[RunId], NumberedLog | None],
    chain: Callable[[NumberedLog, int], bytes | None],
    pruned: Mapping[int, int],
) -> Position | None:
    """Return where serving begins; None for the tail of a log that is not here.

    A known mark of a want says that the asker holds its log up to seq, and everything that log builds on: through
    `before`, log by log, down to the first `whole` one, below which it holds everything. Logs on a forked one are taken
    without it, so only a mark of a forked log itself says that the asker holds what that builds on. An unknown mark
    says nothing.
    A mark with another chain than is stored here says nothing either: the whole log is served, so that the asker finds
    the fork. Where its beginning was deleted here, all that is left is served: the asker holds another version at least
    up to there, since below nobody knows the chain.

    Args:
        find: Returns a log by its run.
        chain: Returns the chain stored at a seq; None above the last.
        pruned: How much of each log was deleted here, by number: a mark there is taken as known.
    """
    if isinstance(start, Position):
        return start
    if isinstance(start, StoredStart):
        return Position(0, tuple(sorted(pruned.items())), 1, pruned.get(1, 0) + 1)
    if isinstance(start, TailStart):
        tail = find(start.run)
        return Position(-tail.number, (), tail.number, start.after_seq + 1) if tail else None
    held: dict[int, int] = {}
    logs: dict[int, NumberedLog] = {}
    newest_first: list[int] = []

    def take(marks: Iterable[Mark]) -> None:
        for mark in marks:
            log = find(mark.run)
            if log is None:
                continue
            if log.number not in logs:
                logs[log.number] = log
                heappush(newest_first, -log.number)
            held[log.number] = max(held.get(log.number, 0), mark.seq)

    def is_known(mark: Mark) -> bool:
        log = find(mark.run)
        stored = chain(log, mark.seq) if log else None
        if log is None or stored is None:
            return log is None or not log.forked  # above the end of a forked log: perhaps of its other version
        return stored[:8].hex() == mark.chain8

    marks = {*start.tips, *start.older}
    known = set(filter(is_known, marks))
    take(known)
    named = {*held}
    floor = 0
    while newest_first:
        log = logs[-heappop(newest_first)]
        if log.forked and log.number not in named:
            continue
        if log.whole:
            floor = log.number - 1
            break
        take(log.before)
    for mark in marks - known:
        other = find(mark.run)
        if other is not None and other.number in pruned:
            held[other.number] = max(held.get(other.number, 0), pruned[other.number])
    above = tuple(sorted((number, seq) for number, seq in held.items() if number > floor))
    return Position(floor, above, floor + 1, held.get(floor + 1, 0) + 1)


def members_at(
    run: RunId, seq: int, last: int, later: Iterable[NumberedLog], marks: Iterable[tuple[UserId, RunId, int]],
    refused: Mapping[UserId, int],
) -> list[tuple[UserId, int]]:  # fmt: skip
    """Return the members that hold entry `seq` of the log `run`, with the highest seq of it that they hold; sorted.

    A peer that holds a later log holds what that one builds on, except what only a forked log between them builds on:
    it may have the other version of that one.

    Args:
        last: The last stored seq of the log.
        later: The logs of the same user and conversation that may build on it, with larger numbers, ascending.
        marks: The mark of each member on this log and on later ones: member, run, seq.
        refused: The last entry of this log that a member takes, for those who do not take all of it.
    """
    implied: dict[RunId, int] = {}  # a holder of a later log holds this one up to here
    forked: set[RunId] = set()
    for log in later:
        before = [mark for mark in log.before if mark.run not in forked]
        held = [mark.seq if mark.run == run else implied.get(mark.run, 0) for mark in before]
        implied[log.run] = last if log.whole else max(held, default=0)
        if log.forked:
            forked.add(log.run)
    highest: dict[UserId, int] = {}
    for member, marked, own in marks:
        known = own if marked == run else min(implied.get(marked, 0), refused.get(member, last))
        highest[member] = max(highest.get(member, 0), known)
    return sorted((member, known) for member, known in highest.items() if known >= seq)


def logs_shown(
    key: ShownKey, shown: Callable[[LogId], int | None], before: Callable[[LogId], Iterable[Mark]]
) -> list[tuple[LogId, int]]:
    """Return how far logs had been shown at a place; see Storage.shown_by.

    Args:
        shown: Returns the last entry of a log that had been shown, 0 for none; None if the log is not here.
        before: Returns the marks that a log builds on.
    """
    found: list[tuple[LogId, int]] = []
    asked, seen = list(key.logs), set(key.logs)
    while asked and len(seen) <= MOST_SHOWN:
        log = asked.pop()
        seq = shown(log)
        if seq:
            found.append((log, seq))
        elif seq is not None:
            below = {log._replace(run=mark.run) for mark in before(log)} - seen
            seen |= below
            asked += below
    return found


def recent_logs(newest_first: Iterable[tuple[LogId, int, int, str]], settings: Settings) -> list[tuple[LogId, int]]:
    """Return log and last seq of the newest stretches; the newest is the last.

    Args:
        newest_first: (log, last seq, count, last entry) of each, of that entry at least the first 14 characters. A
            profile at the end does not count: it is the only entry of its stretch, or the one before it counts.
    """
    recent: list[tuple[LogId, int]] = []
    places = 0
    for log, last, count, entry in newest_first:
        if places >= settings.recent_places:
            break
        places += count
        is_profile = entry.startswith(PROFILE_BEGINS)
        if count > is_profile:
            recent.append((log, last - is_profile))
    return recent[::-1]
