"""Durable events: what somebody wrote in a conversation, as programs get it.

A message is one, and so is a change of a message (messages.py). They are read from storage with a cursor, in the order
in which they were shown here, come again until they are acknowledged, and are the same after a restart. All other
events are live (events.py). A `repr` shows the writer and the id, never a text. Times are aware datetimes in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from p2pchat.core.log import Entry, LogId, message_id
from p2pchat.messaging.events import aware, iso
from p2pchat.messaging.users import User
from p2pchat.protocol import UserId

if TYPE_CHECKING:
    from p2pchat.core.edits import EntryEdits
    from p2pchat.messaging.conversations import Conversation
    from p2pchat.messaging.history import Viewer


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
    def expelled(self) -> bool:
        """True if it came when its writer was expelled from the network already."""
        return self._came_expelled(self.log.user, self._received_at)

    def _came_expelled(self, user: UserId, received_at: int) -> bool:
        since = self._viewer.directory.expelled.since(user)
        return since is not None and received_at >= since

    @property
    def ref(self) -> str | None:
        """The `ref` given in this run, if it was written here; None without one."""
        return self._viewer._ref_of(self.log, self.seq)

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

    def to_json(self) -> dict[str, Any]:
        """Return the event line as a dict of plain JSON values."""
        conversation = self.conversation
        return {
            "event": self.event, "at": iso(self._received_at), "id": self.id, "conversation": conversation.name,
            "conversation_id": conversation.id, "kind": conversation.kind, **self._fields(conversation),
            **({"expelled": True} if self.expelled else {}),
        }  # fmt: skip

    def _fields(self, conversation: Conversation) -> dict[str, Any]:
        """Return the fields that only some events have."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DurableEvent) and (other.seq, other.log) == (self.seq, self.log)

    def __hash__(self) -> int:
        return hash((self.log, self.seq))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} from {self.by.label!a}>"
