"""Dispatching of events: effects of the core become events for the programs that read or wait.

What is worth an event is decided by the core. EventDispatcher gives live events to the open subscriptions and wakes
calls that wait for users or links. Feed gives subscriptions the messages: from memory at the newest place, from storage
behind it. It also keeps the place of every consumer, which is stored soon after it changes, at the latest when the peer
closes gracefully.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from p2pchat.core import effects as fx
from p2pchat.core.log import LogId, Ref, decode_entry, message_id, referred_id
from p2pchat.core.names import base32
from p2pchat.core.records import LogKey, Stored
from p2pchat.errors import ConsumerBusy, PeerClosed, StorageError
from p2pchat.messaging import events as ev
from p2pchat.messaging.access import Audience, Conversations, audience_of
from p2pchat.messaging.events import Delivered, Read, ReceiptEvent, aware
from p2pchat.messaging.groups import Group, Undelivered, group_changed
from p2pchat.messaging.history import Viewer
from p2pchat.messaging.messages import NOT_SHOWN, users_with
from p2pchat.messaging.name_resolution import GroupDirectory, UserDirectory
from p2pchat.messaging.receipts import (
    ReceiptTracker,
    ReceiptUpdate,
    StoredReceipt,
    expected_recipients,
    look_up_receipt,
)
from p2pchat.messaging.subscription import Subscription
from p2pchat.protocol import ConversationId, PeerId, UserId
from p2pchat.runtime.driver import Driver
from p2pchat.runtime.recent import RecentEntries
from p2pchat.storage.base import ReleasedEntry

_log = logging.getLogger("p2pchat.peer")

HANDLED_WITHIN = 0.5  # seconds a program may take with its last event while the peer closes; later it is repeated
COMPLETED_WITHIN = 5.0  # seconds to look up receipts of earlier runs while the peer closes; the rest is dropped
MAIN = "main"  # the consumer of events() without a name; the command line reads with it, too
FOR_ALL_USERS = frozenset({"name", "storage_works", "disk_low", "disk_enough"})  # warnings that hosted users get too


class EventDispatcher:
    """Turns effects into events and gives them to subscriptions.

    Attributes:
        readers: The open subscriptions; one that the program dropped disappears.
        endpoints: The state of the newest attempt to link, by endpoint: up, down, trying, refused.
    """

    def __init__(
        self, people: UserDirectory, tracker: ReceiptTracker, groups: GroupDirectory, on_link: Callable[[], None],
        conversations: Conversations = dict,
    ) -> None:  # fmt: skip
        self._people = people
        self._tracker = tracker
        self._groups = groups
        self._on_link = on_link
        self._conversations = conversations
        self.readers: WeakSet[Subscription] = WeakSet()
        self.endpoints: dict[str, str] = {}
        self._addresses: dict[PeerId, str] = {}  # of linked peers; a user's own peer has the user's id
        self._changed = asyncio.Event()  # wakes calls of wait_until, once
        self._subjects = 0
        self._closed = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            fx.WriteAccepted: self._on_accepted,
            fx.Released: self._on_released,
            fx.DeliveryReceipt: self._on_delivered,
            fx.ReadReceipt: self._on_read,
            fx.LinkChanged: self._on_link_changed,
            fx.UserJoined: self._on_joined,
            fx.UserLeft: self._on_left,
            fx.PresenceChanged: self._on_presence,
            fx.ManyChanged: self._on_many,
            fx.UserForgotten: self._on_forgotten,
            fx.TypingChanged: self._on_typing,
            fx.UserNamed: self._on_named,
            fx.GapShown: self._on_gap,
            fx.WarningIssued: self._on_warning,
            fx.WriteRefused: self._on_refused,
            fx.GroupUpdate: self._on_group,
            fx.RequestBegun: self._on_request,
            fx.DeliveryRevoked: self._on_revoked,
        }

    # ---- subscriptions

    def add_reader(self, reader: Subscription) -> None:
        """Add a subscription; ConsumerBusy if another one reads for the same consumer."""
        if reader.consumer is not None and reader.consumer in self.consumers():
            raise ConsumerBusy(reader.consumer)
        self.readers.add(reader)

    def consumers(self) -> set[str]:
        """Return the consumers that have an open subscription."""
        return {reader.consumer for reader in self.readers if reader.consumer is not None and not reader.closed}

    def count_readers(self) -> int:
        """Return the number of subscriptions, at least 1."""
        return max(1, len(self.readers))

    def is_reading_messages(self) -> bool:
        """Return whether any subscription reads messages."""
        return any(reader.reads_messages for reader in self.readers)

    async def drain(self, closer: asyncio.Task[Any] | None) -> None:
        """Return no more messages, and give programs a moment to acknowledge those they handle; see handled."""
        readers = list(self.readers)
        for reader in readers:
            reader.stop_messages()
        with suppress(TimeoutError):
            async with asyncio.timeout(HANDLED_WITHIN):
                for reader in readers:
                    await reader.handled(closer)

    async def complete_receipts(self) -> None:
        """Look up what waiting receipts lack, within COMPLETED_WITHIN, before storage is closed."""
        with suppress(TimeoutError, StorageError, PeerClosed):
            async with asyncio.timeout(COMPLETED_WITHIN):
                for reader in list(self.readers):
                    await reader.complete_receipts()

    def close(self, last: ev.Event | None) -> None:
        """End every subscription, after a last event if there is one; waiting calls raise PeerClosed."""
        self._end_waits()
        for reader in list(self.readers):
            if last is not None:
                reader.push("stopped", last)
            reader.end()

    # ---- waiting calls

    async def wait_until(self, condition: Callable[[], bool], timeout: float | None) -> None:
        """Wait until a condition on users or links holds; raises TimeoutError, PeerClosed."""
        async with asyncio.timeout(timeout):
            while not condition():
                if self._closed:
                    raise PeerClosed("the peer was closed")
                await self._changed.wait()

    def wake_waiters(self) -> None:
        """Have waiting calls check their conditions again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _end_waits(self) -> None:
        self._closed = True
        self._tracker.close()
        self.wake_waiters()

    # ---- effects

    def dispatch(self, effect: fx.Effect) -> None:
        """Handle an effect; those that concern no program are ignored."""
        handler = self._handlers.get(type(effect))
        if handler is not None:
            handler(effect)

    def _on_accepted(self, effect: fx.WriteAccepted) -> None:
        is_message = effect.kind not in NOT_SHOWN  # receipts of edits and the like cause no events
        updates = self._tracker.add(
            effect.log, effect.first, effect.count, effect.members, effect.here, is_message=is_message
        )
        self._push_receipts(updates)

    def _on_released(self, effect: fx.Released) -> None:
        for reader in self.readers:
            reader.wake()

    def _on_delivered(self, effect: fx.DeliveryReceipt) -> None:
        self._push_receipts(
            self._tracker.delivered(effect.log, effect.first, effect.last, effect.member, effect.others)
        )

    def _on_read(self, effect: fx.ReadReceipt) -> None:
        read = (effect.log, effect.first, effect.last, effect.member)
        self.on_taken(*read)  # a reader of a message has it, received in any way
        self._push_receipts(self._tracker.read(*read))

    def on_taken(self, log: LogId, first: int, last: int, member: UserId) -> None:
        """Report that a user of this peer took entries first..last of a log (HostedUser.deliver_when_taken)."""
        self._push_receipts(self._tracker.take(log, first, last, member))

    def _push_receipts(self, updates: list[ReceiptUpdate]) -> None:
        for update in updates:
            writer = (update.log.user,)
            for reader in self.readers:
                if reader.access.hears(writer):
                    reader.push_receipts(update)

    def _on_link_changed(self, effect: fx.LinkChanged) -> None:
        if effect.endpoint:
            self.endpoints[effect.endpoint] = effect.state
        if effect.host:
            self._addresses[effect.peer] = effect.host
        elif effect.state == "down":
            self._addresses.pop(effect.peer, None)
        self._on_link()
        _log.info(
            "link with %s at %s: %s%s",
            base32(effect.peer)[:8] or "?", effect.endpoint or "(incoming)", effect.state,
            f" ({effect.reason})" if effect.reason else "",
        )  # fmt: skip
        if not effect.counted:
            link = ev.Link(
                peer=effect.peer,
                endpoint=effect.endpoint,
                state=effect.state,
                reason=effect.reason,
                code=effect.code,
                address=effect.host,
            )
            self._emit(("link", effect.peer or effect.endpoint), lambda viewer: link, (self._people.me,))
        self.wake_waiters()

    def _on_joined(self, effect: fx.UserJoined) -> None:
        user, address = effect.user, self._addresses.get(effect.user, "")
        first = not self._people.name(user)

        def joined(viewer: Viewer) -> ev.Event:
            shown = address if viewer.people is self._people else ""  # addresses are for the operator of this peer
            return ev.Joined(user=viewer.people.user(user), first=first, address=shown)

        self._emit(None, joined, but=user)
        self.wake_waiters()

    def _on_left(self, effect: fx.UserLeft) -> None:
        user, reason = effect.user, effect.reason
        self._emit(None, lambda viewer: ev.Left(user=viewer.people.user(user), reason=reason), but=user)
        self.wake_waiters()

    def _on_presence(self, effect: fx.PresenceChanged) -> None:
        since = aware(effect.since) if effect.since else None

        def presence(viewer: Viewer) -> ev.Event:
            user = viewer.people.user(effect.user)
            return ev.Presence(user=user, status=effect.status, text=effect.text, since=since)

        self._emit(("presence", effect.user), presence)
        self.wake_waiters()

    def _on_many(self, effect: fx.ManyChanged) -> None:
        def many(viewer: Viewer) -> ev.Event:
            links = effect.links if viewer.people is self._people else 0  # links are for the operator of this peer
            return ev.Many(joined=effect.joined, left=effect.left, changed=effect.changed, links=links)

        concerns_all = effect.joined or effect.left or effect.changed
        self._emit(None, many, None if concerns_all else (self._people.me,))
        self.wake_waiters()

    def _on_forgotten(self, effect: fx.UserForgotten) -> None:
        self._people.forget(effect.user)

    def _on_typing(self, effect: fx.TypingChanged) -> None:
        key, user = effect.conversation, effect.user

        def typing(viewer: Viewer) -> ev.Event:
            return ev.Typing(user=viewer.people.user(user), conversation=viewer.conversation(key), typing=effect.on)

        self._emit(("typing", key, user), typing, audience_of(self._conversations(), key), but=user)

    def _on_named(self, effect: fx.UserNamed) -> None:
        id, name = effect.user, effect.name
        before, former = self._people.name(id), self._people.label(id)
        self._people.learn([(id, name)])
        self._people.set_about(id, effect.about)
        if before and before != name and not effect.old:

            def renamed(viewer: Viewer) -> ev.Event:
                return ev.Renamed(user=viewer.people.user(id), name=name, before=before, former=former)

            self._emit(("renamed", id), renamed, but=id)
        self.wake_waiters()

    def _on_gap(self, effect: fx.GapShown) -> None:
        log = effect.log
        refs = [_ref(text) for text in effect.missing]
        missing = tuple(referred_id(log.conversation, ref) for ref in refs)

        def gap(viewer: Viewer) -> ev.Event:
            labels = users_with(viewer.people, log.user, refs, effect.last_seen_with)
            return ev.Gap(about=message_id(log, effect.seq), missing=missing, last_seen_with=labels)

        self._emit(None, gap, audience_of(self._conversations(), log.conversation))

    def _on_group(self, effect: fx.GroupUpdate) -> None:
        former = self._groups.name(effect.talk)
        self._groups.learn(effect.talk, effect.name)
        if effect.change in ("removed", "left"):
            self._tracker.remove_member(effect.talk, effect.target)
        audience = (*effect.members, effect.by, effect.target)
        self._emit(None, lambda viewer: group_changed(viewer, effect, former), audience)
        self.wake_waiters()

    def _on_request(self, effect: fx.RequestBegun) -> None:
        def requested(viewer: Viewer) -> ev.Event:
            there = viewer.conversation(effect.conversation)
            return ev.Requested(user=viewer.people.user(effect.user), conversation=there, waits=effect.waits)

        self._emit(None, requested, (effect.host,))

    def _on_revoked(self, effect: fx.DeliveryRevoked) -> None:
        ids = tuple(message_id(effect.log, seq) for seq in range(effect.first, effect.last + 1))

        def undelivered(viewer: Viewer) -> ev.Event:
            group = viewer.conversation(effect.log.conversation)
            assert isinstance(group, Group)
            return Undelivered(group=group, ids=ids)

        self._emit(None, undelivered, (effect.log.user,))

    def _on_warning(self, effect: fx.WarningIssued) -> None:
        mine, there = (self._people.me,), audience_of(self._conversations(), effect.conversation)
        _log.warning("%s: %s", effect.code, effect.text)
        is_for_all = effect.code in FOR_ALL_USERS or there is None
        audience = None if is_for_all else (*mine, *(there or ()))
        warned = ev.Warned(code=effect.code, text=effect.text, about=base32(effect.about))
        self._emit(None, lambda viewer: warned, audience)
        if effect.code == "internal":  # the core has failed: no call that waits would ever return
            self._end_waits()

    def _on_refused(self, effect: fx.WriteRefused) -> None:
        failed = ev.Failed(code=effect.code, text=effect.text)
        self._emit(None, lambda viewer: failed, (self._people.me,))

    def _emit(
        self, subject: object, make: Callable[[Viewer], ev.Event], audience: Audience = None, *, but: UserId = ""
    ) -> None:
        """Give a live event to the subscriptions of the users it concerns. It is made once for each user.

        Args:
            subject: The event replaces an unread one of the same subject; None replaces nothing.
            but: This user gets no event.
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
                reader.push(subject, made[me], audience)


def _ref(text: str) -> Ref:
    log, _, seq = text.partition(".")
    return Ref(log, int(seq))


class Feed:
    """The source of all subscriptions of one peer.

    Attributes:
        recent: The newest messages, in memory.
        start: The newest place when the peer started.
        count_readers: Returns the number of subscriptions.
    """

    def __init__(self, tracker: ReceiptTracker) -> None:
        self.recent: RecentEntries = RecentEntries(0)
        self.start: int = 0
        self.count_readers: Callable[[], int] = lambda: 1
        self._tracker = tracker
        self._driver: Driver | None = None
        self._offsets: dict[str, int] = {}  # the last place that each consumer acknowledged

    def load(self, stored: Stored, is_reading: Callable[[], bool]) -> None:
        """Load the places of consumers; `is_reading` returns whether messages need to be kept in memory."""
        self.start = stored.next_place - 1
        self.recent = RecentEntries(self.start, is_reading)
        self._offsets = dict(stored.consumers)

    def open(self, driver: Driver, readers: Iterable[Subscription]) -> None:
        """Begin the subscriptions opened before the peer ran.

        The first start on a profile makes the consumer MAIN, stored with the first commit: what is delivered before a
        program first asks for events is not lost to it if this run is killed.
        """
        self._driver = driver
        if not self.start and MAIN not in self._offsets:
            self.commit_offset(MAIN, 0)
        for reader in readers:
            self.begin(reader)

    def begin(self, reader: Subscription, first: int | None = None) -> None:
        """Set the place where a subscription begins: behind the last one that its consumer acknowledged.

        Args:
            first: The place of a new consumer of this user; None for the place where the peer started.
        """
        consumer = reader.consumer
        place = None if consumer is None else self._offsets.get(consumer)
        if place is None:
            newest = self.recent.newest if consumer is None else self.start if first is None else first
            place = 0 if reader.start == "beginning" else newest
            if consumer is not None:
                self.commit_offset(consumer, place)
        reader.begin(place)

    # ---- places of consumers

    def place_of(self, consumer: str, first: int | None = None) -> int:
        """Return the last place that a consumer acknowledged; for a new one `first`, or the newest at the start."""
        return self._offsets.get(consumer, self.start if first is None else first)

    def load_offsets(self, places: Mapping[str, int]) -> None:
        """Take places that are stored already, or are about to be."""
        self._offsets.update(places)

    def commit_offset(self, consumer: str, place: int) -> None:
        """Set the place of a consumer; stored soon."""
        self._offsets[consumer] = place
        if self._driver is not None:
            self._driver.ack(consumer, place)

    async def commit_offset_now(self, consumer: str, place: int) -> None:
        """Set the place of a consumer; returns when it is on disk."""
        self._offsets[consumer] = place
        if self._driver is not None:
            await self._driver.ack_durably({consumer: place})

    def recommit_offsets(self, consumers: set[str]) -> None:
        """Store the places of these consumers once more, since storage may have failed meanwhile."""
        for consumer in consumers & self._offsets.keys():
            self.commit_offset(consumer, self._offsets[consumer])

    # ---- reading storage; PeerClosed before the peer runs, and when its storage is closed

    def _running(self) -> Driver:
        if self._driver is None:
            raise PeerClosed("the peer has not been started")
        return self._driver

    async def places(self, after: int, limit: int) -> list[ReleasedEntry]:
        """Return stored entries in the order in which they were released."""
        return await self._running().places(after, limit)

    async def written(self, group: ConversationId) -> list[ReleasedEntry]:
        """Return every released entry of one conversation."""
        disk = self._running().disk
        return await disk.read(lambda: disk.storage.history(group, limit=0))

    async def entries(self, named: Sequence[tuple[ConversationId, Ref]]) -> list[ReleasedEntry | None]:
        """Return these entries with their edits; None for one that is not released here."""
        disk = self._running().disk
        storage = disk.storage

        def look_up() -> list[ReleasedEntry | None]:
            keys = [LogKey(conversation, ref.log) for conversation, ref in named]
            held = storage.lookup(list(dict.fromkeys(keys)), [])[0]
            return [
                storage.entry(held[key].log, ref.seq) if key in held else None
                for key, (_, ref) in zip(keys, named, strict=True)
            ]

        return await disk.read(look_up)

    # ---- receipts of earlier runs

    async def complete(self, events: Sequence[ReceiptEvent]) -> list[ReceiptEvent | None]:
        """Return receipts with their counts; None for one that was reported, is of no message, or cannot be looked up.

        Messages of this run are known. For earlier ones storage knows which entries are messages and who has them;
        the users for whom a room message waited are no longer known.
        """
        driver, is_known = self._driver, self._tracker.wrote
        former = [event for event in events if not is_known(event.log)]
        if driver is None or not former:
            return list(events)
        storage = driver.disk.storage
        try:
            found = await driver.disk.read(lambda: [look_up_receipt(storage, event.log, event.seq) for event in former])
        except PeerClosed:
            found = [StoredReceipt(None, [], [])] * len(former)
        looked_up = iter(found)
        return [event if is_known(event.log) else self._completed(event, next(looked_up)) for event in events]

    def _completed(self, event: ReceiptEvent, stored: StoredReceipt) -> ReceiptEvent | None:
        log, seq, (shown, marks, read) = event.log, event.seq, stored
        if shown is None or decode_entry(shown.raw).k in NOT_SHOWN:
            return None
        if isinstance(event, Delivered) and self._tracker.taken_before.get(event.user.key, -1) >= shown.place:
            return None  # a read delivers all before it, whatever of that was taken in an earlier run
        holders = {member for member, mark in marks if mark >= seq} | set(self._tracker.holders(log, seq))
        readers = {member for member, mark in read if mark >= seq} | set(self._tracker.holders(log, seq, "read"))
        counted = readers if isinstance(event, Read) else holders
        entry, node = decode_entry(shown.raw), self._running().node
        of = set(expected_recipients(node, log, entry, holders)) or holders | readers
        holders |= self._tracker.holders_at(shown.place, of)
        return replace(event, count=len(counted & of), of=len(of))
