"""What one user does with messages: sending, mending, marking as read, reading, searching.

For the own user of a peer and for every hosted one the same (local_user.py). Where they go is in places.py, what else a
user is and does in local_user.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from p2pchat.core.groups.group import GroupView
from p2pchat.core.inputs import ConversationOpened, MarkedRead, PresenceSet, ReceiptsChosen, TypingSet, UserRenamed
from p2pchat.core.log import LogId, Ref, decode_entry
from p2pchat.core.records import Change
from p2pchat.core.sync.conversations import MAX_ABOUT_CHARACTERS, dm_id, dm_naming
from p2pchat.errors import PeerClosed, UnknownName
from p2pchat.identity.names import validate_name
from p2pchat.messaging.events import Gap
from p2pchat.messaging.groups import Group, Who, change_group, expected_recipients, leave_group, make_group, whom
from p2pchat.messaging.history import find_post, read_posts, read_released, unread_among
from p2pchat.messaging.messages import (
    Conversation,
    Message,
    Post,
    Sent,
    ShownEntry,
    Viewer,
    body_of,
    check_text,
    check_texts,
    find_gap,
    named,
    parse_message_id,
)
from p2pchat.messaging.receipts import AcceptedBatch, Receipt, Receipts
from p2pchat.messaging.search import Progress, search_posts, search_request
from p2pchat.messaging.subscription import AnyEvent, Events, Subscription, matches
from p2pchat.messaging.timestamps import claim_of
from p2pchat.messaging.users import User, Whois, id_of, ignored_meta, is_of_ignored, known_of, names_before, somebody
from p2pchat.protocol import MAX_STATUS_CHARACTERS, ConversationId, Naming, UserId

if TYPE_CHECKING:
    from p2pchat.core.node import Node
    from p2pchat.messaging.access import AccessPolicy
    from p2pchat.messaging.dispatcher import EventDispatcher, Feed
    from p2pchat.messaging.groups import GroupDirectory
    from p2pchat.messaging.receipts import ReceiptTracker
    from p2pchat.messaging.search import SearchIndexer
    from p2pchat.messaging.users import UserDirectory
    from p2pchat.resources import Options
    from p2pchat.runtime.driver import Driver


# ---- part
#
# What the calls of one user stand on, whoever's they are: a peer's own user, or one that the peer hosts beside.
#
# UserPart names it; TCPPeer gives it of itself (lifecycle.py), HostedUser of the peer behind it (hosted_user.py).
# Being, Places and Messaging, which are made of it, are the user's part of both: no call is written twice.


class UserPart:
    """What is there for one user.

    Attributes:
        people: Who is who, as this user sees it; `people.me` is the user.
    """

    __slots__ = ()

    people: UserDirectory
    _feed: Feed
    _groups: GroupDirectory
    _dispatcher: EventDispatcher
    _tracker: ReceiptTracker
    _options: Options
    _access: AccessPolicy

    @property
    def _running(self) -> Driver:
        """What does things; PeerClosed while it does not run."""
        raise NotImplementedError

    @property
    def _started_driver(self) -> Driver:
        """The same for what is only looked at: also while it closes, and after."""
        raise NotImplementedError

    @property
    def _core(self) -> Node | None:
        """The core; None before there is one."""
        raise NotImplementedError

    @property
    def _is_closed(self) -> bool:
        raise NotImplementedError

    @property
    def _index(self) -> SearchIndexer | None:
        """What finds words far back; None where everything is looked through."""
        raise NotImplementedError

    def _started(self) -> object:
        """Raise PeerClosed before it is known who the user is."""
        raise NotImplementedError

    @property
    def _names_lock(self) -> asyncio.Lock:
        """Held while it is settled which users this peer has, and what they are called."""
        raise NotImplementedError

    def _check_name(self, name: str) -> None:
        """Raise P2PChatError when another user of this peer is called so, or nearly so."""
        raise NotImplementedError

    def _called(self, name: str, about: str | None) -> Change:
        """The user takes this name and tells this of itself (None: what it told before); return what keeps that."""
        raise NotImplementedError

    @property
    def _ignored_in(self) -> str:
        """Under which name it is kept whom the user ignores."""
        raise NotImplementedError

    def _consumer(self, name: str) -> str:
        """Return under which name the place of a consumer of this user is kept."""
        raise NotImplementedError

    @property
    def _first_place(self) -> int:
        """Where a consumer that was never asked for begins: everything up to there came before."""
        raise NotImplementedError

    @property
    def _came_at(self) -> int:
        """The newest place when this user came to the peer: what was there already is nobody's news."""
        raise NotImplementedError


# ---- being
#
# What one user is and does beside messages: its name, presence and receipts, whom it ignores, and whom it knows of.
#
# For the own user of a peer and for every hosted one the same (local_user.py).


STATUSES = ("online", "idle", "offline")


class Being(UserPart):
    """Who a user is among others."""

    __slots__ = ()

    # ------------------------------------------------------------------ who

    @property
    def me(self) -> User:
        """The own user."""
        self._started()
        return self.people.user(self.people.me)

    def users(self) -> list[User]:
        """Return everybody with a name, by label; oneself too."""
        self._started()
        return self.people.all()

    def here(self) -> list[User]:
        """Return those who are online or idle now, in no order; oneself too, unless one says to be offline."""
        node = self._started_driver.node
        known = map(self.people.user, {*node.presence.online(), *node.hosted})
        return [user for user in known if user.status in ("online", "idle")]

    def user(self, address: str) -> User:
        """Return the user an address names: `bob`, `@bob`, `bob#K7QF2M3P`, a full id. No conversation begins with it.

        Raises:
            UnknownName, AmbiguousName: As find.
        """
        self._started()
        return self.people.find(address)

    # ------------------------------------------------------------------ doing

    async def ignore(self, who: User | str) -> User:
        """Remember that the own user does not want to hear of this one, by key and for good.

        What that user writes is stored, passed on and acknowledged as before; it is for whoever shows things to leave
        it out: `user.ignored`, and `events(ignored=False)`.

        Args:
            who: A user, or a name as typed (see find), or a full id, known or not. Returned is that user.
        Raises:
            UnknownName, AmbiguousName: Nobody is called so, or several. ValueError: That is the own user.
            StorageError: It could not be stored.
        """
        user = self._somebody(who)
        if user.is_me:
            raise ValueError("that is the own user: nobody ignores himself")
        disk = self._running.disk
        self.people.ignored.add(user.key)
        await disk.write(Change(meta=ignored_meta(self.people, self._ignored_in)))
        return user

    async def unignore(self, who: User | str) -> User:
        """End what ignore() began; nothing happens when it did not. Takes, returns and raises as ignore."""
        user = self._somebody(who)
        disk = self._running.disk
        self.people.ignored.discard(user.key)
        await disk.write(Change(meta=ignored_meta(self.people, self._ignored_in)))
        return user

    def ignored(self) -> list[User]:
        """Return whom the own user does not want to hear of, by label."""
        self._started()
        users = map(self.people.user, self.people.ignored)
        return sorted(users, key=lambda user: (user.label.casefold(), user.key))

    def ignores(self, id: str) -> bool:
        """Whether the user of this id, as in event lines, is ignored."""
        return bool(self.people.ignored) and id_of(id) in self.people.ignored

    def _somebody(self, who: User | str) -> User:
        self._started()
        return somebody(self.people, who)

    async def rename(self, name: str, about: str | None = None) -> None:
        """Take another name, and tell something of oneself with it; all are told, also who comes later.

        Args:
            name: At most 32 characters; may be the present one.
            about: At most 512 characters, "" for nothing; None leaves it as it is.
        Raises:
            ValueError: That is no name, or others could not be told the text. StorageError: It could not be kept.
            P2PChatError: Another user of this peer has it, or one that could be taken for it.
        """
        name = validate_name(name)
        if about is not None and len(about) > MAX_ABOUT_CHARACTERS:
            raise ValueError(f"what one tells of oneself has at most {MAX_ABOUT_CHARACTERS} characters")
        if about:
            check_text(about, self._options.settings)
        await run_to_completion(self._rename(name, about))

    async def _rename(self, name: str, about: str | None) -> None:
        async with self._names_lock:
            driver, me = self._running, self.people.me
            self._check_name(name)
            if about is not None:
                self.people.tell_about(me, about)
            kept = self._called(name, about)
            driver.put(UserRenamed(me, name, about))
            await driver.wait_handled()  # others hear of it by what the core tells then
            self.people.learn([(me, name)])
            await driver.disk.write(kept)

    def names_before(self, user: User) -> tuple[str, ...]:
        """Return other names a user had, by the profiles in the room, the newest first."""
        return names_before(self._started_driver.node, user)

    async def whois(self, who: User | str) -> Whois:
        """Return what is known of a user.

        Args:
            who: A user, or a name as typed (see find), or a full id, known or not.
        Raises:
            UnknownName, AmbiguousName: Nobody is called so, or several. StorageError, PeerClosed.
        """
        driver, user = self._running, self._somebody(who)
        storage = driver.disk.storage
        first = await driver.disk.read(lambda: storage.first_received_at(user.key))
        return known_of(driver.node, user, first)

    async def set_receipts(self, on: bool | None, who: User | str | None = None) -> None:
        """Tell others what is read here, and hear what they have read, or neither: with one user, or with everybody.

        Kept over restarts. What was told before stays told; a message marked read meanwhile is told with the next one
        that is marked when receipts are on again.

        Args:
            on: None: `who` is no exception any more.
            who: A user, or a name as typed (see find), who is an exception now; None: what holds for all others.
        Raises:
            UnknownName, AmbiguousName: Nobody is called so, or several. StorageError: It could not be stored.
        """
        driver = self._running
        other = "" if who is None else (who if isinstance(who, User) else self.user(who)).key
        driver.put(ReceiptsChosen(self.people.me, on, other))
        await driver.settle()

    def receipt_exceptions(self) -> dict[User, bool]:
        """Return the users with whom receipts of reading are set on or off apart from all others."""
        consent = self._started_driver.node.sync.read_receipts.privacy
        return {self.people.user(other): on for other, on in consent.exceptions(self.people.me).items()}

    def receipts(self, who: User | None = None) -> bool:
        """Whether this user is told what is read here, and the other way round; None: whoever is no exception."""
        consent = self._started_driver.node.sync.read_receipts.privacy
        return consent.default(self.people.me) if who is None else consent.wants(self.people.me, who.key)

    def set_presence(self, status: str, text: str = "") -> None:
        """Tell others `online`, `idle` or `offline`, with a text of one's own.

        Raises:
            ValueError: There is no such status, or others could not be told the text: it is longer than
                MAX_STATUS_CHARACTERS, or no text that can be sent.
        """
        if status not in STATUSES:
            raise ValueError(f"a status is one of {', '.join(STATUSES)}, not {status!a}")
        if len(text) > MAX_STATUS_CHARACTERS:
            raise ValueError(f"the text of a status has at most {MAX_STATUS_CHARACTERS} characters, not {len(text)}")
        if text:
            check_text(text, self._options.settings)
        self._running.put(PresenceSet(self.people.me, status, text))


# ---- places
#
# Where the messages of one user may go: its conversations and groups, and what an address as typed means.
#
# What is written there and read is local_user.py.


To = User | Conversation | str


class Places(Being):
    """The conversations of one user."""

    __slots__ = ()

    _conversations: dict[ConversationId, Conversation]

    @property
    def _viewer(self) -> Viewer:
        """Who does what is asked of conversations: the user itself."""
        raise NotImplementedError

    # ------------------------------------------------------------------ conversations

    @property
    def room(self) -> Conversation:
        """The conversation of everyone; UnknownName in an open network that has met nobody yet."""
        key = self._started_driver.node.room
        if not key:
            text = "there is no room yet: this open network is known when the first peer has been met"
            raise UnknownName("room", text=text)
        return self.conversation(key)

    def conversations(self) -> list[Conversation]:
        """Return all conversations known here, the room first, then by name."""
        known = map(self.conversation, self._started_driver.node.conversations_of(self.people.me))
        return sorted(known, key=lambda one: (one.kind != "room", one.name.casefold()))

    def recent_conversations(self) -> list[Conversation]:
        """Return all conversations known here, the one first in which something was written last."""
        return list(map(self.conversation, self._started_driver.node.newest_conversations(self.people.me)))

    def conversation(self, key: ConversationId) -> Conversation:
        """Return the one handle of a conversation, by its inner id (hex)."""
        found = self._conversations.get(key)
        if found is None or found.naming is None:
            naming = self._naming(key)
            kind = Group if naming is not None and naming.talk else Conversation
            found = self._conversations[key] = kind(self._viewer, key, naming)
        return found

    def _naming(self, key: ConversationId) -> Naming | None:
        node = self._core
        known = None if node is None else node.sync.conversations.by_id.get(key)
        return known.naming if known is not None and self._access.knows(key) else None

    def find(self, to: To) -> Conversation:
        """Return the conversation an address names: `room`, `bob`, `@bob`, `bob#K7QF2M3P`, `#ops`, a full id.

        Raises:
            UnknownName: Nobody and nothing is called so.
            AmbiguousName: Several are; `.candidates` are labels that tell them apart.
        """
        if isinstance(to, Conversation):
            return to if to.viewer is self._viewer else self.conversation(to.key)
        if isinstance(to, User):
            return self._dm(to)
        if not isinstance(to, str):
            raise TypeError(f"a message goes to a name, a User or a Conversation, not {type(to).__name__}")
        text = to.strip()
        if text.lower() in ("room", "#room"):
            return self.room
        if text.startswith("#"):
            return self.group(text)
        key = id_of(text)
        self._started()
        if key and (self._naming(key) is not None or key in self._conversations):
            return self.conversation(key)
        try:
            return self._dm(self.people.find(text))
        except UnknownName:
            if not (hint := self._groups.hint(text)):
                raise
        raise UnknownName(text, hint)

    def _dm(self, user: User) -> Conversation:
        driver = self._started_driver
        key = dm_id(self.people.me, user.key)
        found = self._conversations.get(key)
        if found is None or found.naming is None:
            naming = dm_naming(self.people.me, user.key)
            if self._naming(key) is None and not self._is_closed:
                driver.put(ConversationOpened(naming))
            found = self._conversations[key] = Conversation(self._viewer, key, naming)
        return found

    # ------------------------------------------------------------------ groups

    async def create_group(self, name: str, members: Sequence[Who] = ()) -> Group:
        """Make a group, whose owner is the own user; returns when it is accepted.

        Args:
            name: What it is called; other groups may be called so too.
            members: Users or names as typed, also of who is away; who was never met is named by the full id.
        Raises:
            UnknownName, AmbiguousName: A member is nobody, or several. ValueError: That is no name.
            P2PChatError: Too many members. StorageError, PeerClosed: As send.
        """
        driver, me = self._running, self.people.me
        if isinstance(members, str | User):
            raise TypeError("members is a list of users or names, not one of them")
        talk = await make_group(driver, me, name, [whom(self.people, member) for member in members])
        return self._handle(talk)

    def groups(self) -> list[Group]:
        """Return the groups known here, by name: also those one was removed from or has left (see is_member)."""
        talks = [view.talk for view in self._started_driver.node.groups.values() if self._access.knows(view.talk)]
        known = map(self._handle, talks)
        return sorted(known, key=lambda group: (group.name.casefold(), group.key))

    def group(self, address: str) -> Group:
        """Return the group an address names: `#ops`, `ops`, `#ops#K7QF2M3P`.

        Raises:
            UnknownName, AmbiguousName: No group here is called so, or several.
        """
        self._started()
        return self._handle(self._groups.find(address))

    def _handle(self, talk: ConversationId) -> Group:
        group = self.conversation(talk)
        assert isinstance(group, Group)
        return group

    def group_view(self, group: ConversationId) -> GroupView | None:
        return None if self._core is None else self._groups.view(group)

    def same_name(self, conversation: Conversation) -> bool:
        return self._groups.same_name(conversation.key)

    async def change_group(
        self,
        group: Conversation,
        *,
        add: tuple[UserId, ...] = (),
        remove: tuple[UserId, ...] = (),
        name: str | None = None,
        owner: UserId | None = None,
    ) -> None:
        """What Group.add and its neighbours do."""
        await change_group(self._running, self.people.me, _operations(group), add, remove, name, owner)

    async def leave_group(self, group: Conversation) -> None:
        """What Group.leave does."""
        await leave_group(self._running, self.people.me, _operations(group))


def _operations(group: Conversation) -> ConversationId:
    assert isinstance(group, Group)
    return group.group_key


# ---- local user


Start = Literal["now", "beginning"]
A = TypeVar("A")
B = TypeVar("B")
MANY = 1000  # texts of send_many under one future: a dozen batches, a transaction of some 5 ms


class Messaging(Places):
    """The messages of one user."""

    __slots__ = ()

    # ------------------------------------------------------------------ sending

    async def send(
        self,
        to: To,
        text: str,
        reply_to: Post | str | None = None,
        *,
        action: bool = False,
        ref: str | None = None,
        claimed_at: datetime | None = None,
    ) -> Receipt:
        """Write one message; returns when it is accepted: on this disk, safe from a crash.

        Args:
            to: A user, a conversation, or an address as typed (see find).
            text: At most 32 KiB of UTF-8, not empty, no NUL.
            reply_to: The message this answers, of the same conversation, or its id.
            action: It says what the writer does (/me).
            ref: A word of the program's own, given back in the event Sent; kept for this run only.
            claimed_at: When the program says it was written, for those who read it (`Message.claimed_at`). `sent_at`
                and every order are this peer's own all the same.
        Raises:
            UnknownName, AmbiguousName: `to` is nobody, or several.
            TooLong: `.limit_bytes` says what fits. TypeError, ValueError: No text at all, or
                no time between 1970 and 2255 that has a zone.
            StorageError: It could not be stored; nothing was sent. PeerClosed: Not running.
        """
        requests = self._running.requests
        conversation = to if type(to) is Conversation else self.find(to)
        check_text(text, self._options.settings)
        re = None if reply_to is None else _reference(conversation, reply_to)
        kind = "action" if action else "text"
        claimed = None if claimed_at is None else claim_of(claimed_at)
        said = (self.people.me, conversation.key, kind, (text,), re, ref, claimed)
        log, seq = requests.write_nowait(*said) or await requests.write(*said)
        return Receipt(self._tracker, log, seq)

    async def broadcast(self, text: str) -> Receipt:
        """Write to the room; as send."""
        return await self.send(self.room, text)

    async def send_many(self, to: To, texts: Sequence[str]) -> Receipts:
        """Write many messages in order; returns when all are accepted. Much quicker than one at a time.

        Raises as send; when that is TooLong, TypeError or ValueError, none was written.
        """
        requests = self._running.requests
        if isinstance(texts, str):
            raise TypeError("send_many takes a list of texts, not one text")
        conversation, me = self.find(to), self.people.me
        texts = list(texts)
        check_texts(texts, self._options.settings)
        said = [
            requests.write(me, conversation.key, "text", texts[start : start + MANY])
            for start in range(0, len(texts), MANY)
        ]
        try:
            firsts = [await saying for saying in said]
        except BaseException:
            for saying in said:
                saying.cancel()
            raise
        counts = [min(MANY, len(texts) - start) for start in range(0, len(texts), MANY)]
        return Receipts(
            self._tracker, [AcceptedBatch(*first, count) for first, count in zip(firsts, counts, strict=True)]
        )

    async def edit(self, message: Post | str, text: str, *, ref: str | None = None) -> Receipt:
        """Have a message of one's own say something else, for everybody.

        The newest edit or deletion counts, by the clock of histories: an edit brings back what was deleted. What it
        said before stays in the logs of all who have it.

        Args:
            message: A message, or its id.
            ref: As send.
        Returns:
            The receipt of the edit: who has what it says now.
        Raises:
            UnknownName: No message here has this id. ValueError: Another wrote it, or that is no id. And as send.
        """
        return await self._mend("edit", message, text, ref)

    async def delete(self, message: Post | str, *, ref: str | None = None) -> Receipt:
        """Take a message of one's own back: nothing shows its text any more, though logs keep it; as edit."""
        return await self._mend("delete", message, "", ref)

    async def react(self, message: Post | str, reaction: str, *, ref: str | None = None) -> Receipt:
        """React to a message with at most 8 characters, in place of one's former reaction; "" takes that back.

        Raises:
            ValueError: It is longer. UnknownName: No message here has this id. And as send.
        """
        return await self._mend("reaction", message, reaction, ref)

    async def _mend(self, kind: str, message: Post | str, text: str, ref: str | None) -> Receipt:
        requests, me = self._running.requests, self.people.me
        post = message if isinstance(message, Post) else await self.message(message)
        body = body_of(kind, post, text, me, self._options.settings)
        log, seq = await requests.write(me, post.log.conversation, kind, (body,), named(post), ref)
        return Receipt(self._tracker, log, seq)

    def typing(self, to: To, on: bool = True) -> None:
        """Tell whoever can read a conversation that one writes there just now, or has stopped.

        Nothing of it is kept. Call it with every key, or every few seconds: others are told once in 3 s at most, and
        6 s after they were told last it is over by itself. Sending there ends it too.

        Args:
            to: As send.
        Raises:
            UnknownName, AmbiguousName: `to` is nobody, or several. PeerClosed: Not running.
        """
        driver = self._running
        driver.put(TypingSet(self.people.me, self.find(to).key, on))

    def mark_read(self, post: ShownEntry) -> None:
        """Say that everything in the conversation of this message, up to it, is read; as Message.mark_read."""
        people = self.people
        self._running.put(MarkedRead(people.me, post.log, post.seq, post.place, frozenset(people.ignored)))

    async def receipt(self, message_id: str) -> Receipt:
        """Return the receipt of a message of one's own, also of an earlier run.

        Raises:
            ValueError: No message id. UnknownName: No message of ours has it.
        """
        prefix, ref = parse_message_id(message_id)
        driver, me = self._running, self.people.me
        talk = next((key for key in driver.node.conversations_of(me) if key.startswith(prefix)), None)
        if talk is None or ref.log[:16] != me[:16]:
            raise UnknownName(message_id, "it is no message of ours")
        log = LogId(talk, me, ref.log[16:])
        storage = driver.disk.storage
        if not self._tracker.said(log, ref.seq):
            shown = await driver.disk.read(lambda: storage.entry(log, ref.seq))
            if shown is None:
                raise UnknownName(message_id, "it is no message of ours")
            if self._tracker.said(log, ref.seq):  # it was accepted a moment ago
                return Receipt(self._tracker, log, ref.seq)
            marks, read = await driver.disk.read(
                lambda: (storage.delivered_to(log, ref.seq), storage.readers(log, ref.seq))
            )
            holders = {member for member, _ in marks} | set(self._tracker.holders(log, ref.seq))
            of = expected_recipients(driver.node, log, decode_entry(shown.raw), holders)
            self._tracker.heard(log, marks, of, read, seq=ref.seq)
        return Receipt(self._tracker, log, ref.seq)

    # ------------------------------------------------------------------ reading

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
        self, *types: type[Any], consumer: str | None = "main", start: Start = "now", ignored: bool = True
    ) -> Events[Any]: ...
    def events(
        self, *types: type[Any], consumer: str | None = "main", start: Start = "now", ignored: bool = True
    ) -> Events[Any]:
        """Return an iterator over what happens.

        Messages (Message, and Sent for one's own) are read with a durable cursor: a program that falls behind,
        crashes or restarts misses none, and may see the last one twice. Asking for the next event acknowledges the
        one before. Everything else (Joined, Link, Delivered ...) is told only while the iterator is open; what came
        before is not told again, so who must see it opens the iterator before start().

        Args:
            types: Only these classes of events, e.g. Message, Left; none means all.
            consumer: The name of the cursor. None: nothing is remembered.
            start: Where a consumer that was never asked for begins: "now" is where this peer started, so that nothing
                since then is missed (with consumer=None: where the iterator is opened); "beginning" is the first
                message stored.
            ignored: Also events of users who are ignored (see ignore): what they write and do, and how they are.
                False leaves these out; passed over, they count as taken.
        Raises:
            ConsumerBusy: Another reader has this consumer; close it or give this one a name of its own.
        """
        if self._is_closed:
            raise self._over()
        if start not in ("now", "beginning"):
            raise ValueError(f"start is 'now' or 'beginning', not {start!a}")
        kept = None if consumer is None else self._consumer(consumer)
        reader = Subscription(self._feed, self._viewer, types, kept, start, self._access)
        self._dispatcher.add_reader(reader)
        if self._core is not None:
            self._feed.begin(reader, self._first_place)
        return Events(reader, None if ignored else is_of_ignored, consumer)

    async def wait_for(
        self, *types: type[Any], where: Callable[[Any], bool] | None = None, timeout: float | None = None
    ) -> Any:
        """Return the first event from now on that is one of `types` and for which `where` is true.

        Raises:
            TimeoutError: None came in time. PeerClosed: The peer was closed meanwhile.
        """
        reader = self.events(*types, consumer=None)
        try:
            async with asyncio.timeout(timeout):
                async for event in reader:
                    if matches(types, where, event):
                        return event
        finally:
            reader.close()
        raise self._over()

    def _over(self) -> PeerClosed:
        """Return why nothing more comes: the peer was closed, or this user is hosted no more."""
        try:
            self._running  # noqa: B018
        except PeerClosed as error:
            return error
        return PeerClosed("the peer was closed")

    async def wait_user(self, name: str, timeout: float | None = None) -> User:
        """Return the user of this name as soon as that user is online.

        Raises:
            TimeoutError: Not in time. AmbiguousName: Several have it. PeerClosed: Closed meanwhile.
        """
        found: list[User] = []

        def here() -> bool:
            try:
                user = self.people.find(name)
            except UnknownName:
                return False
            found[:] = [user]
            return user.is_me or user.status in ("online", "idle")

        def here_or_over() -> bool:
            is_here = here()
            if self._is_closed and not is_here:
                raise self._over()
            return is_here

        try:
            await self._dispatcher.wait_until(here_or_over, timeout)
        except TimeoutError:
            raise TimeoutError(f"{name!a} has not come online in time") from None
        return found[0]

    async def history(
        self,
        conversation: To | None = None,
        *,
        before: Post | datetime | None = None,
        after: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Message | Sent]:
        """Return messages, oldest first.

        Args:
            conversation: A conversation, user or address; None for all in one order.
            before, after: With `after` the oldest behind it, otherwise the newest, before `before`.
            since: Nothing written before this moment.
            limit: Most messages; 0 for all.
        Raises:
            UnknownName, AmbiguousName, StorageError, PeerClosed.
        """
        driver = self._running
        key = None if conversation is None else self.find(conversation).key
        disk = driver.disk
        return await read_posts(
            self._viewer, disk.storage, disk.read, self._among(key), before=before, after=after, since=since,
            limit=limit, access=self._access,
        )  # fmt: skip

    def _among(self, key: ConversationId | None) -> ConversationId | Sequence[ConversationId] | None:
        """Return where to look: one conversation, or those this user belongs to; None where that is all of them."""
        if key is not None or self._access.is_all:
            return key
        return self._started_driver.node.conversations_of(self.people.me)

    async def released(
        self,
        after: Post | None = None,
        *,
        consumer: str = "main",
        kinds: Collection[str] | None = None,
        limit: int = 500,
    ) -> list[Message | Sent]:
        """Return what was shown here behind a message, in the order it was shown: a page of messages, [] at the end.

        For who asks now and then and waits for nothing, as a server does for each client that comes back; `events`
        is for who reads on. What belongs elsewhere costs nothing.

        Args:
            after: The last message taken; None: where `consumer` stands, as hand_on said, or an iterator of events.
                One never asked for stands where this peer started.
            kinds: Only conversations of these kinds, e.g. ("dm", "group").
            limit: Most messages, 1 or more.
        Raises StorageError, PeerClosed.
        """
        disk, talks = self._running.disk, self.recent_conversations()
        these = [talk.key for talk in talks if kinds is None or talk.kind in kinds]
        kept = self._consumer(consumer)
        place = self._feed.place_of(kept, self._first_place) if after is None else after.place
        return await read_released(self._viewer, disk.storage, disk.read, these, place, limit, self._access)

    async def unread(self, conversation: To, limit: int = 100) -> list[Message]:
        """Return what others wrote there and this user has not marked as read, oldest first.

        What was there before this peer or user came, and what those write who are ignored, is nobody's news.

        Args:
            conversation: As history.
            limit: How many of the newest messages are looked at.
        Raises:
            UnknownName, AmbiguousName, StorageError, PeerClosed.
        """
        driver, there, ignored = self._running, self.find(conversation), self.people.ignored
        posts = await self.history(there, limit=limit)
        marks, place = driver.node.sync.read_receipts.read_to(there.key, self.people.me)
        found = await unread_among(posts, dict(marks), max(place, self._came_at), driver.disk.storage, driver.disk.read)
        return [post for post in found if post.log.user not in ignored]

    def hand_on(self, post: ShownEntry, consumer: str) -> None:
        """Say that a consumer has taken everything up to this message; saved soon. It never goes back.

        Raises PeerClosed.
        """
        kept = self._consumer(consumer)
        if self._running and post.place > self._feed.place_of(kept, self._first_place):
            self._feed.commit_offset(kept, post.place)

    async def search(
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
        """Return the newest messages with all of these words in them, oldest first.

        `backup failed` finds both words anywhere in a text, also longer ones that begin so; `"backup failed"` exactly
        these, one behind the other; `from:bob` what bob wrote. Capitals and accents make no difference. Chinese,
        Japanese, Thai and others without blanks are found by any characters in a row.

        Args:
            words: What to look for, as above; only `from:` somebody is enough.
            conversation: As history.
            sender: Only of this user.
            before: Only older ones, to go on from the oldest found.
            since: Nothing written before this moment.
            limit: Most messages, 1 or more.
            progress: Told how many entries are indexed, of how many, where that has to be waited for.
        Raises:
            ValueError: No word, or more than 64. UnknownName, AmbiguousName, StorageError, PeerClosed.
        """
        disk, key = self._running.disk, None if conversation is None else self.find(conversation).key
        meant = search_request(
            words, key, self.user, sender=sender, before=before, since=since, limit=limit, access=self._access
        )
        return await search_posts(self._viewer, disk.storage, disk.read, meant, self._index, progress)

    async def message(self, message_id: str) -> Message | Sent:
        """Return one message by its id, as in `reply_to` and `after`.

        Raises:
            ValueError: No message id. UnknownName: It is not here (yet). StorageError, PeerClosed.
        """
        driver = self._running
        disk, talks, access = driver.disk, driver.node.conversations_of(self.people.me), self._access
        return await find_post(self._viewer, disk.storage, disk.read, talks, message_id, access)

    async def missing(self, post: Post) -> Gap | None:
        """Return what a message follows and is not here, and who had it; None when nothing is missing (any more).

        A message with `gap` set was shown without something it follows. That comes by itself when somebody who has it
        does, and then stands at its place in the history.
        Raises StorageError, PeerClosed.
        """
        disk = self._running.disk
        return await find_gap(self._viewer, disk.storage, disk.read, post)

    # ------------------------------------------------------------------ what conversations and messages ask

    def ref(self, log: LogId, seq: int) -> str | None:
        """Return what send() was given as `ref` for this message, in this run."""
        return None if self._core is None else self._started_driver.writes.refs.get((log, seq))


def _reference(conversation: Conversation, to: Post | str) -> Ref:
    """Return how an entry of this conversation names another; ValueError when that is of another conversation."""
    prefix, ref = parse_message_id(to.id if isinstance(to, Post) else to)
    if not conversation.key.startswith(prefix):
        raise ValueError("an answer goes to the conversation of the message it answers")
    return ref


# ---- whole
#
# What is done whole or not at all: whoever gives up waiting for it does not stop it halfway.
#
# A server cancels what it does for a client that is gone. What is on disk by then, or known to others, has to be in
# memory too, or a restart would know other users and names than the peer that ran.


T = TypeVar("T")


async def run_to_completion(doing: Coroutine[Any, Any, T]) -> T:
    """Do it to its end, and return or raise what comes of it; cancelled, it goes on, and nobody hears how it went."""
    task = asyncio.ensure_future(doing)
    task.add_done_callback(_consume_exception)
    await asyncio.wait([task])  # which cancels nothing
    return task.result()


def _consume_exception(task: asyncio.Task[Any]) -> None:
    """What failed when nobody waits any more is no error of the loop's."""
    if not task.cancelled():
        task.exception()
