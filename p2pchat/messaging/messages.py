"""Messages and changes of messages: the durable events, which say what somebody wrote in a conversation.

They are read from storage with a cursor, in the order in which they were shown here, come again until they are
acknowledged, and are the same after a restart. All other events are live (events.py). A `repr` shows the writer and the
id, never a text. Times are aware datetimes in UTC, ids are base32.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypedDict, Unpack

from p2pchat.core.log import (
    ID_CONVERSATION_BYTES,
    Entry,
    LogId,
    Marks,
    Ref,
    attachments_of,
    choices_of,
    decode_entry,
    message_id,
    ref_key,
    referred_id,
)
from p2pchat.core.names import plain
from p2pchat.core.sync.appender import check_text
from p2pchat.kinds import CHANGE_EVENTS, KINDS, LISTS, MESSAGE_KINDS
from p2pchat.kinds.edit import EDIT
from p2pchat.kinds.kind import Kind
from p2pchat.kinds.message_fields import BECAME, SAID, UNASKED
from p2pchat.kinds.pins import PIN
from p2pchat.kinds.polls import CLOSE, POLL, VOTE
from p2pchat.kinds.reaction import REACTION
from p2pchat.messaging.attachments import Attachment, FileToSend
from p2pchat.messaging.events import aware, iso, json_fields, micros_of, moment_text
from p2pchat.messaging.users import User, check_several
from p2pchat.protocol import MAX_INT, REF_USER_BYTES, UserId, user_start
from p2pchat.storage.contract import ReleasedEntry, SortKey

if TYPE_CHECKING:
    from p2pchat.core.edits import EntryEdits, RelatedEntry
    from p2pchat.messaging.conversations import Conversation
    from p2pchat.messaging.receipts import Receipt
    from p2pchat.messaging.users import UserDirectory
    from p2pchat.messaging.viewer import Viewer


class DurableEvent:
    """Base of messages, and of Edited, Deleted and Reaction. Two of one entry are equal.

    Attributes:
        event: The word for it in event lines: "message", "edited".
        log: The log of its entry.
        seq: The number of its entry in the log.
        at: The time this peer received it, as `received_at`.
        place: Its number in this peer's database, in the order in which entries were shown here.
        old: It was written before this peer came to the conversation.
        gap: It was shown although an entry that it follows was missing; `TCPPeer.missing` says what still is.
    """

    __slots__ = ("_edits", "_entry", "_received_at", "_viewer", "gap", "log", "old", "place", "seq")
    event: ClassVar[str] = ""

    def __init__(
        self, viewer: Viewer, log: LogId, seq: int, entry: Entry, place: int, received_at: int, old: bool, gap: bool,
        edits: EntryEdits | None = None,
    ) -> None:  # fmt: skip
        self._viewer = viewer
        self.log: LogId = log
        self.seq: int = seq
        self._entry = entry
        self.place: int = place
        self._received_at = received_at
        self.old: bool = old
        self.gap: bool = gap
        self._edits = edits

    @property
    def entry_id(self) -> str:
        """The id of the entry, the same on every peer: of a message its `id`, of a change that for TCPPeer.receipt."""
        return message_id(self.log, self.seq)

    @property
    def id(self) -> str:
        """The id of the message, the same on every peer."""
        return self.entry_id

    @property
    def viewer(self) -> Viewer:
        """The TCPPeer, HostedUser or History that read it."""
        return self._viewer

    @property
    def conversation(self) -> Conversation:
        """The conversation in which it was written."""
        return self._viewer.conversation(self.log.conversation)

    @property
    def by(self) -> User:
        """The user who wrote it."""
        return self._viewer.directory.user(self.log.user)

    sender = by

    @property
    def sent_at(self) -> datetime:
        """The time it was written, by the writer's clock."""
        return aware(self._entry.at)

    @property
    def received_at(self) -> datetime:
        """The time this peer received it."""
        return aware(self._received_at)

    at = received_at

    @property
    def automatic(self) -> bool:
        """True if a program wrote it by itself: no program answers such a message, and such a press decides nothing."""
        return self._entry.auto

    @property
    def expelled(self) -> bool:
        """True if it came when its writer was expelled from the network already."""
        return self._came_expelled(self.log.user, self._received_at)

    def _came_expelled(self, user: UserId, received_at: int) -> bool:
        since = self._viewer.directory.facts.since(user)
        return since is not None and received_at >= since

    @property
    def ref(self) -> str | None:
        """The `ref` given in this run, if it was written here; None without one."""
        return self._viewer._ref_of(self.log, self.seq)

    @property
    def sort_key(self) -> tuple[int, str, str, int]:
        """Its position in the history of its conversation, the same on every peer."""
        return self._entry.c, self.log.user, self.log.run, self.seq

    @property
    def message(self) -> Any:
        """The message: itself, or the one that is changed."""
        raise NotImplementedError

    def seen_by(self, viewer: Viewer) -> Any:
        """Return it as another user of the same peer sees it."""
        raise NotImplementedError

    def _entry_for(self, viewer: Viewer) -> tuple[Viewer, LogId, int, Entry, int, int, bool, bool]:
        """Return the arguments that make this event for another user, without `edits`."""
        return viewer, self.log, self.seq, self._entry, self.place, self._received_at, self.old, self.gap

    def mark_read(self) -> None:
        """Mark everything in the conversation up to this as read; writers get a receipt.

        Nothing happens for what is marked already, or one's own. Raises PeerClosed where no peer runs.
        """
        self._viewer._local_user.mark_read(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the event line as a dict of plain JSON values."""
        conversation = self.conversation
        return {
            "event": self.event, "at": iso(self._received_at), "id": self.id, "conversation": conversation.name,
            "conversation_id": conversation.id, "kind": conversation.kind, **self._fields(conversation),
            **({"expelled": True} if self.expelled else {}),
        }  # fmt: skip

    def to_json(self) -> str:
        """Return the event line as text: one line of JSON, in ASCII, so that a terminal may show it."""
        return json.dumps(self.to_dict())

    def _fields(self, conversation: Conversation) -> dict[str, Any]:
        """Return the fields that only some events have."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DurableEvent) and (other.seq, other.log) == (self.seq, self.log)

    def __hash__(self) -> int:
        return hash((self.log, self.seq))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} from {self.by.label!a}>"


IN_JSON: dict[str, Callable[[Any], Any]] = {  # by type of a field
    "time": moment_text,
    "list": list,
    "files": lambda files: [file.to_dict() for file in files],
}
ATTRIBUTES = {
    "files": "attachments",
}  # of a message, for fields of another name


class MessageOptions(TypedDict, total=False):
    """Options of all that write one message: those that TCPPeer.send takes beside the text.

    Attributes:
        action, ref, claimed_at, files, automatic, choices, hops, key: As TCPPeer.send.
    """

    action: bool
    ref: str | None
    claimed_at: datetime | None
    files: Sequence[FileToSend] | str | Path
    automatic: bool
    choices: Sequence[str]
    hops: int
    key: str


LATE_AFTER = 600 * 1_000_000  # microseconds; a guess: longer than clocks differ and repairs of a link take


class Post(DurableEvent):
    """A message; base of Message and Sent.

    Edits, deletion and reactions are those of the moment when it was read. The events Edited, Deleted and Reaction
    report later ones.
    """

    __slots__ = ()

    def seen_by(self, viewer: Viewer) -> Message | Sent:
        """Return this message as another user of the same peer sees it."""
        kind = Sent if self.log.user == viewer.directory.me else Message
        return kind(*self._entry_for(viewer), self._edits)

    @property
    def text(self) -> str:
        """The latest text; "" for a deleted message. That of an `unsupported` one says what it is about."""
        newest = self._newest
        body = (self._entry if newest is None else newest.entry).b
        return body if isinstance(body, str) else ""

    @property
    def _newest(self) -> RelatedEntry | None:
        """The newest edit or deletion, unless it came when the writer was expelled: the first version counts then."""
        newest = None if self._edits is None else self._edits.newest
        return None if newest is None or self._came_expelled(newest.log.user, newest.received_at) else newest

    @property
    def edited(self) -> bool:
        """True if its writer edited it."""
        newest = self._newest
        return newest is not None and KINDS[newest.entry.k].is_edit

    @property
    def deleted(self) -> bool:
        """True if its writer deleted it."""
        newest = self._newest
        return newest is not None and KINDS[newest.entry.k].is_deletion

    @property
    def mended_at(self) -> datetime | None:
        """The time it was last edited or deleted, by the writer's clock; None if it never was."""
        newest = self._newest
        return None if newest is None else aware(newest.entry.at)

    @property
    def mended_id(self) -> str | None:
        """The id of the entry that last edited or deleted it, for TCPPeer.receipt; None if there is none."""
        newest = self._newest
        return None if newest is None else message_id(newest.log, newest.seq)

    @property
    def reactions(self) -> dict[str, list[User]]:
        """The users who reacted, by reaction, the first reaction first; {} for a deleted message.

        What the expelled said counts for nothing until they are pardoned, whenever it came; nor does, at a hosted user,
        what those said whom it blocks. Of all keys of another member eight count, the newest.
        """
        found: dict[str, list[User]] = {}
        for one in self._said(REACTION):
            found.setdefault(one.entry.b, []).append(self._viewer.directory.user(one.log.user))
        return found

    def _said(self, kind: Kind) -> list[RelatedEntry]:
        """Return what people say and what counts: nothing taken back, of the expelled, or too much of one member."""
        if self._edits is None or self.deleted:
            return []
        said = self._edits.said(kind, self._viewer._place)
        return [one for one in said if one.entry.b <= len(self.choices)] if kind.on else said

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The files of the message, at most 10; () for a deleted one."""
        files = attachments_of(self._entry)
        return tuple(Attachment(self, file) for file in files) if files and not self.deleted else ()

    @property
    def choices(self) -> tuple[str, ...]:
        """The answers that a reader may press, 2 to 6; () for none, and for a deleted message.

        Pressing one is a reaction with its text. A message with choices cannot be edited.
        """
        return () if self.deleted else choices_of(self._entry)

    @property
    def action(self) -> bool:
        """True for a /me."""
        return self._entry.k == "action"

    @property
    def hops(self) -> int:
        """The answers of programs that led to it, 0 to 255: 0 if a person wrote it, or a program that does not count.

        A program answers a message that says 1 or more with one more, and one that says HOP_LIMIT or more not at all.
        """
        return self._entry.hops

    @property
    def unsupported(self) -> str | None:
        """The kind of a message that this version does not know, "unknown" for an empty one: show "unsupported" beside
        its text; else None.
        """
        return None if self._entry.k in MESSAGE_KINDS else self._entry.k or "unknown"

    @property
    def claimed_at(self) -> datetime | None:
        """The time it was written, as claimed by the writer's program; None without a claim. It affects no order."""
        return None if self._entry.t is None else aware(self._entry.t)

    @property
    def expelled(self) -> bool:
        """True if it came when its writer was expelled from the network already, or may have been changed then."""
        is_changed = self._edits is not None and self._edits.newest is not None
        return self._came_expelled(self.log.user, MAX_INT if is_changed else self._received_at)

    @property
    def came(self) -> datetime | None:
        """The time this peer received it, if that was more than 10 minutes after `sent_at`; otherwise None.

        The writer was away then, or this peer, or the writer claims an earlier time. None for own and `old` messages,
        and for those written before this machine was its person's.
        """
        is_late = self._received_at - self._entry.at > LATE_AFTER and not self.old and not isinstance(self, Sent)
        is_late = is_late and self._entry.at >= self._viewer.directory.facts.joined_at()
        return self.received_at if is_late else None

    @property
    def reply_to(self) -> str | None:
        """The id of the message that it answers; None if it answers none."""
        return None if self._entry.re is None else referred_id(self.log.conversation, self._entry.re)

    @property
    def after(self) -> tuple[str, ...]:
        """The ids of the newest messages of others that its writer had seen, at most two."""
        return tuple(referred_id(self.log.conversation, ref) for ref in self._entry.after)

    @property
    def follows(self) -> tuple[Ref, ...]:
        """The entries that it names and that are shown before it: those its writer had seen, and the one it answers."""
        entry = self._entry
        return entry.after if entry.re is None or entry.re in entry.after else (*entry.after, entry.re)

    @property
    def message(self) -> Self:
        """The message itself."""
        return self

    async def reply(self, text: str, **options: Unpack[MessageOptions]) -> Receipt:
        """Answer in the same conversation, with what TCPPeer.send takes beside; raises as that.

        A function of a bot that handles messages answers by itself: unless it says otherwise, its answer says one hop
        more if this message counts them, and is automatic if not.
        """
        if UNASKED.get() and self.hops:
            options.setdefault("hops", self.hops + 1)
        elif UNASKED.get():
            options.setdefault("automatic", True)
        return await self._viewer._local_user.send(self.conversation, text, self, **options)

    async def edit(self, text: str) -> Receipt:
        """Replace the text for everyone; see TCPPeer.edit. Returns the receipt of the edit.

        Raises:
            ValueError: Another user wrote it, or it has choices. Also raises as Conversation.send.
        """
        return await self._viewer._local_user.edit(self, text)

    async def delete(self) -> Receipt:
        """Delete the message for everyone; see TCPPeer.delete. Raises as edit."""
        return await self._viewer._local_user.delete(self)

    async def react(self, reaction: str) -> Receipt:
        """React with at most 8 characters, which replace the own former reaction; "" removes that.

        Raises:
            ValueError: The reaction is longer, or cannot be sent. Also raises as Conversation.send.
        """
        return await self._viewer._local_user.react(self, reaction)

    def _fields(self, conversation: Conversation) -> dict[str, Any]:
        line: dict[str, Any] = {"sender": self.by.label, "sender_id": self.by.id}
        if conversation.kind == "group":
            line["group"] = conversation.name
        for row in SAID if self._edits is None else (*SAID, *BECAME):
            kind = LISTS.get(row.name)
            value = self._lines_of(kind) if kind else getattr(self, ATTRIBUTES.get(row.name, row.name))
            if value or "l" in row.marks:
                line[row.name] = IN_JSON[row.type](value) if row.type in IN_JSON else value
        return line

    @property
    def pins(self) -> list[User]:
        """The people who pinned it at the head of its conversation; [] while nobody has."""
        return [self._viewer.directory.user(one.log.user) for one in self._said(PIN)]

    @property
    def poll(self) -> bool:
        """True for a poll: readers vote for one of its `choices` by its number, from 1."""
        return self._entry.k == POLL.name

    @property
    def votes(self) -> dict[str, list[User]]:
        """The voters for each choice of a poll, also for those without any; {} for what is no poll.

        Of all keys of another member the newest vote counts.
        """
        user, choices = self._viewer.directory.user, self.choices if self.poll else ()
        found: dict[str, list[User]] = {choice: [] for choice in choices}
        for one in self._said(VOTE):
            found[choices[one.entry.b - 1]].append(user(one.log.user))
        return found

    @property
    def _close(self) -> RelatedEntry | None:
        changes = () if self._edits is None else self._edits.changes
        return next((one for one in changes if one.aspect == CLOSE.aspect), None)

    @property
    def closed_at(self) -> datetime | None:
        """The time its writer closed the poll, after which no vote counts; None if it is open, and for no poll."""
        return None if self._close is None else aware(self._close.entry.at)

    @property
    def closed_id(self) -> str | None:
        """The id of the entry that closed it; None if there is none."""
        return None if self._close is None else message_id(self._close.log, self._close.seq)

    def _lines_of(self, kind: Kind) -> list[dict[str, Any]]:
        user = self._viewer.directory.user
        return [
            {
                kind.field: one.entry.b, **json_fields(user(one.log.user), "by"),
                "entry_id": message_id(one.log, one.seq), **({"automatic": True} if one.entry.auto else {}),
            }
            for one in self._said(kind)
        ]  # fmt: skip


class Message(Post):
    """A message of another user."""

    __slots__ = ()
    event: ClassVar[Literal["message"]] = "message"


class Sent(Post):
    """A message of the own user, written here or on another of their peers. It is accepted: stored on this disk."""

    __slots__ = ()
    event: ClassVar[Literal["sent"]] = "sent"

    @property
    def to(self) -> str:
        """The name of the conversation: the room, or the label of the other user."""
        return self.conversation.name

    def _fields(self, conversation: Conversation) -> dict[str, Any]:
        return {**super()._fields(conversation), "to": self.to, "ref": self.ref}


def post_of(viewer: Viewer, shown: ReleasedEntry, mine: bool | None = None) -> Message | Sent:
    """Return the message of a stored entry. `mine` is True for an own one, needed if `viewer` is several users."""
    log = shown.log
    kind = Sent if (log.user == viewer.directory.me if mine is None else mine) else Message
    entry = decode_entry(shown.raw)
    return kind(viewer, log, shown.seq, entry, shown.place, shown.received_at, shown.old, shown.gap, shown.edits)


def position_of(viewer: Viewer, shown: ReleasedEntry) -> DurableEvent:
    """Return a stored entry as a position, in the order of arrival and in history."""
    entry = decode_entry(shown.raw)
    return DurableEvent(viewer, shown.log, shown.seq, entry, shown.place, shown.received_at, shown.old, shown.gap)


def sort_key(where: DurableEvent | datetime) -> SortKey:
    """Return the position in history of an entry, or of a moment."""
    return where.sort_key if isinstance(where, DurableEvent) else (micros_of(where), "", "", 0)


def key_of(shown: ReleasedEntry) -> SortKey:
    """Return the position in history of a stored entry."""
    return decode_entry(shown.raw).c, shown.log.user, shown.log.run, shown.seq


# ---- ids of messages: 16 bytes of the conversation, 16 of the user and 8 of the run in base32, a dot, the number


ID_BYTES = ID_CONVERSATION_BYTES + REF_USER_BYTES + 8


def parse_message_id(text: str) -> tuple[str, Ref]:
    """Return the beginning of the conversation id, and the reference to the entry in it; or raise ValueError."""
    code, dot, seq = "".join(text.split()).partition(".")
    try:
        raw = base64.b32decode(code.upper())
    except ValueError:  # a character outside of base32, or of ASCII
        raw = b""
    is_number = seq.isascii() and seq.isdigit() and len(seq) <= 16 and 1 <= int(seq) < 2**53
    if len(raw) != ID_BYTES or not dot or not is_number:
        raise ValueError(f"{text[:60]!r} is no message id")
    return raw[:ID_CONVERSATION_BYTES].hex(), Ref(raw[ID_CONVERSATION_BYTES:].hex(), int(seq))


def ref_of(post: Post) -> Ref:
    """Return the reference to a message from another entry of its conversation."""
    return Ref(ref_key(post.log.user, post.log.run), post.seq)


def reply_ref(conversation: Conversation, to: Post | str) -> Ref:
    """Return the reference to an answered message; ValueError if it belongs to another conversation."""
    prefix, ref = parse_message_id(to.id if isinstance(to, Post) else to)
    if not conversation.key.startswith(prefix):
        raise ValueError("a reply goes to the conversation of the message it answers")
    return ref


def users_with(
    people: UserDirectory, follower: UserId, missing: Sequence[Ref], others: Sequence[UserId] = ()
) -> tuple[str, ...]:
    """Return the labels of the users who had these entries: their writers, the writer who followed them, `others`."""
    starts = {user_start(ref.log) for ref in missing}
    had = {follower, *others, *(user for user in people.known if user_start(user) in starts)}
    return tuple(sorted(people.label(user) for user in had - {people.me}))


# ---- edits, deletions and reactions
#
# A program gets the latest state only: the newest of several edits written while it was away, and no event for an edit
# without its message, since the message will arrive in its latest state.


class MessageChange(DurableEvent):
    """Base of Edited, Deleted and Reaction.

    Attributes:
        message: The message in its present state.
    """

    __slots__ = ("message",)

    def __init__(self, *entry: Any, message: Message | Sent) -> None:
        super().__init__(*entry)
        self.message: Message | Sent = message

    @property
    def id(self) -> str:
        """The id of the message."""
        return self.message.id

    @property
    def counts(self) -> bool:
        """True if nothing newer takes its place, and nobody expelled says it."""
        edits, kind = self.message._edits, KINDS[self._entry.k]
        if edits is None or (self.expelled and (kind.is_edit or kind.is_deletion)):
            return False
        counting = edits.of(kind) if kind.about == "own" else edits.of(kind, self._viewer._place)
        return any((one.log, one.seq) == (self.log, self.seq) for one in counting)

    def seen_by(self, viewer: Viewer) -> MessageChange:
        """Return this change as another user of the same peer sees it."""
        return type(self)(*self._entry_for(viewer), message=self.message.seen_by(viewer))

    def _tells(self, said: Kind) -> bool:
        """Return whether the line has all that is said: this ends it, or another key of the member says something."""
        kind, edits, place = KINDS[self._entry.k], self.message._edits, self._viewer._place
        if said is not kind or not kind.each or edits is None:
            return said.until == kind.aspect
        user = self.log.user
        others = (one.log.user for one in edits.said(kind) if one.log.user != user)
        return place(user) in map(place, others)

    def _fields(self, conversation: Conversation) -> dict[str, Any]:
        kind = KINDS[self._entry.k]
        return {
            **json_fields(self.by, "by"), "entry_id": self.entry_id, "sent_at": iso(self._entry.at), "old": self.old,
            **{name: getattr(self, name) for name in [kind.field] if name},
            **{name: self.message._lines_of(one) for name, one in LISTS.items() if self._tells(one)},
            **({"automatic": True} if self.automatic else {}), **({"ref": self.ref} if self.by.is_me else {}),
        }  # fmt: skip


class Edited(MessageChange):
    """A message was edited."""

    __slots__ = ()
    event: ClassVar[Literal["edited"]] = "edited"

    @property
    def text(self) -> str:
        """The new text."""
        return self.message.text


class Deleted(MessageChange):
    """A message was deleted by its writer. Its text is no longer shown, though logs keep it."""

    __slots__ = ()
    event: ClassVar[Literal["deleted"]] = "deleted"


class Reaction(MessageChange):
    """A user reacted to a message."""

    __slots__ = ()
    event: ClassVar[Literal["reaction"]] = "reaction"

    @property
    def reaction(self) -> str:
        """At most 8 characters; "" if an earlier reaction was removed."""
        return str(self._entry.b)


class Vote(MessageChange):
    """A user voted in a poll."""

    __slots__ = ()
    event: ClassVar[Literal["vote"]] = "vote"

    @property
    def option(self) -> int:
        """The number of the choice, from 1; 0 if an earlier vote was taken back."""
        return int(self._entry.b)


class PollClosed(MessageChange):
    """A poll was closed by its writer: `message.votes` are those that count."""

    __slots__ = ()
    event: ClassVar[Literal["closed"]] = "closed"


class Pinned(MessageChange):
    """A message was pinned or unpinned."""

    __slots__ = ()
    event: ClassVar[Literal["pinned"]] = "pinned"

    @property
    def pinned(self) -> bool:
        """True if it was pinned."""
        return bool(self._entry.b)


CHANGES: dict[str, type[MessageChange]] = {CHANGE_EVENTS[cls.event].name: cls for cls in MessageChange.__subclasses__()}
DURABLE_EVENTS: tuple[type[DurableEvent], ...] = (Message, Sent, *CHANGES.values())


def check_change(kind: Kind, post: Post, text: str, me: UserId) -> str:
    """Return `text` as a plain str if the user `me` can make a change of this kind to a message.

    Raises as check_text.

    A message must be the user's own to be edited or deleted, and of a kind that this version knows. One with choices
    cannot be edited. Of a deleted one only an edit shows anything, which brings it back.
    """
    text = plain(text)
    if post.deleted and kind.aspect != EDIT.aspect:
        raise ValueError("the message was deleted")
    if kind.on:
        if post._entry.k != kind.on or (post.closed_at and kind is not CLOSE):
            raise ValueError(f"this is no open {kind.on}")
        if text and text not in map(str, range(len(post.choices) + 1)):
            raise ValueError(f"a {kind.name} is a number from 0 to {len(post.choices)}")
    if kind.body == "text" and kind.longest and (count := _count_characters(text)) > kind.longest:
        raise ValueError(f"a {kind.name} has at most {kind.longest} characters, this has {count}: reply instead")
    if fault := kind.fault(me, kind.body_of(text), ref_of(post).log):
        raise ValueError(fault[1])
    if post.unsupported is not None:
        raise ValueError("this version does not know this kind of message")
    if kind.is_edit and (offers := KINDS[post._entry.k].choices) and choices_of(post._entry):
        raise ValueError(offers.fixed)
    return check_text(text) if kind.body == "text" and (text or not kind.longest) else text


def changes_nothing(kind: Kind, post: Post, text: str, me: UserId, automatic: bool) -> bool:
    """Return whether a message is already as a change of this kind by the user `me` would make it."""
    if kind is CLOSE:
        return post.closed_at is not None
    if kind.aspect == EDIT.aspect:
        return (post.deleted, post.text) == (kind.is_deletion, text)
    body, said = kind.body_of(text), [one.entry for one in post._said(kind) if kind.shared or one.log.user == me]
    return any((one.b, one.auto) == (body, automatic) for one in said) or not (said or body)


def check_marks(kind: str, automatic: bool, choices: Iterable[str], hops: int) -> Marks:
    """Return the marks of a new entry of this kind, without files, or raise TypeError or ValueError."""
    check_several(choices, "choices")
    if type(hops) is not int:
        raise TypeError(f"hops are an int, not {type(hops).__name__}")
    marks = Marks((), bool(automatic), tuple(map(plain, choices)), hops)
    if fault := marks.fault(kind):
        raise ValueError(fault)
    offers = KINDS[kind].choices
    if offers and any(_count_characters(one) > offers.longest for one in marks.choices):
        raise ValueError(f"{offers.word} have 1 to {offers.longest} characters")
    return marks


def _count_characters(text: str) -> int:
    """Return the number of characters as people count them (grapheme clusters, UAX 29)."""
    if text.isascii():
        return len(text)
    from wcwidth import iter_graphemes  # its tables take a while

    return sum(1 for _ in iter_graphemes(text))
