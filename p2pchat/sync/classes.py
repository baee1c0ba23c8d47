"""The classes and functions of p2pchat that wait, for callers without a loop.

Written by `python -m tests.sync.make`; the rules of it are there. The names are those of p2pchat, and so are arguments,
errors and meaning: the docstrings there have more than the first paragraph.
"""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from p2pchat.sync.background import Closeable, EventIterator, Wrapper, call_function

if TYPE_CHECKING:
    import os
    import socket
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path
    from typing import Any

    from p2pchat.backup import Backup, Copied
    from p2pchat.config import Settings
    from p2pchat.core.groups.known_operations import GroupView
    from p2pchat.core.log import LogId, Ref
    from p2pchat.export_file import Exported, Imported, Place
    from p2pchat.messaging.attachments import FileToSend, KeptFile
    from p2pchat.messaging.conversations import DeletedHistory
    from p2pchat.messaging.hosted_user import Users
    from p2pchat.messaging.local_user import Start
    from p2pchat.messaging.users import HostPeer
    from p2pchat.offline import Checked
    from p2pchat.peer import Forgotten
    from p2pchat.peer_resources import PathLike
    from p2pchat.protocol import ConversationId, Naming, PeerId, UserId
    from p2pchat.reachability import Probed
    from p2pchat.runtime.content_worker import Progress

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Attachment(Wrapper):
    """One file of a message."""

    __slots__ = ()
    _of = "p2pchat.messaging.attachments"
    message: Post

    @property
    def name(self) -> str:
        """The name its writer gave it: for display, never a path."""
        return self._get("name")

    @property
    def disk_name(self) -> str:
        """A name for it that is harmless on any disk, whatever its writer called it."""
        return self._get("disk_name")

    @property
    def size(self) -> int:
        """Bytes."""
        return self._get("size")

    @property
    def type(self) -> str:
        """The media type, as its writer says; "" if unknown."""
        return self._get("type")

    @property
    def root(self) -> str:
        """The hash of its content, in hex: equal for equal content."""
        return self._get("root")

    def to_json(self) -> dict[str, Any]:
        """Return it as in the event line of its message."""
        return self._call("to_json")

    @property
    def held_by(self) -> list[User]:
        """The other members who are known to have all of it on their disks, verified; sorted by id."""
        return self._get("held_by")

    def is_here(self) -> bool:
        """Return whether all of it is on this disk and verified. Raises PeerClosed, StorageError."""
        return self._call("is_here")

    def fetch(self, progress: Progress | None = None) -> None:
        """Fetch the content from members who have it; return when all of it is on this disk and verified."""
        self._call("fetch", progress)

    def forget(self) -> None:
        """Remove the content from this disk, for all messages with it; see TCPPeer.forget_file."""
        self._call("forget")

    @property
    def is_forgotten(self) -> bool:
        """True if it was removed from this disk, and not asked for since: it does not come by itself."""
        return self._get("is_forgotten")

    def save(self, path: str | Path, progress: Progress | None = None) -> Path:
        """Fetch it, and write a copy. Return the path of the copy."""
        return self._call("save", path, progress)

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Fetch it, and return its bytes, all in memory."""
        return self._call("read", start, stop)


class Conversation(Wrapper):
    """The room, a direct conversation, or a Group. Two handles with the same id are equal."""

    __slots__ = ()
    _of = "p2pchat.messaging.conversations"
    key: ConversationId
    naming: Naming | None

    @property
    def id(self) -> str:
        """The id as people see it: 52 characters of base32."""
        return self._get("id")

    @property
    def viewer(self) -> Viewer:
        """The TCPPeer, HostedUser or History that made this handle."""
        return self._get("viewer")

    @property
    def kind(self) -> str:
        """`room`, `dm` or `group`; `unknown` for a kind that this version does not know."""
        return self._get("kind")

    @property
    def name(self) -> str:
        """The name to show: `room`, the label of the other user, or the label of the group without `#`."""
        return self._get("name")

    @property
    def plain_name(self) -> str:
        """The name that the owner gave a group; `group` while it is unknown, and for other conversations."""
        return self._get("plain_name")

    @property
    def full_label(self) -> str:
        """The name of a group followed by the beginning of its id, which makes it unique."""
        return self._get("full_label")

    @property
    def address(self) -> str:
        """The address to type: `room`, `@bob`, `#ops`."""
        return self._get("address")

    @property
    def user(self) -> User | None:
        """The other user of a direct conversation, or the own user in one with oneself; None otherwise."""
        return self._get("user")

    def send(self, text: str, reply_to: Post | str | None = None, *, action: bool = False) -> Receipt:
        """Write one message here; see TCPPeer.send."""
        return self._call("send", text, reply_to, action=action)

    def send_many(self, texts: Sequence[str]) -> Receipts:
        """Write many messages here; see TCPPeer.send_many."""
        return self._call("send_many", texts)

    def typing(self, on: bool = True) -> None:
        """Show others that the own user is typing here, or has stopped; see TCPPeer.typing."""
        self._call("typing", on)

    def history(
        self,
        *,
        before: Post | datetime | None = None,
        after: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Message | Sent]:
        """Return messages written here, oldest first; see TCPPeer.history."""
        return self._call("history", before=before, after=after, since=since, limit=limit)

    def messages(self, *, since: datetime | None = None) -> Iterator[Message | Sent]:
        """Iterate over every message written here, oldest first, from `since` on. Reads one page at a time."""
        return self._iterate("messages", since=since)

    def delete_history(self, *, sender: User | str | None = None, before: datetime | None = None) -> DeletedHistory:
        """Delete here what was written in this conversation: its texts leave this disk, for all users of this peer."""
        return self._call("delete_history", sender=sender, before=before)

    def deleted_messages(self) -> list[DeletedMessages]:
        """Return which messages were deleted here with delete_history, in the order of history."""
        return self._call("deleted_messages")


class DeletedMessages(Wrapper):
    """Messages of one user that were deleted here."""

    __slots__ = ()
    _of = "p2pchat.messaging.conversations"
    user: User
    messages: int
    sort_key: tuple[int, str, str, int]


class Event(Wrapper):
    """Base of all live events."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = ""
    at: datetime

    def to_json(self) -> dict[str, Any]:
        """Return the event line as a dict of plain JSON values."""
        return self._call("to_json")


class KnownAddress(Wrapper):
    """An address of another peer."""

    __slots__ = ()
    _of = "p2pchat.offline"
    user: User
    endpoint: str
    answered_at: datetime | None


class MessageRequest(Wrapper):
    """A conversation that waits until the own user writes there or accepts it (LocalUser.requests)."""

    __slots__ = ()
    _of = "p2pchat.messaging.conversations"
    conversation: Conversation
    user: User
    messages: int
    since: datetime
    group: str


class Post(Wrapper):
    """A message; base of Message and Sent. Two with the same id are equal."""

    __slots__ = ()
    _of = "p2pchat.messaging.messages"
    event = ""
    gap: bool
    log: LogId
    old: bool
    place: int
    seq: int

    @property
    def id(self) -> str:
        """The id of the message, the same on every peer."""
        return self._get("id")

    @property
    def viewer(self) -> Viewer:
        """The TCPPeer, HostedUser or History that read it."""
        return self._get("viewer")

    def seen_by(self, viewer: Viewer) -> Message | Sent:
        """Return this message as another user of the same peer sees it."""
        return self._call("seen_by", viewer)

    @property
    def conversation(self) -> Conversation:
        """The conversation in which it was written."""
        return self._get("conversation")

    @property
    def sender(self) -> User:
        """The user who wrote it."""
        return self._get("sender")

    @property
    def text(self) -> str:
        """The latest text; "" for a deleted message and for an `unsupported` kind of entry."""
        return self._get("text")

    @property
    def edited(self) -> bool:
        """True if its writer edited it."""
        return self._get("edited")

    @property
    def deleted(self) -> bool:
        """True if its writer deleted it."""
        return self._get("deleted")

    @property
    def mended_at(self) -> datetime | None:
        """The time it was last edited or deleted, by the writer's clock; None if it never was."""
        return self._get("mended_at")

    @property
    def mended_by(self) -> tuple[LogId, int] | None:
        """The entry that last edited or deleted it, as log and number; None if there is none."""
        return self._get("mended_by")

    @property
    def mended_id(self) -> str | None:
        """The id of that entry, for TCPPeer.receipt; None if there is none."""
        return self._get("mended_id")

    @property
    def reactions(self) -> dict[str, list[User]]:
        """The users who reacted, by reaction, the first reaction first; {} for a deleted message."""
        return self._get("reactions")

    def reaction_of(self, user: User) -> tuple[LogId, int] | None:
        """Return the entry of a user's present reaction, as log and number; None without a reaction."""
        return self._call("reaction_of", user)

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The files of the message, at most 10; () for a deleted one."""
        return self._get("attachments")

    @property
    def action(self) -> bool:
        """True for a /me."""
        return self._get("action")

    @property
    def automatic(self) -> bool:
        """True if a program wrote it by itself, as a bot that says that it failed: a program does not answer it."""
        return self._get("automatic")

    @property
    def unsupported(self) -> str | None:
        """The kind of an entry that this version does not know: show "unsupported"; None for a message."""
        return self._get("unsupported")

    @property
    def sent_at(self) -> datetime:
        """The time it was written, by the writer's clock."""
        return self._get("sent_at")

    @property
    def claimed_at(self) -> datetime | None:
        """The time it was written, as claimed by the writer's program; None without a claim. It affects no order."""
        return self._get("claimed_at")

    @property
    def received_at(self) -> datetime:
        """The time this peer received it."""
        return self._get("received_at")

    @property
    def at(self) -> datetime:
        """The time this peer received it."""
        return self._get("at")

    @property
    def came(self) -> datetime | None:
        """The time this peer received it, if that was more than 10 minutes after `sent_at`; otherwise None."""
        return self._get("came")

    @property
    def reply_to(self) -> str | None:
        """The id of the message that it answers; None if it answers none."""
        return self._get("reply_to")

    @property
    def after(self) -> tuple[str, ...]:
        """The ids of the newest messages of others that its writer had seen, at most two."""
        return self._get("after")

    @property
    def follows(self) -> tuple[Ref, ...]:
        """The entries that are shown before it: those its writer had seen, the one it answers, the writer's own."""
        return self._get("follows")

    @property
    def sort_key(self) -> tuple[int, str, str, int]:
        """Its position in the history of its conversation, the same on every peer."""
        return self._get("sort_key")

    def mark_read(self) -> None:
        """Mark everything in the conversation up to this message as read; writers get a receipt."""
        self._call("mark_read")

    def reply(self, text: str) -> Receipt:
        """Answer in the same conversation; raises as Conversation.send."""
        return self._call("reply", text)

    def edit(self, text: str) -> Receipt:
        """Replace the text for everyone; see TCPPeer.edit. Returns the receipt of the edit."""
        return self._call("edit", text)

    def delete(self) -> Receipt:
        """Delete the message for everyone; see TCPPeer.delete. Raises as edit."""
        return self._call("delete")

    def react(self, reaction: str) -> Receipt:
        """React with at most 8 characters, which replace the own former reaction; "" removes that."""
        return self._call("react", reaction)

    def to_json(self) -> dict[str, Any]:
        """Return the event line as a dict of plain JSON values."""
        return self._call("to_json")


class Receipt(Wrapper):
    """The receipt of one message, which is accepted: stored on this disk."""

    __slots__ = ()
    _of = "p2pchat.messaging.receipts"
    log: LogId
    seq: int

    @property
    def id(self) -> str:
        """The id of the message, the same on every peer."""
        return self._get("id")

    @property
    def of(self) -> list[User]:
        """The members it is for: the other user; in the room all who were online when it was accepted; [] for none."""
        return self._get("of")

    @property
    def delivered_to(self) -> list[User]:
        """The users whose peers are known to have it on disk."""
        return self._get("delivered_to")

    @property
    def missing(self) -> list[User]:
        """The members in `of` who are not known to have it yet."""
        return self._get("missing")

    @property
    def read_by(self) -> list[User]:
        """The users who are known to have read it. Users who turned read receipts off are never among them."""
        return self._get("read_by")

    @property
    def files_delivered_to(self) -> list[User]:
        """The users known to have all files of the message on disk, verified; [] for a message without files."""
        return self._get("files_delivered_to")

    @property
    def status(self) -> str:
        """`read` or `delivered` if that is true of all members in `of` (of any user if `of` is empty), else
        `accepted`.
        """
        return self._get("status")

    @property
    def by_member(self) -> dict[User, str]:
        """The status for each user: `accepted`, `delivered` or `read`, of all in `of` and all others who have it."""
        return self._get("by_member")

    def delivered(
        self, *, by: User | str | None = None, count: int | None = None, timeout: float | None = None
    ) -> None:
        """Wait until the message is stored on the disks of others."""
        self._call("delivered", by=by, count=count, timeout=timeout)

    def read(self, *, by: User | str | None = None, count: int | None = None, timeout: float | None = None) -> None:
        """Wait until the message is marked as read. Arguments and errors are those of `delivered`."""
        self._call("read", by=by, count=count, timeout=timeout)

    def files_delivered(
        self, *, by: User | str | None = None, count: int | None = None, timeout: float | None = None
    ) -> None:
        """Wait until all files of the message are on the disks of others, whole and verified."""
        self._call("files_delivered", by=by, count=count, timeout=timeout)

    def stored_by(self, *peers: str, timeout: float | None = None) -> None:
        """Wait until one of these peers has the message on its disk: another one that acts for the writer."""
        self._call("stored_by", *peers, timeout=timeout)


class RefusedMessages(Wrapper):
    """Messages of a user's program that this version does not take."""

    __slots__ = ()
    _of = "p2pchat.offline"
    user: User
    kind: str
    after: datetime | None
    reason: str


class StoredFile(Wrapper):
    """Content on the disk of a peer, whole or a part of it."""

    __slots__ = ()
    _of = "p2pchat.messaging.stored_files"
    root: str
    size_bytes: int
    is_whole: bool
    attachments: tuple[Attachment, ...]
    messages: int
    came_at: datetime | None

    @property
    def name(self) -> str:
        """The name of the newest attachment with it, which is only a name; "" if there is none."""
        return self._get("name")

    @property
    def held_by(self) -> list[User]:
        """The members of its conversations who are known to have it too, on other disks."""
        return self._get("held_by")

    @property
    def is_only_here(self) -> bool:
        """True if all of it is here, and nobody else is known to have it."""
        return self._get("is_only_here")


class User(Wrapper):
    """A user. Two with the same id are equal; name, label and status are those of the present moment."""

    __slots__ = ()
    _of = "p2pchat.messaging.users"
    key: UserId

    @property
    def id(self) -> str:
        """The id as people see it: 52 characters of base32."""
        return self._get("id")

    @property
    def name(self) -> str:
        """The name in the newest profile; "" while it is unknown."""
        return self._get("name")

    @property
    def about(self) -> str:
        """The `about` text of the user's newest profile; "" for none."""
        return self._get("about")

    @property
    def label(self) -> str:
        """The name to show, with the beginning of the id if another user's name looks like it."""
        return self._get("label")

    @property
    def is_me(self) -> bool:
        """True for the own user."""
        return self._get("is_me")

    @property
    def ignored(self) -> bool:
        """True if the own user ignores or blocks this one (TCPPeer.ignore, TCPPeer.block), so it is not shown."""
        return self._get("ignored")

    @property
    def blocked(self) -> bool:
        """True if the own user blocks this one (TCPPeer.block)."""
        return self._get("blocked")

    @property
    def status(self) -> str:
        """online, idle, offline, or unknown if nothing was heard of the user since this peer started."""
        return self._get("status")

    @property
    def status_text(self) -> str:
        """The text shown with the status; "" for none."""
        return self._get("status_text")

    @property
    def since(self) -> datetime | None:
        """Since when the status holds, by the user's own clock; None if unknown, or if nobody has set one there."""
        return self._get("since")


class Viewer(Wrapper):
    """One user who reads. What only a running peer does raises PeerClosed here; LocalUser overrides it."""

    __slots__ = ()
    _of = "p2pchat.messaging.history"

    @property
    def me(self) -> User:
        """The own user."""
        return self._get("me")

    def users(self) -> list[User]:
        """Return all users with a name, sorted by label; the own user too."""
        return self._call("users")

    def blocked(self) -> list[User]:
        """Return the blocked users, sorted by label."""
        return self._call("blocked")

    def ignores(self, id: str) -> bool:
        """Return whether the user with this id, as in event lines, is ignored or blocked."""
        return self._call("ignores", id)

    @property
    def room(self) -> Conversation:
        """The conversation of everyone; UnknownName while there is none."""
        return self._get("room")

    def conversations(self) -> list[Conversation]:
        """Return all known conversations, the room first, then sorted by name."""
        return self._call("conversations")

    def conversation(self, key: ConversationId) -> Conversation:
        """Return the one handle of a conversation, by its id in hex (`Conversation.key`)."""
        return self._call("conversation", key)

    def find(self, to: To) -> Conversation:
        """Return the conversation that an address names: `room`, `bob`, `@bob`, `bob#K7QF2M3P`, `#ops`, a full id."""
        return self._call("find", to)

    def requests(self) -> list[MessageRequest]:
        """Return the conversations that wait until the own user writes there or accepts them, the oldest first."""
        return self._call("requests")

    def groups(self) -> list[Group]:
        """Return the known groups, sorted by name, also those left or removed from (see Group.is_member)."""
        return self._call("groups")

    def history(
        self,
        conversation: To | None = None,
        *,
        before: Post | datetime | None = None,
        after: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Message | Sent]:
        """Return messages, oldest first."""
        return self._call("history", conversation, before=before, after=after, since=since, limit=limit)

    def search(
        self,
        words: str,
        conversation: To | None = None,
        *,
        sender: User | str | None = None,
        before: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 50,
        progress: Progress | None = None,
    ) -> list[Message | Sent]:
        """Return the newest messages that contain all of these words, oldest first."""
        return self._call(
            "search", words, conversation, sender=sender, before=before, since=since, limit=limit, progress=progress
        )

    def message(self, message_id: str) -> Message | Sent:
        """Return one message by its id, as in `reply_to` and `after`."""
        return self._call("message", message_id)

    def written_before(self, message_id: str) -> datetime | None:
        """Return when the newest entry here was written of those that precede a message in its log; None for none."""
        return self._call("written_before", message_id)

    def deleted_messages(self, conversation: To | None = None) -> list[DeletedMessages]:
        """Return which messages were deleted here with Conversation.delete_history, in the order of history."""
        return self._call("deleted_messages", conversation)

    def missing(self, post: Post) -> Gap | None:
        """Return which entries that a message follows are not here, and who had them; None if none is missing."""
        return self._call("missing", post)

    def send(self, to: Conversation, text: str, reply_to: Post | str | None = None, *, action: bool = False) -> Receipt:
        """Write one message; see TCPPeer.send."""
        return self._call("send", to, text, reply_to, action=action)

    def send_many(self, to: Conversation, texts: Sequence[str]) -> Receipts:
        """Write many messages; see TCPPeer.send_many."""
        return self._call("send_many", to, texts)

    def edit(self, message: Post | str, text: str) -> Receipt:
        """Replace the text of one's own message; see TCPPeer.edit."""
        return self._call("edit", message, text)

    def delete(self, message: Post | str) -> Receipt:
        """Delete one's own message; see TCPPeer.delete."""
        return self._call("delete", message)

    def delete_history(
        self, conversation: To, *, sender: User | str | None = None, before: datetime | None = None
    ) -> DeletedHistory:
        """Delete what was written in a conversation; call Conversation.delete_history instead."""
        return self._call("delete_history", conversation, sender=sender, before=before)

    def react(self, message: Post | str, reaction: str) -> Receipt:
        """React to a message; see TCPPeer.react."""
        return self._call("react", message, reaction)

    def typing(self, to: Conversation, on: bool = True) -> None:
        """Show that the own user is typing; see TCPPeer.typing."""
        self._call("typing", to, on)

    def mark_read(self, post: ShownEntry) -> None:
        """Mark messages as read; see Message.mark_read."""
        self._call("mark_read", post)


class Whois(Wrapper):
    """Facts about one user."""

    __slots__ = ()
    _of = "p2pchat.messaging.users"
    user: User
    names_before: tuple[str, ...]
    known_since: datetime | None
    allowed: bool
    hosts: tuple[HostPeer, ...]


class Failed(Event):
    """Something that was asked for was refused after the call had returned."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "error"
    code: str
    text: str
    about: str
    ref: str | None


class FileEvent(Event):
    """Base of FileProgress, FileArrived and FileReceipt: what becomes of a file of a message."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    log: LogId
    seq: int
    name: str
    size: int
    root: str

    @property
    def id(self) -> str:
        """The id of the message."""
        return self._get("id")


class Gap(Event):
    """A message was shown although entries it follows are missing."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "gap"
    about: str
    missing: tuple[str, ...]
    last_seen_with: tuple[str, ...]

    @property
    def text(self) -> str:
        """The gap as a sentence, without `last_seen_with`."""
        return self._get("text")


class Group(Conversation):
    """A conversation with members. Its name and members are those of the present moment."""

    __slots__ = ()
    _of = "p2pchat.messaging.groups"

    @property
    def group_key(self) -> ConversationId:
        """The id (hex) of the conversation that holds the group's operations; `key` is that of its messages."""
        return self._get("group_key")

    @property
    def view(self) -> GroupView | None:
        """The state of the group in the core; None while nothing is known of it here."""
        return self._get("view")

    @property
    def owner(self) -> User | None:
        """The user who may change the group; None while the group is unknown here."""
        return self._get("owner")

    @property
    def members(self) -> list[User]:
        """The present members, sorted by label; [] while nothing is known of the group here."""
        return self._get("members")

    @property
    def is_member(self) -> bool:
        """True if the own user is a member."""
        return self._get("is_member")

    def add(self, *who: Who) -> None:
        """Add members; they receive the whole history. Name a user who was never met by the full id."""
        self._call("add", *who)

    def remove(self, *who: Who) -> None:
        """Remove members. A peer that knows of the removal does not show what they write after it."""
        self._call("remove", *who)

    def rename(self, name: str) -> None:
        """Change the name; raises ValueError for an invalid one."""
        self._call("rename", name)

    def hand_over(self, who: Who) -> None:
        """Make a member the owner."""
        self._call("hand_over", who)

    def leave(self) -> None:
        """Leave the group. An owner hands it over first."""
        self._call("leave")


class GroupChanged(Event):
    """A group changed."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "group"
    group: Group
    change: str
    by: User
    target: User | None
    members: tuple[User, ...]
    name: str
    former: str
    log: LogId
    seq: int

    @property
    def audience(self) -> tuple[UserId, ...]:
        """The ids of the users concerned: the members, the one who did it, and the target."""
        return self._get("audience")

    @property
    def entry_id(self) -> str:
        """The id of the entry that did it."""
        return self._get("entry_id")


class History(Viewer, Closeable):
    """The history of a peer that need not run, read-only: `with open_history(data) as history`."""

    __slots__ = ()
    _of = "p2pchat.offline"

    @property
    def room(self) -> Conversation:
        """The conversation of everyone, even if nothing was written there."""
        return self._get("room")

    def names_before(self, user: User) -> tuple[str, ...]:
        """Return the former names of a user, the newest first."""
        return self._call("names_before", user)

    def addresses(self) -> list[KnownAddress]:
        """Return the known addresses of other peers, those that answered last first."""
        return self._call("addresses")

    def refused(self) -> list[RefusedMessages]:
        """Return what is refused here, by user. A version that takes it fetches it when it runs."""
        return self._call("refused")

    def check(self) -> Checked:
        """Read the whole database and return whether it is damaged. Cancelling stops it."""
        return self._call("check")

    def export(
        self,
        to: Place,
        conversation: To | None = None,
        *,
        files: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> Exported:
        """Write what is stored into a file that another peer of this network can import; see TCPPeer.export."""
        return self._call("export", to, conversation, files=files, progress=progress)


class Joined(Event):
    """A user came online."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "joined"
    user: User
    first: bool
    address: str


class Left(Event):
    """The last link to a user is gone."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "left"
    user: User
    reason: str


class Link(Event):
    """The state of a link to a peer changed. Fields that are unknown are ""."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "link"
    peer: PeerId
    endpoint: str
    state: str
    reason: str
    code: str
    address: str


class Listening(Event):
    """The peer accepts connections: the first event of every run."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "listening"
    version: str
    host: str
    port: int
    peer_id: str
    user: User
    data: str
    network: str
    newest_own: str | None


class LocalUser(Viewer):
    """One user of a running peer."""

    __slots__ = ()
    _of = "p2pchat.messaging.local_user"

    @property
    def name_timeout(self) -> float:
        """Seconds for which calls wait now for a name that is not known yet, such as the receiver of a message."""
        return self._get("name_timeout")

    def when_known(self, find: Callable[[], T]) -> T:
        """Return what `find` returns; while it raises UnknownName, wait for names and groups as long as
        `name_timeout`.
        """
        return self._call("when_known", find)

    @property
    def room(self) -> Conversation:
        """The conversation of everyone. UnknownName in an open network while no other peer has been met."""
        return self._get("room")

    def recent_conversations(self) -> list[Conversation]:
        """Return all known conversations, the one with the newest message first."""
        return self._call("recent_conversations")

    def create_group(self, name: str, members: Sequence[Who] = ()) -> Group:
        """Create a group owned by the own user; returns when it is accepted."""
        return self._call("create_group", name, members)

    def group(self, address: str) -> Group:
        """Return the group that an address names: `#ops`, `ops`, `#ops#K7QF2M3P`."""
        return self._call("group", address)

    def send(
        self,
        to: To,
        text: str,
        reply_to: Post | str | None = None,
        *,
        action: bool = False,
        ref: str | None = None,
        claimed_at: datetime | None = None,
        files: Sequence[FileToSend] = (),
        automatic: bool = False,
    ) -> Receipt:
        """Write one message; returns when it is accepted: stored on this disk, safe from a crash."""
        return self._call(
            "send", to, text, reply_to, action=action, ref=ref, claimed_at=claimed_at, files=files, automatic=automatic
        )

    def keep_file(self, file: FileToSend, *, type: str = "", size: int = 0) -> KeptFile:
        """Copy the content of a file to this disk, for messages that are sent later; see send."""
        return self._call("keep_file", file, type=type, size=size)

    def broadcast(self, text: str) -> Receipt:
        """Write one message to the room; see send."""
        return self._call("broadcast", text)

    def send_many(self, to: To, texts: Sequence[str]) -> Receipts:
        """Write many messages in order; returns when all are accepted. Much faster than one `send` after another."""
        return self._call("send_many", to, texts)

    def edit(self, message: Post | str, text: str, *, ref: str | None = None) -> Receipt:
        """Replace the text of one's own message, for everyone."""
        return self._call("edit", message, text, ref=ref)

    def delete(self, message: Post | str, *, ref: str | None = None) -> Receipt:
        """Delete one's own message for everyone. Its text is no longer shown, though logs keep it. See edit."""
        return self._call("delete", message, ref=ref)

    def delete_history(
        self, conversation: To, *, sender: User | str | None = None, before: datetime | None = None
    ) -> DeletedHistory:
        """Delete here what was written in a conversation; see Conversation.delete_history."""
        return self._call("delete_history", conversation, sender=sender, before=before)

    def react(self, message: Post | str, reaction: str, *, ref: str | None = None) -> Receipt:
        """React to a message with at most 8 characters, which replace the own former reaction; "" removes that."""
        return self._call("react", message, reaction, ref=ref)

    def typing(self, to: To, on: bool = True) -> None:
        """Show the readers of a conversation that the own user is typing there, or has stopped."""
        self._call("typing", to, on)

    def mark_read(self, post: ShownEntry) -> None:
        """Mark everything in the conversation up to this message as read; see Message.mark_read."""
        self._call("mark_read", post)

    def mark_read_durably(self, post: ShownEntry) -> None:
        """As mark_read, and return when that is on disk; marks made at the same time share a commit."""
        self._call("mark_read_durably", post)

    def receipt(self, message_id: str) -> Receipt:
        """Return the receipt of one's own message, also of an earlier run."""
        return self._call("receipt", message_id)

    @overload
    def events(
        self, *, consumer: str | None = "main", start: Start = "now", ignored: bool = True
    ) -> Events[AnyEvent]: ...
    @overload
    def events(
        self, a: type[A], /, *, consumer: str | None = "main", start: Start = "now", ignored: bool = True
    ) -> Events[A]: ...
    @overload
    def events(
        self, a: type[A], b: type[B], /, *, consumer: str | None = "main", start: Start = "now", ignored: bool = True
    ) -> Events[A | B]: ...
    @overload
    def events(
        self,
        a: type[A],
        b: type[B],
        c: type[C],
        /,
        *,
        consumer: str | None = "main",
        start: Start = "now",
        ignored: bool = True,
    ) -> Events[A | B | C]: ...
    @overload
    def events(
        self,
        a: type[A],
        b: type[B],
        c: type[C],
        d: type[D],
        /,
        *,
        consumer: str | None = "main",
        start: Start = "now",
        ignored: bool = True,
    ) -> Events[A | B | C | D]: ...
    @overload
    def events(
        self,
        a: type[A],
        b: type[B],
        c: type[C],
        d: type[D],
        e: type[E],
        /,
        *,
        consumer: str | None = "main",
        start: Start = "now",
        ignored: bool = True,
    ) -> Events[A | B | C | D | E]: ...
    @overload
    def events(
        self,
        a: type[A],
        b: type[B],
        c: type[C],
        d: type[D],
        e: type[E],
        f: type[F],
        /,
        *,
        consumer: str | None = "main",
        start: Start = "now",
        ignored: bool = True,
    ) -> Events[A | B | C | D | E | F]: ...
    @overload
    def events(
        self,
        a: type[A],
        b: type[B],
        c: type[C],
        d: type[D],
        e: type[E],
        f: type[F],
        g: type[G],
        /,
        *,
        consumer: str | None = "main",
        start: Start = "now",
        ignored: bool = True,
    ) -> Events[A | B | C | D | E | F | G]: ...
    @overload
    def events(
        self,
        a: type[A],
        b: type[B],
        c: type[C],
        d: type[D],
        e: type[E],
        f: type[F],
        g: type[G],
        h: type[H],
        /,
        *,
        consumer: str | None = "main",
        start: Start = "now",
        ignored: bool = True,
    ) -> Events[A | B | C | D | E | F | G | H]: ...
    @overload
    def events(
        self, *types: type[Any], consumer: str | None = "main", start: Start = "now", ignored: bool = True
    ) -> Events[Any]: ...
    def events(
        self, *types: type[Any], consumer: str | None = "main", start: Start = "now", ignored: bool = True
    ) -> Events[Any]:
        """Return an iterator over events."""
        return self._call("events", *types, consumer=consumer, start=start, ignored=ignored)

    def wait_for(
        self, *types: type[Any], where: Callable[[Any], bool] | None = None, timeout: float | None = None
    ) -> Any:
        """Return the first event from now on that is one of `types` and for which `where` returns true."""
        return self._call("wait_for", *types, where=where, timeout=timeout)

    def wait_user(self, name: str, timeout: float | None = None) -> User:
        """Return the user of this name as soon as that user is online."""
        return self._call("wait_user", name, timeout)

    def released(
        self,
        after: Post | datetime | None = None,
        *,
        consumer: str = "main",
        kinds: Collection[str] | None = None,
        limit: int = 500,
    ) -> list[Message | Sent]:
        """Return a page of messages shown after a given one, in the order in which they were shown here; []
        at the end.
        """
        return self._call("released", after, consumer=consumer, kinds=kinds, limit=limit)

    def unread(self, conversation: To, limit: int = 100, *, max_bytes: int = 0) -> list[Message]:
        """Return the messages of others that are not marked as read, in the order in which they were shown here."""
        return self._call("unread", conversation, limit, max_bytes=max_bytes)

    def without_read(self, posts: Iterable[Message | Sent]) -> list[Message]:
        """Return those of these messages that others wrote and this user has not marked as read, by conversation."""
        return self._call("without_read", posts)

    def hand_on(self, post: ShownEntry, consumer: str) -> None:
        """Acknowledge every message up to this one for a consumer; stored soon. It never goes back."""
        self._call("hand_on", post, consumer)


class Many(Event):
    """Numbers of events that were not reported one by one."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "many"
    joined: int
    left: int
    changed: int
    links: int


class Message(Post):
    """A message of another user."""

    __slots__ = ()
    _of = "p2pchat.messaging.messages"
    event = "message"


class MessageChange(Event):
    """Base of Edited, Deleted and Reaction."""

    __slots__ = ()
    _of = "p2pchat.messaging.messages"
    message: Message | Sent
    by: User
    sent_at: datetime
    old: bool
    log: LogId
    seq: int
    place: int
    ref: str | None

    @property
    def conversation(self) -> Conversation:
        """The conversation of the message."""
        return self._get("conversation")

    def mark_read(self) -> None:
        """Mark everything in the conversation up to this change as read; see Message.mark_read."""
        self._call("mark_read")

    @property
    def id(self) -> str:
        """The id of the message."""
        return self._get("id")

    @property
    def entry_id(self) -> str:
        """The id of the edit, deletion or reaction itself, for TCPPeer.receipt."""
        return self._get("entry_id")


class Presence(Event):
    """The presence of a user changed."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "presence"
    user: User
    status: str
    text: str
    since: datetime | None


class ReceiptEvent(Event):
    """Base of Delivered and Read: a receipt of one member for one's own message."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    log: LogId
    seq: int
    user: User
    count: int
    of: int

    @property
    def id(self) -> str:
        """The id of the message."""
        return self._get("id")


class Renamed(Event):
    """A user took another name. Labels (`user.label` is the new one) tell users with the same name apart."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "renamed"
    user: User
    name: str
    before: str
    former: str


class Requested(Event):
    """Somebody to whom the own user never wrote began a direct conversation; at most 20 a second are reported."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "request"
    user: User
    conversation: Conversation
    waits: bool


class Sent(Post):
    """A message of the own user, written here or on another of their peers. It is accepted: stored on this disk."""

    __slots__ = ()
    _of = "p2pchat.messaging.messages"
    event = "sent"

    @property
    def to(self) -> str:
        """The name of the conversation: the room, or the label of the other user."""
        return self._get("to")

    @property
    def ref(self) -> str | None:
        """The `ref` given to send() in this run; None without one."""
        return self._get("ref")

    def to_json(self) -> dict[str, Any]:
        """Return the event line as a dict of plain JSON values, with `to` and `ref`."""
        return self._call("to_json")


class Stopped(Event):
    """The peer was closed gracefully: the last event of a run."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "stopped"
    reason: str


class Typing(Event):
    """A user began or stopped typing in a conversation."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "typing"
    user: User
    conversation: Conversation
    typing: bool


class Undelivered(Event):
    """Entries of the own user that no member of a group gets, since the owner had removed the own user before."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "warning"
    code = "undelivered"
    group: Group
    ids: tuple[str, ...]

    @property
    def text(self) -> str:
        """The warning as a sentence."""
        return self._get("text")


class Warned(Event):
    """A warning about the peer, its disk or another user."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "warning"
    code: str
    text: str
    about: str


class Deleted(MessageChange):
    """A message was deleted by its writer. Its text is no longer shown, though logs keep it."""

    __slots__ = ()
    _of = "p2pchat.messaging.messages"
    event = "deleted"


class Delivered(ReceiptEvent):
    """One's own message is on the disk of a peer that hosts `user`; `count` of `of` members have it."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "delivered"


class Edited(MessageChange):
    """A message was edited."""

    __slots__ = ()
    _of = "p2pchat.messaging.messages"
    event = "edited"
    text: str


class FileArrived(FileEvent):
    """All of a file is on this disk, and verified, whether it came by itself or a program asked for it."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "file_arrived"


class FileProgress(FileEvent):
    """More of a file is here and verified. Reported for each whole percent at most."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "file_progress"
    stored: int


class FileReceipt(FileEvent):
    """A file of one's own message is on the disk of a peer that hosts `user`, all of it and verified; or no more."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "file_receipt"
    user: User
    has: bool
    count: int
    of: int


class NamedUser(LocalUser):
    """A local user with a name and contacts: the own user of a peer, or a hosted user."""

    __slots__ = ()
    _of = "p2pchat.messaging.contacts"

    def here(self) -> list[User]:
        """Return the users who are online or idle, in no order; the own user too, unless it is set to offline."""
        return self._call("here")

    def user(self, address: str) -> User:
        """Return the user that an address names: `bob`, `@bob`, `bob#K7QF2M3P`, or a full id."""
        return self._call("user", address)

    def names_before(self, user: User) -> tuple[str, ...]:
        """Return the former names of a user, the newest first."""
        return self._call("names_before", user)

    def whois(self, who: User | str) -> Whois:
        """Return what is known of a user."""
        return self._call("whois", who)

    def is_at_gateway(self, user: User) -> bool:
        """Return whether a user is hosted by a peer elsewhere that is not the user's own, as far as is known here."""
        return self._call("is_at_gateway", user)

    def rename(self, name: str, about: str | None = None) -> None:
        """Change the own name and the text about oneself. Everyone gets them, also users who join later."""
        self._call("rename", name, about)

    def set_presence(self, status: str, text: str = "") -> None:
        """Show others the status `online`, `idle` or `offline`, with a text."""
        self._call("set_presence", status, text)

    def ignore(self, who: User | str) -> User:
        """Ignore a user, by key and until `unignore`; returns that user."""
        return self._call("ignore", who)

    def unignore(self, who: User | str) -> User:
        """Undo `ignore`; do nothing for a user who is not ignored. Raises as ignore."""
        return self._call("unignore", who)

    def ignored(self) -> list[User]:
        """Return the ignored users, sorted by label."""
        return self._call("ignored")

    def block(self, who: User | str) -> User:
        """Block a user, by key and until `unblock`; returns that user when that is stored."""
        return self._call("block", who)

    def unblock(self, who: User | str) -> User:
        """Undo `block`; do nothing for a user who is not blocked. Everything the user wrote meanwhile arrives."""
        return self._call("unblock", who)

    def accept(self, who: User | str) -> User:
        """Let a user write to the own one: what waits of that user is shown, in order, and the rest fetched."""
        return self._call("accept", who)

    def decline(self, request: MessageRequest) -> None:
        """Leave a group that waits, of which nothing is stored: it is not listed again. Its members are not told."""
        self._call("decline", request)

    def set_request_policy(self, policy: str) -> None:
        """Choose which direct conversations wait that unknown users begin with the own one; stored."""
        self._call("set_request_policy", policy)

    def request_policy(self) -> str:
        """Return which conversations of unknown users wait; see set_request_policy."""
        return self._call("request_policy")

    def set_receipts(self, on: bool | None, who: User | str | None = None) -> None:
        """Exchange read receipts, or neither send nor receive any: with one user, or with everybody."""
        self._call("set_receipts", on, who)

    def receipt_exceptions(self) -> dict[User, bool]:
        """Return the users for whom read receipts are set on or off individually."""
        return self._call("receipt_exceptions")

    def receipts(self, who: User | None = None) -> bool:
        """Return whether read receipts are exchanged with a user; None: with all users without an exception."""
        return self._call("receipts", who)


class Reaction(MessageChange):
    """A user reacted to a message."""

    __slots__ = ()
    _of = "p2pchat.messaging.messages"
    event = "reaction"
    reaction: str


class Read(ReceiptEvent):
    """One's own message was marked as read by `user`; `count` of `of` members have read it."""

    __slots__ = ()
    _of = "p2pchat.messaging.events"
    event = "read"


class Events(EventIterator[T_co], Generic[T_co]):
    """An iterator over events. Cancelling a wait loses nothing; asking for the next event acknowledges the
    one before.
    """

    __slots__ = ()
    _of = "p2pchat.messaging.subscription"

    @property
    def consumer(self) -> str | None:
        """The name under which the cursor is stored; None if it is not stored, or no messages are read."""
        return self._get("consumer")

    def ack(self) -> None:
        """Acknowledge the last event returned; returns when that is on disk, at once if it is already."""
        self._call("ack")

    def hold(self) -> None:
        """Acknowledge nothing from now on: the last event returned and all later ones are repeated next time."""
        self._call("hold")

    def close(self) -> None:
        """Stop reading; another thread that waits for the next event stops."""
        self._call("close")


class HostedUser(NamedUser):
    """One user of a gateway, made by TCPPeer.host. A running peer has one object for each of its users."""

    __slots__ = ()
    _of = "p2pchat.messaging.hosted_user"

    @property
    def key(self) -> UserId:
        """The id in hex, as inside and on the wire."""
        return self._get("key")

    @property
    def name(self) -> str:
        """The name of the user."""
        return self._get("name")

    @property
    def secret(self) -> bytes:
        """The 32 bytes of its private key, for hosting it on another gateway too. Keep them secret."""
        return self._get("secret")

    @property
    def is_hosted(self) -> bool:
        """True while the peer hosts the user; false after TCPPeer.unhost."""
        return self._get("is_hosted")

    @property
    def is_hosted_elsewhere(self) -> bool:
        """True if another peer hosts the user, too, or did at some time since both this peer and the user are here."""
        return self._get("is_hosted_elsewhere")

    @property
    def other_hosts(self) -> frozenset[str]:
        """The ids of these other peers, as people see them. Raises PeerClosed."""
        return self._get("other_hosts")

    def compared(self, timeout: float) -> bool:
        """Wait until this peer has the user's conversations as another peer that hosts the user has them."""
        return self._call("compared", timeout)

    def deliver_when_taken(
        self, consumer: str, hears: Hears | None = None, is_shared: Callable[[], bool] | None = None
    ) -> None:
        """Report direct and group messages of users of this peer as delivered to this user when they are taken."""
        self._call("deliver_when_taken", consumer, hears, is_shared)

    def keep_receipt(self, event: ReceiptEvent) -> None:
        """Keep a receipt that no client of the user heard, for kept_receipts()."""
        self._call("keep_receipt", event)

    def kept_receipts(self, is_heard: Callable[[], bool] = lambda: True) -> Iterator[ReceiptEvent]:
        """Return the receipts since those that were kept, one a message and step, and keep them no longer."""
        return self._iterate("kept_receipts", is_heard)

    def post(self, event: T) -> T | Message | Sent:
        """Return an event of TCPPeer.everybody as this user sees it."""
        return self._call("post", event)


class TCPPeer(NamedUser, Closeable):
    """A running peer, with one user of its own, and as many others as it hosts."""

    __slots__ = ()
    _of = "p2pchat.peer"

    def __init__(
        self,
        port: int = 0,
        *endpoints: str | int,
        name: str | None = None,
        host: str = "127.0.0.1",
        data: PathLike | None = None,
        temporary: bool = False,
        key: PathLike | None = None,
        db: str | None = None,
        invite: str | None = None,
        open: bool = False,
        advertise: str | None = None,
        discover: bool = False,
        engine: str | Sequence[str] | None = None,
        engine_credentials: PathLike | None = None,
        listen: bool | socket.socket = True,
        trace: PathLike | None = None,
        trace_texts: bool = False,
        settings: Settings | None = None,
    ) -> None:
        self._make(
            port,
            *endpoints,
            name=name,
            host=host,
            data=data,
            temporary=temporary,
            key=key,
            db=db,
            invite=invite,
            open=open,
            advertise=advertise,
            discover=discover,
            engine=engine,
            engine_credentials=engine_credentials,
            listen=listen,
            trace=trace,
            trace_texts=trace_texts,
            settings=settings,
        )

    def start(self, *, timeout: float | None = None) -> None:
        """Listen, and link with the endpoints."""
        self._call("start", timeout=timeout)

    def close(self, reason: str = "closed") -> None:
        """Leave in good order: messages written are stored, every peer gets a goodbye, nothing stays open."""
        self._call("aclose", reason)

    @property
    def port(self) -> int:
        """The port it listens on; before start() the one asked for."""
        return self._get("port")

    @property
    def address(self) -> str:
        """The address it listens on."""
        return self._get("address")

    @property
    def endpoint(self) -> str:
        """The endpoint "host:port" by which others on this machine or network reach it; "" if nobody can."""
        return self._get("endpoint")

    @property
    def engine(self) -> str | None:
        """The URL of the engine's server that is connected, "" while there is none; None without an engine."""
        return self._get("engine")

    @property
    def invite(self) -> str:
        """One line that admits others to this network and says where this peer is. Its holders can invite, too."""
        return self._get("invite")

    @property
    def data(self) -> Path | None:
        """The data directory; None when everything is in memory."""
        return self._get("data")

    @property
    def is_open(self) -> bool:
        """True if the network has no key."""
        return self._get("is_open")

    @property
    def listening(self) -> Listening:
        """The first event of this run."""
        return self._get("listening")

    def links(self) -> list[str]:
        """Return the ids (base32) of the peers that are linked now."""
        return self._call("links")

    def connect(self, endpoint: str | int, *, timeout: float | None = None) -> bool:
        """Link with a peer, which is dialled until it answers. Returns whether the first attempt succeeded."""
        return self._call("connect", endpoint, timeout=timeout)

    def forget(self, who: User | str | int) -> Forgotten:
        """Forget where a peer is. It is not dialled, now or after a restart, until it is named or reported again."""
        return self._call("forget", who)

    def allow(self, who: User | str) -> User:
        """Store everything this user writes, without a limit, from now on; messages refused before arrive too."""
        return self._call("allow", who)

    def stored_files(
        self, *, before: datetime | None = None, keep_bytes: int | None = None, held_only: bool = False
    ) -> list[StoredFile]:
        """Return the files that take space on this disk, of all users that are hosted here, the largest first."""
        return self._call("stored_files", before=before, keep_bytes=keep_bytes, held_only=held_only)

    def forget_files(
        self, *, before: datetime | None = None, keep_bytes: int | None = None, held_only: bool = False
    ) -> list[StoredFile]:
        """Remove content from this disk, what came longest ago first; return what went, the largest first."""
        return self._call("forget_files", before=before, keep_bytes=keep_bytes, held_only=held_only)

    def forget_file(self, root: str) -> int:
        """Remove the content with this root from this disk, whatever names it; return how many bytes that frees."""
        return self._call("forget_file", root)

    @property
    def counted(self) -> dict[str, int]:
        """The counters of the core in this run, and those of connections, for tests and diagnostics."""
        return self._get("counted")

    def round_trip(self) -> None:
        """Pass once through the core and the disk; returns when both have answered."""
        self._call("round_trip")

    @property
    def hosted(self) -> list[HostedUser]:
        """The users hosted beside the peer's own, in the order in which they were hosted."""
        return self._get("hosted")

    def host(
        self,
        name: str,
        *,
        key: bytes | None = None,
        tokens: Mapping[bytes, str] | None = None,
        when_taken: bool = False,
    ) -> HostedUser:
        """Host one more user, now and after every start; returns when that is stored."""
        return self._call("host", name, key=key, tokens=tokens, when_taken=when_taken)

    def unhost(self, user: HostedUser, *, tokens: Mapping[bytes, str] | None = None) -> None:
        """Stop hosting a user and delete its key. Its messages stay. Nothing happens if it is not hosted."""
        self._call("unhost", user, tokens=tokens)

    def set_tokens(self, user: HostedUser | UserId, tokens: Mapping[bytes, str]) -> None:
        """Store the tokens by which programs may act for a hosted user, in place of the former ones."""
        self._call("set_tokens", user, tokens)

    def tokens(self) -> dict[UserId, dict[bytes, str]]:
        """Return the hashes of tokens with their labels, by the ids (hex) of the users, former ones too."""
        return self._call("tokens")

    def acquainted(self, user: User) -> list[User]:
        """Return the users who share a direct conversation or a group with a user, as far as known here, in
        no order.
        """
        return self._call("acquainted", user)

    def everybody(self, *types: type[Any]) -> Events[tuple[AnyEvent, Users]]:
        """Return an iterator over the events of all hosted users: `(event, users)`, each event once for all of them."""
        return self._call("everybody", *types)

    def export(
        self,
        to: Place,
        conversation: To | None = None,
        *,
        files: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> Exported:
        """Write what is stored into a file that another peer of this network can import."""
        return self._call("export", to, conversation, files=files, progress=progress)

    def import_from(
        self, source: Place, *, files: bool = True, progress: Callable[[int], None] | None = None
    ) -> Imported:
        """Import a file that `export` wrote. Every entry is checked as if it came over a link."""
        return self._call("import_from", source, files=files, progress=progress)


class Receipts(Wrapper, Sequence[Receipt]):
    """The receipts of send_many, in the order of the texts; each is made on access."""

    __slots__ = ()
    _of = "p2pchat.messaging.receipts"

    def __len__(self) -> int:
        return self._call("__len__")

    @overload
    def __getitem__(self, index: int) -> Receipt: ...
    @overload
    def __getitem__(self, index: slice) -> list[Receipt]: ...
    def __getitem__(self, index: int | slice) -> Receipt | list[Receipt]:
        return self._call("__getitem__", index)

    def delivered(self, *, timeout: float | None = None) -> None:
        """Wait until every message is delivered; see Receipt.delivered."""
        self._call("delivered", timeout=timeout)

    def read(self, *, timeout: float | None = None) -> None:
        """Wait until every message is read; see Receipt.read."""
        self._call("read", timeout=timeout)


def backup_profile(
    data: PathLike | int,
    to: PathLike,
    *,
    db: str | None = None,
    files: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Backup:
    """Copy key, network (also that of the login), database and files of a profile. Its peer may be running."""
    return call_function("p2pchat.backup", "backup_profile", data, to, db=db, files=files, progress=progress)


def copy_database(source: PathLike, target: PathLike, *, progress: Callable[[int, int], None] | None = None) -> Copied:
    """Copy one database into another one, which must be empty; neither may be in use."""
    return call_function("p2pchat.backup", "copy_database", source, target, progress=progress)


def import_into(
    data: PathLike | int,
    source: Place,
    *,
    db: str | None = None,
    files: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Import a file into a peer that is not running; see TCPPeer.import_from. Others get new entries when it runs."""
    return call_function("p2pchat.offline", "import_into", data, source, db=db, files=files, progress=progress)


def open_alone(data: PathLike | int, *, db: str | None = None) -> TCPPeer:
    """Return a peer for an existing profile that neither listens nor dials, to read and change the profile."""
    return call_function("p2pchat.offline", "open_alone", data, db=db)


def open_history(data: str | os.PathLike[str] | int, *, db: str | None = None) -> History:
    """Return the history of a peer, which may be running: `with open_history(data) as history`."""
    return call_function("p2pchat.offline", "open_history", data, db=db)


def probe(endpoint: str | int, *, data: str | os.PathLike[str] | int | None = None, timeout: float = 5.0) -> Probed:
    """Return who answers at an endpoint, and whether a peer from here could link with it. Nothing is stored."""
    return call_function("p2pchat.reachability", "probe", endpoint, data=data, timeout=timeout)


if TYPE_CHECKING:  # the names that arguments have in p2pchat
    AnyEvent = Event | Message | Sent
    Hears = Callable[[type[ReceiptEvent]], bool]
    ShownEntry = Post | MessageChange
    To = User | Conversation | str
    Who = User | str
