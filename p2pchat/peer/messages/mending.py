"""Events about messages that were edited, deleted or reacted to, and what may be done so.

They are handed on with the messages, in the order they were shown here, and are as durable. One is told while it
counts: of several edits that were written while a program was away it is told the newest, and nothing of an edit whose
message is not here, for that will come as it is by then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from p2pchat.config import Settings
from p2pchat.core.log import Entry, LogId, Ref, message_id, ref_key
from p2pchat.messaging.events import Event
from p2pchat.messaging.messages import Message, Post, Sent
from p2pchat.messaging.timestamps import iso, micros_of
from p2pchat.messaging.users import User
from p2pchat.peer.messages.conversation import Conversation
from p2pchat.peer.messages.texts import check_text
from p2pchat.protocol import MAX_REACTION_CHARACTERS, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mending(Event):
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
        self.message.desk.mark_read(self)

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
class Edited(_Mending):
    """A message says something else now. `text` is what."""

    event: ClassVar[str] = "edited"
    text: str = field(repr=False)

    def _what(self) -> dict[str, Any]:
        return {"text": self.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted(_Mending):
    """A message was taken back by its writer: nothing shows its text any more. Logs keep it."""

    event: ClassVar[str] = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction(_Mending):
    """Somebody reacted to a message; `reaction` is "" when that took back an earlier one."""

    event: ClassVar[str] = "reaction"
    reaction: str = field(repr=False)

    def _what(self) -> dict[str, Any]:
        return {"reaction": self.reaction}


AnyMending = Edited | Deleted | Reaction
MENDINGS: tuple[type[AnyMending], ...] = (Edited, Deleted, Reaction)


def mending_event(
    message: Message | Sent, by: User, log: LogId, seq: int, place: int, entry: Entry, *,
    received_at: datetime, sent_at: datetime, old: bool, ref: str | None,
) -> AnyMending | None:  # fmt: skip
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
