"""One user of a running peer: what it writes, subscribes to, has read, and decides about itself and others.

Everything that a stored history can say too is in its base, Viewer (viewer.py); the own user of a peer is its TCPPeer,
all others are HostedUsers. What the users of a peer share is in Lifecycle: the driver, event dispatching, storage,
names. The core keeps what a user chooses (core/own_state.py), and decides what that means.

A place is the number of an entry in the order in which entries were shown here. EventFeed in subscription.py stores the
places of consumers and of what was marked as read. Marks of single logs come from the core, also those that other peers
of the user made, and those of what its programs took there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from p2pchat.core.durable_changes import Change
from p2pchat.core.groups.group_fact import talk_id
from p2pchat.core.inputs import (
    ConversationOpened,
    GroupCreateRequest,
    Input,
    MarkedRead,
    PresenceSet,
    PruneRequest,
    TypingSet,
    UserRenamed,
)
from p2pchat.core.log import FileRef, LogId, Marks, decode_entry
from p2pchat.core.names import MAX_ABOUT_CHARACTERS, plain, validate_name
from p2pchat.core.own_state import BLOCKED, CHOICE, IGNORED, OFF, ON, RECEIPTS, is_sound
from p2pchat.core.sync.appender import check_text, check_texts
from p2pchat.core.sync.written_keys import hash_key
from p2pchat.errors import PeerClosed, StorageError, UnknownName
from p2pchat.kinds.deletion import DELETION
from p2pchat.kinds.edit import EDIT
from p2pchat.kinds.kind import Kind
from p2pchat.kinds.pins import PIN
from p2pchat.kinds.polls import CLOSE, OPTIONS, POLL, VOTE
from p2pchat.kinds.reaction import REACTION
from p2pchat.messaging.attachments import FileToSend, KeptFile, keep_file, kept_files
from p2pchat.messaging.conversations import Conversation, DeletedHistory, Group, UnansweredConversation, Who
from p2pchat.messaging.event_builder import EventBuilder
from p2pchat.messaging.events import claim_of, micros_of
from p2pchat.messaging.messages import (
    DURABLE_EVENTS,
    DurableEvent,
    Message,
    MessageChange,
    MessageOptions,
    Post,
    Sent,
    changes_nothing,
    check_change,
    check_marks,
    parse_message_id,
    ref_of,
    reply_ref,
)
from p2pchat.messaging.receipts import Position, Receipt, Receipts, expected_recipients, look_up_receipt
from p2pchat.messaging.subscription import AnyEvent, Events, Subscription
from p2pchat.messaging.unread import place_before, unmarked_among
from p2pchat.messaging.users import (
    User,
    UserDirectory,
    Whois,
    by_label,
    check_several,
    check_timeout,
    host_peers,
    whois,
)
from p2pchat.messaging.viewer import To, Viewer
from p2pchat.protocol import MAX_STATUS_CHARACTERS, ConversationId, Naming, UserId, split_ref
from p2pchat.runtime.request_queue import WrittenBefore
from p2pchat.threads import ends_within, run_to_completion

if TYPE_CHECKING:
    from p2pchat.lifecycle import Lifecycle
    from p2pchat.messaging.access_policy import AccessPolicy
    from p2pchat.messaging.search_indexer import SearchIndexer
    from p2pchat.runtime.content_worker import ContentWorker
    from p2pchat.runtime.driver import Driver
    from p2pchat.runtime.storage_worker import StorageWorker

TEXTS_AT_ONCE = 1000  # texts of send_many under one future: a dozen batches, a transaction of some 5 ms
READ_PLACE = "read "  # and the id of a conversation: the consumer whose place is the newest message marked as read
HIDDEN_AT_ONCE = 64  # entries read at once behind a page of which most are no messages; the longest take 4 MiB. A guess
UNREAD_AT_ONCE = 50  # unread messages; the longest take 6 MiB
UNREAD_PAGES = 200  # of them: a fifth of a second
STATUSES = ("online", "idle", "offline")

Start = Literal["now", "beginning"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
T = TypeVar("T")


class LocalUser(Viewer):
    """One user of a running peer.

    Attributes:
        directory: The users known here, as this one sees them; `directory.me` is its own id (hex).
    """

    __slots__ = ("_consumer_prefix", "_gone", "_lifecycle")

    def __init__(
        self, lifecycle: Lifecycle, people: UserDirectory, access: AccessPolicy, consumer_prefix: str = ""
    ) -> None:
        super().__init__(people, lifecycle.groups, access)
        self._lifecycle = lifecycle
        self._consumer_prefix = consumer_prefix  # of the names of consumers in storage; "" for the peer's own user
        self._gone = False  # True when no longer hosted

    # ---- the peer behind it

    def _require_running(self) -> Driver:
        """Return the driver; raise PeerClosed before start(), after aclose(), and for a user no longer hosted."""
        if self._gone:
            raise self._closed_error()
        return self._lifecycle.require_running()

    @property
    def _driver(self) -> Driver:
        """The driver, also while the peer closes and after it; raises PeerClosed before start()."""
        return self._lifecycle.started_driver

    @property
    def _disk(self) -> StorageWorker:
        return self._require_running().disk

    @property
    def _content(self) -> ContentWorker:
        return self._require_running().content

    def _file_holders(self, log: LogId, file: FileRef, *, elsewhere: bool = False) -> list[UserId]:
        self._require_running()
        return self._lifecycle.tracker.file_holders(log, file, elsewhere=elsewhere)

    @property
    def _indexer(self) -> SearchIndexer:
        self._require_running()
        assert self._lifecycle.indexer is not None
        return self._lifecycle.indexer

    def _keys(self) -> Collection[ConversationId]:
        return self._driver.node.conversations_of(self.directory.me)

    def _require_known(self) -> None:
        if not self.directory.me:
            raise self._lifecycle.closed_error()

    @property
    def _local_user(self) -> LocalUser:
        return self

    @property
    def _is_closed(self) -> bool:
        return self._gone or self._lifecycle.closed

    def _closed_error(self) -> PeerClosed:
        return PeerClosed("this user is no longer hosted here") if self._gone else self._lifecycle.closed_error()

    # ---- names

    @property
    def name_timeout(self) -> float:
        """Seconds for which calls wait now for a name that is not known yet, such as the receiver of a message.

        That is what is left of Settings.start_timeout after the start, in which links and names are still coming. 0
        where nobody is going to come: no peer is linked or known, and no endpoint is dialled.
        """
        return self._lifecycle.name_timeout

    async def when_known(self, find: Callable[[], T]) -> T:
        """Return what `find` returns; while it raises UnknownName, wait for names and groups as long as `name_timeout`.

        So do all calls that write to somebody or change something of somebody, such as `send`, `create_group` and
        `block`. Those that look up what is here, such as `find`, `user` and `history`, do not wait.

        Raises:
            PeerClosed: The peer was closed meanwhile. Also raises as `find`.
        """
        try:
            return find()
        except UnknownName:
            pass  # it may come

        def is_known() -> bool:
            with suppress(UnknownName):
                find()
                return True
            return False

        if timeout := self.name_timeout:
            await ends_within(timeout, self._driver.wait_until(is_known))
        try:
            return find()
        except UnknownName as error:
            error.args = (f"{error}{self._unanswered}",)
            raise

    @property
    def _unanswered(self) -> str:
        """Where nobody answers, as the end of an error; "" for hosted users: where their peer dials is not for them."""
        return "" if self._consumer_prefix else self._lifecycle.unanswered

    async def _resolve(self, who: User | str) -> User:
        self._require_known()
        return await self.when_known(lambda: self.directory.resolve(who))

    # ---- users

    def here(self) -> list[User]:
        """Return the users who are online or idle, in no order; the own user too, unless it is set to offline."""
        node = self._driver.node
        known = map(self.directory.user, {*node.presence.online(), *node.hosted})
        return [user for user in known if user.status in ("online", "idle")]

    def user(self, address: str) -> User:
        """Return the user that an address names: `bob`, `@bob`, `bob#K7QF2M3P`, or a full id.

        Call `find` to get a conversation instead.

        Raises:
            UnknownName, AmbiguousName: No user has this name, or several have.
        """
        self._require_known()
        return self.directory.find(address)

    async def whois(self, who: User | str) -> Whois:
        """Return what is known of a user.

        Args:
            who: A user, a name as typed (see find), or the full id of any user.
        Raises:
            UnknownName, AmbiguousName: No user has this name, or several have.
            StorageError: Storage cannot be read.
            PeerClosed: The peer is not running.
        """
        driver, user = self._require_running(), await self._resolve(who)
        storage = driver.disk.storage
        first = await driver.disk.read(lambda: storage.first_received_at(user.key))
        return whois(driver.node, user, first)

    # ---- name and presence

    def _name_change(self, name: str, about: str | None) -> Change:
        """Return what stores a name, and unless it is None what the user tells of itself."""
        raise NotImplementedError

    def _take_name(self, name: str) -> None:
        """Set a name that is stored."""
        raise NotImplementedError

    async def rename(self, name: str, about: str | None = None) -> None:
        """Change the own name and the text about oneself. Everyone gets them, also users who join later.

        Args:
            name: At most 32 characters; may be the present one.
            about: At most 512 characters; "" for nothing, None to leave it as it is.
        Raises:
            ValueError: The name is invalid, or the text cannot be sent.
            StorageError: It could not be stored.
        """
        name = validate_name(name)
        about = None if about is None else plain(about)
        if about is not None and len(about) > MAX_ABOUT_CHARACTERS:
            raise ValueError(f"the text about oneself has at most {MAX_ABOUT_CHARACTERS} characters")
        if about:
            check_text(about)
        await run_to_completion(self._rename(name, about))

    async def _rename(self, name: str, about: str | None) -> None:
        me = self.directory.me

        def change() -> Change:
            self._require_running().require_writable()  # others learn a name by an entry
            return self._name_change(name, about)

        def take() -> None:
            self._take_name(name)
            if about is not None:
                self.directory.set_about(me, about)

        await self._store_choice(change, [UserRenamed(me, name, about)], take)
        self.directory.learn([(me, name)])  # the event Renamed needs the former name

    async def _choose(
        self, change: Callable[[], Change], *inputs: Input, take: Callable[[], None] = lambda: None
    ) -> None:
        """Store what a person chose, and only then let it count, here and in the core. One choice after the other.

        Raises:
            StorageError: It could not be stored. Then nothing is changed.
        """
        await run_to_completion(self._store_choice(change, inputs, take))

    async def _store_choice(
        self, change: Callable[[], Change], inputs: Iterable[Input], take: Callable[[], None]
    ) -> None:
        async with self._lifecycle.hosted.lock:
            driver = self._require_running()
            await driver.disk.write(change())
            take()
            for input in inputs:
                driver.put(input)
            await driver.wait_handled()

    def set_presence(self, status: str, text: str = "") -> None:
        """Show others the status `online`, `idle` or `offline`, with a text.

        Raises:
            ValueError: The status is another word, or the text cannot be sent or is longer than MAX_STATUS_CHARACTERS.
        """
        if status not in STATUSES:
            raise ValueError(f"a status is one of {', '.join(STATUSES)}, not {status!r}")
        status, text = plain(status), plain(text)
        if len(text) > MAX_STATUS_CHARACTERS:
            raise ValueError(f"the text of a status has at most {MAX_STATUS_CHARACTERS} characters, not {len(text)}")
        if text:
            check_text(text)
        self._require_running().put(PresenceSet(self.directory.me, status, text))

    # ---- ignored and blocked users

    async def ignore(self, who: User | str) -> User:
        """Ignore a user, by key and until `unignore`; returns that user.

        Messages of ignored users are still stored, passed on and acknowledged. Programs leave them out when they show
        messages: see `User.ignored`, and `events(ignored=False)`.

        Args:
            who: A user, a name as typed (see find), or the full id of any user.
        Raises:
            UnknownName, AmbiguousName: No user has this name, or several have.
            ValueError: It is the own user.
            P2PChatError: 4,096 choices are kept already.
            StorageError: It could not be stored.
        """
        user = await self._resolve(who)
        if user.is_me:
            raise ValueError("that is the own user: you cannot ignore yourself")
        return await self._hide(user, IGNORED, True)

    async def unignore(self, who: User | str) -> User:
        """Undo `ignore`; do nothing for a user who is not ignored. Raises as ignore."""
        return await self._hide(await self._resolve(who), IGNORED, False)

    async def _hide(self, user: User, what: str, on: bool) -> User:
        """Ignore or block a user, or do so no longer; return it when that is stored and told."""
        if on != (user.key in self._driver.node.own.of(self.directory.me, what)):
            await self._set_own_state({f"{what}:{user.key}": "1" if on else ""})
        return user

    async def _set_own_state(self, texts: dict[str, str]) -> None:
        """Choose for all machines of this user; returns when it is stored and counts.

        Raises:
            P2PChatError: There is no room.
            StorageError: It could not be stored. Then nothing is changed.
        """
        await self._require_running().requests.choose(self.directory.me, texts)

    async def choose(self, key: str, text: str) -> None:
        """Keep a text for this user on all of its machines, until another one; the newest counts.

        Args:
            key: The name of your program, a colon, and what it is about: `mybot:theme`. At most 113 bytes of UTF-8.
            text: At most 256 bytes of UTF-8; "" for none.
        Raises:
            ValueError: The key or the text is too long, or has a character 0.
            StorageError: It could not be stored. Then nothing is changed.
        """
        kept = f"{CHOICE}:{key}"
        if not is_sound(kept, text):
            raise ValueError("a key has at most 113 bytes of UTF-8, its text at most 256, and none of them is 0")
        await self._set_own_state({kept: text})

    def choices(self, program: str) -> dict[str, str]:
        """Return the texts that `choose` keeps under a program's name, by the rest of their keys."""
        return self._driver.node.own.of(self.directory.me, f"{CHOICE}:{program}")

    def ignored(self) -> list[User]:
        """Return the ignored users, sorted by label."""
        self._require_known()
        return list(by_label(map(self.directory.user, self.directory.ignored)))

    async def block(self, who: User | str) -> User:
        """Block a user, by key and until `unblock`; returns that user when that is stored.

        There is no link with the peer whose own user it is, it is shown to nobody here, and nothing it writes is stored
        here: neither its messages in the room, in groups and in direct conversations nor groups that it makes. It is
        not told; its messages stay undelivered. What is stored of it stays, hidden as if it was ignored.

        A hosted user blocks for itself alone: nothing of the user is shown to it, and it is offline to that user. What
        that one writes in their direct conversation is not stored, unless this peer hosts both.

        Args:
            who: A user, a name as typed (see find), or the full id of any user.
        Raises:
            UnknownName, AmbiguousName: No user has this name, or several have.
            ValueError: It is the own user or one hosted by this peer.
            P2PChatError: 4,096 choices are kept already.
            StorageError: It could not be stored.
        """
        user, driver = await self._resolve(who), self._require_running()
        if user.is_me:
            raise ValueError("that is the own user: you cannot block yourself")
        if user.key in driver.node.hosted and not self._consumer_prefix:
            raise ValueError(f"this peer hosts {user.label!a}: a user hosted here can be ignored, not blocked")
        return await self._hide(user, BLOCKED, True)

    async def unblock(self, who: User | str) -> User:
        """Undo `block`; do nothing for a user who is not blocked. Everything the user wrote meanwhile arrives.

        Raises as ignore.
        """
        return await self._hide(await self._resolve(who), BLOCKED, False)

    # ---- read receipts

    async def set_receipts(self, on: bool | None, who: User | str | None = None) -> None:
        """Exchange read receipts, or neither send nor receive any: with one user, or with everybody.

        The choice is stored, and holds on all machines of the user. Receipts already sent stay. What was read while
        receipts were off is reported when they are on.

        Args:
            on: None removes the exception for `who`.
            who: The user, or name as typed (see find), to make an exception for; None sets it for all others.
        Raises:
            UnknownName, AmbiguousName: No user has this name, or several have.
            StorageError: It could not be stored.
        """
        key = RECEIPTS if who is None else f"{RECEIPTS}:{(await self._resolve(who)).key}"
        text = "" if on is None else ON
        await self._set_own_state({key: OFF if on is False else text})

    def receipt_exceptions(self) -> dict[User, bool]:
        """Return the users for whom read receipts are set on or off individually."""
        chosen = self._driver.node.own.of(self.directory.me, RECEIPTS)
        return {self.directory.user(other): text == ON for other, text in chosen.items()}

    def receipts(self, who: User | None = None) -> bool:
        """Return whether read receipts are exchanged with a user; None: with all users without an exception."""
        return self._driver.node.own.wants_receipts(self.directory.me, "" if who is None else who.key)

    # ---- conversations

    def unanswered(self) -> list[UnansweredConversation]:
        """Return the conversations that somebody began to whom the own user never wrote, until it writes there.

        Those of ignored users are left out. Those that have no place here come last.
        """
        self._require_known()
        node, find, found = self._driver.node, self.directory.user, list[UnansweredConversation]()
        for one in node.replicator.inbox.of(self.directory.me):
            user, there = find(one.user), self.conversation(one.conversation)
            by = node.member_directory.admitter(one.user)
            is_new = not self._has_read(there.key)
            if not user.ignored:
                admitted_by = find(by) if by else None
                found.append(UnansweredConversation(there, user, admitted_by, is_new, one.has_place, one.group))
        return found

    def is_new(self, conversation: Conversation) -> bool:
        """Return whether somebody began a conversation whom the own user never wrote to, and it was not opened yet.

        It is opened once a message of it is marked as read. Until then no program rings the bell for what comes there.
        """
        unanswered = self._driver.node.replicator.inbox.of(self.directory.me)
        is_stored = any(one.conversation == conversation.key and one.has_place for one in unanswered)
        return is_stored and not self._has_read(conversation.key)

    @property
    def room(self) -> Conversation:
        """The conversation of everyone."""
        return self.conversation(self._driver.node.room)

    def recent_conversations(self) -> list[Conversation]:
        """Return all known conversations, the one with the newest message first."""
        found = self._driver.node.newest_conversations(self.directory.me)
        return list(map(self.conversation, filter(self._access.knows, found)))

    def _open_direct(self, naming: Naming) -> None:
        driver = self._driver
        if not self._is_closed:
            driver.put(ConversationOpened(naming))

    # ---- groups

    async def create_group(self, name: str, members: Sequence[Who] = (), *, key: str = "") -> Group:
        """Create a group owned by the own user; returns when it is accepted.

        Args:
            name: The name; other groups may have the same.
            members: Users or names as typed, online or not. Name a user who was never met by the full id.
            key: As send: repeated at this peer, it returns the group that was created.
        Raises:
            UnknownName, AmbiguousName: No user has a name given, or several have.
            ValueError: The name is invalid.
            P2PChatError: There are too many members.
            StorageError, PeerClosed: As send.
        """
        driver, me = self._require_running(), self.directory.me
        check_several(members, "members")
        ids = dict.fromkeys([(await self._resolve(member)).key for member in members])
        others, name = tuple(id for id in ids if id != me), validate_name(name)
        asked = hash_key(plain(key), (name, others))
        made = await driver.requests.ask(lambda ticket: GroupCreateRequest(ticket, me, name, others, asked))
        return self._group(talk_id(made.log.conversation))

    def group(self, address: str) -> Group:
        """Return the group that an address names: `#ops`, `ops`, `#ops#K7QF2M3P`.

        Raises:
            UnknownName, AmbiguousName: No group has this name, or several have.
        """
        self._require_known()
        return self._group(self._groups.find(address))

    # ---- writing

    async def send(
        self,
        to: To,
        text: str,
        reply_to: Post | str | None = None,
        *,
        action: bool = False,
        ref: str | None = None,
        claimed_at: datetime | None = None,
        files: Sequence[FileToSend] | str | Path = (),
        automatic: bool = False,
        choices: Sequence[str] = (),
        hops: int = 0,
        key: str = "",
    ) -> Receipt:
        """Write one message; returns when it is accepted: stored on this disk, safe from a crash.

        A peer in memory accepts at once, since a crash loses what is there, stored or not.

        Await `Receipt.delivered()` to wait until others have it.

        Args:
            to: A user, a conversation, or an address as typed (see find). Right after the start a name that is not
                known yet is waited for (see when_known).
            text: 1 byte to 32 KiB of UTF-8, without NUL; with files it may be "".
            reply_to: The message that this answers, of the same conversation, or its id.
            action: The text describes what the writer does (/me).
            ref: A word of the program's own, returned in the event Sent; kept for this run only.
            claimed_at: When the program claims it was written, shown to readers as `Message.claimed_at`. It changes
                neither `sent_at` nor any order.
            files: At most 10 attachments, or the path of one: paths, pairs of a name and bytes or an asynchronous
                iterator of bytes, or what keep_file returned. Their content is copied to this disk before the message
                is written. Others fetch it when they ask for it (`Message.attachments`), from anybody in the
                conversation who has it.
            automatic: The program writes this by itself, and no program shall answer it by itself; see
                `Message.automatic`. Two programs that answer everything would never end.
            choices: 2 to 6 answers that readers may press, each 1 to 8 characters, no two alike; () for none. Pressing
                one is a reaction with that text. Such a message cannot be edited.
            hops: The answers of programs that led to this, 0 to 255, for a program that counts them: 1, or one more
                than the message that it answers. See `Message.hops`.
            key: A word by which a request is known again: what is sent once more with the same key is not written once
                more, also after a restart (`Receipt.repeated`). The last 512 of each user are known. "" for none.
        Raises:
            UnknownName, AmbiguousName: `to` names nobody, or several.
            OSError: A file cannot be read, or was written meanwhile.
            TooLong: `.limit_bytes` is the limit.
            TypeError, ValueError: The text, the choices or the hops cannot be sent, or `claimed_at` is not between 1970
                and 2255 or has no time zone.
            KeyReused: Something else was sent with this key.
            StorageError: It could not be stored; nothing was sent.
            PeerClosed: The peer is not running.
        """
        requests = self._require_running().requests
        conversation = to if type(to) is Conversation else await self.when_known(lambda: self.find(to))
        text = check_text(text) if text or not files else ""
        re = None if reply_to is None else reply_ref(conversation, reply_to)
        kind = "action" if action else "text"
        claimed = None if claimed_at is None else claim_of(claimed_at)
        written = (self.directory.me, conversation.key, kind, (text,), re, ref, claimed)
        if files or automatic or choices or hops or key:
            marks = check_marks(kind, automatic, choices, hops)
            async with kept_files(self._content, files) as kept:
                roots = [file.root for file in kept]
                marks = marks._replace(files=kept, key=hash_key(plain(key), (written[1:5], marks.choices, roots)))
                receipt = await self._written(requests.write(*written, marks))
            self._lifecycle.tracker.note_files(receipt.log, receipt.seq, kept)
            return receipt
        accepted = requests.write(*written)
        if not requests.accepts_at_once or conversation.kind == "group":
            return self._receipt(*await accepted)
        return Receipt(self._lifecycle.tracker, self.directory, accepted)

    async def keep_file(self, file: FileToSend, *, type: str = "", size: int = 0) -> KeptFile:
        """Copy the content of a file to this disk, for messages that are sent later; see send.

        Args:
            type: Its media type; "": what its name says.
            size: How many bytes are expected: without room for them nothing is read. 0 for unknown.
        Raises:
            ValueError: Its name or its content is too long.
            OSError: It cannot be read, or was written meanwhile.
            StorageError: It cannot be kept, or the disk has no room.
            PeerClosed: The peer is not running.
        """
        self._require_running()
        return await keep_file(self._content, file, type, size)

    async def broadcast(self, text: str, **options: Unpack[MessageOptions]) -> Receipt:
        """Write one message to the room; see send."""
        return await self.send(self.room, text, **options)

    async def send_many(self, to: To, texts: Sequence[str]) -> Receipts:
        """Write many messages in order; returns when all are accepted. Much faster than one `send` after another.

        Raises as send. After TooLong, TypeError or ValueError none was written.
        """
        requests = self._require_running().requests
        check_several(texts, "texts")
        conversation, me = await self.when_known(lambda: self.find(to)), self.directory.me
        texts = check_texts(texts)
        parts = [texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE)]
        writes = [requests.write(me, conversation.key, "text", part) for part in parts]
        try:
            firsts = [await write for write in writes]
        except BaseException:  # also when cancelled: no later write is made
            for write in writes:
                write.cancel()
            raise
        accepted = zip(firsts, parts, strict=True)
        return Receipts([self._receipt(log, first + n) for (log, first), part in accepted for n in range(len(part))])

    async def request(
        self, to: To, text: str, *, timeout: float | None = None, **options: Unpack[MessageOptions]
    ) -> Message:
        """Write one message, and return the first reply of another user to it: a program asks another one.

        Args:
            timeout: Seconds to wait for the reply once the message is accepted; None to wait without a limit.
        Raises:
            TimeoutError: There was none in time: the text says what became of the message, which will still arrive.
            PeerClosed: The peer was closed. Also raises as send.
        """
        check_timeout(timeout)
        async with self.events(Message, consumer=None) as messages:
            receipt = await self.send(to, text, **options)
            try:
                async with asyncio.timeout(timeout):
                    async for message in messages:
                        if message.reply_to == receipt.id:
                            return message
            except TimeoutError:
                raise TimeoutError(f"no reply came within {timeout} s: the message is {receipt.status}") from None
        raise self._closed_error()

    async def edit(self, message: Post | str, text: str, *, ref: str | None = None) -> Receipt:
        """Replace the text of one's own message, for everyone.

        The newest edit or deletion counts, by the clock of histories; an edit restores a deleted message. The former
        text stays in the logs of all who have it.

        Args:
            message: A message, or its id.
            ref: As send.
        Returns:
            The receipt of the edit: which members have the new text. Of the message if it is so already, as with all
            such calls: nothing is written then.
        Raises:
            UnknownName: No message here has this id.
            ValueError: Another user wrote it, it has choices, or it is no id. Also raises as send.
        """
        return await self._change_message(EDIT, message, text, ref)

    async def delete(self, message: Post | str, *, ref: str | None = None) -> Receipt:
        """Delete one's own message for everyone. Its text is no longer shown, though logs keep it. See edit."""
        return await self._change_message(DELETION, message, "", ref)

    async def delete_history(
        self, conversation: To, *, sender: User | str | None = None, before: datetime | None = None
    ) -> DeletedHistory:
        """Delete here what was written in a conversation: its texts leave this disk, for all users of this peer.

        Others keep what they have, and are not told. Nothing that was deleted comes back, no receipt changes, and new
        messages come as before. Own messages that no other peer has yet stay. If it is interrupted, what was deleted
        until then is, and the next call goes on.

        Args:
            conversation: A conversation, user or address.
            sender: Delete only what this user wrote.
            before: Delete only what was written before this moment.
        Raises:
            P2PChatError: The own user is not the peer's own one.
            UnknownName, AmbiguousName: A name given is nobody's, or several have it.
            StorageError: It could not be stored.
            PeerClosed: The peer is not running.
        """
        driver, key = self._require_running(), self.find(conversation).key
        self._access.check_deletion(driver.node.user)
        writer = "" if sender is None else self.directory.resolve(sender).key
        clock = 0 if before is None else max(1, micros_of(before))
        messages = size = 0
        while True:
            step = await driver.requests.ask(lambda ticket: PruneRequest(ticket, key, writer, clock))
            messages, size = messages + step.messages, size + step.size_bytes
            if not step.more:
                break
        with suppress(StorageError):  # it is tried again
            await driver.removal.sweep()
        is_offline = self._lifecycle.is_offline
        if size or is_offline:  # an earlier deletion beside a running peer may have left the file as large as it was
            with suppress(StorageError):  # the room is used again all the same
                await driver.disk.compact(all=is_offline)
        is_gone = await driver.disk.empty_log()
        try:
            await self._indexer.check_deleted()
        except StorageError:  # then no search finds anything there either
            is_gone = False
        return DeletedHistory(messages, size, step.kept, is_gone)

    async def react(
        self, message: Post | str, reaction: str, *, ref: str | None = None, automatic: bool = False
    ) -> Receipt:
        """React to a message with at most 8 characters, which replace the own former reaction; "" removes that.

        Args:
            automatic: A program reacts, and no person: it decides nothing among the choices of a message.
        Raises:
            ValueError: The reaction is longer, or the message was deleted.
            UnknownName: No message here has this id. Also raises as send.
        """
        return await self._change_message(REACTION, message, reaction, ref, automatic=automatic)

    async def pin(self, message: Post | str, *, ref: str | None = None) -> Receipt:
        """Pin a message at the head of its conversation, for all in it; see pins. Raises as react."""
        return await self._change_message(PIN, message, "1", ref)

    async def unpin(self, message: Post | str, *, ref: str | None = None) -> Receipt:
        """Unpin a message, whoever pinned it. Raises as react."""
        return await self._change_message(PIN, message, "0", ref)

    async def poll(
        self, to: To, question: str, options: Sequence[str], *, ref: str | None = None, key: str = ""
    ) -> Receipt:
        """Ask a question whose answers are counted: each reader votes for one option, and all see who voted for what.

        Args:
            to: As send.
            options: 2 to 8, each of 1 to 80 characters, no two alike.
            ref, key: As send.
        Raises:
            ValueError: There are fewer options, or more, or one cannot be sent. Also raises as send.
        """
        requests = self._require_running().requests
        conversation = await self.when_known(lambda: self.find(to))
        check_several(options, "options")
        marks = check_marks(POLL.name, False, options, 0)
        if fault := OPTIONS.fault(marks.choices):
            raise ValueError(fault)
        of = (self.directory.me, conversation.key, POLL.name, (check_text(question),))
        marks = marks._replace(key=hash_key(plain(key), (of, marks.choices)))
        return await self._written(requests.write(*of, None, ref, None, marks))

    async def vote(self, poll: Post | str, option: int, *, ref: str | None = None) -> Receipt:
        """Vote for an option of an open poll by its number, from 1. A later vote replaces it, and 0 takes it back.

        Raises:
            ValueError: It is no poll, is closed, or has no such option. Also raises as edit.
        """
        return await self._change_message(VOTE, poll, str(option), ref)

    async def close_poll(self, poll: Post | str, *, ref: str | None = None) -> Receipt:
        """End one's own poll: no later vote counts. Raises as vote."""
        return await self._change_message(CLOSE, poll, "", ref)

    async def _change_message(
        self, kind: Kind, message: Post | str, text: str, ref: str | None, *, automatic: bool = False
    ) -> Receipt:
        requests, me = self._require_running().requests, self.directory.me
        post = await self.message(message.id if isinstance(message, Post) else message)  # one in hand may be old
        text = check_change(kind, post, text, me)
        if changes_nothing(kind, post, text, me, automatic):
            if isinstance(post, Sent):
                return await self.receipt(post.id)
            return self._receipt(post.log, post.seq)
        conversation, re = post.log.conversation, ref_of(post)
        marks = Marks(auto=True) if automatic else None
        above = 0 if post._edits is None else post._edits.clock_before(kind, me)
        return self._receipt(*await requests.write(me, conversation, kind.name, (text,), re, ref, None, marks, above))

    def typing(self, to: To, on: bool = True) -> None:
        """Show the readers of a conversation that the own user is typing there, or has stopped.

        Nothing is stored. Call it with every key, or every few seconds: a change is sent at once, a repetition at most
        once in 3 s. The indicator ends 6 s after the last one was sent, and when a message is sent there.

        Args:
            to: As send.
        Raises:
            UnknownName, AmbiguousName: `to` names nobody, or several.
            PeerClosed: The peer is not running.
        """
        driver = self._require_running()
        driver.put(TypingSet(self.directory.me, self.find(to).key, bool(on)))

    async def receipt(self, message_id: str) -> Receipt:
        """Return the receipt of one's own message, also of an earlier run.

        Of an edited message it is that of its first version; the receipt of the newest is that of `mended_id`.

        Raises:
            ValueError: That is no message id.
            UnknownName: No message of the own user has it.
        """
        prefix, ref = parse_message_id(message_id)
        driver, me, tracker = self._require_running(), self.directory.me, self._lifecycle.tracker
        unknown = UnknownName(message_id, text="no message of this user has this id")
        key = next((key for key in driver.node.conversations_of(me) if key.startswith(prefix)), None)
        start, run = split_ref(ref.log)
        if key is None or not me.startswith(start):
            raise unknown
        log, seq = LogId(key, me, run), ref.seq
        if not tracker.is_accepted(log, seq):
            shown, marks, read = await driver.disk.read(partial(look_up_receipt, driver.disk.storage, log, seq))
            if shown is None:
                raise unknown
            if not tracker.is_accepted(log, seq):  # nor was it meanwhile
                holders = {member for member, _ in marks} | set(tracker.holders(log, seq))
                of = expected_recipients(driver.node, log, decode_entry(shown.raw), holders)
                tracker.load(log, seq, of, marks, read, shown)
        return self._receipt(log, seq)

    async def _written(self, position: Awaitable[Position]) -> Receipt:
        try:
            return self._receipt(*await position)
        except WrittenBefore as known:
            before = await self.receipt(str(known))
            return self._receipt(before.log, before.seq, repeated=True)

    def _receipt(self, log: LogId, seq: int, *, repeated: bool = False) -> Receipt:
        return Receipt(self._lifecycle.tracker, self.directory, (log, seq), repeated)

    def _ref_of(self, log: LogId, seq: int) -> str | None:
        """Return the `ref` given to send() for this message in this run; None without one."""
        driver = self._lifecycle.driver
        return None if driver is None else driver.writes.refs.get((log, seq))

    # ---- reading

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
        self, *types: type[Any], consumer: str | None = "main", start: Start = "now", ignored: bool = True
    ) -> Events[Any]: ...
    def events(
        self, *types: type[Any], consumer: str | None = "main", start: Start = "now", ignored: bool = True
    ) -> Events[Any]:
        """Return an iterator over events.

        Messages (Message, and Sent for one's own) are read with a durable cursor: a program that is slow, crashes or
        restarts misses none, and may get the last one twice. Asking for the next event acknowledges the one before.
        All other events (Joined, Link, Delivered ...) are live: they reach iterators that are open when they happen.
        Open the iterator before start() to get those of the start.

        Args:
            types: The classes of events to return, e.g. Message, Left; none for all. Of up to three the type of the
                iterator is known to type checkers.
            consumer: The name under which the cursor is stored; None for a cursor that is not stored.
            start: Where a new consumer begins: "now" is where this peer started, so that nothing since then is missed
                (with consumer=None: where the iterator is opened); "beginning" is the first message stored. "main"
                is not new: it exists since the first start of the profile, and misses nothing delivered to it.
            ignored: Return events of ignored users too (see ignore). With False they are skipped, and count as read.
        Raises:
            ConsumerBusy: Another iterator reads for this consumer: close that, or choose another name.
            TypeError: One of the types is no class.
        """
        for kind in types:
            if not isinstance(kind, type):
                raise TypeError(f"events takes classes of events, such as p2pchat.Message, not {kind!r}")
        if self._is_closed:
            raise self._closed_error()
        if start not in ("now", "beginning"):
            raise ValueError(f"start is 'now' or 'beginning', not {start!r}")
        lifecycle = self._lifecycle
        stored_name = None if consumer is None else self._consumer_prefix + plain(consumer)
        reader = Subscription(lifecycle.feed, self, types, stored_name, start, self._access)
        lifecycle.feed.add(reader, self._first_place)
        return Events(reader, skips_ignored=not ignored, consumer=consumer)

    @overload
    async def wait_for(
        self, a: type[A], /, *, where: Callable[[A], bool] | None = None, timeout: float | None = None
    ) -> A: ...
    @overload
    async def wait_for(
        self, a: type[A], b: type[B], /, *, where: Callable[[A | B], bool] | None = None, timeout: float | None = None
    ) -> A | B: ...
    @overload
    async def wait_for(
        self, *, where: Callable[[Any], bool] | None = None, timeout: float | None = None
    ) -> AnyEvent: ...
    @overload
    async def wait_for(
        self,
        a: type[Any],
        b: type[Any],
        c: type[Any],
        /,
        *types: type[Any],
        where: Callable[[Any], bool] | None = None,
        timeout: float | None = None,
    ) -> Any: ...
    async def wait_for(
        self, *types: type[Any], where: Callable[[Any], bool] | None = None, timeout: float | None = None
    ) -> Any:
        """Return the first event from now on that is one of `types` and for which `where` returns true.

        Of up to two types, type checkers know that of the event.

        Raises:
            TimeoutError: There was none in time.
            PeerClosed: The peer was closed.
        """
        check_timeout(timeout)
        try:
            async with self.events(*types, consumer=None) as events, asyncio.timeout(timeout):
                async for event in events:
                    if where is None or where(event):
                        return event
        except TimeoutError:
            wanted = " or ".join(kind.__name__ for kind in types) or "event"
            such = "" if where is None else " of the kind asked for"
            raise TimeoutError(f"no {wanted}{such} came within {timeout} s{self._unanswered}") from None
        raise self._closed_error()

    async def wait_user(self, name: str, timeout: float | None = None) -> User:
        """Return the user of this name as soon as that user is online.

        Raises:
            TimeoutError: The user did not come online in time.
            AmbiguousName: Several users have the name.
            PeerClosed: The peer was closed.
        """
        check_timeout(timeout)
        found: list[User] = []

        def is_here() -> bool:
            user = self.directory.find(name) if self.directory.fitting(name) else None
            if user is not None and (user.is_me or user.status in ("online", "idle")):
                found.append(user)
            if self._is_closed and not found:
                raise self._closed_error()
            return bool(found)

        try:
            async with asyncio.timeout(timeout):
                await self._require_running().wait_until(is_here)
        except TimeoutError:
            raise TimeoutError(f"{name!r} has not come online in time{self._unanswered}") from None
        return found[0]

    def is_at_gateway(self, user: User) -> bool:
        """Return whether a user is hosted by the peer of another one elsewhere, as far as is known here.

        What is delivered to such a user is on the disk of that peer, and perhaps nowhere else yet.
        """
        node = self._driver.node
        hosts = host_peers(node, user.key)
        if user.key in node.hosted or user.key in hosts:
            return False
        links = [link for peer in hosts if (link := node.links.by_peer.get(peer)) is not None]
        return not links or any(link.peer in link.users for link in links)  # a machine of the user has no other user

    @overload
    async def released(
        self, after: DurableEvent | datetime | None = None, *, consumer: str = "main",
        kinds: Collection[str] | None = None, within: To | None = None, limit: int = 500, ignored: bool = True,
    ) -> list[Message | Sent]: ...  # fmt: skip
    @overload
    async def released(
        self, after: DurableEvent | datetime | None = None, *, consumer: str = "main",
        kinds: Collection[str] | None = None, within: To | None = None, limit: int = 500, ignored: bool = True,
        changes: bool,
    ) -> list[Message | Sent | MessageChange]: ...  # fmt: skip
    async def released(
        self,
        after: DurableEvent | datetime | None = None,
        *,
        consumer: str = "main",
        kinds: Collection[str] | None = None,
        within: To | None = None,
        limit: int = 500,
        ignored: bool = True,
        changes: bool = False,
    ) -> list[Any]:
        """Return a page of messages shown after a given one, in the order in which they were shown here; [] at the end.

        Use it to catch up now and then without waiting, as a server does for each client that comes back; use `events`
        to read continuously. Conversations that are not asked for cost nothing.

        Args:
            after: The last message or change taken (`entry` finds it by its id), or a moment, for what was shown here
                from then on; None for the place of `consumer`, as set by an iterator of events or HostedUser.hand_on.
                The place of a new consumer is where this peer started.
            kinds: Return conversations of these kinds, e.g. ("dm", "group"); None for all.
            within: Return only this conversation.
            limit: The maximum number of messages and changes, 1 or more.
            ignored: Return those of ignored users too.
            changes: Return changes of messages too (Edited, Deleted, Reaction ...), those that count.
        Raises UnknownName, AmbiguousName, StorageError, PeerClosed.
        """
        check_several(kinds, "kinds")
        only = None if within is None else self.find(within).key

        def asked() -> list[ConversationId]:
            keys = (key for key in self._keys() if only in (None, key))
            return [key for key in keys if kinds is None or self.conversation(key).kind in kinds]

        disk = self._disk
        if limit < 1:
            raise ValueError("a page has 1 message or more")
        if isinstance(after, datetime):
            newest = self._lifecycle.feed.recent.newest
            place = await disk.read(partial(place_before, disk.storage, newest, micros_of(after)))
        else:
            place = self._place_of(consumer) if after is None else after.place
        wanted = DURABLE_EVENTS if changes else (Message, Sent)
        builder, hidden = EventBuilder(self._lifecycle.feed, self, self._access, wanted), self.directory.hidden
        found, size = list[DurableEvent](), limit
        while True:  # only these conversations are read, so that a page costs a gateway's user no walk through the room
            keys = asked()
            page = await disk.read(partial(disk.storage.places, place, size, keys))
            if page and not set(keys).issuperset(asked()):
                continue  # one began meanwhile: its first message may be before the last one of this page
            if page:
                built, place = await builder.of(page)
                found += [
                    event
                    for event in reversed(built)
                    if ignored or hidden.isdisjoint((event.log.user, event.message.log.user))
                ]
            if 2 * len(found) >= limit or len(page) < size:
                return found[:limit]
            size = max(limit, HIDDEN_AT_ONCE)

    @property
    def _first_place(self) -> int:
        """The place after which a new consumer begins."""
        feed = self._lifecycle.feed
        return feed.place_of(self._consumer_prefix) if self._consumer_prefix else feed.start

    def _place_of(self, consumer: str) -> int:
        """Return the place of the newest message that a consumer acknowledged."""
        return self._lifecycle.feed.place_of(self._consumer_prefix + consumer, self._first_place)

    # ---- read marks

    def mark_read(self, post: DurableEvent) -> None:
        """Mark everything in the conversation up to this message as read; see Message.mark_read."""
        driver = self._require_running()
        driver.put(self._mark(post)(0))

    async def mark_read_durably(self, post: DurableEvent) -> None:
        """As mark_read, and return when that is on disk; marks made at the same time share a commit.

        Raises PeerClosed, and StorageError if that is not on disk yet: it is kept, as with mark_read.
        """
        driver = self._require_running()
        await driver.requests.ask(self._mark(post))

    def _mark(self, post: DurableEvent) -> Callable[[int], MarkedRead]:
        """Note the place of a message that is read; return what makes the input of the core of a ticket, 0 for none."""
        people, key = self.directory, post.log.conversation
        if post.place > (place := self._read_place(key)):
            self._lifecycle.hosted.deliveries.on_reading(people.me, post, place)
            self._lifecycle.feed.commit_offset(self._consumer_prefix + READ_PLACE + key, post.place)
        return partial(MarkedRead, people.me, post.log, post.place, frozenset(people.hidden))

    def _read_place(self, key: ConversationId) -> int:
        """Return the place of the newest message marked as read; 0 for none."""
        return self._lifecycle.feed.place_of(self._consumer_prefix + READ_PLACE + key, 0)

    def _read_to(self, key: ConversationId) -> tuple[dict[LogId, int], int]:
        """Return how far each log of a conversation is marked as read, and the place up to which all of it is."""
        marks, place = self._driver.node.receipts.marks.marked_to(key, self.directory.me)
        return dict(marks), max(place, self._read_place(key))

    def _has_read(self, key: ConversationId) -> bool:
        """Return whether anything in a conversation was marked as read, by this peer or another of the user."""
        return any(self._read_to(key))

    async def unread(self, conversation: To, limit: int = 100, *, max_bytes: int = 0) -> list[Message]:
        """Return the messages of others that are not marked as read, in the order in which they were shown here.

        Messages from before this peer or user came, deleted ones, and those of ignored or blocked users do not count.
        Of more than 10,000 messages that came since the last mark, one's own included, only the first are looked at.

        Args:
            conversation: As history.
            limit: The maximum number of messages, 1 or more.
            max_bytes: End with the message with which their texts have so many bytes of UTF-8; 0 for no limit.
        Raises:
            UnknownName, AmbiguousName: Nothing has a name given, or several have.
            StorageError: Storage cannot be read.
            PeerClosed: The peer is not running.
        """
        found, size = list[Message](), 0
        async for post in self._each_unread(self.find(conversation).key):
            found.append(post)
            size += len(post.text.encode()) if max_bytes else 0
            if len(found) == limit or (max_bytes and size >= max_bytes):
                break
        return found

    async def _each_unread(self, key: ConversationId) -> AsyncIterator[Message]:
        disk, ignored = self._disk, self.directory.hidden
        marks, place = self._read_to(key)
        place = max(place, self._first_place if self._consumer_prefix else 0)
        for _ in range(UNREAD_PAGES):
            page = await disk.read(partial(disk.storage.places, place, UNREAD_AT_ONCE, [key]))
            for post in await unmarked_among(self._posts(filter(self._is_shown, page)), marks, disk):
                if not (post.old or post.deleted or post.expelled or post.log.user in ignored):
                    yield post
            if len(page) < UNREAD_AT_ONCE:
                break
            place = page[-1].place

    async def without_read(self, posts: Iterable[Message | Sent]) -> list[Message]:
        """Return those of these messages that others wrote and this user has not marked as read, by conversation.

        Those are left out, too, that a program of the user has taken at another peer (HostedUser.deliver_when_taken).

        Raises StorageError, PeerClosed.
        """
        by_key: dict[ConversationId, list[Message | Sent]] = {}
        for post in posts:
            by_key.setdefault(post.log.conversation, []).append(post)
        found: list[Message] = []
        marked = self._driver.node.receipts.marks
        for key, those in by_key.items():
            marks, place = self._read_to(key)
            unread = await unmarked_among([post for post in those if post.place > place], marks, self._disk)
            taken, _ = marked.marked_to(key, self.directory.me, taken=True)
            found += await unmarked_among(unread, taken, self._disk)
        return found
