"""Live events and their times: one read-only class for each event, with `to_json()` for its event line (docs/cli.md).

Live events go to the iterators that are open when they happen. Messages and what happens to them are in messages.py,
changes of groups in groups.py. Times are aware datetimes in UTC; ids are base32.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import singledispatch
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from p2pchat.core.log import LogId, message_id
from p2pchat.core.names import base32
from p2pchat.protocol import MAX_INT, PeerId

if TYPE_CHECKING:
    from p2pchat.messaging.conversations import Conversation
    from p2pchat.messaging.users import User

SCHEMA = 1  # of event lines: within it fields and events are only ever added
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# ---- times


def now_micros() -> int:
    """Return the present time in UTC microseconds."""
    return time.time_ns() // 1000


def aware(micros: int) -> datetime:
    """Return UTC microseconds as an aware datetime. The wire allows none beyond 2^53, in the year 2255."""
    return EPOCH + timedelta(microseconds=micros)


def micros_of(moment: datetime) -> int:
    """Return an aware datetime as UTC microseconds; ValueError if it has no time zone."""
    if moment.tzinfo is None:
        raise ValueError("a time needs a zone: use datetime.now(UTC) or .replace(tzinfo=...)")
    return (moment - EPOCH) // timedelta(microseconds=1)


def claim_of(moment: datetime) -> int:
    """Return the time claimed for a message as UTC microseconds; ValueError if the wire does not allow it."""
    micros = micros_of(moment)
    if not 0 <= micros <= MAX_INT:
        raise ValueError("a message can be claimed to be from 1970 to 2255")
    return micros


def iso(micros: int) -> str:
    """Return UTC microseconds in ISO 8601 with microseconds and Z, as in every event line."""
    return aware(micros).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# ---- events


@singledispatch
def json_fields(value: object, name: str) -> dict[str, Any]:
    """Return the fields of an event line that stand for a field of an event. Users and conversations add theirs."""
    return {name: value}


@json_fields.register
def _moment_fields(value: datetime, name: str) -> dict[str, Any]:
    return {name: iso(micros_of(value))}


@json_fields.register
def _list_fields(value: tuple, name: str) -> dict[str, Any]:  # type: ignore[type-arg]
    return {name: list(value)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all live events; `at` is when this peer noticed it."""

    event: ClassVar[str] = ""
    at: datetime = field(default_factory=lambda: aware(now_micros()))

    def to_json(self) -> dict[str, Any]:
        """Return the event line as a dict of plain JSON values."""
        return {"event": self.event, "at": iso(micros_of(self.at)), **self._fields()}

    def _fields(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for one in fields(self):
            if one.name != "at":
                found |= json_fields(getattr(self, one.name), one.name)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening(Event):
    """The peer accepts connections: the first event of every run.

    Attributes:
        newest_own: The id of the newest entry of this user that was on the disk at the start, "" for none, None when it
            is not among the newest 1,000 or nothing is kept. `p2pchat check` knows a restored copy by it.
    """

    event: ClassVar[Literal["listening"]] = "listening"
    version: str
    host: str
    port: int
    peer_id: str
    user: User
    data: str
    network: str  # open, keyed
    newest_own: str | None = None

    def _fields(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **super(Listening, self)._fields()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Event):
    """The peer was closed gracefully: the last event of a run."""

    event: ClassVar[Literal["stopped"]] = "stopped"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Event):
    """The state of a link to a peer changed. Fields that are unknown are "".

    Attributes:
        endpoint: The endpoint dialled; "" if the peer dialled.
        state: up, down, trying, refused.
        reason: Why there is no link, for people.
        code: A stable word for the reason: nobody (listens there), no_answer, no_name, no_way, no_peer (another
            program listens there), network, identity, version, busy, self, endpoint, full, failed; "" for a link that
            is up or down.
        address: The address of the other end of a link that came up, without its port.
    """

    event: ClassVar[Literal["link"]] = "link"
    peer: PeerId = ""  # hex
    endpoint: str
    state: str
    reason: str
    code: str = ""
    address: str = ""

    def _fields(self) -> dict[str, Any]:
        found = super(Link, self)._fields()
        return {"peer_id": base32(found.pop("peer")), **found}


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined(Event):
    """A user came online.

    Attributes:
        first: Nothing is known of the user here: nothing they wrote was received, and they were not met lately.
        address: The address from which the user's own peer is linked, without its port; "" for a hosted user.
    """

    event: ClassVar[Literal["joined"]] = "joined"
    user: User
    first: bool = False
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left(Event):
    """The last link to a user is gone; `reason` is left (with a goodbye), lost (it broke) or timeout (long silence)."""

    event: ClassVar[Literal["left"]] = "left"
    user: User
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Many(Event):
    """So many users `joined`, `left` and `changed` their presence, besides those reported one by one.

    `links`: so many links to their peers came up or ended; 0 for a hosted user. At most 20 events a second are reported
    of users who never wrote and whom nobody here knows, and of their peers, and 60 at once. What goes beyond that is
    counted for a second.
    """

    event: ClassVar[Literal["many"]] = "many"
    joined: int
    left: int
    changed: int
    links: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested(Event):
    """Somebody to whom the own user never wrote began a direct conversation; at most 20 a second are reported.

    Attributes:
        waits: Nothing of it is shown until the own user writes there or accepts it (LocalUser.accept); False for the
            first few of each peer, whose messages come like all others.
    """

    event: ClassVar[str] = "request"
    user: User
    conversation: Conversation
    waits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed(Event):
    """A user took another `name`; `before` is the former one, and `former` the label that was shown until then.

    Labels (`user.label` is the new one) tell users with the same name apart.
    """

    event: ClassVar[Literal["renamed"]] = "renamed"
    user: User
    name: str
    before: str
    former: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence(Event):
    """The presence of a user changed: online, idle, offline or unknown, with a text; `since` is None if unknown."""

    event: ClassVar[Literal["presence"]] = "presence"
    user: User
    status: str
    text: str = field(repr=False)
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Typing(Event):
    """A user is typing in a conversation, or (`typing` False) sent the message, stopped, or was silent for 6 s."""

    event: ClassVar[Literal["typing"]] = "typing"
    user: User
    conversation: Conversation
    typing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptEvent(Event):
    """Base of Delivered and Read: a receipt of `user` for one's own message; `count` of `of` members have sent one."""

    log: LogId
    seq: int
    user: User
    count: int
    of: int

    @property
    def id(self) -> str:
        """The id of the message."""
        return message_id(self.log, self.seq)

    def _fields(self) -> dict[str, Any]:
        return {
            "id": self.id, "conversation_id": base32(self.log.conversation), **json_fields(self.user, "user"),
            "count": self.count, "of": self.of,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered(ReceiptEvent):
    """One's own message is on the disk of a peer of `user`; `count` of `of` members have it."""

    event: ClassVar[Literal["delivered"]] = "delivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(ReceiptEvent):
    """One's own message was marked as read by `user`; `count` of `of` members have read it."""

    event: ClassVar[Literal["read"]] = "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(Event):
    """A message was shown although entries it follows are missing.

    Attributes:
        about: The id of the message.
        missing: The ids of the missing entries.
        last_seen_with: The labels of users who may have them; () if unknown.
    """

    event: ClassVar[Literal["gap"]] = "gap"
    about: str
    missing: tuple[str, ...]
    last_seen_with: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The gap as a sentence, without `last_seen_with`."""
        one = len(self.missing) == 1
        return f"{len(self.missing)} earlier {'message is' if one else 'messages are'} missing here"

    def _fields(self) -> dict[str, Any]:
        return {"code": "gap", "text": self.text, **super(Gap, self)._fields()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """A warning: `code` is a stable word, `text` a sentence for people, `about` an id or ""."""

    event: ClassVar[Literal["warning"]] = "warning"
    code: str
    text: str
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """A request failed. `ref` is the word that the request gave, None without one."""

    event: ClassVar[Literal["error"]] = "error"
    code: str
    text: str
    about: str = ""
    ref: str | None = None
