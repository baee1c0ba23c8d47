"""The herald: makes events of what the core tells, and gives them to whoever reads or waits.

It knows the open readers, the ledger of receipts, the names, and how each endpoint fared. It decides nothing: what
is worth telling, the core has decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from p2pchat.core import effects as fx
from p2pchat.core.log import Ref
from p2pchat.errors import ConsumerBusy, PeerClosed, StorageError
from p2pchat.identity.names import base32
from p2pchat.peer import events as ev
from p2pchat.peer.conversation import Conversation
from p2pchat.peer.gaps import who_had
from p2pchat.peer.group import Group, Undelivered, changed
from p2pchat.peer.groupbook import GroupBook
from p2pchat.peer.ledger import Ledger
from p2pchat.peer.message import NOT_SHOWN, message_id, referred_id
from p2pchat.peer.people import People
from p2pchat.peer.reader import Reader
from p2pchat.peer.times import aware
from p2pchat.protocol import ConversationId, PeerId

HANDLED_WITHIN = 0.5  # seconds a program may take with its last event while the peer closes; else it comes again
TOLD_WITHIN = 5.0  # seconds to look up receipts of earlier runs while the peer closes; the rest is not told


class Herald:
    """Tells programs what happened.

    Attributes:
        readers: The open ones; a reader that nobody holds any more reads no more.
        endpoints: How the newest attempt to link went, by endpoint: up, down, trying, refused.
        conversation: Returns the handle of a conversation; the peer gives it.
    """

    conversation: Callable[[ConversationId], Conversation]

    def __init__(self, people: People, ledger: Ledger, groups: GroupBook, on_link: Callable[[], None]) -> None:
        self._people = people
        self._ledger = ledger
        self._groups = groups
        self._on_link = on_link
        self.readers: WeakSet[Reader] = WeakSet()
        self.endpoints: dict[str, str] = {}
        self._addresses: dict[PeerId, str] = {}  # of the peers linked now; a user's own peer has the user's id
        self._waiting: dict[asyncio.Future[None], None] = {}  # for a change among people or links, in order
        self._subjects = 0
        self._closed = False
        self._tell: dict[type, Callable[[Any], None]] = {
            fx.Kept: self._kept, fx.Released: self._released, fx.Delivered: self._delivered,
            fx.WasRead: self._was_read,
            fx.LinkChanged: self._link, fx.UserJoined: self._joined, fx.UserLeft: self._left,
            fx.PresenceChanged: self._presence, fx.TypingChanged: self._typing, fx.UserNamed: self._named,
            fx.Gap: self._gap, fx.Warned: self._warned, fx.Refused: self._refused,
            fx.GroupChanged: self._group, fx.Undelivered: self._undelivered,
        }  # fmt: skip

    # Readers

    def admit(self, reader: Reader) -> None:
        """Take a new reader; ConsumerBusy when another reads for the same consumer."""
        if reader.consumer is not None and reader.consumer in self.consumers():
            raise ConsumerBusy(reader.consumer)
        self.readers.add(reader)

    def consumers(self) -> set[str]:
        """Return the consumers that have an open reader."""
        return {reader.consumer for reader in self.readers if reader.consumer is not None and not reader.closed}

    def read_by_anybody(self) -> bool:
        """Whether somebody reads messages now."""
        return any(reader.reads_messages for reader in self.readers)

    async def rest(self, closer: asyncio.Task[Any] | None) -> None:
        """Have readers hand out no more messages; those being handled get a moment to be acknowledged.

        Args:
            closer: The task that waits for the peer to close.
        """
        readers = list(self.readers)
        for reader in readers:
            reader.rest()
        with suppress(TimeoutError):
            async with asyncio.timeout(HANDLED_WITHIN):
                for reader in readers:
                    await reader.handled(closer)

    async def look_up(self) -> None:
        """Have readers find out what the receipts that wait there lack, TOLD_WITHIN at most: storage closes next."""
        with suppress(TimeoutError, StorageError, PeerClosed):
            async with asyncio.timeout(TOLD_WITHIN):
                for reader in list(self.readers):
                    await reader.look_up()

    def close(self, last: ev.Event | None) -> None:
        """Give everybody a last event, then an end; whoever waits for something gets PeerClosed."""
        self._end_waits()
        for reader in list(self.readers):
            if last is not None:
                reader.tell("stopped", last)
            reader.end()

    # Waiting

    def _end_waits(self) -> None:
        self._closed = True
        self._ledger.close()
        self._wake_all()

    async def until(self, condition: Callable[[], bool], timeout: float | None) -> None:
        """Wait until a condition on people or links holds.

        Raises:
            TimeoutError: Not within `timeout` seconds. PeerClosed: The peer was closed meanwhile.
        """
        async with asyncio.timeout(timeout):
            while not condition():
                if self._closed:
                    raise PeerClosed("the peer was closed")
                waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting[waiting] = None
                try:
                    await waiting
                finally:
                    self._waiting.pop(waiting, None)  # also when it is given up

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting:
            if not future.done():
                future.set_result(None)

    # What the core tells

    def told(self, effect: fx.Effect) -> None:
        """Take an effect that is for programs; others are nothing here."""
        tell = self._tell.get(type(effect))
        if tell is not None:
            tell(effect)

    def _kept(self, effect: fx.Kept) -> None:
        told = effect.kind not in NOT_SHOWN  # receipts of edits and the like go to who asks for them
        self._ledger.kept(effect.log, effect.first, effect.count, effect.of, told=told)

    def _released(self, effect: fx.Released) -> None:
        for reader in self.readers:
            reader.wake()

    def _delivered(self, effect: fx.Delivered) -> None:
        for rise in self._ledger.delivered(effect.log, effect.first, effect.last, effect.member):
            for reader in self.readers:
                reader.tell_rise(rise)

    def _was_read(self, effect: fx.WasRead) -> None:
        for rise in self._ledger.read(effect.log, effect.first, effect.last, effect.member):
            for reader in self.readers:
                reader.tell_rise(rise)

    def _link(self, effect: fx.LinkChanged) -> None:
        if effect.endpoint:
            self.endpoints[effect.endpoint] = effect.state
        if effect.host:
            self._addresses[effect.peer] = effect.host
        elif effect.state == "down":
            self._addresses.pop(effect.peer, None)
        self._on_link()
        link = ev.Link(
            peer=effect.peer,
            endpoint=effect.endpoint,
            state=effect.state,
            reason=effect.reason,
            code=effect.code,
            address=effect.host,
        )
        self._event(("link", effect.peer or effect.endpoint), link)
        self._wake_all()

    def _joined(self, effect: fx.UserJoined) -> None:
        user = self._people.user(effect.user)
        joined = ev.Joined(user=user, first=not user.name, address=self._addresses.get(effect.user, ""))
        self._event(None, joined)
        self._wake_all()

    def _left(self, effect: fx.UserLeft) -> None:
        self._event(None, ev.Left(user=self._people.user(effect.user), reason=effect.reason))
        self._wake_all()

    def _presence(self, effect: fx.PresenceChanged) -> None:
        user = self._people.user(effect.user)
        since = aware(effect.since) if effect.since else None
        told = ev.Presence(user=user, status=effect.status, text=effect.text, since=since)
        self._event(("presence", effect.user), told)
        self._wake_all()

    def _typing(self, effect: fx.TypingChanged) -> None:
        told = ev.Typing(
            user=self._people.user(effect.user), conversation=self.conversation(effect.conversation), typing=effect.on
        )
        self._event(("typing", effect.conversation, effect.user), told)

    def _named(self, effect: fx.UserNamed) -> None:
        user = self._people.user(effect.user)
        before = user.name
        self._people.learn([(effect.user, effect.name)])
        self._people.tell_about(effect.user, effect.about)
        if before and before != effect.name and not effect.old:
            self._event(("renamed", effect.user), ev.Renamed(user=user, name=effect.name, before=before))
        self._wake_all()

    def _gap(self, effect: fx.Gap) -> None:
        about = message_id(effect.log, effect.seq)
        refs = [_ref(text) for text in effect.missing]
        missing = tuple(referred_id(effect.log.conversation, ref) for ref in refs)
        seen = who_had(self._people, effect.log.user, refs, effect.last_seen_with)
        self._event(None, ev.Gap(about=about, missing=missing, last_seen_with=seen))

    def _group(self, effect: fx.GroupChanged) -> None:
        former = self._groups.name(effect.talk)
        self._groups.learn(effect.talk, effect.name)
        if effect.change in ("removed", "left"):
            self._ledger.gone(effect.talk, effect.target)
        self._event(None, changed(self._people, self.conversation, effect, former))
        self._wake_all()

    def _handle(self, talk: ConversationId) -> Group:
        group = self.conversation(talk)
        assert isinstance(group, Group)
        return group

    def _undelivered(self, effect: fx.Undelivered) -> None:
        ids = tuple(message_id(effect.log, seq) for seq in range(effect.first, effect.last + 1))
        self._event(None, Undelivered(group=self._handle(effect.log.conversation), ids=ids))

    def _warned(self, effect: fx.Warned) -> None:
        self._event(None, ev.Warned(code=effect.code, text=effect.text, about=base32(effect.about)))
        if effect.code == "internal":  # the core has failed: nothing that anybody waits for will come
            self._end_waits()

    def _refused(self, effect: fx.Refused) -> None:
        self._event(None, ev.Failed(code=effect.code, text=effect.text))

    def _event(self, subject: object, event: ev.Event) -> None:
        """Give a live event to everybody who reads; without a subject it replaces nothing."""
        if subject is None:
            self._subjects += 1
            subject = self._subjects
        for reader in self.readers:
            reader.tell(subject, event)


def _ref(text: str) -> Ref:
    log, _, seq = text.partition(".")
    return Ref(log, int(seq))
