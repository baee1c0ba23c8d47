"""Answers of storage: what the core asks, and what it gets, on a start and later.

Stored is what a starting node gets: tips and small records, never the entries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from p2pchat.core.durable_changes import (
    EVERYTHING,
    Address,
    Cite,
    DeliveredMark,
    FormerName,
    KnownConversation,
    KnownUser,
    NamedContent,
    Prune,
    ReadMark,
    Record,
)
from p2pchat.core.log import Entry, LogId, RawEntry
from p2pchat.protocol import ConversationId, Mark, PeerRecord, RunId, UserId


class GroupEntry(NamedTuple):
    """An entry of a group's own conversation: an operation, a leave, or one without effect.

    With the first of a log comes what the log builds on.
    """

    log: LogId
    seq: int
    raw: RawEntry
    before: tuple[Mark, ...] = ()


class LogFacts(Record, frozen=True):
    """The facts that storage has about one log."""

    log: LogId
    seq: int  # last stored
    chain: bytes  # at seq
    last_c: int  # clock of the last entry
    released: int  # entries 1..released have places; 0 for none
    covered: bool = False
    forked: bool = False
    before: tuple[Mark, ...] = ()
    cites: tuple[Cite, ...] = ()
    visible: int = EVERYTHING  # see Change.visible
    pruned: int = 0  # entries 1..pruned were deleted here


class UnreleasedEntry(Record, frozen=True):
    """A stored entry without a place: it waits for an entry that it follows."""

    log: LogId
    seq: int
    entry: Entry


@dataclass(slots=True)
class Stored:
    """The state a node starts from. Empty on a first start."""

    tips: list[LogFacts] = field(default_factory=list)  # neither covered nor forked
    forked: list[LogId] = field(default_factory=list)
    unreleased: list[LogFacts] = field(default_factory=list)  # with waiting or hidden entries, covered ones included
    covered: dict[ConversationId, list[bytes]] = field(default_factory=dict)  # all others, as rows (`Heads`)
    waiting: list[UnreleasedEntry] = field(default_factory=list)  # of those, in order of log and seq
    next_place: int = 1
    conversations: list[KnownConversation] = field(default_factory=list)
    users: list[KnownUser] = field(default_factory=list)
    former_names: list[FormerName] = field(default_factory=list)
    delivered: list[DeliveredMark] = field(default_factory=list)  # of logs of the users named to load(), tips only
    reads: list[ReadMark] = field(default_factory=list)  # by users named to load(); by others of their logs, tips only
    taken: list[ReadMark] = field(default_factory=list)  # by users named to load()
    named: list[NamedContent] = field(default_factory=list)  # newest, the oldest first
    addresses: list[Address] = field(default_factory=list)
    records: list[PeerRecord] = field(default_factory=list)
    consumers: dict[str, int] = field(default_factory=dict)
    newest_c: dict[ConversationId, int] = field(default_factory=dict)
    recent: list[tuple[LogId, int]] = field(default_factory=list)  # log, last seq of the newest stretches, oldest first
    meta: dict[str, str] = field(default_factory=dict)
    members: list[tuple[UserId, UserId]] = field(default_factory=list)  # users with logs here, and whom these name
    statements: list[tuple[str, bytes]] = field(default_factory=list)  # text and signature
    group_entries: list[GroupEntry] = field(default_factory=list)  # all that was written to groups, each log in order
    sizes: dict[UserId, int] = field(default_factory=dict)  # bytes of the entries of each user
    evidence: list[tuple[UserId, int]] = field(default_factory=list)  # bytes of each proof of a fork


class LogKey(Record, frozen=True):
    """The key of one log in storage: conversation and reference key (see log.ref_key)."""

    conversation: ConversationId
    ref: str


class ShownKey(NamedTuple):
    """Asks how far these logs, or logs they build on, had been shown when a place was assigned."""

    place: int
    logs: tuple[LogId, ...]


class PruneKey(Record, frozen=True):
    """Asks what a deletion in one conversation may delete next.

    Attributes:
        user: Delete only what this user wrote; "" for everybody.
        before: Delete only entries with a lower clock; 0 for all.
        own: The users whose entries stay while no other peer has them.
    """

    conversation: ConversationId
    user: UserId = ""
    before: int = 0
    own: frozenset[UserId] = frozenset()


class PrunePlan(Record, frozen=True):
    """The answer to a PruneKey: a bounded step. It deletes so many `messages`, and of each user so many bytes.

    `kept` messages of `own` stay, because no other peer has them; counted in the last step, when `more` is False.
    """

    pruned: list[Prune] = []
    messages: int = 0
    freed: dict[UserId, int] = {}
    kept: int = 0
    more: bool = False


class WantStart(Record, frozen=True):
    """Start of serving a want: what the asker holds (docs/protocol.md, "Pull")."""

    tips: tuple[Mark, ...]
    older: tuple[Mark, ...] = ()


class TailStart(Record, frozen=True):
    """Serve one log from after this seq."""

    run: RunId
    after_seq: int


class ForkStart(Record, frozen=True):
    """Serve the two batches that prove that this log forked; nothing for a log that did not."""

    run: RunId


class Position(Record, frozen=True):
    """Position of serving, opaque to the core: storage makes it and takes it back.

    Logs with number > floor are served in the order of their numbers, each from after held.get(number, 0), beginning
    with entry `next_seq` of log `next_number`.
    """

    floor: int
    held: tuple[tuple[int, int], ...]
    next_number: int
    next_seq: int


class StoredStart(Record, frozen=True):
    """Serve all that is stored, the rest of logs whose beginning was deleted here too: for an export."""


Start = WantStart | TailStart | ForkStart | StoredStart | Position
