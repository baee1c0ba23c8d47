"""Live events and their times: one read-only class for each event, with its event line (docs/cli.md).

Live events go to the iterators that are open when they happen. Messages and what happens to them are in messages.py.
Times are aware datetimes in UTC; ids are base32.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import singledispatch
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, dataclass_transform

from p2pchat.core.log import LogId, message_id
from p2pchat.core.names import base32
from p2pchat.protocol import MAX_INT, PeerId

if TYPE_CHECKING:
    from p2pchat.messaging.conversations import Conversation, Group
    from p2pchat.messaging.users import User

C = TypeVar("C")
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
    return moment_text(aware(micros))


def moment_text(moment: datetime) -> str:
    """Return a datetime in UTC as `iso` does."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# ---- events


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def event_class(cls: type[C]) -> type[C]:
    """Make a class of events: a record of named fields that stays as it is."""
    return dataclass(frozen=True, kw_only=True)(cls)


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


@event_class
class Event:
    """Base of all live events.

    Attributes:
        event: The word for it in event lines, such as "joined".
        at: When this peer noticed it, in UTC.
    """

    event: ClassVar[str] = ""
    at: datetime = field(default_factory=lambda: aware(now_micros()))

    def to_dict(self) -> dict[str, Any]:
        """Return the event line as a dict of plain JSON values."""
        return {"event": self.event, "at": iso(micros_of(self.at)), **self._fields()}

    def to_json(self) -> str:
        """Return the event line as text: one line of JSON, in ASCII, so that a terminal may show it."""
        return json.dumps(self.to_dict())

    def _fields(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for one in fields(self):
            if one.name != "at":
                found |= json_fields(getattr(self, one.name), one.name)
        return found


@event_class
class Listening(Event):
    """The peer accepts connections: the first event of every run.

    Attributes:
        version: The version of p2pchat.
        host: The address it listens on.
        port: The port it listens on, never 0.
        peer_id: The id of the peer (base32), which is also that of its own user.
        user: The peer's own user.
        data: The data directory; "" when everything is in memory.
        network: The name of a named network; "" for one that is joined with invites.
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
    network: str
    newest_own: str | None = None

    def _fields(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **super()._fields()}


@event_class
class Stopped(Event):
    """The peer was closed gracefully: the last event of a run.

    Attributes:
        reason: What aclose() was given; "closed" without a reason; "failed" after a defect of p2pchat itself.
    """

    event: ClassVar[Literal["stopped"]] = "stopped"
    reason: str


@event_class
class Link(Event):
    """The state of a link to a peer changed. Fields that are unknown are "".

    Attributes:
        peer: The id of the peer in hex, as in `User.key`.
        endpoint: The endpoint dialled; "" if the peer dialled.
        state: up, down, trying, refused.
        reason: Why there is no link, for people.
        code: A stable word for the reason: nobody (listens there), no_answer, no_name, no_way, no_peer (another
            program listens there), network, identity, version, busy, self, endpoint, full, failed; member (it does
            not admit this peer), used, late, revoked, invite, maker (why an invite does not admit now), outsider
            (it is no member itself); "" for a link that is up or down.
        address: The address of the other end of a link that came up, without its port.
        via: The peer, in hex, that carries a link that came up; "" if it is direct.
    """

    event: ClassVar[Literal["link"]] = "link"
    peer: PeerId = ""
    endpoint: str
    state: str
    reason: str
    code: str = ""
    address: str = ""
    via: PeerId = ""

    def _fields(self) -> dict[str, Any]:
        found = super()._fields()
        return {"peer_id": base32(found.pop("peer")), **found, "via": base32(self.via)}


@event_class
class Joined(Event):
    """A user came online.

    Attributes:
        user: The user.
        first: Nothing is known of the user here: nothing they wrote was received, and they were not met lately.
        address: The address from which the user's own peer is linked, without its port; "" for a hosted user.
    """

    event: ClassVar[Literal["joined"]] = "joined"
    user: User
    first: bool = False
    address: str = ""


@event_class
class Left(Event):
    """The last link to a user is gone.

    Attributes:
        user: The user.
        reason: `left` (with a goodbye), `lost` (the connection broke), `timeout` (silent for too long) or `expelled`.
    """

    event: ClassVar[Literal["left"]] = "left"
    user: User
    reason: str


@event_class
class MemberChange(Event):
    """Somebody was admitted to the network, expelled or pardoned, or is an admin now or no longer.

    Attributes:
        user: A user of that member; its label is the id of the member where no user of it is known yet.
        by: A user of the member who said so.
        change: admitted, expelled, pardoned, admin or unadmin; revoked, of a machine that its person lost; shared,
            where another member answers for the own user's key, which may be stolen. restored, for who is in, or
            dropped, for who is out, since `by`, who had expelled or admitted them, is no admin any more. late, for who
            came by an invite that was closed already. Of these three there is one event for all by the same `by`, and
            `user` is one of them.
        users: A few of the users for whom the member answers; of all whom those three are about, by name.
        count: How many they are.
    """

    event: ClassVar[Literal["member"]] = "member"
    user: User
    by: User
    change: str
    users: tuple[User, ...] = ()
    count: int = 0

    def _fields(self) -> dict[str, Any]:
        who = {**json_fields(self.user, "user"), **json_fields(self.by, "by")}
        return {**who, "change": self.change, "users": [user.label for user in self.users], "count": self.count}


@event_class
class NewConversation(Event):
    """Somebody to whom the own user never wrote began a direct conversation or a group with it (LocalUser.is_new).

    Attributes:
        conversation: The conversation.
        user: Who began it.
        admitted_by: Who admitted that user, or the member that answers for it, to the network; None if that is not
            known, and where everybody is a member.
    """

    event: ClassVar[Literal["begun"]] = "begun"
    conversation: Conversation
    user: User
    admitted_by: User | None

    def _fields(self) -> dict[str, Any]:
        there = self.conversation
        return {"conversation": there.name, "kind": there.kind, **super()._fields()}


@event_class
class Renamed(Event):
    """A user took another name. Labels (`user.label` is the new one) tell users with the same name apart.

    Attributes:
        user: The user.
        name: The new name.
        before: The former name.
        former: The label that was shown until then.
    """

    event: ClassVar[Literal["renamed"]] = "renamed"
    user: User
    name: str
    before: str
    former: str


@event_class
class Presence(Event):
    """The presence of a user changed.

    Attributes:
        user: The user.
        status: online, idle, offline, unknown or unreachable; see User.status.
        text: The text shown with it; "" for none.
        since: Since when, by the user's own clock; None if unknown.
    """

    event: ClassVar[Literal["presence"]] = "presence"
    user: User
    status: str
    text: str = field(repr=False)
    since: datetime | None


@event_class
class Hidden(Event):
    """The own user ignored or blocked another one, or does so no longer, perhaps in another program of it.

    Attributes:
        user: The other one.
        ignored, blocked: As User.ignored and User.blocked are now.
    """

    event: ClassVar[Literal["hidden"]] = "hidden"
    user: User
    ignored: bool
    blocked: bool


@event_class
class Typing(Event):
    """A user began or stopped typing in a conversation.

    Attributes:
        user: The user.
        conversation: The conversation.
        typing: False when the message was sent, the user stopped, or was silent for 6 s.
    """

    event: ClassVar[Literal["typing"]] = "typing"
    user: User
    conversation: Conversation
    typing: bool


@event_class
class Seen(Event):
    """The own user read in a conversation, here or on another machine: what was unread may be no more.

    Attributes:
        conversation: The conversation.
    """

    event: ClassVar[Literal["seen"]] = "seen"
    conversation: Conversation


@event_class
class EntryEvent(Event):
    """Base of events about a message.

    Attributes:
        log: The log of the message.
        seq: Its number in the log.
    """

    log: LogId
    seq: int

    @property
    def id(self) -> str:
        """The id of the message."""
        return message_id(self.log, self.seq)

    def _fields(self) -> dict[str, Any]:
        found = super()._fields()
        del found["log"], found["seq"]
        return {"id": self.id, "conversation_id": base32(self.log.conversation), **found}


@event_class
class ReceiptEvent(EntryEvent):
    """Base of Delivered and Read: a receipt of one member for one's own message.

    Attributes:
        user: The member.
        count: So many members have sent such a receipt, this one included.
        of: So many members the conversation had for this message, without its writer.
        at_gateway: The member is at a gateway elsewhere, which may be all that has the message yet.
    """

    user: User
    count: int
    of: int
    at_gateway: bool = False

    def _fields(self) -> dict[str, Any]:
        found = super()._fields()
        return found if found.pop("at_gateway") is False else {**found, "at_gateway": True}


@event_class
class Delivered(ReceiptEvent):
    """One's own message is on the disk of a peer that hosts `user`; `count` of `of` members have it."""

    event: ClassVar[Literal["delivered"]] = "delivered"


@event_class
class Read(ReceiptEvent):
    """One's own message was marked as read by `user`; `count` of `of` members have read it."""

    event: ClassVar[Literal["read"]] = "read"


@event_class
class FileEvent(EntryEvent):
    """Base of FileProgress, FileArrived and FileReceipt: what becomes of a file of a message.

    Attributes:
        name: The name its writer gave the file: for display, never a path.
        size: Bytes.
        root: The hash of its content, as in `Attachment.root`.
    """

    name: str = field(repr=False)
    size: int
    root: str


@event_class
class FileProgress(FileEvent):
    """More of a file is here and verified. Reported for each whole percent at most.

    Attributes:
        stored: The bytes that are here.
    """

    event: ClassVar[Literal["file_progress"]] = "file_progress"
    stored: int


@event_class
class FileArrived(FileEvent):
    """All of a file is on this disk, and verified, whether it came by itself or a program asked for it."""

    event: ClassVar[Literal["file_arrived"]] = "file_arrived"


@event_class
class FileReceipt(FileEvent):
    """A file of one's own message is on the disk of a peer that hosts `user`, all of it and verified; or no more.

    Attributes:
        user: The member.
        has: False if it was removed there.
        count: So many members have it now.
        of: So many members the conversation had for this message, without its writer; `count` if that is not known.
    """

    event: ClassVar[Literal["file_receipt"]] = "file_receipt"
    user: User
    has: bool
    count: int
    of: int


@event_class
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
        return {"code": "gap", "text": self.text, **super()._fields()}


@event_class
class GroupChanged(Event):
    """A group changed.

    Attributes:
        group: The group in its present state.
        change: created, added, removed, left, admin, unadmin, renamed, owner. For a new member the first is created.
        by: The user who did it.
        target: The user added, removed or leaving, the admin or the owner; None for created and renamed.
        members: Those of the group after the change.
        name: That of the group after the change.
        former: The name before renamed; "" for other changes.
        expelled: True if it was known that `by` is expelled.
        log: The log of the entry that did it, in the conversation of the group's facts.
        seq: The number of that entry in the log.
    """

    event: ClassVar[Literal["group"]] = "group"
    group: Group
    change: str
    by: User
    target: User | None
    members: tuple[User, ...]
    name: str = field(repr=False)
    former: str = field(default="", repr=False)
    expelled: bool = False
    log: LogId
    seq: int

    @property
    def entry_id(self) -> str:
        """The id of the entry that did it."""
        return message_id(self.log, self.seq)

    def _fields(self) -> dict[str, Any]:
        more: dict[str, Any] = {"former": self.former} if self.former else {}
        more |= {"expelled": True} if self.expelled else {}
        return {
            "conversation_id": self.group.id, "group": self.name, "change": self.change,
            **json_fields(self.by, "by"), "members": [user.label for user in self.members],
            "member_ids": [user.id for user in self.members],
            "target": None if self.target is None else self.target.label,
            "target_id": None if self.target is None else self.target.id, "entry_id": self.entry_id, **more,
        }  # fmt: skip


@event_class
class Undelivered(Event):
    """Entries of the own user that no member of a group gets, since the owner had removed the own user before.

    Attributes:
        code: "undelivered".
        group: The group.
        ids: The ids of messages, edits, deletions and reactions, in the order written.
    """

    event: ClassVar[Literal["warning"]] = "warning"
    code: ClassVar[str] = "undelivered"
    group: Group
    ids: tuple[str, ...]

    @property
    def text(self) -> str:
        """The warning as a sentence."""
        several = f"{len(self.ids)} messages, edits, deletions or reactions"
        what = "one message, edit, deletion or reaction" if len(self.ids) == 1 else several
        return f"{what} to #{self.group.name} reached nobody: you had been removed from the group"

    def _fields(self) -> dict[str, Any]:
        return {
            "code": self.code, "text": self.text, "about": self.ids[0], "conversation_id": self.group.id,
            "undelivered": list(self.ids),
        }  # fmt: skip


@event_class
class Warned(Event):
    """A warning about the peer, its disk or another user.

    Attributes:
        code: A stable word; docs/scripts.md lists them.
        text: A sentence for people.
        about: The id of a user, message or peer that it is about; "" for none.
    """

    event: ClassVar[Literal["warning"]] = "warning"
    code: str
    text: str
    about: str = ""


@event_class
class Failed(Event):
    """Something that was asked for was refused after the call had returned.

    Attributes:
        code: A stable word.
        text: A sentence for people.
        about: The id of what it is about; "" for none.
        ref: The word that the request gave; None without one.
    """

    event: ClassVar[Literal["error"]] = "error"
    code: str
    text: str
    about: str = ""
    ref: str | None = None
