"""A simulated connection: bytes in order each way, late, in pieces; it stalls, blocks, breaks, or breaks silently.

TLS is not simulated: what it proves, the server's key, is simply told. Frames are really encoded and decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from p2pchat.config import Settings
from p2pchat.core.context import Timer
from p2pchat.core.inputs import Faulted, Got, Input, LinkDown, LinkDrained, LinkFilled, Paused
from p2pchat.protocol import Decoder
from p2pchat.testing.simulation.environment import Schedule

if TYPE_CHECKING:
    from p2pchat.testing.simulation.peer import SimPeer

END, BROKEN = "closed", "lost"  # what an end learns: in order, or not
SLOW = 0.5  # seconds one way, above which what is due at once may be late
Item = bytes | str


Tell = Callable[[Input], None]  # to the process that holds an end; nothing once that has ended


class WireEnd:
    """One end of a wire.

    Attributes:
        open: False once this side ended it or learnt that it is over.
        closing: This side said its last, it ends when that is written.
    """

    def __init__(self, wire: SimWire, link: int, owner: SimPeer, tell: Tell, settings: Settings) -> None:
        self.wire = wire
        self.link = link
        self.owner = owner
        self.tell = tell
        self.other: WireEnd = self
        self.open = True
        self.decoder = Decoder(settings)
        self.stalled = False  # the network takes nothing from this side
        self._settings = settings
        self._unsent = bytearray()
        self._full = False
        self._flushing = False
        self.closing = False
        self._unread: list[Item] | None = None  # what arrived while nothing is read; None while reading
        self._stuck: Timer | None = None  # when it is given up because it takes nothing

    def write(self, data: bytes) -> None:
        """Say something; it leaves at the end of this turn, joined with what else was said."""
        if not self.open or self.closing:
            return
        self._unsent += data
        self._flush_soon()

    def close(self, data: bytes | None) -> None:
        """Say `data` as the last and end in order; break off at once when it is None."""
        if not self.open or self.closing:
            return
        if data is None:
            self.abort()
            return
        self.write(data)
        self.closing = True
        self._flush_soon()
        self.wire.schedule.after(self._settings.bye_timeout, self.abort)

    def abort(self) -> None:
        """End at once; what is unsent is lost. The owner, if there still is one, is told like of any end."""
        if self.open:
            self._over()
            self.wire.carry(self, BROKEN if self.wire.chance.random() < 0.7 else END)

    def vanish(self) -> None:
        """This end is gone and says nothing: the machine lost its power."""
        self.open = False

    def stall(self, on: bool) -> None:
        """Stop, or go on, taking bytes from this side."""
        self.stalled, self.wire.calm = on, False
        if not on and self._stuck is not None:
            self._stuck.cancel()
        self._flush_soon()

    def pause(self, seconds: float) -> None:
        """Read nothing for so long."""
        if self._unread is None and self.open:
            self._unread, self.wire.calm = [], False
            self.wire.schedule.after(seconds, self.read_on)
            self.tell(Paused(self.link, True))

    def take(self, item: Item) -> None:
        """Something arrives from the other end."""
        if self._unread is not None:
            self._unread.append(item)
        elif isinstance(item, bytes):
            self._receive(item)
        else:
            self.learn(item)

    def learn(self, what: str) -> None:
        """This side learns that the connection is over."""
        if self.open:
            self.open = False
            self.owner.dropped(self.link)
            self.tell(LinkDown(self.link, what))

    def read_on(self) -> None:
        """Read again, what came meanwhile first; nothing when it does already."""
        if self._unread is None:
            return
        unread, self._unread = self._unread, None
        if self.open:
            self.tell(Paused(self.link, False))
        for item in unread:
            self.take(item)

    def _receive(self, data: bytes) -> None:
        """Bytes arrive; the owner gets all frames that are whole now."""
        if not self.open or self.closing:
            return
        frames = self.decoder.feed(data)
        fault = self.decoder.fault
        self.tell(Got(self.link, [*frames]))
        if fault is not None and self.open:
            self.tell(Faulted(self.link, fault.code, str(fault)))

    def _over(self) -> None:
        """This side ended it; its owner hears so in the next turn."""
        self.open = False
        owner, link = self.owner, self.link
        owner.dropped(link)
        self.wire.schedule.after(0.0, lambda: self.tell(LinkDown(link, END)))

    def _give_up(self) -> None:
        """It has taken nothing for too long, and nothing was heard from it."""
        if self.open and self.stalled:
            self.open = False
            self.owner.dropped(self.link)
            self.wire.carry(self, BROKEN)
            self.tell(LinkDown(self.link, "slow"))

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.wire.schedule.after(0.0, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if not self.open:
            return
        if self.stalled:
            if len(self._unsent) > self._settings.buffer_limit_bytes and not self._full:
                self._full = True
                self._stuck = self.wire.schedule.after(self._settings.stuck_after, self._give_up)
                self.tell(LinkFilled(self.link))
            return
        if self._unsent:
            data, self._unsent = bytes(self._unsent), bytearray()
            self.wire.carry(self, data)
        if self.closing:
            self._over()
            self.wire.carry(self, END)
        elif self._full:
            self._full = False
            self.tell(LinkDrained(self.link))


class SimWire:
    """Two ends and what is on its way between them.

    Attributes:
        quick, slow: Bytes take a time drawn between these, in seconds; they never overtake each other.
        dead: Nothing arrives any more, and nobody was told.
        calm: No accident ever happened to it: neither end was held up, nothing was held back, and it is not slow.
    """

    def __init__(self, schedule: Schedule, chance: Random, quick: float, slow: float) -> None:
        self.schedule = schedule
        self.chance = chance
        self.quick, self.slow = quick, slow
        self.dead = False
        self.calm = slow <= SLOW
        self.ends: list[WireEnd] = []
        self._deaf: list[WireEnd] = []  # nothing arrives at these
        self._arrived: list[tuple[WireEnd, Item]] = []  # at the edge of a blocked wire, in order
        self._latest: dict[int, float] = {}  # index of the end -> when its last item arrives

    def join(self, one: WireEnd, other: WireEnd) -> None:
        self.ends = [one, other]
        one.other, other.other = other, one

    def carry(self, sender: WireEnd, item: Item) -> None:
        """Take an item from one end to the other, perhaps in pieces."""
        if self.dead:
            return
        if isinstance(item, bytes) and len(item) > 1 and self.chance.random() < 0.3:
            cut = self.chance.randrange(1, len(item))
            self._send(sender, item[:cut])
            item = item[cut:]
        self._send(sender, item)

    @property
    def blocked(self) -> bool:
        return bool(self._deaf)

    def block(self, *deaf: WireEnd) -> None:
        """Hold back everything on its way to these ends, or to both: packets are lost, and TCP waits.

        An end that is deaf no more gets what was held back for it, before anything newer.
        """
        self._deaf, self.calm = [*deaf] or self.ends, False
        self._let_through()

    def unblock(self) -> None:
        """Let through what was held back."""
        self._deaf = []
        self._let_through()

    def _let_through(self) -> None:
        held, self._arrived = self._arrived, []
        for receiver, item in held:
            self._arrive(receiver, item)

    def cut(self, *, told: Callable[[], float | None]) -> None:
        """Break: what is on its way is lost. `told` gives for each end when it learns; None: not from the network."""
        self.dead, self.calm = True, False
        for end in self.ends:
            after = told()
            if after is not None:
                self.schedule.after(after, lambda end=end: end.learn(BROKEN))  # type: ignore[misc]

    def _send(self, sender: WireEnd, item: Item) -> None:
        side = 0 if sender is self.ends[0] else 1
        when = max(self._latest.get(side, 0.0), self.schedule.now + self.chance.uniform(self.quick, self.slow))
        self._latest[side] = when
        self.schedule.at(when, lambda: self._arrive(sender.other, item))

    def _arrive(self, receiver: WireEnd, item: Item) -> None:
        if self.dead:
            return
        if receiver in self._deaf:
            self._arrived.append((receiver, item))
        else:
            receiver.take(item)
