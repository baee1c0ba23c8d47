"""What a program is told beside messages: one class an event, read-only, each with `to_json()`, the event line of
docs/cli.md.

All of these are live: they go to the readers that are open when they happen. What somebody wrote is in messages.py.
Times are aware datetimes in UTC; ids are base32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from p2pchat.core.log import LogId, message_id
from p2pchat.identity.names import base32
from p2pchat.messaging.timestamps import aware, iso, micros_of, now_micros
from p2pchat.protocol import PeerId

if TYPE_CHECKING:
    from p2pchat.messaging.messages import Conversation
    from p2pchat.messaging.users import User

SCHEMA = 1  # of event lines: within it fields and events are only ever added


# ---- the base


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all live events. `at`: when this peer saw it."""

    event: ClassVar[str] = ""
    at: datetime = field(default_factory=lambda: aware(now_micros()))

    def to_json(self) -> dict[str, Any]:
        """Return the event line as a dict of plain JSON values."""
        return {"event": self.event, "at": iso(micros_of(self.at)), **self._fields()}

    def _fields(self) -> dict[str, Any]:
        return {}


# ---- live events


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening(Event):
    """The peer takes connections: the first line of every run."""

    event: ClassVar[str] = "listening"
    version: str
    host: str
    port: int
    peer_id: str
    user: User
    data: str
    network: str  # open, keyed

    def _fields(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA, "version": self.version, "host": self.host, "port": self.port, "peer_id": self.peer_id,
            "user": self.user.label, "user_id": self.user.id, "data": self.data, "network": self.network,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Event):
    """The peer has left in good order: the last line of a run."""

    event: ClassVar[str] = "stopped"
    reason: str

    def _fields(self) -> dict[str, Any]:
        return {"reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Event):
    """A connection to a peer: up, down, trying, refused. What is unknown is "".

    Attributes:
        endpoint: What was dialled; "" when the peer called us.
        reason: Why not, for people; `code` a stable word for it: nobody (listens there), no_answer, no_name, no_way,
            no_peer (something else does), network, identity, version, busy, self, endpoint, full, failed; "" for a
            link that is up or down.
        address: Where the other end of a link that came up is, without its port.
    """

    event: ClassVar[str] = "link"
    peer: PeerId = ""  # hex
    endpoint: str
    state: str
    reason: str
    code: str = ""
    address: str = ""

    def _fields(self) -> dict[str, Any]:
        return {
            "peer_id": base32(self.peer), "endpoint": self.endpoint, "state": self.state, "reason": self.reason,
            "code": self.code, "address": self.address,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined(Event):
    """A user can be reached who could not be before.

    Attributes:
        first: This peer has never met this user, nor read anything of theirs.
        address: From where their own peer is linked, without its port; "" for who is hosted by another's.
    """

    event: ClassVar[str] = "joined"
    user: User
    first: bool = False
    address: str = ""

    def _fields(self) -> dict[str, Any]:
        return {"user": self.user.label, "user_id": self.user.id, "first": self.first, "address": self.address}


@dataclass(frozen=True, slots=True, kw_only=True)
class Left(Event):
    """The last link to a user is gone: `left` said goodbye, `lost` broke, `timeout` was silent too long."""

    event: ClassVar[str] = "left"
    user: User
    reason: str

    def _fields(self) -> dict[str, Any]:
        return {"user": self.user.label, "user_id": self.user.id, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed(Event):
    """Somebody is called otherwise now: `name` instead of `before`. `user.label` is how to tell them from others."""

    event: ClassVar[str] = "renamed"
    user: User
    name: str
    before: str

    def _fields(self) -> dict[str, Any]:
        return {"user": self.user.label, "user_id": self.user.id, "name": self.name, "before": self.before}


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence(Event):
    """What a user tells of itself: online, idle, offline or unknown, a text, and since when (None: not told)."""

    event: ClassVar[str] = "presence"
    user: User
    status: str
    text: str = field(repr=False)
    since: datetime | None

    def _fields(self) -> dict[str, Any]:
        return {
            "user": self.user.label, "user_id": self.user.id, "status": self.status, "text": self.text,
            "since": None if self.since is None else iso(micros_of(self.since)),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Typing(Event):
    """A user writes in a conversation just now (`typing`), or does not any more: sent it, stopped, or fell silent."""

    event: ClassVar[str] = "typing"
    user: User
    conversation: Conversation
    typing: bool

    def _fields(self) -> dict[str, Any]:
        return {
            "user": self.user.label, "user_id": self.user.id, "conversation_id": self.conversation.id,
            "typing": self.typing,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptEvent(Event):
    """Base of Delivered and Read: what became of a message of ours for `user` makes `count` of `of` members."""

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
            "id": self.id, "conversation_id": base32(self.log.conversation),
            "user": self.user.label, "user_id": self.user.id, "count": self.count, "of": self.of,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered(ReceiptEvent):
    """A message of ours is safe on the disk of a peer of `user`: `count` of `of` members have it."""

    event: ClassVar[str] = "delivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(ReceiptEvent):
    """The application of `user` said that a message of ours is read: by `count` of `of` members."""

    event: ClassVar[str] = "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(Event):
    """Message `about` is shown although something it follows is missing; `missing` are ids.

    `last_seen_with`: the labels of users who may have it, () when nobody knows.
    """

    event: ClassVar[str] = "gap"
    about: str
    missing: tuple[str, ...]
    last_seen_with: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The gap in a sentence, without who may have what is missing."""
        one = len(self.missing) == 1
        return f"{len(self.missing)} earlier {'message is' if one else 'messages are'} missing here"

    def _fields(self) -> dict[str, Any]:
        return {
            "code": "gap", "text": self.text, "about": self.about,
            "missing": list(self.missing), "last_seen_with": list(self.last_seen_with),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """Something a person should know. `code` is a stable word, `text` for people, `about` an id or ""."""

    event: ClassVar[str] = "warning"
    code: str
    text: str
    about: str = ""

    def _fields(self) -> dict[str, Any]:
        return {"code": self.code, "text": self.text, "about": self.about}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """Something asked for was not done. `ref` is the asker's own word for it, None when none was given."""

    event: ClassVar[str] = "error"
    code: str
    text: str
    about: str = ""
    ref: str | None = None

    def _fields(self) -> dict[str, Any]:
        return {"code": self.code, "text": self.text, "about": self.about, "ref": self.ref}
