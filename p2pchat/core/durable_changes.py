"""Changes: all that one step of the core can make durable, and the records in it.

A Change is one step of the core. Storage applies changes in order and whole, many in one transaction. What storage
answers is in storage_answers.py.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, NamedTuple, Self

from msgspec import Struct, structs

from p2pchat.core.log import Batch, LogId, Ref
from p2pchat.core.members.statement import Statement, StatementId
from p2pchat.protocol import ConversationId, GuestCertificate, Mark, Naming, PeerId, PeerRecord, UserId


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
    """Base of what one step fills in. Each step makes several, and a Struct with empty lists is quick to make."""


class DiskLevel(IntEnum):
    """The entries for which there is disk space."""

    ENOUGH = 0  # everything
    OWN_ONLY = 1  # nothing of users of other peers
    NOTHING = 2


EVERYTHING = -1  # in Change.visible: all of a log may be read


class Stretch(Record, frozen=True):
    """Consecutive entries of one log that were released together. Entry first+i has the place first_place+i."""

    first_place: int
    log: LogId
    first: int
    count: int
    received_at: int  # UTC microseconds
    old: bool = False  # it predates this peer
    gap: bool = False  # shown although an entry it follows is missing


class NewLog(Record, frozen=True):
    """A log this change begins. `whole`: it builds on everything stored so far of its user here.

    `by` is the certificate of the member that answers for the user, None for a member. `named` are members of whom it
    became known only now that this user has named them.
    """

    log: LogId
    before: tuple[Mark, ...]
    whole: bool
    by: GuestCertificate | None = None
    named: tuple[UserId, ...] = ()


class DeliveredMark(Record, frozen=True):
    """A peer hosting `member`, in the room `member` itself, said that it holds `log` up to `seq`. Storage keeps the
    highest.
    """

    log: LogId
    member: UserId | PeerId
    seq: int


class ReadMark(Record, frozen=True):
    """`reader` has read or taken `log` up to `seq` and all that it builds on. 0: a mark on a later log replaces it.

    `chain8` begins the chain there; "" if that is not known, of what others have read.
    """

    log: LogId
    reader: UserId
    seq: int
    chain8: str

    @property
    def position(self) -> tuple[int, str]:
        return self.seq, self.chain8


class NamedContent(NamedTuple):
    """A message that names some content."""

    root: str
    log: LogId
    seq: int


class KnownConversation(Record, frozen=True):
    """A known conversation: its id and what the id stands for."""

    id: ConversationId
    naming: Naming


class KnownUser(Record, frozen=True):
    """A user's name from the newest profile entry. `named_c` is that entry's clock."""

    id: UserId
    name: str
    named_c: int
    about: str = ""


class FormerName(Record, frozen=True):
    """An earlier name of a user, and the clock of its profile entry."""

    user: UserId
    name: str
    c: int


class Address(Record, frozen=True):
    """An endpoint of a peer. Times are UTC microseconds, 0 for never."""

    peer: PeerId
    endpoint: str
    verified_at: int = 0  # when that key last answered there
    failing_since: int = 0  # first failure since then
    told: bool = False  # it stands in a record of that peer, and that key has not answered there


class Relation(Record, frozen=True):
    """A released entry that edits, deletes or reacts to another (`re`, of the same conversation).

    `aspect` is what of it: "text" for an edit or a deletion, or "reaction".
    """

    log: LogId
    seq: int
    c: int
    re: Ref
    aspect: str


class Cite(NamedTuple):
    """From entry `first` on, a log of a group's talk cites this gen. `chain8` begins the chain before that entry."""

    first: int
    gen: int
    chain8: str


class Fork(Record, frozen=True):
    """Evidence against an author: two verified batches of one log that give one seq two chains.

    `one` is None where the stored log is one side of it; storage then takes its batch with the last
    entry of `other`, or its newest.
    """

    log: LogId
    one: Batch | None
    other: Batch


class Prune(Record, frozen=True):
    """Entries 1..upto of a log were deleted here: their texts and places are gone, the log goes on behind them.

    The rest says of those entries what storage can no longer compute from them. What was deleted of a log before is
    part of it.
    """

    log: LogId
    upto: int
    size: int  # their bytes
    c: int  # clock of the last one
    chain: bytes  # at the last one
    messages: int
    place: int  # of the last one
    received_at: int  # of the first one, UTC microseconds


class StoredUser(Record, frozen=True):
    """A user hosted here, hosted again at every start. `secret` is the seed of its key, 32 bytes."""

    HIDDEN: ClassVar[tuple[str, ...]] = ("secret",)

    id: UserId
    secret: bytes
    name: str
    created_at: int  # UTC microseconds


class Token(Record, frozen=True):
    """The hash (32 bytes) of a secret that lets a program act for a hosted user. The secret itself is never stored."""

    HIDDEN: ClassVar[tuple[str, ...]] = ("hash",)

    hash: bytes
    user: UserId
    created_at: int  # UTC microseconds
    label: str = ""


META_NAME = "name"  # in Change.meta: the name chosen for the peer's own user
META_ABOUT = "about"  # in Change.meta: the `about` text of the peer's own user
META_IGNORED = "ignored"  # in Change.meta: users that the own user ignores, a JSON list of ids
META_BLOCKED = "blocked"  # in Change.meta: users that the own user blocks, a JSON list of ids
META_TRIED = "tried"  # in Change.meta: when a round trip through storage was last requested, UTC microseconds


class Change(Collected):
    """One step, committed as a whole or not at all. Storage adds it and never interprets it."""

    batches: list[Batch] = []
    logs: list[NewLog] = []
    uncovered: list[LogId] = []  # covered, and tips again; applied before `covered`
    covered: list[LogId] = []  # named by another log at their last entry
    stretches: list[Stretch] = []
    relations: list[Relation] = []  # changes by entries that these stretches release
    delivered: list[DeliveredMark] = []
    reads: list[ReadMark] = []
    taken: list[ReadMark] = []
    conversations: list[KnownConversation] = []
    users: list[KnownUser] = []
    former_names: list[FormerName] = []  # of a name stored already the newer clock counts
    addresses: list[Address] = []
    forgotten: list[tuple[PeerId, str]] = []  # (peer, endpoint)
    records: dict[PeerId, PeerRecord | None] = {}  # None removes one
    consumers: dict[str, int] = {}  # name -> last place acknowledged
    forks: list[Fork] = []
    meta: dict[str, str | None] = {}  # None removes a value
    cites: list[tuple[LogId, Cite]] = []  # of logs of group talks, in order
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
