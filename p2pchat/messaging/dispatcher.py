"""The herald: makes events of what the core tells, and gives them to whoever reads or waits.

It knows the open readers, the ledger of receipts, the names, and how each endpoint fared. It decides nothing: what
is worth telling, the core has decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from p2pchat.core import effects as fx
from p2pchat.core.log import Ref, decode_entry, message_id, referred_id
from p2pchat.core.records import LogKey, Stored
from p2pchat.errors import ConsumerBusy, PeerClosed, StorageError
from p2pchat.identity.names import base32
from p2pchat.messaging import events as ev
from p2pchat.messaging.access import Audience
from p2pchat.messaging.events import Read, ReceiptEvent
from p2pchat.messaging.groups import Group, GroupDirectory, Undelivered, changed, expected_recipients
from p2pchat.messaging.messages import NOT_SHOWN, Viewer, who_had
from p2pchat.messaging.receipts import ReceiptTracker, ReceiptUpdate
from p2pchat.messaging.subscription import Subscription
from p2pchat.messaging.timestamps import aware
from p2pchat.messaging.users import UserDirectory
from p2pchat.protocol import ConversationId, PeerId, UserId
from p2pchat.runtime.driver import Driver
from p2pchat.runtime.recent import RecentEntries
from p2pchat.storage.base import ReleasedEntry, Storage

HANDLED_WITHIN = 0.5  # seconds a program may take with its last event while the peer closes; else it comes again
FOR_ALL_USERS = frozenset({"name", "storage_works", "disk_low", "disk_enough"})  # warnings that hosted users get too
TOLD_WITHIN = 5.0  # seconds to look up receipts of earlier runs while the peer closes; the rest is not told


class EventDispatcher:
    """Tells programs what happened.

    Attributes:
        readers: The open ones; a reader that nobody holds any more reads no more.
        endpoints: How the newest attempt to link went, by endpoint: up, down, trying, refused.
    """

    def __init__(
        self, people: UserDirectory, tracker: ReceiptTracker, groups: GroupDirectory, on_link: Callable[[], None],
        audience_of: Callable[[ConversationId], Audience] = lambda key: None,
    ) -> None:  # fmt: skip
        self._people = people
        self._tracker = tracker
        self._groups = groups
        self._on_link = on_link
        self.audience_of = audience_of
        self.readers: WeakSet[Subscription] = WeakSet()
        self.endpoints: dict[str, str] = {}
        self._addresses: dict[PeerId, str] = {}  # of the peers linked now; a user's own peer has the user's id
        self._waiting: dict[asyncio.Future[None], None] = {}  # for a change among people or links, in order
        self._subjects = 0
        self._closed = False
        self._tell: dict[type, Callable[[Any], None]] = {
            fx.WriteAccepted: self._kept, fx.Released: self._released, fx.DeliveryReceipt: self._delivered,
            fx.ReadReceipt: self._was_read,
            fx.LinkChanged: self._link, fx.UserJoined: self._joined, fx.UserLeft: self._left,
            fx.PresenceChanged: self._presence, fx.TypingChanged: self._typing, fx.UserNamed: self._named,
            fx.GapShown: self._gap, fx.WarningIssued: self._warned, fx.WriteRefused: self._refused,
            fx.GroupUpdate: self._group, fx.DeliveryRevoked: self._undelivered,
        }  # fmt: skip

    # Readers

    def add_reader(self, reader: Subscription) -> None:
        """Take a new reader; ConsumerBusy when another reads for the same consumer."""
        if reader.consumer is not None and reader.consumer in self.consumers():
            raise ConsumerBusy(reader.consumer)
        self.readers.add(reader)

    def consumers(self) -> set[str]:
        """Return the consumers that have an open reader."""
        return {reader.consumer for reader in self.readers if reader.consumer is not None and not reader.closed}

    def is_reading_messages(self) -> bool:
        """Whether somebody reads messages now."""
        return any(reader.reads_messages for reader in self.readers)

    async def drain(self, closer: asyncio.Task[Any] | None) -> None:
        """Have readers hand out no more messages; those being handled get a moment to be acknowledged.

        Args:
            closer: The task that waits for the peer to close.
        """
        readers = list(self.readers)
        for reader in readers:
            reader.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(HANDLED_WITHIN):
                for reader in readers:
                    await reader.handled(closer)

    async def complete_receipts(self) -> None:
        """Have readers find out what the receipts that wait there lack, TOLD_WITHIN at most: storage closes next."""
        with suppress(TimeoutError, StorageError, PeerClosed):
            async with asyncio.timeout(TOLD_WITHIN):
                for reader in list(self.readers):
                    await reader.complete_receipts()

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
        self._tracker.close()
        self._wake_all()

    async def wait_until(self, condition: Callable[[], bool], timeout: float | None) -> None:
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

    def wake_waiters(self) -> None:
        """What somebody waits for may hold now, or never will."""
        self._wake_all()

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting:
            if not future.done():
                future.set_result(None)

    # What the core tells

    def dispatch(self, effect: fx.Effect) -> None:
        """Take an effect that is for programs; others are nothing here."""
        tell = self._tell.get(type(effect))
        if tell is not None:
            tell(effect)

    def _kept(self, effect: fx.WriteAccepted) -> None:
        is_message = effect.kind not in NOT_SHOWN  # receipts of edits and the like go to who asks for them
        of, here = effect.members, effect.here
        for rise in self._tracker.kept(effect.log, effect.first, effect.count, of, here, is_message=is_message):
            self._push_receipts(rise)

    def _released(self, effect: fx.Released) -> None:
        for reader in self.readers:
            reader.wake()

    def _delivered(self, effect: fx.DeliveryReceipt) -> None:
        for rise in self._tracker.delivered(effect.log, effect.first, effect.last, effect.member, effect.others):
            self._push_receipts(rise)

    def _was_read(self, effect: fx.ReadReceipt) -> None:
        for rise in self._tracker.read(effect.log, effect.first, effect.last, effect.member):
            self._push_receipts(rise)

    def _push_receipts(self, rise: ReceiptUpdate) -> None:
        writer = (rise.log.user,)
        for reader in self.readers:
            if reader.access.hears(writer):
                reader.push_receipts(rise)

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
        self._event(("link", effect.peer or effect.endpoint), lambda viewer: link, (self._people.me,))
        self._wake_all()

    def _joined(self, effect: fx.UserJoined) -> None:
        user, address = effect.user, self._addresses.get(effect.user, "")
        first = not self._people.name(user)

        def joined(viewer: Viewer) -> ev.Event:
            seen = address if viewer.people is self._people else ""  # where others are is for who runs this peer
            return ev.Joined(user=viewer.people.user(user), first=first, address=seen)

        self._event(None, joined, but=user)
        self._wake_all()

    def _left(self, effect: fx.UserLeft) -> None:
        user, reason = effect.user, effect.reason
        self._event(None, lambda viewer: ev.Left(user=viewer.people.user(user), reason=reason), but=user)
        self._wake_all()

    def _presence(self, effect: fx.PresenceChanged) -> None:
        since = aware(effect.since) if effect.since else None

        def make(viewer: Viewer) -> ev.Event:
            user = viewer.people.user(effect.user)
            return ev.Presence(user=user, status=effect.status, text=effect.text, since=since)

        self._event(("presence", effect.user), make)
        self._wake_all()

    def _typing(self, effect: fx.TypingChanged) -> None:
        key, user = effect.conversation, effect.user

        def make(viewer: Viewer) -> ev.Event:
            return ev.Typing(user=viewer.people.user(user), conversation=viewer.conversation(key), typing=effect.on)

        self._event(("typing", key, user), make, self.audience_of(key), but=user)

    def _named(self, effect: fx.UserNamed) -> None:
        id, name = effect.user, effect.name
        before = self._people.name(id)
        self._people.learn([(id, name)])
        self._people.tell_about(id, effect.about)
        if before and before != name and not effect.old:

            def renamed(viewer: Viewer) -> ev.Event:
                return ev.Renamed(user=viewer.people.user(id), name=name, before=before)

            self._event(("renamed", id), renamed, but=id)
        self._wake_all()

    def _gap(self, effect: fx.GapShown) -> None:
        about = message_id(effect.log, effect.seq)
        refs = [_ref(text) for text in effect.missing]
        missing = tuple(referred_id(effect.log.conversation, ref) for ref in refs)

        def gap(viewer: Viewer) -> ev.Event:
            seen = who_had(viewer.people, effect.log.user, refs, effect.last_seen_with)
            return ev.Gap(about=about, missing=missing, last_seen_with=seen)

        self._event(None, gap, self.audience_of(effect.log.conversation))

    def _group(self, effect: fx.GroupUpdate) -> None:
        former = self._groups.name(effect.talk)
        self._groups.learn(effect.talk, effect.name)
        if effect.change in ("removed", "left"):
            self._tracker.gone(effect.talk, effect.target)
        audience = (*effect.members, effect.by, effect.target)
        self._event(None, lambda viewer: changed(viewer.people, viewer.conversation, effect, former), audience)
        self._wake_all()

    def _undelivered(self, effect: fx.DeliveryRevoked) -> None:
        ids = tuple(message_id(effect.log, seq) for seq in range(effect.first, effect.last + 1))

        def undelivered(viewer: Viewer) -> ev.Event:
            group = viewer.conversation(effect.log.conversation)
            assert isinstance(group, Group)
            return Undelivered(group=group, ids=ids)

        self._event(None, undelivered, (effect.log.user,))

    def _warned(self, effect: fx.WarningIssued) -> None:
        whose = None if effect.code in FOR_ALL_USERS else (self._people.me,)
        warned = ev.Warned(code=effect.code, text=effect.text, about=base32(effect.about))
        self._event(None, lambda viewer: warned, whose)
        if effect.code == "internal":  # the core has failed: nothing that anybody waits for will come
            self._end_waits()

    def _refused(self, effect: fx.WriteRefused) -> None:
        failed = ev.Failed(code=effect.code, text=effect.text)
        self._event(None, lambda viewer: failed, (self._people.me,))

    def _event(
        self, subject: object, make: Callable[[Viewer], ev.Event], audience: Audience = None, *, but: UserId = ""
    ) -> None:
        """Give a live event to everybody who reads and whom it concerns; without a subject it replaces nothing.

        It is made once for each of the peer's users who read. `but`: this one knows already.
        """
        if subject is None:
            self._subjects += 1
            subject = self._subjects
        made: dict[UserId, ev.Event] = {}
        for reader in self.readers:
            me = reader.viewer.people.me
            if reader.access.hears(audience) and not (me == but and me in reader.access.mine):
                if me not in made:
                    made[me] = make(reader.viewer)
                reader.tell(subject, made[me], audience)


def _ref(text: str) -> Ref:
    log, _, seq = text.partition(".")
    return Ref(log, int(seq))


# ---- feed
#
# The feed: what the readers of a peer are given, and where each named one stands.
#
# Messages come from memory at the tip and from storage behind it; receipts of earlier runs are completed from storage.
# The place of a consumer is known here from when it was first asked for, and on disk soon after, at the latest when the
# peer closes in good order.


Marks = list[tuple[UserId, int]]  # who has, or has read, how much of one log


class Feed:
    """Source of all readers of one peer.

    Attributes:
        recent: The newest messages, in memory.
    """

    def __init__(self, tracker: ReceiptTracker) -> None:
        self.recent = RecentEntries(0)
        self._tracker = tracker
        self._driver: Driver | None = None
        self._places: dict[str, int] = {}  # the last place each consumer has taken
        self._start = 0  # the newest place when the peer started

    def load(self, stored: Stored, wanted: Callable[[], bool]) -> None:
        """Take over what is stored; `wanted` says whether anybody reads messages now."""
        self._start = stored.next_place - 1
        self.recent = RecentEntries(self._start, wanted)
        self._places = dict(stored.consumers)

    def open(self, driver: Driver, readers: Iterable[Subscription]) -> None:
        """The peer runs; these were opened before, and where they begin is saved soon as well."""
        self._driver = driver
        for reader in readers:
            self.begin(reader)

    def begin(self, reader: Subscription, first: int | None = None) -> None:
        """Tell a reader where it begins: behind what counts as read for its consumer.

        `first`: for one never asked for, where this user began; None: where this peer did.
        """
        consumer = reader.consumer
        place = None if consumer is None else self._places.get(consumer)
        if place is None:
            newest = self.recent.newest if consumer is None else self._start if first is None else first
            place = 0 if reader.start == "beginning" else newest
            if consumer is not None:
                self.commit_offset(consumer, place)
        reader.begin(place)

    def place_of(self, consumer: str, first: int | None = None) -> int:
        """Return the last place a consumer has taken; for one never asked for `first`, or (None) the newest when the
        peer started."""
        return self._places.get(consumer, self._start if first is None else first)

    def note(self, places: Mapping[str, int]) -> None:
        """These are kept already."""
        self._places.update(places)

    def recommit_offsets(self, consumers: set[str]) -> None:
        """Have the places of these saved, whatever became of them before: storage may have failed meanwhile."""
        for consumer in consumers & self._places.keys():
            self.commit_offset(consumer, self._places[consumer])

    # What readers ask

    async def places(self, after: int, limit: int) -> list[ReleasedEntry]:
        """Read stored entries in the order they were released; PeerClosed when that is over."""
        if self._driver is None:
            raise PeerClosed("the peer has not been started")
        return await self._driver.places(after, limit)

    @property
    def start(self) -> int:
        """The newest place of earlier runs."""
        return self._start

    async def written(self, group: ConversationId) -> list[ReleasedEntry]:
        """Read everything released of one conversation; PeerClosed when that is over."""
        if self._driver is None:
            raise PeerClosed("the peer has not been started")
        storage = self._driver.disk.storage
        return await self._driver.disk.read(lambda: storage.history(group, limit=0))

    async def entries(self, named: Sequence[tuple[ConversationId, Ref]]) -> list[ReleasedEntry | None]:
        """Return these released entries with what became of them; PeerClosed when that is over."""
        if self._driver is None:
            raise PeerClosed("the peer has not been started")
        storage = self._driver.disk.storage

        def look() -> list[ReleasedEntry | None]:
            keys = [LogKey(conversation, ref.log) for conversation, ref in named]
            held = storage.lookup(list(dict.fromkeys(keys)), [])[0]
            return [
                storage.entry(held[key].log, ref.seq) if key in held else None
                for key, (_, ref) in zip(keys, named, strict=True)
            ]

        return await self._driver.disk.read(look)

    async def complete(self, events: Sequence[ReceiptEvent]) -> list[ReceiptEvent | None]:
        """Return what to tell of own entries; None for what is no message, or when nobody can say whether it is.

        Of messages of this run all is known. Of earlier ones storage knows which are messages and who has them; for
        whom a room message waited then is forgotten. Storage that is closed cannot say: so who has receipts to tell
        asks before (Reader.look_up).
        """
        driver, wrote = self._driver, self._tracker.wrote
        former = [event for event in events if not wrote(event.log)]
        if driver is None or not former:
            return list(events)
        storage = driver.disk.storage
        try:
            found = await driver.disk.read(lambda: [_looked_up(storage, one) for one in former])
        except PeerClosed:
            found = [(None, [], [])] * len(former)
        known = iter(found)
        return [event if wrote(event.log) else self._completed(event, *next(known)) for event in events]

    def _completed(
        self, event: ReceiptEvent, shown: ReleasedEntry | None, marks: Marks, read: Marks
    ) -> ReceiptEvent | None:
        log, seq = event.log, event.seq
        if shown is None or decode_entry(shown.raw).k in NOT_SHOWN:
            return None
        holders = {member for member, mark in marks if mark >= seq} | set(self._tracker.holders(log, seq))
        readers = {member for member, mark in read if mark >= seq} | set(self._tracker.holders(log, seq, "read"))
        counted = readers if isinstance(event, Read) else holders
        assert self._driver is not None
        of = set(expected_recipients(self._driver.node, log, decode_entry(shown.raw), holders)) or holders | readers
        return replace(event, count=len(counted & of), of=len(of))

    def commit_offset(self, consumer: str, place: int) -> None:
        """A consumer has taken everything up to there; saved soon."""
        self._places[consumer] = place
        if self._driver is not None:
            self._driver.ack(consumer, place)

    async def commit_offset_now(self, consumer: str, place: int) -> None:
        """The same; returns when it is on disk."""
        self._places[consumer] = place
        if self._driver is not None:
            await self._driver.ack_durably(consumer, place)


def _looked_up(storage: Storage, event: ReceiptEvent) -> tuple[ReleasedEntry | None, Marks, Marks]:
    log, seq = event.log, event.seq
    return storage.entry(log, seq), storage.delivered_to(log, seq), storage.readers(log, seq)
