"""The feed: what the readers of a peer are given, and where each named one stands.

Messages come from memory at the tip and from storage behind it; receipts of earlier runs are completed from storage.
The place of a consumer is known here from when it was first asked for, and on disk soon after, at the latest when the
peer closes in good order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from p2pchat.core.log import Ref, decode_entry
from p2pchat.core.records import LogKey, Stored
from p2pchat.errors import PeerClosed
from p2pchat.messaging.events import Read, Risen
from p2pchat.messaging.messages import NOT_SHOWN
from p2pchat.messaging.subscription import Reader
from p2pchat.peer.groups.membership import waited_for
from p2pchat.peer.messages.ledger import Ledger
from p2pchat.protocol import ConversationId, UserId
from p2pchat.runtime.driver import Owner
from p2pchat.runtime.recent import Recent
from p2pchat.storage.base import Shown, Storage

Marks = list[tuple[UserId, int]]  # who has, or has read, how much of one log


class Feed:
    """Source of all readers of one peer.

    Attributes:
        recent: The newest messages, in memory.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.recent = Recent(0)
        self._ledger = ledger
        self._owner: Owner | None = None
        self._places: dict[str, int] = {}  # the last place each consumer has taken
        self._start = 0  # the newest place when the peer started

    def load(self, stored: Stored, wanted: Callable[[], bool]) -> None:
        """Take over what is stored; `wanted` says whether anybody reads messages now."""
        self._start = stored.next_place - 1
        self.recent = Recent(self._start, wanted)
        self._places = dict(stored.consumers)

    def open(self, owner: Owner, readers: Iterable[Reader]) -> None:
        """The peer runs; these were opened before, and where they begin is saved soon as well."""
        self._owner = owner
        for reader in readers:
            self.begin(reader)

    def begin(self, reader: Reader, first: int | None = None) -> None:
        """Tell a reader where it begins: behind what counts as read for its consumer.

        `first`: for one never asked for, where this user began; None: where this peer did.
        """
        consumer = reader.consumer
        place = None if consumer is None else self._places.get(consumer)
        if place is None:
            newest = self.recent.newest if consumer is None else self._start if first is None else first
            place = 0 if reader.start == "beginning" else newest
            if consumer is not None:
                self.hand_on(consumer, place)
        reader.begin(place)

    def place_of(self, consumer: str, first: int | None = None) -> int:
        """Return the last place a consumer has taken; for one never asked for `first`, or (None) the newest when the
        peer started."""
        return self._places.get(consumer, self._start if first is None else first)

    def note(self, places: Mapping[str, int]) -> None:
        """These are kept already."""
        self._places.update(places)

    def hand_on_again(self, consumers: set[str]) -> None:
        """Have the places of these saved, whatever became of them before: storage may have failed meanwhile."""
        for consumer in consumers & self._places.keys():
            self.hand_on(consumer, self._places[consumer])

    # What readers ask

    async def places(self, after: int, limit: int) -> list[Shown]:
        """Read stored entries in the order they were released; PeerClosed when that is over."""
        if self._owner is None:
            raise PeerClosed("the peer has not been started")
        return await self._owner.places(after, limit)

    @property
    def start(self) -> int:
        """The newest place of earlier runs."""
        return self._start

    async def written(self, group: ConversationId) -> list[Shown]:
        """Read everything released of one conversation; PeerClosed when that is over."""
        if self._owner is None:
            raise PeerClosed("the peer has not been started")
        storage = self._owner.disk.storage
        return await self._owner.disk.read(lambda: storage.history(group, limit=0))

    async def entries(self, named: Sequence[tuple[ConversationId, Ref]]) -> list[Shown | None]:
        """Return these released entries with what became of them; PeerClosed when that is over."""
        if self._owner is None:
            raise PeerClosed("the peer has not been started")
        storage = self._owner.disk.storage

        def look() -> list[Shown | None]:
            keys = [LogKey(conversation, ref.log) for conversation, ref in named]
            held = storage.lookup(list(dict.fromkeys(keys)), [])[0]
            return [
                storage.entry(held[key].log, ref.seq) if key in held else None
                for key, (_, ref) in zip(keys, named, strict=True)
            ]

        return await self._owner.disk.read(look)

    async def complete(self, events: Sequence[Risen]) -> list[Risen | None]:
        """Return what to tell of own entries; None for what is no message, or when nobody can say whether it is.

        Of messages of this run all is known. Of earlier ones storage knows which are messages and who has them; for
        whom a room message waited then is forgotten. Storage that is closed cannot say: so who has receipts to tell
        asks before (Reader.look_up).
        """
        owner, wrote = self._owner, self._ledger.wrote
        former = [event for event in events if not wrote(event.log)]
        if owner is None or not former:
            return list(events)
        storage = owner.disk.storage
        try:
            found = await owner.disk.read(lambda: [_looked_up(storage, one) for one in former])
        except PeerClosed:
            found = [(None, [], [])] * len(former)
        known = iter(found)
        return [event if wrote(event.log) else self._completed(event, *next(known)) for event in events]

    def _completed(self, event: Risen, shown: Shown | None, marks: Marks, read: Marks) -> Risen | None:
        log, seq = event.log, event.seq
        if shown is None or decode_entry(shown.raw).k in NOT_SHOWN:
            return None
        holders = {member for member, mark in marks if mark >= seq} | set(self._ledger.holders(log, seq))
        readers = {member for member, mark in read if mark >= seq} | set(self._ledger.holders(log, seq, "read"))
        counted = readers if isinstance(event, Read) else holders
        assert self._owner is not None
        of = set(waited_for(self._owner.node, log, decode_entry(shown.raw), holders)) or holders | readers
        return replace(event, count=len(counted & of), of=len(of))

    def hand_on(self, consumer: str, place: int) -> None:
        """A consumer has taken everything up to there; saved soon."""
        self._places[consumer] = place
        if self._owner is not None:
            self._owner.hand_on(consumer, place)

    async def hand_on_now(self, consumer: str, place: int) -> None:
        """The same; returns when it is on disk."""
        self._places[consumer] = place
        if self._owner is not None:
            await self._owner.hand_on_now(consumer, place)


def _looked_up(storage: Storage, event: Risen) -> tuple[Shown | None, Marks, Marks]:
    log, seq = event.log, event.seq
    return storage.entry(log, seq), storage.heard(log, seq), storage.readers(log, seq)
