"""What somebody wrote, as programs hold it: Message and Sent, which can be answered, mended and marked as read.

They come from storage and are never lost. A repr shows who and when, never what somebody wrote. Times are aware
datetimes in UTC; ids are base32.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from p2pchat.config import Settings
from p2pchat.core.groups.group import GroupView
from p2pchat.core.log import Entry, LogId, Ref, decode_entry, message_id, ref_key, referred_id
from p2pchat.core.records import RELATION_KINDS, LogKey
from p2pchat.core.sync.append import ENTRY_OVERHEAD_BYTES, are_plain, encoded_bytes, text_fault
from p2pchat.errors import TooLong
from p2pchat.identity.names import base32, full_label
from p2pchat.messaging.events import Event, Gap
from p2pchat.messaging.timestamps import EPOCH, aware, iso, micros_of
from p2pchat.messaging.users import User, UserDirectory
from p2pchat.protocol import MAX_REACTION_CHARACTERS, ConversationId, Naming, UserId
from p2pchat.storage.base import Storage

if TYPE_CHECKING:
    from p2pchat.messaging.receipts import Receipt, Receipts
    from p2pchat.storage.base import Edits


SHOWN_KINDS = ("text", "action")
NOT_SHOWN = RELATION_KINDS | {"profile", "group", "leave"}  # entries that are no messages


# ---- message ids: 8 bytes of the conversation, 8 of the user, 8 of the run, a dot, seq


def parse_message_id(text: str) -> tuple[str, Ref]:
    """Return the first 16 hex digits of the conversation, and the reference inside it.

    Raises:
        ValueError: It is no message id.
    """
    code, dot, seq = text.strip().partition(".")
    try:
        raw = base64.b32decode(code.upper() + "=" * (-len(code) % 8))
    except binascii.Error:
        raw = b""
    if len(raw) != 24 or not dot or not (seq.isascii() and seq.isdigit() and 1 <= int(seq[:17]) < 2**53):
        raise ValueError(f"{text[:60]!a} is no message id")
    return raw[:8].hex(), Ref(raw[8:].hex(), int(seq))


# ---- messages


class Post:
    """One thing somebody wrote: base of Message and Sent. Equal by id. Everything is worked out when asked for.

    What was edited, deleted and reacted to is that of the moment this was read; the events Edited, Deleted and Reaction
    tell of what follows.

    Attributes:
        log, seq: Which entry of which log this is.
        place: Its number in this peer's database, in the order it was shown here.
        old: It was there before this peer came to the conversation.
        gap: Something it follows was missing when it was shown; `missing()` of a peer or history says what still is.
    """

    __slots__ = ("_viewer", "_edits", "_entry", "_received_at", "gap", "log", "old", "place", "seq")
    event: ClassVar[str] = ""

    def __init__(
        self,
        viewer: Viewer,
        log: LogId,
        seq: int,
        entry: Entry,
        place: int,
        received_at: int,
        old: bool,
        gap: bool,
        edits: Edits | None = None,
    ) -> None:
        self._viewer = viewer
        self.log = log
        self.seq = seq
        self._entry = entry
        self.place = place
        self._received_at = received_at
        self.old = old
        self.gap = gap
        self._edits = edits

    @property
    def id(self) -> str:
        return message_id(self.log, self.seq)

    @property
    def viewer(self) -> Viewer:
        """Whoever made it: a peer, or a history."""
        return self._viewer

    def seen_by(self, viewer: Viewer) -> Message | Sent:
        """Return the same as another user of the same peer has it."""
        kind = Sent if self.log.user == viewer.people.me else Message
        return kind(
            viewer, self.log, self.seq, self._entry, self.place, self._received_at, self.old, self.gap, self._edits
        )

    @property
    def conversation(self) -> Conversation:
        return self._viewer.conversation(self.log.conversation)

    @property
    def sender(self) -> User:
        return self._viewer.people.user(self.log.user)

    @property
    def text(self) -> str:
        """What it says now; "" once deleted, and for a kind of entry this version does not know (see `unsupported`)."""
        body = self._entry.b if self._edits is None else (self._newest or self._entry).b
        return body if self._entry.k in SHOWN_KINDS and isinstance(body, str) else ""

    @property
    def _newest(self) -> Entry | None:
        """The newest edit or deletion."""
        edits = self._edits
        return None if edits is None or edits.newest is None else decode_entry(edits.newest.raw)

    @property
    def edited(self) -> bool:
        """Whether its writer made something else of it: `text` is the newest."""
        newest = self._newest
        return newest is not None and newest.k == "edit"

    @property
    def deleted(self) -> bool:
        """Whether its writer took it back: there is no text any more."""
        newest = self._newest
        return newest is not None and newest.k == "delete"

    @property
    def mended_at(self) -> datetime | None:
        """When it was edited or deleted last, by the writer's clock; None when it never was."""
        newest = self._newest
        return None if newest is None else aware(newest.at)

    @property
    def mended_by(self) -> tuple[LogId, int] | None:
        """The entry that edited or deleted it last, by log and number."""
        edits = self._edits
        return None if edits is None or edits.newest is None else (edits.newest.log, edits.newest.seq)

    @property
    def mended_id(self) -> str | None:
        """The id of that entry: its receipt says who has what is shown now; None when there is none."""
        return None if self.mended_by is None else message_id(*self.mended_by)

    @property
    def reactions(self) -> dict[str, list[User]]:
        """Who reacted how, the first reaction first; {} for nobody, and once it is deleted."""
        found: dict[str, list[User]] = {}
        if self._edits is not None and not self.deleted:
            for one in self._edits.reactions:
                found.setdefault(decode_entry(one.raw).b, []).append(self._viewer.people.user(one.log.user))
        return found

    def reaction_of(self, user: User) -> tuple[LogId, int] | None:
        """Return the entry with which this user reacts now, by log and number; None when the user does not."""
        some = () if self._edits is None else self._edits.reactions
        return next(((one.log, one.seq) for one in some if one.log.user == user.key), None)

    @property
    def action(self) -> bool:
        """Whether it is a /me."""
        return self._entry.k == "action"

    @property
    def unsupported(self) -> str | None:
        """The kind of entry, if this version does not know it: show "unsupported"."""
        return None if self._entry.k in SHOWN_KINDS else self._entry.k

    @property
    def sent_at(self) -> datetime:
        """When the writer wrote it, by the writer's clock."""
        return aware(self._entry.at)

    @property
    def claimed_at(self) -> datetime | None:
        """When the writer's program says it was written; None when it says nothing of it. Nothing is sorted by it."""
        return None if self._entry.t is None else aware(self._entry.t)

    @property
    def received_at(self) -> datetime:
        """When this peer got it."""
        return aware(self._received_at)

    at = received_at

    @property
    def reply_to(self) -> str | None:
        """The id of the message this answers."""
        return None if self._entry.re is None else referred_id(self.log.conversation, self._entry.re)

    @property
    def after(self) -> tuple[str, ...]:
        """The ids of the newest messages of others its writer had been shown, at most two."""
        return tuple(referred_id(self.log.conversation, ref) for ref in self._entry.after)

    @property
    def follows(self) -> tuple[Ref, ...]:
        """Everything it is not shown before: what it answers, what its writer had been shown, its writer's own past."""
        entry = self._entry
        own = [Ref(ref_key(self.log.user, mark.run), mark.seq) for mark in entry.before if self.seq == 1]
        answered = [] if entry.re is None or entry.re in entry.after else [entry.re]
        return (*entry.after, *answered, *own)

    @property
    def sort_key(self) -> tuple[int, str, str, int]:
        """Where it stands in the history of its conversation, the same on every peer."""
        return self._entry.c, self.log.user, self.log.run, self.seq

    def mark_read(self) -> None:
        """Say that everything in the conversation up to this message is read: the writers' receipts say so.

        Raises PeerClosed where no peer runs. What is read already, and one's own, changes nothing.
        """
        self._viewer.mark_read(self)

    async def reply(self, text: str) -> Receipt:
        """Answer in the same conversation; raises as Conversation.send."""
        return await self._viewer.send(self.conversation, text, reply_to=self)

    async def edit(self, text: str) -> Receipt:
        """Have it say something else, for everybody; the newest edit or deletion counts, the original stays in logs.

        Returns the receipt of the edit.
        Raises:
            ValueError: Another wrote it. And as Conversation.send.
        """
        return await self._viewer.edit(self, text)

    async def delete(self) -> Receipt:
        """Take it back: nothing shows its text any more. The logs of all who have it keep it; raises as edit."""
        return await self._viewer.delete(self)

    async def react(self, reaction: str) -> Receipt:
        """React with at most 8 characters, in place of one's former reaction; "" takes that back.

        Raises:
            ValueError: It is longer, or no text. And as Conversation.send.
        """
        return await self._viewer.react(self, reaction)

    def to_json(self) -> dict[str, Any]:
        """Return the event line as a dict of plain JSON values."""
        conversation, sender = self.conversation, self.sender
        line: dict[str, Any] = {
            "event": self.event,
            "at": iso(self._received_at),
            "id": self.id,
            "conversation": conversation.name,
            "conversation_id": conversation.id,
            "kind": conversation.kind,
            "sender": sender.label,
            "sender_id": sender.id,
            "text": self.text,
            "sent_at": iso(self._entry.at),
            "action": self.action,
            "reply_to": self.reply_to,
            "after": list(self.after),
            "old": self.old,
        }
        if conversation.kind == "group":
            line["group"] = conversation.name
        if self._entry.t is not None:
            line["claimed_at"] = iso(self._entry.t)
        if self.gap:
            line["gap"] = True
        if self.unsupported is not None:
            line["unsupported"] = self.unsupported
        if self._edits is not None:
            line |= self._became()
        return line

    def _became(self) -> dict[str, Any]:
        """Return what is told of it besides where it was edited, deleted or reacted to."""
        found: dict[str, Any] = {name: True for name in ("edited", "deleted") if getattr(self, name)}
        if self.mended_at is not None:
            found |= {"mended_at": iso(micros_of(self.mended_at)), "mended_id": self.mended_id}
        if self.reactions:
            found["reactions"] = [
                {"reaction": reaction, "by": user.label, "by_id": user.id}
                for reaction, users in self.reactions.items()
                for user in users
            ]
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Post) and (other.seq, other.log) == (self.seq, self.log)

    def __hash__(self) -> int:
        return hash((self.log, self.seq))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} from {self.sender.label!a}>"


class Message(Post):
    """Somebody else wrote this."""

    __slots__ = ()
    event = "message"


class Sent(Post):
    """The own user wrote this, here or on another peer of theirs; it is accepted: safe on this disk."""

    __slots__ = ()
    event = "sent"

    @property
    def to(self) -> str:
        """Where it went: the room, or the label of the other user."""
        return self.conversation.name

    @property
    def ref(self) -> str | None:
        """What the program gave to send(ref=) in this run; None when nothing."""
        return self._viewer.ref(self.log, self.seq)

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "to": self.to, "ref": self.ref}


# ---- conversation
#
# Where messages go: the room, a direct conversation of two users, or the talk of a group (group.py).
#
# A Conversation is a small handle; what it does, the peer behind it does. Desk is what handles ask of whoever made
# them: a running peer, or a history that is only read.


PAGE = 500  # messages read at once by Conversation.messages(): a few hundred KiB


class ShownEntry(Protocol):
    """Something that was shown: a message, or what became of one."""

    @property
    def log(self) -> LogId: ...
    @property
    def seq(self) -> int: ...
    @property
    def place(self) -> int: ...


class Viewer(Protocol):
    """What users, conversations and messages ask of whoever made them."""

    people: UserDirectory

    def conversation(self, key: ConversationId) -> Conversation:
        """Return the one handle of a conversation."""

    def ref(self, log: LogId, seq: int) -> str | None:
        """Return what the program called this message when it sent it."""

    def group_view(self, group: ConversationId) -> GroupView | None:
        """Return a group as it is now, by the id of its operations; None while it is not known."""

    def same_name(self, conversation: Conversation) -> bool:
        """Say whether another group could be taken for this one."""

    async def change_group(
        self,
        group: Conversation,
        *,
        add: tuple[UserId, ...] = (),
        remove: tuple[UserId, ...] = (),
        name: str | None = None,
        owner: UserId | None = None,
    ) -> None:
        """Change a group of one's own."""

    async def leave_group(self, group: Conversation) -> None:
        """Leave a group."""

    def mark_read(self, post: ShownEntry) -> None:
        """Say that everything in the conversation up to this message is read."""

    async def send(
        self, to: Conversation, text: str, reply_to: Post | str | None = None, *, action: bool = False
    ) -> Receipt:
        """Write one message; returns when it is accepted."""

    async def send_many(self, to: Conversation, texts: Sequence[str]) -> Receipts:
        """Write many; returns when all are accepted."""

    async def edit(self, message: Post | str, text: str) -> Receipt:
        """Have an own message say something else."""

    async def delete(self, message: Post | str) -> Receipt:
        """Take an own message back."""

    async def react(self, message: Post | str, reaction: str) -> Receipt:
        """React to a message."""

    def typing(self, to: Conversation, on: bool = True) -> None:
        """Tell that one writes there just now, or has stopped."""

    async def history(
        self,
        conversation: Conversation | None = None,
        *,
        before: Post | datetime | None = None,
        after: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Message | Sent]:
        """Return what was written, oldest first."""


class Conversation:
    """The room, a direct conversation, or a Group. Equal by id.

    Attributes:
        key: The id as it is inside and on the wire, hex.
        naming: What the id stands for.
    """

    __slots__ = ("_viewer", "_id", "key", "naming")

    def __init__(self, viewer: Viewer, key: ConversationId, naming: Naming | None) -> None:
        self._id = ""
        self._viewer = viewer
        self.key = key
        self.naming = naming

    @property
    def id(self) -> str:
        """The id as people see it: 52 characters of base32."""
        self._id = self._id or base32(self.key)
        return self._id

    @property
    def viewer(self) -> Viewer:
        """Whoever made it: a peer, a hosted user, or a history."""
        return self._viewer

    @property
    def kind(self) -> str:
        """`room`, `dm` or `group`; `unknown` for a kind this version does not have."""
        naming = self.naming
        if naming is None:
            return "unknown"
        return "room" if naming.room else "dm" if naming.dm else "group" if naming.talk else "unknown"

    @property
    def name(self) -> str:
        """The name to show: `room`, the label of the other user, or of the group (without #)."""
        user = self.user
        if user is not None:
            return user.label
        if self.kind == "group":
            return self.full_label if self._viewer.same_name(self) else self.plain_name
        return self.kind if self.kind != "unknown" else base32(self.key[:10])

    @property
    def plain_name(self) -> str:
        """What a group's owner calls it; `group` while that is not known, or of what is no group."""
        group = self.naming.talk if self.naming else None
        view = self._viewer.group_view(group) if group else None
        return view.name if view else "group"

    @property
    def full_label(self) -> str:
        """The name of a group with the beginning of its id, which no other has."""
        return full_label(self.plain_name, self.key)

    @property
    def address(self) -> str:
        """What to type to mean it: `room`, `@bob`, `#ops`."""
        return {"dm": "@", "group": "#"}.get(self.kind, "") + self.name

    @property
    def user(self) -> User | None:
        """The other user of a direct conversation (oneself in one with oneself); None for the room."""
        if self.naming is None or self.naming.dm is None:
            return None
        people = self._viewer.people
        one, other = self.naming.dm
        return people.user(one if other == people.me else other)

    def send(
        self, text: str, reply_to: Post | str | None = None, *, action: bool = False
    ) -> Coroutine[Any, Any, Receipt]:
        """Write one message here; as TCPPeer.send, whose coroutine it returns."""
        return self._viewer.send(self, text, reply_to, action=action)

    def send_many(self, texts: Sequence[str]) -> Coroutine[Any, Any, Receipts]:
        """Write many messages here; as TCPPeer.send_many, whose coroutine it returns."""
        return self._viewer.send_many(self, texts)

    def typing(self, on: bool = True) -> None:
        """Tell whoever can read this that one writes here just now, or has stopped; as TCPPeer.typing."""
        self._viewer.typing(self, on)

    async def history(
        self,
        *,
        before: Post | datetime | None = None,
        after: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Message | Sent]:
        """Return what was written here, oldest first; as TCPPeer.history."""
        return await self._viewer.history(self, before=before, after=after, since=since, limit=limit)

    async def messages(self, *, since: datetime | None = None) -> AsyncIterator[Message | Sent]:
        """Walk through everything written here, oldest first, from `since` on; reads page after page."""
        page = await self._viewer.history(self, after=since or EPOCH, limit=PAGE)
        while page:
            for post in page:
                yield post
            page = await self._viewer.history(self, after=page[-1], limit=PAGE)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conversation) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Conversation {self.kind} {self.name!a}>"


# ---- texts
#
# What a text may be, for those who write one here: told before anything is done with it.


def check_texts(texts: Sequence[str], settings: Settings) -> None:
    """Return when all of them can be written; raises as check_text."""
    if not all(isinstance(text, str) and text for text in texts) or not are_plain(texts, settings):
        for text in texts:
            check_text(text, settings)


def check_text(text: str, settings: Settings) -> None:
    """Return when it can be written.

    Raises:
        TypeError: It is no text. ValueError: It is empty, has NUL, or is no Unicode that can be sent.
        TooLong: `.limit_bytes` says what fits.
    """
    if not isinstance(text, str):
        raise TypeError(f"a text is a str, not {type(text).__name__}")
    if not text:
        raise ValueError("an empty text says nothing")
    if len(text) <= min(settings.max_text_bytes, settings.max_entry_bytes // 8) and text.isascii() and "\0" not in text:
        return  # as are_plain() says of many, but of one a third as long
    fault = text_fault(text, settings.max_text_bytes, settings.max_entry_bytes)
    if fault is not None and fault[0] == "too_long":
        size = len(text.encode())
        if size > settings.max_text_bytes:
            raise TooLong("the text", size, settings.max_text_bytes)
        limit = settings.max_entry_bytes - ENTRY_OVERHEAD_BYTES
        raise TooLong("the text, its control characters escaped,", encoded_bytes(text), limit)
    if fault is not None:
        raise ValueError(fault[1])


# ---- gaps
#
# What is known to be missing before a message: entries it follows that are not here.
#
# None of this is stored for itself. A message names what its writer had seen, and its gap mark says that it was shown
# without some of that; whether it still is not here is looked up. Who had it follows from the same: its own writer, and
# whoever wrote after seeing it.


Read = Callable[[Callable[[], list[Ref]]], Awaitable[list[Ref]]]


async def find_gap(viewer: Viewer, storage: Storage, read: Read, post: Post) -> Gap | None:
    """Return what a message follows and is not here; None when nothing is missing, or not any more."""
    if not post.gap:
        return None

    def look() -> list[Ref]:
        keys = {ref: LogKey(post.log.conversation, ref.log) for ref in post.follows}
        held = storage.lookup(list(keys.values()), [])[0]
        here = {ref for ref, key in keys.items() if key in held and (held[key].released >= ref.seq or held[key].forked)}
        return [ref for ref in keys if ref not in here]

    missing = await read(look)
    if not missing:
        return None
    ids = tuple(referred_id(post.log.conversation, ref) for ref in missing)
    seen = who_had(viewer.people, post.log.user, missing)
    return Gap(at=post.received_at, about=post.id, missing=ids, last_seen_with=seen)


def who_had(
    people: UserDirectory, follower: UserId, missing: Sequence[Ref], others: Sequence[UserId] = ()
) -> tuple[str, ...]:
    """Return the labels of those who had these: `others`, who wrote them, and who wrote something that follows them."""
    had = {follower, *others, *(user for user in people.known for ref in missing if user.startswith(ref.log[:16]))}
    return tuple(sorted(people.label(user) for user in had - {people.me}))


# ---- mending
#
# Events about messages that were edited, deleted or reacted to, and what may be done so.
#
# They are handed on with the messages, in the order they were shown here, and are as durable. One is told while it
# counts: of several edits that were written while a program was away it is told the newest, and nothing of an edit
# whose message is not here, for that will come as it is by then.


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageChange(Event):
    """Base of what happens to a message.

    Attributes:
        message: The message as it is shown now.
        by: Who did it; for edits and deletions always who wrote the message.
        sent_at: When, by the clock of whoever did it.
        old: It was there before this peer came to the conversation.
        log, seq, place: Which entry of which log did it, and its place among what was shown here.
        ref: What the program gave as `ref` in this run, if it was done here.
    """

    message: Message | Sent
    by: User
    sent_at: datetime
    old: bool
    log: LogId
    seq: int
    place: int
    ref: str | None = None

    @property
    def conversation(self) -> Conversation:
        return self.message.conversation

    def mark_read(self) -> None:
        """Say that it was seen, as Message.mark_read: everything in the conversation up to it."""
        self.message.viewer.mark_read(self)

    @property
    def id(self) -> str:
        """The id of the message."""
        return self.message.id

    @property
    def entry_id(self) -> str:
        """The id of the edit, deletion or reaction itself: receipts of it name this."""
        return message_id(self.log, self.seq)

    def _fields(self) -> dict[str, Any]:
        conversation = self.message.conversation
        line: dict[str, Any] = {
            "id": self.id, "conversation": conversation.name, "conversation_id": conversation.id,
            "kind": conversation.kind, "by": self.by.label, "by_id": self.by.id, "entry_id": self.entry_id,
            "sent_at": iso(micros_of(self.sent_at)), "old": self.old, **self._what(),
        }  # fmt: skip
        if self.by.is_me:
            line["ref"] = self.ref
        return line

    def _what(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited(MessageChange):
    """A message says something else now. `text` is what."""

    event: ClassVar[str] = "edited"
    text: str = field(repr=False)

    def _what(self) -> dict[str, Any]:
        return {"text": self.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted(MessageChange):
    """A message was taken back by its writer: nothing shows its text any more. Logs keep it."""

    event: ClassVar[str] = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction(MessageChange):
    """Somebody reacted to a message; `reaction` is "" when that took back an earlier one."""

    event: ClassVar[str] = "reaction"
    reaction: str = field(repr=False)

    def _what(self) -> dict[str, Any]:
        return {"reaction": self.reaction}


AnyMessageChange = Edited | Deleted | Reaction
MESSAGE_CHANGES: tuple[type[AnyMessageChange], ...] = (Edited, Deleted, Reaction)


def message_change(
    message: Message | Sent, by: User, log: LogId, seq: int, place: int, entry: Entry, *,
    received_at: datetime, sent_at: datetime, old: bool, ref: str | None,
) -> AnyMessageChange | None:  # fmt: skip
    """Return what an entry does to this message, which it names; None when it does nothing, or not any more."""
    common: dict[str, Any] = {
        "at": received_at, "message": message, "by": by, "sent_at": sent_at, "old": old, "log": log, "seq": seq,
        "place": place, "ref": ref,
    }  # fmt: skip
    if message.unsupported is not None:
        return None
    if entry.k == "reaction":
        now = message.reaction_of(by)
        said = entry.b if isinstance(entry.b, str) else ""
        return Reaction(**common, reaction=said) if now == ((log, seq) if said else None) else None
    if message.mended_by != (log, seq):
        return None
    return Edited(**common, text=message.text) if entry.k == "edit" else Deleted(**common)


def body_of(kind: str, post: Post, text: str, me: UserId, settings: Settings) -> str:
    """Return the body of an entry that does this to a message.

    Raises:
        TypeError: It is no text. ValueError: It cannot be said, or it is done to another's message, or to no message.
        TooLong: As of any text.
    """
    if post.log.user != me and kind != "reaction":
        raise ValueError(f"only who wrote a message can {kind} it")
    if post.unsupported is not None:
        raise ValueError("this version does not know what that is")
    if kind == "reaction":
        if not isinstance(text, str):
            raise TypeError(f"a reaction is a str, not {type(text).__name__}")
        if len(text) > MAX_REACTION_CHARACTERS:
            limit = MAX_REACTION_CHARACTERS
            raise ValueError(f"a reaction has at most {limit} characters, this has {len(text)}: answer instead")
    if kind == "edit" or (kind == "reaction" and text):
        check_text(text, settings)
    return text


def named(post: Post) -> Ref:
    """Return how entries of its conversation name this message."""
    return Ref(ref_key(post.log.user, post.log.run), post.seq)
