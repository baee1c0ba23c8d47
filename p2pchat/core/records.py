"""Records of storage: what the core makes and reads, and storage carries to and from tables.

A Change is one step of the core. Storage applies changes in order and whole, many in one transaction. Stored is what a
starting node gets: tips and small records, never the entries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar, dataclass_transform

from p2pchat.core.log import Batch, Entry, LogId, Ref
from p2pchat.protocol import ConversationId, Mark, Naming, PeerId, RunId, UserId

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """Make a dataclass with slots that is frozen for type checkers and not at run time.

    The core makes several records for each entry. A frozen one takes twice as long to make, and the class itself takes
    0.6 ms of every start instead of 0.3 ms.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


EVERYTHING = -1  # in Change.visible: all of a log may be read


@record
class Stretch:
    """Consecutive entries of one log that were released together. Entry first+i has the place first_place+i."""

    first_place: int
    log: LogId
    first: int
    count: int
    received_at: int  # UTC microseconds
    old: bool = False  # it predates this peer
    gap: bool = False  # shown although an entry it follows is missing


@record
class NewLog:
    """A log this change begins. `whole`: it builds on everything stored so far of its user here."""

    log: LogId
    before: tuple[Mark, ...]
    whole: bool


@record
class DeliveredMark:
    """A peer hosting `member` said that it holds `log` up to `seq`. Storage keeps the highest."""

    log: LogId
    member: UserId
    seq: int


@record
class ReadMark:
    """`reader` has read `log` up to `seq` and all that it builds on. 0: a mark on a later log replaces this one."""

    log: LogId
    reader: UserId
    seq: int


@record
class KnownConversation:
    """A known conversation: its id and what the id stands for."""

    id: ConversationId
    naming: Naming


@record
class KnownUser:
    """A user's name from the newest profile entry. `named_c` is that entry's clock."""

    id: UserId
    name: str
    named_c: int
    about: str = ""


@record
class FormerName:
    """An earlier name of a user, and the clock of its profile entry."""

    user: UserId
    name: str
    c: int


@record
class Address:
    """An endpoint of a peer. Times are UTC microseconds, 0 for never."""

    peer: PeerId
    endpoint: str
    verified_at: int = 0  # when that key last answered there
    failing_since: int = 0  # first failure since then
    teller: PeerId = ""  # who announced it; "" for a user here, or the peer itself


@record
class Relation:
    """A released entry that edits, deletes or reacts to another (`re`, of the same conversation).

    `reaction` is False for an edit or a deletion.
    """

    log: LogId
    seq: int
    c: int
    re: Ref
    reaction: bool


class Cite(NamedTuple):
    """From entry `first` on, a log of a group's talk cites this gen. `chain8` begins the chain before that entry."""

    first: int
    gen: int
    chain8: str


class GroupEntry(NamedTuple):
    """An entry of a group's own conversation: an operation, a leave, or one without effect."""

    log: LogId
    seq: int
    raw: str


@record
class Fork:
    """Evidence against an author: two verified batches of one log that give one seq two chains.

    `one` is None where the stored log is one side of it; storage then takes its newest batch of the log.
    """

    log: LogId
    one: Batch | None
    other: Batch


@record
class StoredUser:
    """A user hosted here, hosted again at every start. `secret` is the seed of its key, 32 bytes."""

    id: UserId
    secret: bytes = field(repr=False)
    name: str
    created_at: int  # UTC microseconds


@record
class Token:
    """The hash (32 bytes) of a secret that lets a program act for a hosted user. The secret itself is never stored."""

    hash: bytes = field(repr=False)
    user: UserId
    created_at: int  # UTC microseconds
    label: str = ""


@dataclass(slots=True)
class Change:
    """One step, committed as a whole or not at all. Storage adds it and never interprets it."""

    batches: list[Batch] = field(default_factory=list)
    logs: list[NewLog] = field(default_factory=list)
    uncovered: list[LogId] = field(default_factory=list)  # covered, then extended: tips again; applied before `covered`
    covered: list[LogId] = field(default_factory=list)  # named by another log at their last entry
    stretches: list[Stretch] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)  # changes by entries that these stretches release
    delivered: list[DeliveredMark] = field(default_factory=list)
    reads: list[ReadMark] = field(default_factory=list)
    conversations: list[KnownConversation] = field(default_factory=list)
    users: list[KnownUser] = field(default_factory=list)
    former_names: list[FormerName] = field(default_factory=list)  # of a name stored already the newer clock counts
    addresses: list[Address] = field(default_factory=list)
    forgotten: list[tuple[PeerId, str]] = field(default_factory=list)  # (peer, endpoint)
    consumers: dict[str, int] = field(default_factory=dict)  # name -> last place acknowledged
    forks: list[Fork] = field(default_factory=list)
    meta: dict[str, str] = field(default_factory=dict)
    cites: list[tuple[LogId, Cite]] = field(default_factory=list)  # of logs of group talks, in order
    visible: dict[LogId, int] = field(default_factory=dict)  # only 1..n may be read; EVERYTHING: all of it
    hosted: list[StoredUser] = field(default_factory=list)  # new ones, and those with another name
    unhosted: list[UserId] = field(default_factory=list)  # their keys and tokens go
    tokens: list[Token] = field(default_factory=list)
    revoked: list[bytes] = field(default_factory=list)  # hashes of tokens


@record
class LogFacts:
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
    chain_at: bytes | None = None  # at the seq that was asked for; None when that is not held


@record
class UnreleasedEntry:
    """A stored entry without a place: it waits for an entry that it follows."""

    log: LogId
    seq: int
    entry: Entry


@dataclass(slots=True)
class Stored:
    """The state a node starts from. Empty on a first start."""

    tips: list[LogFacts] = field(default_factory=list)  # neither covered nor forked
    forked: list[LogId] = field(default_factory=list)
    unreleased: list[LogFacts] = field(default_factory=list)  # logs with waiting entries, covered ones included
    waiting: list[UnreleasedEntry] = field(default_factory=list)  # of those, in order of log and seq
    next_place: int = 1
    conversations: list[KnownConversation] = field(default_factory=list)
    users: list[KnownUser] = field(default_factory=list)
    former_names: list[FormerName] = field(default_factory=list)
    delivered: list[DeliveredMark] = field(default_factory=list)  # of logs of the users named to load(), tips only
    reads: list[ReadMark] = field(default_factory=list)  # by users named to load(); by others of their logs, tips only
    addresses: list[Address] = field(default_factory=list)
    consumers: dict[str, int] = field(default_factory=dict)
    newest_c: dict[ConversationId, int] = field(default_factory=dict)
    recent: list[tuple[LogId, int]] = field(default_factory=list)  # log, last seq of the newest stretches, oldest first
    meta: dict[str, str] = field(default_factory=dict)
    group_entries: list[GroupEntry] = field(default_factory=list)  # all that was written to groups, each log in order
    most_bytes: int = field(default=0, compare=False)  # at least as many as all stored entries have together


@record
class LogKey:
    """The key of one log in storage: conversation and reference key (see log.ref_key). seq 0 asks for no chain."""

    conversation: ConversationId
    ref: str
    seq: int = 0


class ShownKey(NamedTuple):
    """Asks how far these logs, or logs they build on, had been shown when a place was assigned."""

    place: int
    logs: tuple[LogId, ...]


@record
class WantStart:
    """Start of serving a want: what the asker holds (docs/protocol.md, "Pull")."""

    tips: tuple[Mark, ...]
    older: tuple[Mark, ...] = ()


@record
class TailStart:
    """Serve one log from after this seq."""

    run: RunId
    after_seq: int


@record
class ForkStart:
    """Serve the two batches that prove that this log forked; nothing for a log that did not."""

    run: RunId


@record
class Position:
    """Position of serving, opaque to the core: storage makes it and takes it back.

    Logs with number > floor are served in the order of their numbers, each from after held.get(number, 0), beginning
    with entry `next_seq` of log `next_number`.
    """

    floor: int
    held: tuple[tuple[int, int], ...]
    next_number: int
    next_seq: int


Start = WantStart | TailStart | ForkStart | Position

META_NAME = "name"  # in Change.meta: the name chosen for the peer's own user
META_ABOUT = "about"  # in Change.meta: the `about` text of the peer's own user
META_IGNORED = "ignored"  # in Change.meta: users that the own user ignores, a JSON list of ids
META_TRIED = "tried"  # in Change.meta: when a round trip through storage was last requested, UTC microseconds
META_NETWORK = "network"  # in Change.meta: the id that an open network's first peer announced
