"""What a node orders: everything that comes out of Node.handle. The owner carries all of it out, in order,
before the next input.

`Send` may name a link that is gone meanwhile, `Close` one that closed itself: both are nothing then.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pchat.core.log import LogId
from p2pchat.core.records import Change, LogKey, ShownKey, Start, Stretch
from p2pchat.protocol import Bye, ConversationId, Frame, PeerId, UserId

# ---- links


@dataclass(frozen=True, slots=True)
class Send:
    """Write one frame to these links; it is encoded once."""

    frame: Frame
    links: list[int]


@dataclass(frozen=True, slots=True)
class Close:
    """End a connection: with a last frame after what is unsent, or at once when `bye` is None."""

    link: int
    bye: Bye | None = None


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect there and set up TLS; answered by Dialled or DialFailed with this number."""

    dial: int
    endpoint: str


@dataclass(frozen=True, slots=True)
class Established:
    """The link is a member's: it stops counting as a stranger, and takes frames of full size."""

    link: int


@dataclass(frozen=True, slots=True)
class PauseReading:
    """Read nothing from this link for so many seconds (it floods); say Paused(link, True) now and False at the end."""

    link: int
    seconds: float


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Say Woke at this monotonic time; replaces the former."""

    mono: float


# ---- storage


@dataclass(frozen=True, slots=True)
class Commit:
    """Make this durable, after all commits before it; answered by Committed. `own`: holds entries of hosted users.

    A commit whose epoch is older than the last CommitFailed is not carried out and not answered.
    """

    ticket: int
    epoch: int
    own: bool
    change: Change


@dataclass(frozen=True, slots=True)
class Reload:
    """Storage failed: load what it holds as soon as it works again; answered by Loaded."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Find these logs; `older` asks for the marks of the 1st, 2nd, 4th ... newest log held of a user somewhere,
    `sizes` for the bytes of entries stored of a user in one conversation, "": in all, `shown` for how far logs had been
    shown at a place, `of` for all logs of a user in one conversation."""

    ticket: int
    logs: list[LogKey]
    older: list[tuple[ConversationId, UserId]]
    sizes: list[tuple[UserId, ConversationId]] = field(default_factory=list)
    shown: list[ShownKey] = field(default_factory=list)
    all_logs: list[tuple[ConversationId, UserId]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read what this user wrote there from `start` on, at most settings.fetch_batches; answered by Fetched."""

    link: int
    ticket: int
    conversation: ConversationId
    user: UserId
    start: Start


# ---- answers to programs


@dataclass(frozen=True, slots=True)
class WriteAccepted:
    """What was said is durable (accepted): its entries are first..first+count-1 of log. `of`: members a receipt waits
    for, as user ids; in the room those online now, and where several users are hosted here the writer with them (who
    does not count). `here`: those of them whom this peer hosts, and who so have it already. `kind` is that of all these
    entries."""

    ticket: int
    log: LogId
    first: int
    count: int
    members: tuple[UserId, ...]
    kind: str = "text"
    here: tuple[UserId, ...] = ()


@dataclass(frozen=True, slots=True)
class WriteRefused:
    """What was said was not kept: `code` is a stable word, `text` says why and what to do."""

    ticket: int
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of the entries that were Carried; the new ones are durable.

    `known` were here already, `foreign` are of conversations that nobody here belongs to, `refused` counts the others
    by code: gap (what comes before is not here), head (not signed by their writer), malformed, limit, full (too many
    logs at once), fork, member (of a writer who does not belong there). `failed` is why none of it was kept: "" or a
    sentence.
    """

    ticket: int
    new: int = 0
    known: int = 0
    foreign: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Released:
    """These entries have places now, durably: consumers may have them."""

    stretches: list[Stretch]


@dataclass(frozen=True, slots=True)
class DeliveryReceipt:
    """The peer of `member` holds entries first..last of this log of a hosted user, durably; told once.

    `others` are more users of that peer, of whom the same is true: a gateway's thousand get it at one moment.
    """

    log: LogId
    first: int
    last: int
    member: UserId
    others: tuple[UserId, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadReceipt:
    """`member` has read entries first..last of this log of a hosted user; told once, and after their Delivered."""

    log: LogId
    first: int
    last: int
    member: UserId


@dataclass(frozen=True, slots=True)
class GroupUpdate:
    """A group is another than before; told once each difference, after the entry it comes from is durable.

    `change` is created, added, removed, left, renamed or owner; `target` the user added, removed, leaving or owner now,
    "" for created and renamed; `by` who did it. The rest is the group as it is now: `members` are those who have not
    left, sorted; `log`, `seq` name the operation or the leave. A group that becomes known here begins with `created`.
    """

    group: ConversationId
    talk: ConversationId
    change: str
    by: UserId
    target: UserId
    members: tuple[UserId, ...]
    name: str = field(repr=False)
    owner: UserId
    log: LogId
    seq: int


@dataclass(frozen=True, slots=True)
class DeliveryRevoked:
    """Entries first..last of this log of a hosted user, in a talk, lie beyond a cut: the user was removed from the
    group before they were known to its owner, and nobody who knows of the removal shows them. Told when that becomes
    known here, and once more by a process that follows one killed in that moment."""

    log: LogId
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A link to a peer: up, down, trying, refused. `peer` is "" while unknown, `endpoint` "" if it dialled us.

    `reason` is for people, `code` a stable word for why nobody was reached: of a bye (network, version, busy ...) or
    of DialFailed; "" otherwise. `host` is the address of the other end of a link that came up.
    """

    peer: PeerId
    endpoint: str
    state: str
    reason: str = ""
    code: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class UserJoined:
    """A user is reachable who was not."""

    user: UserId


@dataclass(frozen=True, slots=True)
class UserLeft:
    """The last link to a user is gone: left, lost or timeout."""

    user: UserId
    reason: str


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """What a user tells of itself: online, idle, offline, unknown; since is UTC microseconds, 0 when not told."""

    user: UserId
    status: str
    text: str = field(repr=False)
    since: int


@dataclass(frozen=True, slots=True)
class TypingChanged:
    """Somebody elsewhere writes in a conversation, or does not any more."""

    conversation: ConversationId
    user: UserId
    on: bool


@dataclass(frozen=True, slots=True)
class UserNamed:
    """A user has a (new) name, or tells something else of itself: `about` (not shown in a repr).

    `old`: it is from before, found while catching up, and nobody's news.
    """

    user: UserId
    name: str
    about: str = field(default="", repr=False)
    old: bool = False


@dataclass(frozen=True, slots=True)
class GapShown:
    """An entry was shown although what it follows is missing."""

    log: LogId
    seq: int
    missing: tuple[str, ...]  # references of what is missing: hex16, a dot, seq
    last_seen_with: tuple[UserId, ...] = ()  # whose peers said they hold some of it; () when nobody did


@dataclass(frozen=True, slots=True)
class WarningIssued:
    """Something a person should know: `code` is a stable word, `text` for people, `about` an id or ""."""

    code: str
    text: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """Something happened that tests and diagnostics count: a stable word."""

    what: str
    n: int = 1


@dataclass(frozen=True, slots=True)
class NodeStopped:
    """All byes are ordered; the owner closes what is left."""


Effect = (
    Send | Close | Dial | Established | PauseReading | WakeAt | Commit | Reload | Lookup | Fetch | WriteAccepted
    | WriteRefused | ImportResult | Released | DeliveryReceipt | ReadReceipt | GroupUpdate | DeliveryRevoked
    | LinkChanged | UserJoined | UserLeft | PresenceChanged | TypingChanged | UserNamed | GapShown | WarningIssued
    | Counted | NodeStopped
)  # fmt: skip
