"""What storage keeps, as plain records: the core makes and reads them, storage carries them to and from tables.

A Change is one step of the core's; storage applies changes in order and whole, many in one transaction.
Stored is what a starting node is given: tips and small things, never the entries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from p2pchat.core.log import Batch, Entry, LogId, Ref
from p2pchat.protocol import MAX_REACTION_CHARACTERS, ConversationId, Mark, Naming, PeerId, RunId, UserId

__all__ = [
    "EVERYTHING",
    "META_ABOUT",
    "META_IGNORED",
    "META_NAME",
    "META_NETWORK",
    "META_TRIED",
    "Address",
    "Change",
    "Cite",
    "Fork",
    "ForkStart",
    "FormerName",
    "DeliveredMark",
    "StoredUser",
    "KnownUser",
    "LogFacts",
    "LogKey",
    "Relation",
    "NewLog",
    "Position",
    "ReadMark",
    "Ref",
    "ShownKey",
    "GroupEntry",
    "Start",
    "Stored",
    "Stretch",
    "TailStart",
    "KnownConversation",
    "Token",
    "WantStart",
    "UnreleasedEntry",
]


EVERYTHING = -1  # in Change.seen: all of a log may be read


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive entries of one log that were released together; entry first+i has the place first_place+i."""

    first_place: int
    log: LogId
    first: int
    count: int
    received_at: int  # UTC microseconds
    old: bool = False  # was there before this peer came
    gap: bool = False  # shown although something it follows is missing


@dataclass(frozen=True, slots=True)
class NewLog:
    """A log this change begins. `whole`: everything stored so far of its user here is among what it builds on."""

    log: LogId
    before: tuple[Mark, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class DeliveredMark:
    """A peer hosting `member` said it holds `log` up to `seq`; storage keeps the highest."""

    log: LogId
    member: UserId
    seq: int


@dataclass(frozen=True, slots=True)
class ReadMark:
    """`reader` has read `log` up to `seq` and all that it builds on; 0: a mark on what builds on it says so instead."""

    log: LogId
    reader: UserId
    seq: int


@dataclass(frozen=True, slots=True)
class KnownConversation:
    """A conversation known here, by id and by what the id stands for."""

    id: ConversationId
    naming: Naming


@dataclass(frozen=True, slots=True)
class KnownUser:
    """A user's name by the newest profile entry: `named_c` is that entry's clock."""

    id: UserId
    name: str
    named_c: int
    about: str = ""


@dataclass(frozen=True, slots=True)
class FormerName:
    """A name a user had before, and the clock of the profile entry it is from."""

    user: UserId
    name: str
    c: int


@dataclass(frozen=True, slots=True)
class Address:
    """An endpoint of a peer. Times are UTC microseconds, 0 for never."""

    peer: PeerId
    endpoint: str
    verified_at: int = 0  # when that key last answered there
    failing_since: int = 0  # first failure since then
    teller: PeerId = ""  # who told it; "" when a user did or the peer itself was seen there


@dataclass(frozen=True, slots=True)
class Relation:
    """A released entry that changes how another (`re`, of the same conversation) is shown: see core/records.py.

    `reaction` is False for an edit or a deletion.
    """

    log: LogId
    seq: int
    c: int
    re: Ref
    reaction: bool


class Cite(NamedTuple):
    """From entry `first` on a log of a talk cites this gen; `chain8` begins the chain before that entry."""

    first: int
    gen: int
    chain8: str


class GroupEntry(NamedTuple):
    """An entry of a group's own conversation: an operation, a leave, or what changes nothing."""

    log: LogId
    seq: int
    raw: str


@dataclass(frozen=True, slots=True)
class Fork:
    """Evidence against an author: two verified batches of one log that give one seq two chains.

    `one` is None where what is stored here is one side of it: storage then takes its newest batch of the log.
    """

    log: LogId
    one: Batch | None
    other: Batch


@dataclass(frozen=True, slots=True)
class StoredUser:
    """A user hosted here, as long as it is: hosted again at every start. `secret` is the seed of its key, 32 bytes."""

    id: UserId
    secret: bytes = field(repr=False)
    name: str
    created_at: int  # UTC microseconds


@dataclass(frozen=True, slots=True)
class Token:
    """What lets a program act for a hosted user: the hash of a secret, 32 bytes; never the secret itself."""

    hash: bytes = field(repr=False)
    user: UserId
    created_at: int  # UTC microseconds
    label: str = ""


@dataclass(slots=True)
class Change:
    """One step: all of it is committed or nothing. Storage adds; it never interprets."""

    batches: list[Batch] = field(default_factory=list)
    logs: list[NewLog] = field(default_factory=list)
    uncovered: list[LogId] = field(default_factory=list)  # covered, then extended: tips again; this is before the next
    covered: list[LogId] = field(default_factory=list)  # named by another log at their last entry
    stretches: list[Stretch] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)  # of what these stretches release
    delivered: list[DeliveredMark] = field(default_factory=list)
    reads: list[ReadMark] = field(default_factory=list)
    conversations: list[KnownConversation] = field(default_factory=list)
    users: list[KnownUser] = field(default_factory=list)
    former_names: list[FormerName] = field(default_factory=list)  # of one that is kept already the newer counts
    addresses: list[Address] = field(default_factory=list)
    forgotten: list[tuple[PeerId, str]] = field(default_factory=list)  # (peer, endpoint)
    consumers: dict[str, int] = field(default_factory=dict)  # name -> last place handed on
    forks: list[Fork] = field(default_factory=list)
    meta: dict[str, str] = field(default_factory=dict)
    cites: list[tuple[LogId, Cite]] = field(default_factory=list)  # of logs of talks, in order
    visible: dict[LogId, int] = field(default_factory=dict)  # only 1..n of this log may be read; EVERYTHING: all of it
    hosted: list[StoredUser] = field(default_factory=list)  # new ones, and those with another name
    unhosted: list[UserId] = field(default_factory=list)  # their keys and tokens go
    tokens: list[Token] = field(default_factory=list)
    revoked: list[bytes] = field(default_factory=list)  # hashes of tokens

    def __bool__(self) -> bool:
        return any(_all_of(self))

    @property
    def is_gossip(self) -> bool:
        """Whether it holds nothing but what others will tell again."""
        return not any(_all_but_gossip_of(self))


GOSSIP = {"users", "addresses", "forgotten"}
_all_of = attrgetter(*Change.__slots__)  # asked at every step of a node
_all_but_gossip_of = attrgetter(*(name for name in Change.__slots__ if name not in GOSSIP))


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What storage knows of one log."""

    log: LogId
    seq: int  # last stored
    chain: bytes  # at seq
    last_c: int  # clock of the last entry
    released: int  # entries 1..released have places; 0 for none
    covered: bool = False
    forked: bool = False
    before: tuple[Mark, ...] = ()
    cites: tuple[Cite, ...] = ()
    visible: int = EVERYTHING  # see Change.seen
    chain_at: bytes | None = None  # at the seq that was asked for; None when that is not held


@dataclass(frozen=True, slots=True)
class UnreleasedEntry:
    """A stored entry in no stretch: it waits for what it answers or follows."""

    log: LogId
    seq: int
    entry: Entry


@dataclass(slots=True)
class Stored:
    """What a node starts from. Empty on a first start."""

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


@dataclass(frozen=True, slots=True)
class LogKey:
    """Asks storage for one log: by conversation and reference key (see log.ref_key); seq 0 asks for no chain."""

    conversation: ConversationId
    ref: str
    seq: int = 0


class ShownKey(NamedTuple):
    """Asks storage how far these logs, or what they build on, had been shown when a place was given."""

    place: int
    logs: tuple[LogId, ...]


@dataclass(frozen=True, slots=True)
class WantStart:
    """Where serving a want begins: what the asker said it holds (DESIGN of serving: docs/protocol.md, "Pull")."""

    tips: tuple[Mark, ...]
    older: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class TailStart:
    """Serve one log from after this seq."""

    run: RunId
    after_seq: int


@dataclass(frozen=True, slots=True)
class ForkStart:
    """Serve the two batches that prove this log forked, and nothing else; nothing of one that is not."""

    run: RunId


@dataclass(frozen=True, slots=True)
class Position:
    """Where serving stands, opaque to the core: storage made it and takes it back.

    Logs with number > floor are served in the order of their numbers, each from after held.get(number, 0),
    beginning with entry `next_seq` of log `next_number`.
    """

    floor: int
    held: tuple[tuple[int, int], ...]
    next_number: int
    next_seq: int


Start = WantStart | TailStart | ForkStart | Position

META_NAME = "name"  # in Change.meta: what the own user is called, when a name was chosen
META_ABOUT = "about"  # in Change.meta: what the own user tells of itself
META_IGNORED = "ignored"  # in Change.meta: whom the own user does not want to hear of, a JSON list of user ids
META_TRIED = "tried"  # in Change.meta: when a round trip through storage was last asked for, UTC microseconds
META_NETWORK = "network"  # in Change.meta: the id an open network's first peer told


# ---- mending
#
# Edits, deletions and reactions: entries of their own that change how another is shown.
#
# The entry they name stays in its log as it was written; what is shown is worked out. Of the edits and deletions of its
# writer the newest counts, of the reactions of each person the newest; the newest has the greatest (c, user, run, seq),
# as in history, so that all peers show the same whatever order things came in. This file says what such an entry may
# hold and which of several counts; that it is released like any other entry, causal_order.py sees to.
#
# Source: docs/protocol.md, "Edits, deletions, reactions".


RELATION_KINDS = frozenset({"edit", "delete", "reaction"})  # the kinds that do nothing but change another


def relation_of(log: LogId, seq: int, entry: Entry) -> Relation | None:
    """Return what an entry of this log does to another; None when it does nothing to any.

    An edit or a deletion does something to what its own writer wrote, and to nothing else. One of another shape than
    is written here does nothing, and is no fault: peers of the first version keep it and pass it on.
    """
    if entry.k not in RELATION_KINDS or entry.re is None or shape_fault(entry.k, entry.b, entry.re):
        return None
    if entry.k != "reaction" and not is_own(log.user, entry.re):
        return None
    return Relation(log, seq, entry.c, entry.re, entry.k == "reaction")


def is_own(user: UserId, re: Ref) -> bool:
    """Say whether a reference names an entry of this user."""
    return re.log.startswith(user[:16])


def shape_fault(kind: str, body: Any, re: Ref | None) -> str:
    """Return what an entry of one of these kinds may not be, as a sentence; "" for a good one.

    That a text is one, and how long it may be, is asked of every kind that has one (validation.py, writing.py).
    """
    if re is None:
        return f"{'an' if kind == 'edit' else 'a'} {kind} that names no entry"
    if kind == "delete" and body is not None:
        return "a delete that says something"
    if kind == "reaction" and isinstance(body, str) and len(body) > MAX_REACTION_CHARACTERS:
        return f"a reaction above {MAX_REACTION_CHARACTERS} characters"
    return ""


def newness(relation: Relation) -> tuple[int, UserId, str, int]:
    """Return what the newest has the greatest of: its place in history."""
    return relation.c, relation.log.user, relation.log.run, relation.seq
