"""Effects: the orders a node gives, returned by Node.handle.

The owner carries out all of them, in order, before the next input. A `Send` may name a link that is gone, and a `Close`
a link that has closed itself; both then do nothing.
"""

from __future__ import annotations

from typing import ClassVar

from p2pchat.core.durable_changes import Change, PruneKey, Record, ShownKey, Start, Stretch
from p2pchat.core.log import Batch, FileRef, LogId
from p2pchat.protocol import Bye, Carried, Circuit, ConversationId, Frame, PeerId, UserId

Guests = tuple[tuple[tuple[PeerId, ...], tuple[UserId, ...]], ...]  # by the peers that host them; all sorted


class Effect(Record):
    """An order of a node, or what it reports."""


# ---- links


class Send(Effect):
    """Write one frame to these links; it is encoded once."""

    frame: Frame
    links: list[int]


class Close(Effect):
    """End a connection: with a last frame after what is unsent, or at once when `bye` is None."""

    link: int
    bye: Bye | None = None


class Dial(Effect):
    """Connect there and set up TLS. Answered by LinkDialled or DialFailed with this number."""

    dial: int
    endpoint: str


class DialThrough(Effect):
    """Set up TLS over a circuit that begins on this link. Answered like Dial."""

    dial: int
    link: int
    circuit: int


class DialBeside(Effect):
    """Connect there from the port of this link, while the other end does the same, and set up TLS.

    Answered like Dial; with `serve` as the TLS server, by LinkAccepted or DialFailed.
    """

    dial: int
    link: int
    endpoint: str
    serve: bool


class CircuitReceived(Effect):
    """The other end of a circuit on a link begins it, has bytes or room for this end, or has ended it."""

    link: int
    frame: Circuit | Carried


class Resolve(Effect):
    """Look up the addresses of the name in this endpoint. Answered by Resolved or DialFailed with this number."""

    dial: int
    endpoint: str


class Established(Effect):
    """The link belongs to a member: it no longer counts as a stranger and accepts frames of full size."""

    link: int


class PauseReading(Effect):
    """Stop reading this link for so many seconds, because it floods. Report Paused(link, True) now and False at the
    end.
    """

    link: int
    seconds: float


class WakeAt(Effect):
    """Report Woke at this monotonic time. Replaces the previous WakeAt."""

    mono: float


# ---- storage


class Commit(Effect):
    """Make this durable, after all commits before it. Answered by Committed or CommitFailed.

    A commit whose epoch is older than the last CommitFailed is not carried out and not answered. `own`: it holds
    entries of hosted users.
    """

    ticket: int
    epoch: int
    own: bool
    change: Change


class Reload(Effect):
    """Load what storage holds as soon as it works again after a failure. Answered by Loaded."""


class Lookup(Effect):
    """Look up facts in storage. Answered by LookupResult.

    Attributes:
        chains: Asks for the chains at entries, each by log and number.
        shown: Asks how far logs had been shown at a place.
        prunable: Asks what a deletion may delete next.
        files: Asks for the attachments of messages, each by log and number.
        naming: Asks which stored messages name some content, by root.
    """

    ticket: int
    chains: list[tuple[LogId, int]] = []
    shown: list[ShownKey] = []
    prunable: list[PruneKey] = []
    files: list[tuple[LogId, int]] = []
    naming: list[str] = []


class Fetch(Effect):
    """Read what this user wrote there from `start` on, at most so many batches. Answered by FetchResult.

    `first`: before what waits to be read for this link of unknown users; it is of a known one, or proves a fork.
    """

    link: int
    ticket: int
    conversation: ConversationId
    user: UserId
    start: Start
    most: int
    first: bool = False


# ---- content of attachments


class OpenContent(Record):
    """Order to find out what is here of some content. Answered by ContentOpened."""

    root: str
    size: int


class StoreLeaves(Record):
    """Order to judge the list of leaves that a link gave, and keep it. Answered by LeavesStored."""

    link: int
    root: str
    size: int
    leaves: bytes


class StorePieces(Record):
    """Order to judge pieces that a link gave, and keep those that are right. Answered by PiecesStored."""

    link: int
    root: str
    size: int
    pieces: list[tuple[int, bytes]]


ContentOrder = OpenContent | StoreLeaves | StorePieces


class OrderContent(Effect):
    """The orders of one step for the store of content, which carries them out in order and answers them together."""

    orders: list[ContentOrder]


class GivePieces(Effect):
    """Answer a pull with pieces, or with the list of leaves for count 0, and end it with Lacks where one is missing.

    Read and write no more of it than the link has room for, behind everything else. Answered by PullAnswered.
    Content of another size than the message says is not here.
    """

    link: int
    n: int
    root: str
    size: int
    first: int
    count: int


class ContentProgress(Effect):
    """Of content that is fetched, so many bytes are here and verified. Entry `seq` of `log` names it."""

    log: LogId
    seq: int
    file: FileRef
    stored: int


class ContentArrived(Effect):
    """Content that was fetched is whole: verified, and on the disk."""

    log: LogId
    seq: int
    file: FileRef


class FindHeld(Effect):
    """Find out which of these contents are whole: verified, and on the disk. Answered by HeldFound."""

    ticket: int
    roots: list[str]


class FileHeld(Effect):
    """Users of another peer have a file of a hosted user's message now, whole and verified; or have it no more.

    Entry `seq` of `log` names it. The users are members of its conversation, sorted.
    """

    log: LogId
    seq: int
    file: FileRef
    users: tuple[UserId, ...]
    has: bool


class ContentStopped(Effect):
    """Content that a program asked for does not come any more. `text` says why."""

    root: str
    text: str


# ---- answers to programs


class WriteAccepted(Effect):
    """A write request is durable (accepted).

    Attributes:
        log, first, count: Its entries are first..first+count-1 of log. A count of 0: it was written before, as first.
        members: User ids that a receipt waits for. In the room: the users online now, and the writer too where several
            users are hosted here (the writer does not count).
        kind: The kind of all these entries.
        here: Those members that this peer hosts; they have the entries already.
        guests: In the room, those members who are hosted by other peers than their own.
    """

    ticket: int
    log: LogId
    first: int
    count: int
    members: tuple[UserId, ...]
    kind: str = "text"
    here: tuple[UserId, ...] = ()
    guests: Guests = ()


class ReadStored(Effect):
    """The mark of a MarkedRead or MarkedTaken with this ticket is durable."""

    ticket: int


class ComparisonEnded(Effect):
    """The ComparisonAwaited with this ticket: everything is compared and here, or that did not happen in time."""

    ticket: int
    compared: bool


class WriteRefused(Effect):
    """A request was rejected. `code` is a stable word; `text` says why and what to do."""

    ticket: int
    code: str
    text: str


class ImportResult(Effect):
    """The result of an ImportRequest. New entries are durable.

    `known` entries were here already. `foreign` entries are of conversations that no hosted user belongs to. `refused`
    counts the others by code: early (the entries before are not here), head (not signed by their writer), malformed,
    limit, full (too many logs at once), fork, member (the writer does not belong there). `unreadable` counts the
    frames with a statement that its author did not make. `failed` says why nothing was kept, as a sentence, or is "".
    """

    ticket: int
    new: int = 0
    known: int = 0
    foreign: int = 0
    refused: dict[str, int] = {}
    failed: str = ""
    unreadable: int = 0


class PruneResult(Effect):
    """The result of a PruneRequest, durable: so many messages and bytes are deleted.

    `kept` of the writer's own messages stay, because no other peer has them. `more` asks for the request again: one
    step deletes a bounded part.
    """

    ticket: int
    messages: int = 0
    size_bytes: int = 0
    kept: int = 0
    more: bool = False


class Released(Effect):
    """These entries have places now, durably. Consumers may read them; `batches` have those that came with them."""

    stretches: list[Stretch]
    batches: list[Batch]


class ConversationBegun(Effect):
    """A user who is no contact of a user hosted here (`host`) began a conversation with it; its first entry is durable.

    Of a group it is the talk.
    """

    conversation: ConversationId
    host: UserId
    user: UserId


class OwnStateChanged(Effect):
    """A hosted user chose another text for a key, perhaps on another machine, "" for none. It is durable."""

    HIDDEN: ClassVar[tuple[str, ...]] = ("text",)

    user: UserId
    key: str
    text: str


class DeliveryReceipt(Effect):
    """The peer of `member` holds entries first..last of this log of a hosted user, durably. Emitted once.

    `others` are more users of that peer for whom the same is true. In the room `member` is the peer itself.
    """

    log: LogId
    first: int
    last: int
    member: UserId
    others: tuple[UserId, ...] = ()


class ReadReceipt(Effect):
    """`member` has read entries first..last of this log of a hosted user. Emitted once, after their DeliveryReceipt; in
    the room, of a user of a gateway, perhaps before that of the gateway.
    """

    log: LogId
    first: int
    last: int
    member: UserId


class GroupUpdate(Effect):
    """A group has changed. Emitted once for each difference, after its entry is durable.

    `change` is created, added, removed, left, admin, unadmin, renamed or owner. `target` is the user added, removed,
    leaving, now an admin or none, or now the owner; "" for created and renamed. `by` is the user who did it. The rest
    describes the group as it is now: `members` are sorted; `log` and `seq` name the fact. A group that becomes known
    here begins with `created`.
    """

    HIDDEN: ClassVar[tuple[str, ...]] = ("name",)

    group: ConversationId
    talk: ConversationId
    change: str
    by: UserId
    target: UserId
    members: tuple[UserId, ...]
    name: str
    owner: UserId
    log: LogId
    seq: int


class DeliveryRevoked(Effect):
    """Entries first..last of this log of a hosted user, in a group's talk, lie beyond a cut.

    The user was removed from the group before its owner knew of them, and no peer that knows of the removal shows them.
    Emitted when this becomes known here, and once more by the next process if this one is killed at that moment.
    """

    log: LogId
    first: int
    last: int


class LinkChanged(Effect):
    """The state of a link to a peer changed: up, down, trying, refused.

    `peer` is "" while unknown; `endpoint` is "" if the other side dialled. `reason` is for people. `code` is a stable
    word for why no peer was reached, from a bye (network, version, busy ...) or from DialFailed; otherwise "". `host`
    is the remote address of a link that came up, and `via` the peer that carries it, "" if it is direct.
    """

    peer: PeerId
    endpoint: str
    state: str
    reason: str = ""
    code: str = ""
    host: str = ""
    via: PeerId = ""


class UserJoined(Effect):
    """A user has become reachable."""

    user: UserId


class UserLeft(Effect):
    """The last link to a user is gone: left, lost, timeout or expelled."""

    user: UserId
    reason: str


class MemberChanged(Effect):
    """A member of the network, or a guest of one, was admitted, expelled or pardoned, or is an admin now or no longer.

    `change` is admitted, expelled, pardoned, admin or unadmin; revoked, of a machine; shared, where `by` answers for
    the own user's key, too; restored or dropped, where what `by` had said counts no more; late, for who came by an
    invite that was closed before. `by` said so; "" where it follows from others' words. `users` are a few of the
    `count` users for whom the member answers, the one that stands for it first.
    """

    user: UserId
    by: UserId
    change: str
    users: tuple[UserId, ...] = ()
    count: int = 0


class PresenceChanged(Effect):
    """A user's status changed: online, idle, offline, unknown. `since` is in UTC microseconds, 0 when not announced."""

    HIDDEN: ClassVar[tuple[str, ...]] = ("text",)

    user: UserId
    status: str
    text: str
    since: int


class UserForgotten(Effect):
    """Nothing is known of a user any more: it is gone, never wrote, and is no contact."""

    user: UserId


class TypingChanged(Effect):
    """A user on another peer started or stopped typing in a conversation."""

    conversation: ConversationId
    user: UserId
    on: bool


class UserNamed(Effect):
    """A user has a (new) name or a new `about` text (not shown in a repr).

    `old`: it was found while catching up, and is no news.
    """

    HIDDEN: ClassVar[tuple[str, ...]] = ("about",)

    user: UserId
    name: str
    about: str = ""
    old: bool = False


class GapShown(Effect):
    """An entry was shown although an entry it follows is missing."""

    log: LogId
    seq: int
    missing: tuple[str, ...]  # references of the missing entries: hex16, a dot, seq
    last_seen_with: tuple[UserId, ...] = ()  # users whose peers claimed to hold some of it; () for none


class WarningIssued(Effect):
    """A person should know this. `code` is a stable word, `text` is for people, `about` is an id or "".

    With a conversation all users of this peer in it hear it.
    """

    code: str
    text: str
    about: str = ""
    conversation: ConversationId = ""


class Counted(Effect):
    """Something happened that tests and diagnostics count. `what` is a stable word."""

    what: str


class NodeStopped(Effect):
    """All byes are sent; the driver closes the remaining connections."""
