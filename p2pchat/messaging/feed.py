"""Feed of messages: what subscriptions read, and the place up to which each consumer has acknowledged.

Messages come from memory at the newest place, and from storage behind it. The place of a consumer is stored soon after
it changes, at the latest when the peer closes gracefully. Receipts of earlier runs are completed here before they are
reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from p2pchat.core.log import Ref, decode_entry
from p2pchat.core.records import LogKey, Stored
from p2pchat.errors import PeerClosed
from p2pchat.messaging.events import Delivered, Read, ReceiptEvent
from p2pchat.messaging.messages import NOT_SHOWN
from p2pchat.messaging.receipts import ReceiptTracker, StoredReceipt, expected_recipients, look_up_receipt
from p2pchat.messaging.subscription import Subscription
from p2pchat.protocol import ConversationId
from p2pchat.runtime.driver import Driver
from p2pchat.runtime.recent import RecentEntries
from p2pchat.storage.base import ReleasedEntry

MAIN = "main"  # the consumer of events() without a name; the command line reads with it, too


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
