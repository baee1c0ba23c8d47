"""Reading: users, conversations and stored messages, as one user sees them.

Viewer is the base of LocalUser, for users of a running peer, and of History (offline.py). Histories have one order, the
same on every peer: (clock, user, run, seq). Search is in search.py; messages as they are shown, with a durable cursor,
are in subscription.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from p2pchat.core.durable_changes import LogKey
from p2pchat.core.log import CLOCK_AHEAD, LogId, Ref, decode_entry, ref_key, referred_id
from p2pchat.core.sync.known_conversations import dm_id, dm_naming
from p2pchat.errors import PeerClosed, UnknownName
from p2pchat.kinds import HEADS
from p2pchat.messaging.access_policy import AccessPolicy
from p2pchat.messaging.conversations import Conversation, DeletedMessages, Group, GroupDirectory
from p2pchat.messaging.events import Gap, micros_of
from p2pchat.messaging.messages import (
    DurableEvent,
    Message,
    Post,
    Sent,
    key_of,
    parse_message_id,
    position_of,
    post_of,
    sort_key,
    users_with,
)
from p2pchat.messaging.search_indexer import Progress, SearchRequest, search_messages
from p2pchat.messaging.users import User, UserDirectory, by_label, id_of
from p2pchat.protocol import ConversationId, Naming, UserId
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.storage.search_words import parse_query

if TYPE_CHECKING:
    from p2pchat.messaging.local_user import LocalUser
    from p2pchat.messaging.search_indexer import SearchIndexer
    from p2pchat.storage.sql_storage import SqlStorage

ALL_AT_ONCE = 2000  # entries read at once when there is no limit
LAST_CHANGED = 200  # messages that were pinned or unpinned; a guess
MOST_AT_HEAD = 30  # the longest fill an answer of a gateway
AHEAD_PART = 4  # of the newest messages: most that may be stamped ahead of the present; a guess
CLOCKS_DIFFER = timedelta(microseconds=CLOCK_AHEAD)

T = TypeVar("T")
To = User | Conversation | str


class StorageReader(Protocol):
    """A storage, and the thread that reads it."""

    @property
    def storage(self) -> SqlStorage: ...

    async def read(self, run: Callable[[], T]) -> T:
        """Run a function in the thread, and return its result."""


class Viewer:
    """One user who reads. What only a running peer does, LocalUser does (`_local_user`).

    Attributes:
        directory: The users known here, as this one sees them; `directory.me` is its own id (hex).
    """

    __slots__ = ("__weakref__", "_access", "_directs", "_groups", "_handles", "directory")

    def __init__(self, people: UserDirectory, groups: GroupDirectory, access: AccessPolicy) -> None:
        self.directory: UserDirectory = people
        self._access = access
        self._groups = groups.seen_by(access.knows)
        self._handles: dict[ConversationId, Conversation] = {}
        self._directs: dict[UserId, Conversation] = {}  # of these, by the other user

    # ---- where it reads

    @property
    def _disk(self) -> StorageReader:
        """The stored entries; raises PeerClosed before they can be read, and when they cannot be read any more."""
        raise NotImplementedError

    @property
    def _indexer(self) -> SearchIndexer:
        """The search index; raises PeerClosed as `_disk` does."""
        raise NotImplementedError

    def _keys(self) -> Collection[ConversationId]:
        """Return the ids of the user's conversations, without those of group facts."""
        raise NotImplementedError

    def _open_direct(self, naming: Naming) -> None:
        """Begin a direct conversation that is not known yet."""

    def _require_known(self) -> None:
        """Raise PeerClosed before the ids of the peer's users are known."""

    def is_at_gateway(self, user: User) -> bool:
        """Return whether a user is at a gateway elsewhere; no stored history knows of one."""
        return False

    @property
    def _local_user(self) -> LocalUser:
        """This as a user of a running peer; raises PeerClosed for a stored history."""
        raise PeerClosed("this history is read-only: start a peer to write, and to fetch files")

    # ---- users

    @property
    def me(self) -> User:
        """The own user."""
        self._require_known()
        return self.directory.user(self.directory.me)

    def users(self) -> list[User]:
        """Return all users with a name, sorted by label; the own user too."""
        self._require_known()
        return self.directory.all()

    def blocked(self) -> list[User]:
        """Return the blocked users, sorted by label."""
        self._require_known()
        return list(by_label(map(self.directory.user, self.directory.blocked)))

    def ignores(self, id: str) -> bool:
        """Return whether the user with this id, as in event lines, is ignored or blocked."""
        return self.directory.ignores(id)

    # ---- conversations

    @property
    def room(self) -> Conversation:
        """The conversation of everyone; UnknownName while there is none."""
        raise NotImplementedError

    def conversations(self) -> list[Conversation]:
        """Return all known conversations, the room first, then sorted by name."""
        known = map(self.conversation, filter(self._access.knows, self._keys()))
        return sorted(known, key=lambda one: (one.kind != "room", one.name.casefold()))

    def conversation(self, key: ConversationId) -> Conversation:
        """Return the one handle of a conversation, by its id in hex (`Conversation.key`); known or not."""
        found = self._handles.get(key)
        if found is None or found.naming is None:
            naming = self._access.naming(key)
            kind = Group if naming is not None and naming.talk else Conversation
            found = self._handles[key] = kind(self, key, naming)
        return found

    def find(self, to: To) -> Conversation:
        """Return the conversation that an address names: `room`, `bob`, `@bob`, `bob#K7QF2M3P`, `#ops`, a full id.

        Raises:
            UnknownName: No user and no conversation has this name.
            AmbiguousName: Several have; `.candidates` are labels that tell them apart.
        """
        self._require_known()
        if isinstance(to, Conversation):
            return to if to.viewer is self else self.conversation(to.key)
        if isinstance(to, User):
            return self._direct(to)
        if not isinstance(to, str):
            raise TypeError(f"a message goes to a name, a User or a Conversation, not {type(to).__name__}")
        text = to.strip()
        if text.lower() in ("room", "#room"):
            return self.room
        if text.startswith("#"):
            return self.conversation(self._groups.find(text))
        key = id_of(text)
        if key and (key in self._handles or self._access.naming(key) is not None):
            return self.conversation(key)
        try:
            return self._direct(self.directory.find(text))
        except UnknownName:
            if not (hint := self._groups.hint(text)):
                raise
        raise UnknownName(text, hint)

    def _direct(self, user: User) -> Conversation:
        if user.key in self._directs:
            return self._directs[user.key]
        me = self.directory.me
        key = dm_id(self.room.key, me, user.key)
        found = self._handles.get(key)
        if found is None or found.naming is None:
            naming = dm_naming(me, user.key)
            if self._access.naming(key) is None:
                self._open_direct(naming)
            found = self._handles[key] = Conversation(self, key, naming)
        self._directs[user.key] = found
        return found

    def groups(self) -> list[Group]:
        """Return the known groups, sorted by name, also those left or removed from (see Group.is_member)."""
        self._require_known()
        known = [self._group(view.talk) for view in self._groups.all()]
        return sorted(known, key=lambda group: (group.name.casefold(), group.key))

    def _group(self, key: ConversationId) -> Group:
        """Return the handle of a group, by the id of its messages."""
        group = self.conversation(key)
        assert isinstance(group, Group)
        return group

    # ---- messages

    async def history(
        self,
        conversation: To | None = None,
        *,
        before: DurableEvent | datetime | None = None,
        after: DurableEvent | datetime | None = None,
        since: datetime | None = None,
        limit: int = 100,
        ignored: bool = True,
    ) -> list[Message | Sent]:
        """Return messages in the order in which they were written, oldest first.

        What was written early may come late: to ask again and again for what is new, use LocalUser.released.

        Without `before` and `after`, messages stamped more than five minutes ahead of the local clock are at most a
        quarter of the newest ones, as long as there are others. So nobody pushes these out with a clock of next year.

        Args:
            conversation: A conversation, user or address; None for all conversations in one order.
            before: Return messages before this one, or before this moment; without `after` the newest of them.
            after: Return the oldest messages after this one, or after this moment, up to `before` if that is given.
            since: Skip messages written before this moment.
            limit: The maximum number of messages; 0 for no limit.
            ignored: Return messages of ignored users too.
        Raises:
            UnknownName, AmbiguousName: Nothing has a name given, or several have.
            StorageError: Storage cannot be read.
            PeerClosed: The peer is not running.
        """
        if limit < 0:
            raise ValueError("a limit is 0 (none) or more")
        disk = self._disk
        key = None if conversation is None else self.find(conversation).key
        within = None if conversation is not None or self._access.is_all else list(self._keys())
        read = partial(disk.storage.history, key, since=None if since is None else micros_of(since), within=within)
        low, high = (None if where is None else sort_key(where) for where in (after, before))
        hidden = frozenset[UserId]() if ignored else self.directory.hidden
        found: list[ReleasedEntry] = []
        while True:
            asked = min(limit - len(found), ALL_AT_ONCE) if limit else ALL_AT_ONCE
            first, last = (low, None) if after is not None else (None, high)
            page = await disk.read(partial(read, after=first, before=last, limit=asked))
            below = page if high is None else [shown for shown in page if key_of(shown) < high]
            shown = [one for one in below if self._is_shown(one) and one.log.user not in hidden]
            found = [*found, *shown] if after is not None else [*shown, *found]
            if len(page) < asked or len(below) < len(page) or (limit and len(found) >= limit):
                break
            if after is not None:
                low = key_of(page[-1])
            else:
                high = key_of(page[0])
        posts = self._posts(found)
        if limit and before is None and after is None:
            again = partial(self.history, conversation, since=since, limit=limit, ignored=ignored)
            return await _with_present(posts, limit, lambda present: again(before=present))
        return posts

    def _is_shown(self, shown: ReleasedEntry) -> bool:
        entry = decode_entry(shown.raw)
        return entry.is_message and (self._access.is_all or self._access.sees(shown.log, entry))

    def _posts(self, entries: Iterable[ReleasedEntry]) -> list[Message | Sent]:
        return [post_of(self, one) for one in entries]

    async def search(
        self,
        words: str,
        conversation: To | None = None,
        *,
        before: DurableEvent | datetime | None = None,
        since: datetime | None = None,
        limit: int = 50,
        ignored: bool = True,
        progress: Progress | None = None,
    ) -> list[Message | Sent]:
        """Return the newest messages that contain all of these words, oldest first.

        Without `before`, messages stamped ahead are at most a quarter of them, as in history.

        `backup failed` finds texts with both words, or with longer ones that begin so; `"backup failed"` finds exactly
        these words in a row; `from:bob` finds messages of bob. Case and accents make no difference. Chinese, Japanese,
        Thai and other text without blanks is found by any characters in a row.

        Args:
            words: What to search for; `from:` with a name is enough.
            conversation: As history.
            before: Find older messages: pass the oldest one found to go on.
            since: Skip messages written before this moment.
            limit: The maximum number of messages, 1 or more.
            ignored: As history.
            progress: Called with the number of entries indexed, and of all, while the index is being built.
        Raises:
            ValueError: There are no words, or more than 64.
            UnknownName, AmbiguousName: Nothing has a name given, or several have.
            StorageError: Storage cannot be read, or there can be no index: no room, or no FTS5 in this Python.
            PeerClosed: The peer is not running.
        """
        disk, people, access = self._disk, self.directory, self._access
        if conversation is not None:
            keys: Collection[ConversationId] | None = (self.find(conversation).key,)
        else:
            keys = None if access.is_all else self._keys()
        query = parse_query(words)
        if limit < 1:
            raise ValueError("a limit of a search is 1 or more")
        request = SearchRequest(
            query,
            within=keys,
            writer=people.find(query.sender).key if query.sender else None,
            high=None if before is None else sort_key(before),
            since=None if since is None else micros_of(since),
            limit=limit,
            access=None if access.is_all else access,
            hidden=frozenset() if ignored else people.hidden,
        )
        found = self._posts(await search_messages(disk, request, self._indexer, progress))
        if before is not None:
            return found

        again = partial(self.search, words, conversation, since=since, limit=limit, ignored=ignored)
        return await _with_present(found, limit, lambda present: again(before=present))

    async def message(self, message_id: str) -> Message | Sent:
        """Return one message by its id, as in `reply_to` and `after`.

        Raises:
            ValueError: That is no message id.
            UnknownName: The message is not here.
            StorageError: Storage cannot be read.
            PeerClosed: The peer is not running.
        """
        disk, (keys, seq) = self._disk, self._logs_of(message_id)
        for shown in await disk.read(lambda: disk.storage.named([(key, seq) for key in keys])):
            if shown is not None and self._is_shown(shown):
                return post_of(self, shown)
        raise UnknownName(message_id, text="there is no message with this id here")

    async def entry(self, entry_id: str) -> DurableEvent:
        """Return a message, or a change by its `entry_id`, as the position of what was shown after it.

        It stays one when the user may not read it any more. Raises as message.
        """
        if (shown := await self._entry_of(entry_id)) is None:
            raise UnknownName(entry_id, text="there is no message with this id here")
        return post_of(self, shown) if self._is_shown(shown) else position_of(self, shown)

    def _place(self, user: UserId) -> UserId | None:
        """Return where a user counts for the reader; None for who is out, or whom the reader blocks."""
        return None if self._access.refuses(user) else self.directory.facts.place(user)

    async def head(self, conversation: To, of: str = "pins") -> list[Message | Sent]:
        """Return the 30 messages at the head of a conversation, as those that were pinned: the last one first.

        Of those that were pinned or unpinned, the last 200 are looked at.

        Args:
            of: The field of a message that says why it stands there.
        Raises:
            UnknownName, AmbiguousName: Nothing has a name given, or several have.
            StorageError: Storage cannot be read.
            PeerClosed: The peer is not running.
        """
        disk, key, kind = self._disk, self.find(conversation).key, HEADS[of]
        by = await disk.read(lambda: disk.storage.changers(key, kind.aspect))
        out = [user for user in by if self._place(user) is None]
        shown = await disk.read(lambda: disk.storage.changed(key, kind.aspect, LAST_CHANGED, out))
        return [post for post in self._posts(filter(self._is_shown, shown)) if post._said(kind)][:MOST_AT_HEAD]

    async def _entry_of(self, entry_id: str, *, before: bool = False) -> ReleasedEntry | None:
        """Return a stored entry by its id, or the newest one here `before` it in its log; None if there is none."""
        disk, storage, (keys, seq) = self._disk, self._disk.storage, self._logs_of(entry_id)

        def look_up() -> ReleasedEntry | None:
            for facts in storage.lookup(keys).values():
                return storage.entry(facts.log, min(facts.released, seq - 1) if before else seq, hidden=not before)
            return None

        return await disk.read(look_up)

    def _logs_of(self, message_id: str) -> tuple[list[LogKey], int]:
        """Return the logs here that a message with this id may be in, and its number there. Raises ValueError."""
        prefix, ref = parse_message_id(message_id)
        return [LogKey(key, ref.log) for key in self._keys() if key.startswith(prefix)], ref.seq

    async def deleted_messages(self, conversation: To | None = None) -> list[DeletedMessages]:
        """Return which messages were deleted here with TCPPeer.delete_history, in the order of history.

        Args:
            conversation: As history.
        Raises:
            UnknownName, AmbiguousName: Nothing has a name given, or several have.
            StorageError: Storage cannot be read.
            PeerClosed: The peer is not running.
        """
        disk, keys = self._disk, self._keys() if conversation is None else [self.find(conversation).key]
        parts = await disk.read(lambda: [part for key in keys for part in disk.storage.deleted(key)])
        found = (DeletedMessages(self.directory.user(part.user), part.messages, part.key) for part in parts)
        return sorted(found, key=lambda each: each.sort_key)

    async def missing(self, post: Post) -> Gap | None:
        """Return which entries that a message follows are not here, and who had them; None if none is missing.

        A message with `gap` set was shown although an entry it follows was missing. That entry is fetched as soon as a
        peer that has it comes, and then stands in its place in the history. Raises StorageError, PeerClosed.
        """
        disk, storage = self._disk, self._disk.storage
        if not post.gap:
            return None
        log = post.log
        of_log = LogKey(log.conversation, ref_key(log.user, log.run))

        def look_up() -> list[Ref]:
            named = [*post.follows]
            if post.seq == 1:
                facts = storage.lookup([of_log]).get(of_log)
                named += (Ref(ref_key(log.user, mark.run), mark.seq) for mark in (facts.before if facts else ()))
            keys = {ref: LogKey(log.conversation, ref.log) for ref in named}
            held = storage.lookup(list(keys.values()))
            return [
                ref
                for ref, key in keys.items()
                if key not in held or (held[key].released < ref.seq and not held[key].forked)
            ]

        missing = await disk.read(look_up)
        if not missing:
            return None
        ids = tuple(referred_id(post.log.conversation, ref) for ref in missing)
        labels = users_with(self.directory, post.log.user, missing)
        return Gap(at=post.received_at, about=post.id, missing=ids, last_seen_with=labels)

    def _ref_of(self, log: LogId, seq: int) -> str | None:
        """Return the `ref` given to send() for this message in this run; None without one."""
        return None


async def _with_present(
    newest: list[Message | Sent], limit: int, read_before: Callable[[datetime], Awaitable[list[Message | Sent]]]
) -> list[Message | Sent]:
    """Return the newest messages; if some are stamped ahead of the present, let these take a part of them only.

    Args:
        read_before: Returns the newest ones before a moment, as many as are wanted.
    """
    present = datetime.now(UTC) + CLOCKS_DIFFER
    edge = sort_key(present)
    ahead = [post for post in newest if post.sort_key >= edge]
    if len(ahead) <= limit // AHEAD_PART:
        return newest
    rest = await read_before(present)
    most = min(len(ahead), max(limit // AHEAD_PART, limit - len(rest)))
    return [*rest[max(0, len(rest) + most - limit) :], *ahead[len(ahead) - most :]]
