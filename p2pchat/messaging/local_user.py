"""What one user does with messages: sending, mending, marking as read, reading, searching.

For the own user of a peer and for every hosted one the same (part.py). Where they go is in places.py, what else a user
is and does in being.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar, overload

from p2pchat.core.inputs import MarkedRead, TypingSet
from p2pchat.core.log import LogId, Ref, decode_entry
from p2pchat.errors import PeerClosed, UnknownName
from p2pchat.messaging.events import Gap
from p2pchat.messaging.history import find_post, read_posts
from p2pchat.messaging.messages import Message, Post, Sent, parse_message_id
from p2pchat.messaging.receipts import Piece, Receipt, Receipts
from p2pchat.messaging.search import search_posts, wanted
from p2pchat.messaging.subscription import AnyEvent, Reader
from p2pchat.messaging.timestamps import claim_of
from p2pchat.messaging.users import User
from p2pchat.peer.calls.places import Places, To
from p2pchat.peer.groups.membership import waited_for
from p2pchat.peer.messages.conversation import Conversation, Placed
from p2pchat.peer.messages.gaps import find_gap
from p2pchat.peer.messages.mending import body_of, named
from p2pchat.peer.messages.texts import check_text, check_texts
from p2pchat.peer.reading.indexing import Progress
from p2pchat.peer.reading.iterator import Events, matches
from p2pchat.peer.reading.released import read_released
from p2pchat.peer.reading.unread import unread_among
from p2pchat.peer.users.ignoring import is_of_ignored
from p2pchat.protocol import ConversationId

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
        programs = self._running.programs
        conversation = to if type(to) is Conversation else self.find(to)
        check_text(text, self._options.settings)
        re = None if reply_to is None else _reference(conversation, reply_to)
        kind = "action" if action else "text"
        claimed = None if claimed_at is None else claim_of(claimed_at)
        said = (self.people.me, conversation.key, kind, (text,), re, ref, claimed)
        log, seq = programs.say_at_once(*said) or await programs.say(*said)
        return Receipt(self._ledger, log, seq)

    async def broadcast(self, text: str) -> Receipt:
        """Write to the room; as send."""
        return await self.send(self.room, text)

    async def send_many(self, to: To, texts: Sequence[str]) -> Receipts:
        """Write many messages in order; returns when all are accepted. Much quicker than one at a time.

        Raises as send; when that is TooLong, TypeError or ValueError, none was written.
        """
        programs = self._running.programs
        if isinstance(texts, str):
            raise TypeError("send_many takes a list of texts, not one text")
        conversation, me = self.find(to), self.people.me
        texts = list(texts)
        check_texts(texts, self._options.settings)
        said = [
            programs.say(me, conversation.key, "text", texts[start : start + MANY])
            for start in range(0, len(texts), MANY)
        ]
        try:
            firsts = [await saying for saying in said]
        except BaseException:
            for saying in said:
                saying.cancel()
            raise
        counts = [min(MANY, len(texts) - start) for start in range(0, len(texts), MANY)]
        return Receipts(self._ledger, [Piece(*first, count) for first, count in zip(firsts, counts, strict=True)])

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
        programs, me = self._running.programs, self.people.me
        post = message if isinstance(message, Post) else await self.message(message)
        body = body_of(kind, post, text, me, self._options.settings)
        log, seq = await programs.say(me, post.log.conversation, kind, (body,), named(post), ref)
        return Receipt(self._ledger, log, seq)

    def typing(self, to: To, on: bool = True) -> None:
        """Tell whoever can read a conversation that one writes there just now, or has stopped.

        Nothing of it is kept. Call it with every key, or every few seconds: others are told once in 3 s at most, and
        6 s after they were told last it is over by itself. Sending there ends it too.

        Args:
            to: As send.
        Raises:
            UnknownName, AmbiguousName: `to` is nobody, or several. PeerClosed: Not running.
        """
        owner = self._running
        owner.put(TypingSet(self.people.me, self.find(to).key, on))

    def mark_read(self, post: Placed) -> None:
        """Say that everything in the conversation of this message, up to it, is read; as Message.mark_read."""
        people = self.people
        self._running.put(MarkedRead(people.me, post.log, post.seq, post.place, frozenset(people.ignored)))

    async def receipt(self, message_id: str) -> Receipt:
        """Return the receipt of a message of one's own, also of an earlier run.

        Raises:
            ValueError: No message id. UnknownName: No message of ours has it.
        """
        prefix, ref = parse_message_id(message_id)
        owner, me = self._running, self.people.me
        talk = next((key for key in owner.node.talks_of(me) if key.startswith(prefix)), None)
        if talk is None or ref.log[:16] != me[:16]:
            raise UnknownName(message_id, "it is no message of ours")
        log = LogId(talk, me, ref.log[16:])
        storage = owner.disk.storage
        if not self._ledger.said(log, ref.seq):
            shown = await owner.disk.read(lambda: storage.entry(log, ref.seq))
            if shown is None:
                raise UnknownName(message_id, "it is no message of ours")
            if self._ledger.said(log, ref.seq):  # it was accepted a moment ago
                return Receipt(self._ledger, log, ref.seq)
            marks, read = await owner.disk.read(lambda: (storage.heard(log, ref.seq), storage.readers(log, ref.seq)))
            holders = {member for member, _ in marks} | set(self._ledger.holders(log, ref.seq))
            of = waited_for(owner.node, log, decode_entry(shown.raw), holders)
            self._ledger.heard(log, marks, of, read, seq=ref.seq)
        return Receipt(self._ledger, log, ref.seq)

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
        reader = Reader(self._feed, self._desk, types, kept, start, self._sight)
        self._herald.admit(reader)
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
            await self._herald.until(here_or_over, timeout)
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
        owner = self._running
        key = None if conversation is None else self.find(conversation).key
        disk = owner.disk
        return await read_posts(
            self._desk, disk.storage, disk.read, self._among(key), before=before, after=after, since=since,
            limit=limit, sight=self._sight,
        )  # fmt: skip

    def _among(self, key: ConversationId | None) -> ConversationId | Sequence[ConversationId] | None:
        """Return where to look: one conversation, or those this user belongs to; None where that is all of them."""
        if key is not None or self._sight.is_all:
            return key
        return self._begun.node.talks_of(self.people.me)

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
        return await read_released(self._desk, disk.storage, disk.read, these, place, limit, self._sight)

    async def unread(self, conversation: To, limit: int = 100) -> list[Message]:
        """Return what others wrote there and this user has not marked as read, oldest first.

        What was there before this peer or user came, and what those write who are ignored, is nobody's news.

        Args:
            conversation: As history.
            limit: How many of the newest messages are looked at.
        Raises:
            UnknownName, AmbiguousName, StorageError, PeerClosed.
        """
        owner, there, ignored = self._running, self.find(conversation), self.people.ignored
        posts = await self.history(there, limit=limit)
        marks, place = owner.node.sync.reads.read_to(there.key, self.people.me)
        found = await unread_among(posts, dict(marks), max(place, self._came_at), owner.disk.storage, owner.disk.read)
        return [post for post in found if post.log.user not in ignored]

    def hand_on(self, post: Placed, consumer: str) -> None:
        """Say that a consumer has taken everything up to this message; saved soon. It never goes back.

        Raises PeerClosed.
        """
        kept = self._consumer(consumer)
        if self._running and post.place > self._feed.place_of(kept, self._first_place):
            self._feed.hand_on(kept, post.place)

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
        meant = wanted(words, key, self.user, sender=sender, before=before, since=since, limit=limit, sight=self._sight)
        return await search_posts(self._desk, disk.storage, disk.read, meant, self._index, progress)

    async def message(self, message_id: str) -> Message | Sent:
        """Return one message by its id, as in `reply_to` and `after`.

        Raises:
            ValueError: No message id. UnknownName: It is not here (yet). StorageError, PeerClosed.
        """
        owner = self._running
        disk, talks, sight = owner.disk, owner.node.talks_of(self.people.me), self._sight
        return await find_post(self._desk, disk.storage, disk.read, talks, message_id, sight)

    async def missing(self, post: Post) -> Gap | None:
        """Return what a message follows and is not here, and who had it; None when nothing is missing (any more).

        A message with `gap` set was shown without something it follows. That comes by itself when somebody who has it
        does, and then stands at its place in the history.
        Raises StorageError, PeerClosed.
        """
        disk = self._running.disk
        return await find_gap(self._desk, disk.storage, disk.read, post)

    # ------------------------------------------------------------------ what conversations and messages ask

    def ref(self, log: LogId, seq: int) -> str | None:
        """Return what send() was given as `ref` for this message, in this run."""
        return None if self._core is None else self._begun.saying.refs.get((log, seq))


def _reference(conversation: Conversation, to: Post | str) -> Ref:
    """Return how an entry of this conversation names another; ValueError when that is of another conversation."""
    prefix, ref = parse_message_id(to.id if isinstance(to, Post) else to)
    if not conversation.key.startswith(prefix):
        raise ValueError("an answer goes to the conversation of the message it answers")
    return ref
