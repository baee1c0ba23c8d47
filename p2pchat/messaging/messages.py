"""What somebody wrote, as programs hold it: Message and Sent, which can be answered, mended and marked as read.

They come from storage and are never lost. A repr shows who and when, never what somebody wrote. Times are aware
datetimes in UTC; ids are base32.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from p2pchat.core.log import Entry, LogId, Ref, decode_entry, message_id, ref_key, referred_id
from p2pchat.core.mending import MENDING
from p2pchat.messaging.timestamps import aware, iso, micros_of

if TYPE_CHECKING:
    from p2pchat.messaging.receipts import Receipt
    from p2pchat.messaging.users import User
    from p2pchat.peer.messages.conversation import Conversation, Desk
    from p2pchat.storage.base import Mended

SHOWN_KINDS = ("text", "action")
NOT_SHOWN = MENDING | {"profile", "group", "leave"}  # entries that are no messages


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

    __slots__ = ("_desk", "_entry", "_mended", "_received_at", "gap", "log", "old", "place", "seq")
    event: ClassVar[str] = ""

    def __init__(
        self,
        desk: Desk,
        log: LogId,
        seq: int,
        entry: Entry,
        place: int,
        received_at: int,
        old: bool,
        gap: bool,
        mended: Mended | None = None,
    ) -> None:
        self._desk = desk
        self.log = log
        self.seq = seq
        self._entry = entry
        self.place = place
        self._received_at = received_at
        self.old = old
        self.gap = gap
        self._mended = mended

    @property
    def id(self) -> str:
        return message_id(self.log, self.seq)

    @property
    def desk(self) -> Desk:
        """Whoever made it: a peer, or a history."""
        return self._desk

    def seen_by(self, desk: Desk) -> Message | Sent:
        """Return the same as another user of the same peer has it."""
        kind = Sent if self.log.user == desk.people.me else Message
        return kind(
            desk, self.log, self.seq, self._entry, self.place, self._received_at, self.old, self.gap, self._mended
        )

    @property
    def conversation(self) -> Conversation:
        return self._desk.conversation(self.log.conversation)

    @property
    def sender(self) -> User:
        return self._desk.people.user(self.log.user)

    @property
    def text(self) -> str:
        """What it says now; "" once deleted, and for a kind of entry this version does not know (see `unsupported`)."""
        body = self._entry.b if self._mended is None else (self._newest or self._entry).b
        return body if self._entry.k in SHOWN_KINDS and isinstance(body, str) else ""

    @property
    def _newest(self) -> Entry | None:
        """The newest edit or deletion."""
        mended = self._mended
        return None if mended is None or mended.newest is None else decode_entry(mended.newest.raw)

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
        mended = self._mended
        return None if mended is None or mended.newest is None else (mended.newest.log, mended.newest.seq)

    @property
    def mended_id(self) -> str | None:
        """The id of that entry: its receipt says who has what is shown now; None when there is none."""
        return None if self.mended_by is None else message_id(*self.mended_by)

    @property
    def reactions(self) -> dict[str, list[User]]:
        """Who reacted how, the first reaction first; {} for nobody, and once it is deleted."""
        found: dict[str, list[User]] = {}
        if self._mended is not None and not self.deleted:
            for one in self._mended.reactions:
                found.setdefault(decode_entry(one.raw).b, []).append(self._desk.people.user(one.log.user))
        return found

    def reaction_of(self, user: User) -> tuple[LogId, int] | None:
        """Return the entry with which this user reacts now, by log and number; None when the user does not."""
        some = () if self._mended is None else self._mended.reactions
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
        self._desk.mark_read(self)

    async def reply(self, text: str) -> Receipt:
        """Answer in the same conversation; raises as Conversation.send."""
        return await self._desk.send(self.conversation, text, reply_to=self)

    async def edit(self, text: str) -> Receipt:
        """Have it say something else, for everybody; the newest edit or deletion counts, the original stays in logs.

        Returns the receipt of the edit.
        Raises:
            ValueError: Another wrote it. And as Conversation.send.
        """
        return await self._desk.edit(self, text)

    async def delete(self) -> Receipt:
        """Take it back: nothing shows its text any more. The logs of all who have it keep it; raises as edit."""
        return await self._desk.delete(self)

    async def react(self, reaction: str) -> Receipt:
        """React with at most 8 characters, in place of one's former reaction; "" takes that back.

        Raises:
            ValueError: It is longer, or no text. And as Conversation.send.
        """
        return await self._desk.react(self, reaction)

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
        if self._mended is not None:
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
        return self._desk.ref(self.log, self.seq)

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "to": self.to, "ref": self.ref}
