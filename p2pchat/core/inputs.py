"""What can happen to a node: everything that goes into Node.handle, told in the past tense.

Plain records, easy to print, compare and replay. A link is a number the owner gives to each connection, never used
twice in a process; tickets are numbers the core gave in an effect and gets back here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pchat.core.context import HostedIdentity
from p2pchat.core.log import Batch, LogId, Ref
from p2pchat.core.records import DeliveredMark, LogFacts, LogKey, Position, ReadMark, ShownKey, Stored
from p2pchat.protocol import ConversationId, Entries, Frame, Mark, Naming, PeerId, Unknown, UserId

# ---- links


@dataclass(frozen=True, slots=True)
class LinkAccepted:
    """A stranger connected and TLS is up; `host` is the address it came from, `took` the seconds TLS has taken."""

    link: int
    host: str
    took: float = 0.0


@dataclass(frozen=True, slots=True)
class LinkDialled:
    """Our dial got through and TLS is up; `server` is the key of the certificate there, `host` the address reached."""

    link: int
    dial: int
    server: PeerId
    host: str


@dataclass(frozen=True, slots=True)
class DialFailed:
    """A dial came to nothing; `reason` is for people, `code` a stable word for it: nobody (listens there), no_answer,
    no_name, no_way, no_peer, failed."""

    dial: int
    reason: str
    code: str = "failed"


@dataclass(frozen=True, slots=True)
class Got:
    """One read's worth of frames, in order; [] when bytes came but no whole frame (any byte is a sign of life)."""

    link: int
    frames: list[Frame | Unknown]


@dataclass(frozen=True, slots=True)
class Faulted:
    """The bytes of a link are not frames, or break a limit; `code` is the code its bye gets."""

    link: int
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A connection ended: "closed" (in order), "lost" (broke), "timeout" or "slow"."""

    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class LinkFilled:
    """A link's unsent bytes passed the buffer limit: nothing more is written to it until Drained."""

    link: int


@dataclass(frozen=True, slots=True)
class LinkDrained:
    """A link that was full takes frames again."""

    link: int


@dataclass(frozen=True, slots=True)
class Paused:
    """This side stopped (on=True) or resumed reading a link: silence of a link not read is no silence."""

    link: int
    on: bool


@dataclass(frozen=True, slots=True)
class ListeningAt:
    """Where this peer can be reached: its port, 0 when it does not listen, and endpoints to tell others."""

    port: int
    at: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Connect:
    """A user or program named an endpoint to link with; `pin` is the key that must answer, "" for whoever does."""

    endpoint: str
    pin: PeerId = ""


@dataclass(frozen=True, slots=True)
class PeerSighted:
    """Discovery: a member is announced on the local network, at these endpoints and no others; () no more."""

    peer: PeerId
    at: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Forget:
    """A user wants addresses forgotten: all of a peer (`endpoint` ""), or one endpoint, whoever's it is (`peer` "")."""

    peer: PeerId = ""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """Leave in good order: bye to everyone. Nothing is dialled or accepted any more."""


# ---- storage


@dataclass(frozen=True, slots=True)
class Committed:
    """These commits are durable; tickets in the order they were given."""

    tickets: list[int]


@dataclass(frozen=True, slots=True)
class CommitFailed:
    """Storage kept nothing of this commit epoch from now on; every commit in flight is void."""

    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The answer to a Reload: storage works again, and this is what it holds."""

    stored: Stored


@dataclass(frozen=True, slots=True)
class LookupResult:
    """The answer to a Lookup: facts of the logs held, the marks for `older`, bytes for `sizes`, all logs for `of`."""

    ticket: int
    logs: dict[LogKey, LogFacts] = field(default_factory=dict)
    older: dict[tuple[ConversationId, UserId], list[Mark]] = field(default_factory=dict)
    sizes: dict[tuple[UserId, ConversationId], int] = field(default_factory=dict)
    shown: dict[ShownKey, list[tuple[LogId, int]]] = field(default_factory=dict)  # log, last seq shown by then
    all_logs: dict[tuple[ConversationId, UserId], list[LogFacts]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FetchResult:
    """Batches read for a link; `more` is where to go on, None when that was all."""

    link: int
    ticket: int
    batches: list[Batch]
    more: Position | None


@dataclass(frozen=True, slots=True)
class DiskLow:
    """Free disk fell below the limit (on=True), or is enough again."""

    on: bool


# ---- users and programs


@dataclass(frozen=True, slots=True)
class ConversationOpened:
    """A program wants to write in a conversation that may not exist here yet."""

    naming: Naming


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """A hosted user writes: consecutive entries of one kind in one conversation. Answered by Kept or Refused.

    `re` names what they answer, edit, delete or react to; the body of a `delete` is "". `claims` has, by the index of
    a body, when the writer's program says that it was written (UTC microseconds); {} when it says nothing of it.
    """

    ticket: int
    user: UserId
    conversation: ConversationId
    kind: str
    bodies: list[str] = field(repr=False)
    re: Ref | None = None
    claims: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupCreateRequest:
    """A hosted user makes a group, whose owner it is; `members` are the others. Answered by Kept (its log is in the
    group's own conversation) or Refused (codes: user, name, members, member, too_long, storage, disk_low)."""

    ticket: int
    user: UserId
    name: str
    members: tuple[UserId, ...]


@dataclass(frozen=True, slots=True)
class GroupChangeRequest:
    """The owner of a group changes it; what is None or () stays. `owner` hands it over, to a member.

    Answered by Kept or Refused (codes: those of GroupMade, group: not known here, owner: the user does not own it,
    nothing: nothing would change).
    """

    ticket: int
    user: UserId
    group: ConversationId
    add: tuple[UserId, ...] = ()
    remove: tuple[UserId, ...] = ()
    name: str | None = None
    owner: UserId | None = None


@dataclass(frozen=True, slots=True)
class GroupLeaveRequest:
    """A member leaves a group. Answered by Kept or Refused (codes: user, group, member, owner: hand it over first)."""

    ticket: int
    user: UserId
    group: ConversationId


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """Frames of a file that somebody carried here, in its order; answered by Imported.

    The first that mentions a conversation names it, in each input anew. Whoever reads the file waits for the answer
    to what was handed in before handing in much more.
    """

    ticket: int
    frames: list[Entries]


@dataclass(frozen=True, slots=True)
class UserRenamed:
    """A hosted user takes another name, or tells something else of itself (`about`; None: what it told before)."""

    user: UserId
    name: str
    about: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class QuotaLifted:
    """Whatever this user writes is to be stored, however much, from now on and for good."""

    user: UserId


@dataclass(frozen=True, slots=True)
class UserHosted:
    """This peer speaks for one more user from now on; beside it what storage holds for that user: who has what it
    wrote, and what is read. Who is hosted already is hosted on, with this name."""

    user: HostedIdentity
    delivered: tuple[DeliveredMark, ...] = ()
    reads: tuple[ReadMark, ...] = ()


@dataclass(frozen=True, slots=True)
class UserUnhosted:
    """This peer speaks for that user no more; what it wrote stays."""

    user: UserId


@dataclass(frozen=True, slots=True)
class PresenceSet:
    """A hosted user's status: online, idle or offline, with a text of their own."""

    user: UserId
    status: str
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class TypingSet:
    """A hosted user writes something there, or has stopped; said again every few seconds while it goes on."""

    user: UserId
    conversation: ConversationId
    on: bool


@dataclass(frozen=True, slots=True)
class MarkedRead:
    """A hosted user has read everything in the conversation of this log up to a place, entry `seq` of it included, but
    for what these others wrote."""

    user: UserId
    log: LogId
    seq: int
    place: int
    except_writers: frozenset[UserId] = frozenset()


@dataclass(frozen=True, slots=True)
class ReceiptsChosen:
    """A hosted user tells others what it has read, and hears what they have, or not: `other`, "" for all others."""

    user: UserId
    on: bool | None  # None: the other is no exception any more
    other: UserId = ""


@dataclass(frozen=True, slots=True)
class ConsumerAcked:
    """A consumer has taken everything up to this place; saved with the next commit, or soon."""

    consumer: str
    place: int


@dataclass(frozen=True, slots=True)
class Woke:
    """The time of the last WakeAt has come."""


Input = (
    LinkAccepted | LinkDialled | DialFailed | Got | Faulted | LinkDown | LinkFilled | LinkDrained | Paused
    | ListeningAt | Connect | PeerSighted | Forget | Stop | Committed | CommitFailed | Loaded | LookupResult
    | FetchResult | DiskLow | ConversationOpened | WriteRequest | UserRenamed | QuotaLifted | ImportRequest
    | PresenceSet | TypingSet | ConsumerAcked | MarkedRead | ReceiptsChosen | GroupCreateRequest
    | GroupChangeRequest | GroupLeaveRequest | UserHosted | UserUnhosted | Woke
)  # fmt: skip
