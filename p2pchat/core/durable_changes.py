"""Changes: all that one step of the core can make durable, and the records in it; and what storage answers.

A Change is one step of the core. Storage applies changes in order and whole, many in one transaction.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, NamedTuple, Self, dataclass_transform

from msgspec import Struct, structs
from msgspec import field as field

from p2pchat.core.log import Batch, Entry, LogId, RawEntry, Ref
from p2pchat.core.members.statement import Statement, StatementId
from p2pchat.protocol import ConversationId, GuestCertificate, Mark, Naming, PeerId, PeerRecord, RunId, UserId


@dataclass_transform(frozen_default=True)
class Record(Struct, frozen=True):
    """Base of records, inputs and effects. The core makes several for each entry, and a Struct is quick to make."""

    HIDDEN: ClassVar[tuple[str, ...]] = ()  # fields that a repr leaves out: secrets and what people wrote

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in self.HIDDEN)
        return f"{type(self).__name__}({', '.join(shown)})"

    def replace(self, **changes: Any) -> Self:
        """Return a copy with these fields changed."""
        return structs.replace(self, **changes)


class Collected(Struct):
    """Base of what is filled in. Each step makes several, and a Struct with empty lists is quick to make."""


class DiskLevel(IntEnum):
    """The entries for which there is disk space."""

    ENOUGH = 0  # everything
    OWN_ONLY = 1  # nothing of users of other peers
    NOTHING = 2


Span = tuple[int, int]  # the first and the last entry of a part of a log
EVERYTHING = -1  # in Change.visible: all of a log may be read


class Stretch(Record):
    """Consecutive entries of one log that were released together. Entry first+i has the place first_place+i."""

    first_place: int
    log: LogId
    first: int
    count: int
    received_at: int  # UTC microseconds
    old: bool = False  # it predates this peer
    gap: bool = False  # shown although an entry it follows is missing


class LateTexts(Record):
    """Consecutive entries of a log whose texts come in the place of stubs, with new places.

    The first place of those that wait is 0: a later stretch has them.
    """

    places: Stretch
    raws: list[RawEntry]


class NewLog(Record):
    """A log this change begins. `whole`: it builds on everything stored so far of its user here.

    `by` is the certificate of the member that answers for the user, None for a member. `named` are members of whom it
    became known only now that this user has named them.
    """

    log: LogId
    before: tuple[Mark, ...]
    whole: bool
    by: GuestCertificate | None = None
    named: tuple[UserId, ...] = ()


class DeliveredMark(Record):
    """A peer hosting `member`, in the room `member` itself, said that it holds `log` up to `seq`. Storage keeps the
    highest.
    """

    log: LogId
    member: UserId | PeerId
    seq: int


class ReadMark(Record):
    """`reader` has read or taken `log` up to `seq` and all that it builds on. 0: a mark on a later log replaces it.

    `chain` is the chain there; "" if that is not known, of what others have read. `taken`: not read.
    """

    log: LogId
    reader: UserId
    seq: int
    chain: str
    taken: bool = False

    @property
    def key(self) -> tuple[LogId, UserId, bool]:
        return self.log, self.reader, self.taken

    @property
    def position(self) -> tuple[int, str]:
        return self.seq, self.chain


class NamedContent(NamedTuple):
    """A message that names some content."""

    root: str
    log: LogId
    seq: int


class KnownConversation(Record):
    """A known conversation: its id and what the id stands for."""

    id: ConversationId
    naming: Naming


class KnownUser(Record):
    """A user's name from the newest profile entry. `named_c` is that entry's clock."""

    id: UserId
    name: str
    named_c: int
    about: str = ""


class FormerName(Record):
    """An earlier name of a user, and the clock of its profile entry."""

    user: UserId
    name: str
    c: int


class Address(Record):
    """An endpoint of a peer."""

    peer: PeerId
    endpoint: str
    verified_at: int = 0  # when that key last answered there, UTC microseconds; 0 for never
    failed: int = 0  # for how many hours of this peer dials there failed since then
    told: bool = False  # it stands in a record of that peer, and that key has not answered there


class Relation(Record):
    """A released entry that edits, deletes or reacts to another (`re`, of the same conversation).

    `aspect` is what of it: "text" for an edit or a deletion, or "reaction".
    """

    log: LogId
    seq: int
    c: int
    re: Ref
    aspect: str


class Fork(Record):
    """Evidence against an author: two verified batches of one log that give one seq two chains.

    `one` is None where the stored log is one side of it; storage then takes its batch with the last
    entry of `other`, or its newest.
    """

    log: LogId
    one: Batch | None
    other: Batch


class Prune(Record):
    """Entries 1..upto of a log were deleted here: stubs stand for their texts, and their places are gone.

    The rest says of those entries what storage can no longer compute. What was deleted of a log before is part of it.
    """

    log: LogId
    upto: int
    size: int  # bytes freed
    messages: int
    place: int  # of the last one
    received_at: int  # of the first one, UTC microseconds


class StoredUser(Record):
    """A user hosted here, hosted again at every start. `secret` is the seed of its key pair, 32 bytes."""

    HIDDEN: ClassVar[tuple[str, ...]] = ("secret",)

    id: UserId
    secret: bytes
    name: str
    created_at: int  # UTC microseconds
    hosted_as: str  # the key under which a program hosts it, whatever its name is


class Token(Record):
    """The hash (32 bytes) of a secret that lets a program act for a hosted user. The secret itself is never stored."""

    HIDDEN: ClassVar[tuple[str, ...]] = ("hash",)

    hash: bytes
    user: UserId
    created_at: int  # UTC microseconds
    label: str = ""


META_NAME = "name"  # in Change.meta: the name chosen for the peer's own user
META_ABOUT = "about"  # in Change.meta: the `about` text of the peer's own user
META_TRIED = "tried"  # in Change.meta: when a round trip through storage was last requested, UTC microseconds


class Change(Collected):
    """One step, committed as a whole or not at all. Storage adds it and never interprets it."""

    batches: list[Batch] = []
    logs: list[NewLog] = []
    uncovered: list[LogId] = []  # covered, and tips again; applied before `covered`
    covered: list[LogId] = []  # named by another log at their last entry
    stretches: list[Stretch] = []
    relations: list[Relation] = []  # changes by entries that these stretches release
    late: list[LateTexts] = []
    delivered: list[DeliveredMark] = []
    reads: list[ReadMark] = []
    conversations: list[KnownConversation] = []
    users: list[KnownUser] = []
    former_names: list[FormerName] = []  # of a name stored already the newer clock counts
    addresses: list[Address] = []
    forgotten: list[tuple[PeerId, str]] = []  # (peer, endpoint); applied before `addresses`
    records: dict[PeerId, PeerRecord | None] = {}  # None removes one
    consumers: dict[str, int] = {}  # name -> last place acknowledged
    forks: list[Fork] = []
    meta: dict[str, str | None] = {}  # None removes a value
    visible: dict[LogId, int] = {}  # only 1..n may be read; EVERYTHING: all of it
    pruned: list[Prune] = []  # entries to be deleted; nothing happens where as much of a log is deleted already
    hosted: list[StoredUser] = []  # new ones, and those with another name
    unhosted: list[UserId] = []  # their keys and tokens go
    tokens: list[Token] = []
    revoked: list[bytes] = []  # hashes of tokens
    statements: list[Statement] = []  # about members
    unstated: list[StatementId] = []  # statements that go, after those of this change were added
    is_awaited: bool = False  # a caller waits for a commit, even of nothing: what it asked for may be on its way

    def uncover(self, log: LogId) -> None:
        """Note that a covered log is a tip again, unless another log covers it later in this change."""
        if log in self.covered:
            self.covered.remove(log)
        if log not in self.uncovered:
            self.uncovered.append(log)


# ---- what storage answers
#
# Stored is what a starting node gets: tips and small records, never the entries.


class GroupEntry(NamedTuple):
    """The entry of a log in a group's own conversation: a fact, or one without effect."""

    log: LogId
    raw: RawEntry
    chain: bytes
    before: tuple[Mark, ...]


class LogFacts(Record):
    """The facts that storage has about one log."""

    log: LogId
    seq: int  # last stored
    chain: bytes  # at seq
    last_c: int  # clock of the last entry
    released: int  # entries 1..released have places; 0 for none
    covered: bool = False
    forked: bool = False
    before: tuple[Mark, ...] = ()
    visible: int = EVERYTHING  # see Change.visible
    pruned: int = 0  # entries 1..pruned were deleted here


class UnreleasedEntry(Record):
    """A stored entry without a place: it waits for an entry that it follows."""

    log: LogId
    seq: int
    entry: Entry


class Stored(Collected):
    """The state a node starts from. Empty on a first start."""

    tips: list[LogFacts] = []  # neither covered nor forked
    forked: list[LogId] = []
    unreleased: list[LogFacts] = []  # with waiting or hidden entries, covered ones included
    covered: dict[ConversationId, list[bytes]] = {}  # all others, as rows (`Heads`)
    waiting: list[UnreleasedEntry] = []  # of those, in order of log and seq
    next_place: int = 1
    conversations: list[KnownConversation] = []
    users: list[KnownUser] = []
    former_names: list[FormerName] = []
    delivered: list[DeliveredMark] = []  # of logs of the users named to load(), tips only
    reads: list[ReadMark] = []  # by users named to load(); by others of their logs, tips only, and none that say taken
    named: list[NamedContent] = []  # newest, the oldest first
    addresses: list[Address] = []
    records: list[PeerRecord] = []
    consumers: dict[str, int] = {}
    recent: list[tuple[LogId, int]] = []  # log, last seq of the newest stretches, oldest first
    meta: dict[str, str] = {}
    members: list[tuple[UserId, UserId]] = []  # users with logs here, and whom these name
    statements: list[tuple[str, bytes]] = []  # text and signature
    group_entries: list[GroupEntry] = []  # all that was written to groups, in the order it came
    missing: dict[LogId, int] = {}  # stubs that no deletion here made, as bits (core/sync/missing_texts.py)
    sizes: dict[UserId, int] = {}  # bytes of the entries of each user


class LogKey(Record):
    """The key of one log in storage: conversation and reference key (see log.ref_key)."""

    conversation: ConversationId
    ref: str


class ShownKey(NamedTuple):
    """Asks how far these logs, or logs they build on, had been shown when a place was assigned."""

    place: int
    logs: tuple[LogId, ...]


class PruneKey(Record):
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


class PrunePlan(Record):
    """The answer to a PruneKey: a bounded step. It deletes so many `messages`, and of each user so many bytes.

    `kept` messages of `own` stay, because no other peer has them; counted in the last step, when `more` is False.
    """

    pruned: list[Prune] = []
    messages: int = 0
    freed: dict[UserId, int] = {}
    kept: int = 0
    more: bool = False


class WantStart(Record):
    """Start of serving a want: what the asker holds (docs/protocol.md, "Pull")."""

    tips: tuple[Mark, ...]
    older: tuple[Mark, ...] = ()


class TailStart(Record):
    """Serve one log from after this seq."""

    run: RunId
    after_seq: int


class ForkStart(Record):
    """Serve the two batches that prove that this log forked; nothing for a log that did not."""

    run: RunId


class Position(Record):
    """Position of serving, opaque to the core: storage makes it and takes it back.

    Logs with number > floor are served in the order of their numbers, each from after held.get(number, 0), beginning
    with entry `next_seq` of log `next_number`.
    """

    floor: int
    held: tuple[tuple[int, int], ...]
    next_number: int
    next_seq: int


class TextStart(Record):
    """Serve the batches with texts that these parts of a log have here, of which the asker has stubs."""

    run: RunId
    parts: tuple[Span, ...]


Start = WantStart | TailStart | ForkStart | TextStart | Position
