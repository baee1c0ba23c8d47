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
from p2pchat.core.log import Ref, message_id, referred_id
from p2pchat.errors import ConsumerBusy, PeerClosed, StorageError
from p2pchat.identity.names import base32
from p2pchat.messaging import events as ev
from p2pchat.messaging.access import Audience
from p2pchat.messaging.groups import Group, Undelivered, changed
from p2pchat.messaging.messages import NOT_SHOWN
from p2pchat.messaging.subscription import Reader
from p2pchat.messaging.timestamps import aware
from p2pchat.messaging.users import People
from p2pchat.peer.groups.groupbook import GroupBook
from p2pchat.peer.messages.conversation import Desk
from p2pchat.peer.messages.gaps import who_had
from p2pchat.peer.messages.ledger import Ledger, Rise
from p2pchat.protocol import ConversationId, PeerId, UserId

HANDLED_WITHIN = 0.5  # seconds a program may take with its last event while the peer closes; else it comes again
FOR_ALL_USERS = frozenset({"name", "storage_works", "disk_low", "disk_enough"})  # warnings that hosted users get too
TOLD_WITHIN = 5.0  # seconds to look up receipts of earlier runs while the peer closes; the rest is not told


class Herald:
    """Tells programs what happened.

    Attributes:
        readers: The open ones; a reader that nobody holds any more reads no more.
        endpoints: How the newest attempt to link went, by endpoint: up, down, trying, refused.
    """

    def __init__(
        self, people: People, ledger: Ledger, groups: GroupBook, on_link: Callable[[], None],
        audience_of: Callable[[ConversationId], Audience] = lambda key: None,
    ) -> None:  # fmt: skip
        self._people = people
        self._ledger = ledger
        self._groups = groups
        self._on_link = on_link
        self.audience_of = audience_of
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

    def look_again(self) -> None:
        """What somebody waits for may hold now, or never will."""
        self._wake_all()

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
        of, here = effect.of, effect.here
        for rise in self._ledger.kept(effect.log, effect.first, effect.count, of, here, told=told):
            self._tell_rise(rise)

    def _released(self, effect: fx.Released) -> None:
        for reader in self.readers:
            reader.wake()

    def _delivered(self, effect: fx.Delivered) -> None:
        for rise in self._ledger.delivered(effect.log, effect.first, effect.last, effect.member, effect.others):
            self._tell_rise(rise)

    def _was_read(self, effect: fx.WasRead) -> None:
        for rise in self._ledger.read(effect.log, effect.first, effect.last, effect.member):
            self._tell_rise(rise)

    def _tell_rise(self, rise: Rise) -> None:
        writer = (rise.log.user,)
        for reader in self.readers:
            if reader.sight.hears(writer):
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
        self._event(("link", effect.peer or effect.endpoint), lambda desk: link, (self._people.me,))
        self._wake_all()

    def _joined(self, effect: fx.UserJoined) -> None:
        user, address = effect.user, self._addresses.get(effect.user, "")
        first = not self._people.name(user)

        def joined(desk: Desk) -> ev.Event:
            seen = address if desk.people is self._people else ""  # where others are is for who runs this peer
            return ev.Joined(user=desk.people.user(user), first=first, address=seen)

        self._event(None, joined, but=user)
        self._wake_all()

    def _left(self, effect: fx.UserLeft) -> None:
        user, reason = effect.user, effect.reason
        self._event(None, lambda desk: ev.Left(user=desk.people.user(user), reason=reason), but=user)
        self._wake_all()

    def _presence(self, effect: fx.PresenceChanged) -> None:
        since = aware(effect.since) if effect.since else None

        def told(desk: Desk) -> ev.Event:
            user = desk.people.user(effect.user)
            return ev.Presence(user=user, status=effect.status, text=effect.text, since=since)

        self._event(("presence", effect.user), told)
        self._wake_all()

    def _typing(self, effect: fx.TypingChanged) -> None:
        key, user = effect.conversation, effect.user

        def told(desk: Desk) -> ev.Event:
            return ev.Typing(user=desk.people.user(user), conversation=desk.conversation(key), typing=effect.on)

        self._event(("typing", key, user), told, self.audience_of(key), but=user)

    def _named(self, effect: fx.UserNamed) -> None:
        id, name = effect.user, effect.name
        before = self._people.name(id)
        self._people.learn([(id, name)])
        self._people.tell_about(id, effect.about)
        if before and before != name and not effect.old:

            def renamed(desk: Desk) -> ev.Event:
                return ev.Renamed(user=desk.people.user(id), name=name, before=before)

            self._event(("renamed", id), renamed, but=id)
        self._wake_all()

    def _gap(self, effect: fx.Gap) -> None:
        about = message_id(effect.log, effect.seq)
        refs = [_ref(text) for text in effect.missing]
        missing = tuple(referred_id(effect.log.conversation, ref) for ref in refs)

        def gap(desk: Desk) -> ev.Event:
            seen = who_had(desk.people, effect.log.user, refs, effect.last_seen_with)
            return ev.Gap(about=about, missing=missing, last_seen_with=seen)

        self._event(None, gap, self.audience_of(effect.log.conversation))

    def _group(self, effect: fx.GroupChanged) -> None:
        former = self._groups.name(effect.talk)
        self._groups.learn(effect.talk, effect.name)
        if effect.change in ("removed", "left"):
            self._ledger.gone(effect.talk, effect.target)
        audience = (*effect.members, effect.by, effect.target)
        self._event(None, lambda desk: changed(desk.people, desk.conversation, effect, former), audience)
        self._wake_all()

    def _undelivered(self, effect: fx.Undelivered) -> None:
        ids = tuple(message_id(effect.log, seq) for seq in range(effect.first, effect.last + 1))

        def undelivered(desk: Desk) -> ev.Event:
            group = desk.conversation(effect.log.conversation)
            assert isinstance(group, Group)
            return Undelivered(group=group, ids=ids)

        self._event(None, undelivered, (effect.log.user,))

    def _warned(self, effect: fx.Warned) -> None:
        whose = None if effect.code in FOR_ALL_USERS else (self._people.me,)
        warned = ev.Warned(code=effect.code, text=effect.text, about=base32(effect.about))
        self._event(None, lambda desk: warned, whose)
        if effect.code == "internal":  # the core has failed: nothing that anybody waits for will come
            self._end_waits()

    def _refused(self, effect: fx.Refused) -> None:
        failed = ev.Failed(code=effect.code, text=effect.text)
        self._event(None, lambda desk: failed, (self._people.me,))

    def _event(
        self, subject: object, make: Callable[[Desk], ev.Event], audience: Audience = None, *, but: UserId = ""
    ) -> None:
        """Give a live event to everybody who reads and whom it concerns; without a subject it replaces nothing.

        It is made once for each of the peer's users who read. `but`: this one knows already.
        """
        if subject is None:
            self._subjects += 1
            subject = self._subjects
        made: dict[UserId, ev.Event] = {}
        for reader in self.readers:
            me = reader.desk.people.me
            if reader.sight.hears(audience) and not (me == but and me in reader.sight.mine):
                if me not in made:
                    made[me] = make(reader.desk)
                reader.tell(subject, made[me], audience)


def _ref(text: str) -> Ref:
    log, _, seq = text.partition(".")
    return Ref(log, int(seq))
