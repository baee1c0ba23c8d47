"""Inputs: everything that can happen to a node, passed to Node.handle.

Inputs are plain records, easy to print, compare and replay. The owner gives each connection a link number that is never
reused in a process. Tickets are numbers that the core issued in an effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from p2pchat.core.durable_changes import (
    DeliveredMark,
    DiskLevel,
    Position,
    PruneKey,
    PrunePlan,
    ReadMark,
    Record,
    ShownKey,
    Stored,
    TextStart,
)
from p2pchat.core.log import Batch, FileRef, LogId, Marks, Ref
from p2pchat.core.members.statement import Statement
from p2pchat.core.node_context import HostedIdentity
from p2pchat.protocol import (
    Carried,
    Circuit,
    ConversationId,
    Entries,
    Frame,
    Naming,
    PeerId,
    Statements,
    Unknown,
    UserId,
)


class Input(Record):
    """Something that happened to a node."""


# ---- links


class LinkAccepted(Input):
    """A stranger connected and TLS is up.

    Attributes:
        host: The remote address; CARRIED of a circuit.
        took: Seconds that TLS took.
        through: The link of the peer that carries it, 0 for none.
        port: The remote port, 0 for none.
        dial: The number of the DialBeside that it answers, 0 for none.
    """

    link: int
    host: str
    took: float = 0.0
    through: int = 0
    port: int = 0
    dial: int = 0


class LinkDialled(Input):
    """Our dial succeeded and TLS is up. `server` is the key of the remote certificate, `host` the address reached."""

    link: int
    dial: int
    server: PeerId
    host: str
    through: int = 0  # the link of the peer that carries it


class CircuitSent(Input):
    """This end of a circuit on a link has bytes or room for the other end, or has ended."""

    link: int
    frame: Circuit | Carried


class Resolved(Input):
    """The name of an endpoint means these addresses, best first, each with the address of this machine towards it ("":
    no way there).
    """

    dial: int
    hosts: list[tuple[str, str]]


class DialFailed(Input):
    """A dial failed. `reason` is for people. `code` is a stable word: nobody (listens there), no_answer, no_name,
    no_way, no_peer, failed.
    """

    dial: int
    reason: str
    code: str = "failed"


class Got(Input):
    """The frames of one read, in order; [] when bytes came but no whole frame (any byte is a sign of life)."""

    link: int
    frames: list[Frame | Unknown]


class Faulted(Input):
    """The bytes of a link are no frames, or break a limit. `code` goes into the bye."""

    link: int
    code: str
    text: str


class LinkDown(Input):
    """A connection ended: "closed" (in order), "lost" (broke), "timeout" or "slow"."""

    link: int
    reason: str


class LinkFilled(Input):
    """A link's unsent bytes passed the buffer limit. Nothing more is written to it until LinkDrained."""

    link: int


class LinkDrained(Input):
    """A link that was full accepts frames again."""

    link: int


class Paused(Input):
    """This side stopped (on=True) or resumed reading a link. A link that is not read cannot be called silent."""

    link: int
    on: bool


class ListeningAt(Input):
    """All endpoints at which this peer can be reached, and the addresses of its machine, also where none listens."""

    at: tuple[str, ...]
    near: tuple[str, ...] = ()


class Connect(Input):
    """A user or program asks for a link to an endpoint. `pin` is the key that must answer, "" for any."""

    endpoint: str
    pin: PeerId = ""


class PeerSighted(Input):
    """Discovery announced a member on the local network, at exactly these endpoints; () when it is gone."""

    peer: PeerId
    at: tuple[str, ...] = ()


class Forget(Input):
    """A user asks to forget addresses: all of a peer (`endpoint` ""), or one endpoint of any peer (`peer` "")."""

    peer: PeerId = ""
    endpoint: str = ""


class Leave(Input):
    """Write what would be written later: Stop comes once it is durable and sent."""


class Stop(Input):
    """Shut down: send a bye on every link. Nothing is dialled or accepted any more."""


# ---- storage


class Committed(Input):
    """These commits are durable; tickets in the order of their commits."""

    tickets: list[int]


class CommitFailed(Input):
    """Storage kept nothing of this commit epoch from now on. Every commit in flight is void."""

    epoch: int
    reason: str


class Loaded(Input):
    """The answer to a Reload: storage works again and holds this."""

    stored: Stored


class LookupResult(Input):
    """The answer to a Lookup, field by field."""

    ticket: int
    chains: dict[tuple[LogId, int], bytes] = {}  # of those that are held
    shown: dict[ShownKey, list[tuple[LogId, int, str]]] = {}  # log, last seq shown by then, chain there
    prunable: dict[PruneKey, PrunePlan] = {}
    files: dict[tuple[LogId, int], tuple[FileRef, ...]] = {}
    naming: dict[str, list[tuple[LogId, int]]] = {}


class FetchResult(Input):
    """Batches read for a link. `more` is where to continue, None at the end."""

    link: int
    ticket: int
    batches: list[Batch]
    more: Position | TextStart | None


class DiskLow(Input):
    """Free disk space fell below a limit, or rose above one."""

    level: DiskLevel


# ---- content of attachments


class ContentAnswer(Input):
    """An answer of the store of content."""


class ContentWanted(Input):
    """A program asks for the content of one attachment of a message that is stored here."""

    log: LogId
    seq: int
    file: FileRef


class ContentGivenUp(Input):
    """No program asks for this content any more. What came of it stays."""

    root: str


class ContentRemoved(Input):
    """This content goes from the disk, in a moment: no message names it any more, or a program forgets it.

    Attributes:
        forgotten: A program forgets it: it does not come by itself again.
    """

    root: str
    forgotten: bool = False


class ContentKept(ContentAnswer):
    """This content may be whole now: this machine kept it, it came with a file, or its removal is over."""

    root: str


class HeldFound(ContentAnswer):
    """The answer to FindHeld: which are whole."""

    ticket: int
    roots: frozenset[str]


class ContentOpened(ContentAnswer):
    """The answer to OpenContent: the pieces that are not here, () if it is whole, None while its leaves are missing."""

    root: str
    missing: Sequence[int] | None


class LeavesStored(ContentAnswer):
    """The answer to StoreLeaves: whether they were right, and if so the pieces that are not here."""

    link: int
    root: str
    right: bool
    missing: Sequence[int] = ()


class PiecesStored(ContentAnswer):
    """The answer to StorePieces: which pieces were right and are here now, and which were wrong."""

    link: int
    root: str
    right: list[int]
    wrong: list[int]


class ContentFailed(ContentAnswer):
    """The store could not carry out an order about this content. `text` says why."""

    root: str
    text: str


class PullAnswered(ContentAnswer):
    """A GivePieces is done: everything is written, or the link ended."""

    link: int
    n: int


class ContentAnswered(Input):
    """Several answers of the store of content, in order: many small files make one step, and one commit."""

    answers: list[ContentAnswer]


# ---- users and programs


class ConversationOpened(Input):
    """A program wants to write in a conversation that may not exist here yet."""

    naming: Naming


class WriteRequest(Input):
    """A hosted user writes consecutive entries of one kind in one conversation. Answered by WriteAccepted or
    WriteRefused.

    Attributes:
        bodies: One text per entry; "" for a `delete`.
        re: The entry they answer, edit, delete or react to.
        claims: By the index of a body, the UTC microseconds at which the writer's program claims it was written; {} for
            no claims.
        marks: Those of its last entry, the content of whose attachments is here; None for none.
        above: The clock that theirs exceed: that of what they take the place of; 0 for nothing.
    """

    HIDDEN: ClassVar[tuple[str, ...]] = ("bodies",)

    ticket: int
    user: UserId
    conversation: ConversationId
    kind: str
    bodies: list[str]
    re: Ref | None = None
    claims: Mapping[int, int] = {}
    marks: Marks | None = None
    above: int = 0


class GroupCreateRequest(Input):
    """A hosted user creates a group and becomes its owner. `members` are the others; `key` is as in Entry.

    Answered by WriteAccepted (its log is in the group's own conversation) or WriteRefused (codes: user, name, members,
    member, too_long, storage, disk_low).
    """

    ticket: int
    user: UserId
    name: str
    members: tuple[UserId, ...]
    key: str = ""


class GroupChangeRequest(Input):
    """The owner or an admin of a group changes it. None and () leave a field as it is. `owner` hands the group over to
    a member, `admin` makes members admins, `unadmin` plain members again.

    Answered by WriteAccepted or WriteRefused (codes: those of GroupCreateRequest, group: not known here, owner: the
    user may not, nothing: nothing would change).
    """

    ticket: int
    user: UserId
    group: ConversationId
    add: tuple[UserId, ...] = ()
    remove: tuple[UserId, ...] = ()
    name: str | None = None
    owner: UserId | None = None
    admin: tuple[UserId, ...] = ()
    unadmin: tuple[UserId, ...] = ()


class GroupLeaveRequest(Input):
    """A member leaves a group.

    Answered by WriteAccepted or WriteRefused (codes: user, group, member, owner: hand it over first).
    """

    ticket: int
    user: UserId
    group: ConversationId


class ImportRequest(Input):
    """Frames of an export file, in its order. Answered by ImportResult.

    In each input, the first frame that mentions a conversation names it. The reader waits for the answer before it
    hands in much more.
    """

    ticket: int
    frames: Sequence[Entries | Statements]


class PruneRequest(Input):
    """Delete here what was written in a conversation. Answered by PruneResult or WriteRefused (codes: conversation,
    storage).

    Attributes:
        user: Delete only what this user wrote; "" for everybody.
        before: Delete only what was written before this clock; 0 for all.
    """

    ticket: int
    conversation: ConversationId
    user: UserId = ""
    before: int = 0


class UserRenamed(Input):
    """A hosted user takes another name or another `about` text (None: unchanged)."""

    HIDDEN: ClassVar[tuple[str, ...]] = ("about",)

    user: UserId
    name: str
    about: str | None = None


class QuotaLifted(Input):
    """The quota of this user is lifted permanently."""

    user: UserId


class OwnStateSet(Input):
    """A hosted user chose a text for each of these keys, "" for none. Answered by WriteAccepted or WriteRefused."""

    HIDDEN: ClassVar[tuple[str, ...]] = ("texts",)

    ticket: int
    user: UserId
    texts: dict[str, str]


class InviteMade(Input):
    """This peer made an invite that admits `uses` members until then, in UTC seconds."""

    id: str
    uses: int
    until: int


class StatementsMade(Input):
    """Somebody here said something about members, signed with a key that this program has."""

    statements: list[Statement]


class UserHosted(Input):
    """This peer hosts one more user from now on. A user who is hosted already only gets this name.

    The others are what storage holds for the user: the deliveries of its messages, and read and taken marks.
    """

    user: HostedIdentity
    delivered: tuple[DeliveredMark, ...] = ()
    reads: tuple[ReadMark, ...] = ()


class UserUnhosted(Input):
    """This peer no longer hosts that user. The user's entries stay; `is_deleted`: nothing else does."""

    user: UserId
    is_deleted: bool = False


class PresenceSet(Input):
    """A hosted user set its status (online, idle or offline) and a text."""

    HIDDEN: ClassVar[tuple[str, ...]] = ("text",)

    user: UserId
    status: str
    text: str = ""


class TypingSet(Input):
    """A hosted user types in a conversation, or has stopped. Repeated every few seconds while it goes on."""

    user: UserId
    conversation: ConversationId
    on: bool


class MarkedRead(Input):
    """A hosted user has read everything in the conversation of this log up to a place, that of an entry of this log.

    What the users in `except_writers` wrote is not marked. With a ticket the mark is committed now, together with the
    places of consumers, and answered by ReadStored, or by WriteRefused if it is later; otherwise it is committed soon.
    """

    user: UserId
    log: LogId
    place: int
    except_writers: frozenset[UserId] = frozenset()
    ticket: int = 0

    @property
    def conversation(self) -> ConversationId:
        """The conversation of the log."""
        return self.log.conversation


class MarkedTaken(Input):
    """Programs of a hosted user have taken everything in a conversation up to a place. `ticket` as of MarkedRead."""

    user: UserId
    conversation: ConversationId
    place: int
    ticket: int = 0


class ComparisonAwaited(Input):
    """A program waits until the conversations of a hosted user were compared with another peer that hosts it.

    Answered by ComparisonEnded, at the latest after so many seconds.
    """

    ticket: int
    user: UserId
    within: float


class Start(Input):
    """The node begins: the first input."""


class Woke(Input):
    """The time of the last WakeAt has come."""
