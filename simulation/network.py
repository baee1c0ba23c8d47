"""Simulated connections: bytes arrive in order, late and in pieces; a connection can stall, block and break.

TLS is not simulated: the dialler is simply given the server's key. Frames are really encoded and decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from random import Random
from struct import Struct
from typing import TYPE_CHECKING

from p2pchat.core.inputs import (
    CircuitSent,
    DialFailed,
    Faulted,
    Got,
    Input,
    LinkAccepted,
    LinkDialled,
    LinkDown,
    LinkDrained,
    LinkFilled,
    Paused,
)
from p2pchat.core.mesh.circuits import CircuitWindow
from p2pchat.core.mesh.dialer import CARRIED
from p2pchat.core.node_context import Timer
from p2pchat.protocol import Carried, Circuit, Decoder
from p2pchat.settings import Settings
from simulation.virtual_time import Schedule

if TYPE_CHECKING:
    from simulation.simulated_peer import SimPeer

CLOSED, BROKEN = "closed", "lost"  # how a connection ended: in order, or not
SLOW = 0.5  # seconds one way; above it, what is due at once may be late
Item = bytes | str


Notify = Callable[[Input], None]  # hands an input to the process that owns an end; does nothing after its end


class WireEnd:
    """One end of a wire.

    Attributes:
        open: False once this side ended the connection or learned of its end.
        closing: This side has written its last frame and ends when that is sent.
        seen_at: Where the other side sees this one; "" where this one was dialled.
    """

    def __init__(self, wire: SimWire, link: int, owner: SimPeer, notify: Notify, settings: Settings) -> None:
        self.wire = wire
        self.link = link
        self.owner = owner
        self.notify = notify
        self.other: WireEnd = self
        self.seen_at: str = ""
        self.open: bool = True
        self.decoder: Decoder = Decoder(settings)
        self.stalled: bool = False  # True: the network takes no bytes from this side
        self._settings = settings
        self._unsent = bytearray()
        self._full = False
        self._flushing = False
        self.closing: bool = False
        self._unread: list[Item] | None = None  # arrived while reading is paused; None while reading
        self._stuck: Timer | None = None  # gives up a connection that takes no bytes

    @property
    def unsent_bytes(self) -> int:
        """The number of bytes that the network has not taken."""
        return len(self._unsent)

    def write(self, data: bytes) -> None:
        """Queue bytes. They leave at the end of this turn, joined with all others of the turn."""
        if not self.open or self.closing:
            return
        self._unsent += data
        self._flush_soon()

    def close(self, data: bytes | None) -> None:
        """Write `data` last and close in order; with None, abort at once."""
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
        """End at once. Unsent bytes are lost. The owner, if it still runs, is notified as of any end."""
        if self.open:
            self._end()
            self.wire.carry(self, BROKEN if self.wire.chance.random() < 0.7 else CLOSED)

    def vanish(self) -> None:
        """Disappear without a sign, as when the machine loses power."""
        self.open = False

    def stall(self, on: bool) -> None:
        """Stop or resume taking bytes from this side."""
        self.stalled, self.wire.calm = on, False
        if not on and self._stuck is not None:
            self._stuck.cancel()
        self._flush_soon()

    def pause(self, seconds: float) -> None:
        """Pause reading for a number of seconds."""
        if self._unread is None and self.open:
            self._unread, self.wire.calm = [], False
            self.wire.schedule.after(seconds, self.resume_reading)
            self.notify(Paused(self.link, True))

    def receive(self, item: Item) -> None:
        """Receive an item from the other end."""
        if self._unread is not None:
            self._unread.append(item)
        elif isinstance(item, bytes):
            self._decode(item)
        else:
            self.learn(item)

    def learn(self, what: str) -> None:
        """Learn that the connection has ended."""
        if self.open:
            self.open = False
            self.owner.dropped(self.link)
            self.notify(LinkDown(self.link, what))

    def resume_reading(self) -> None:
        """Resume reading, with the items that arrived during the pause first."""
        if self._unread is None:
            return
        unread, self._unread = self._unread, None
        if self.open:
            self.notify(Paused(self.link, False))
        for item in unread:
            self.receive(item)

    def _decode(self, data: bytes) -> None:
        """Decode bytes and give the owner all complete frames."""
        if not self.open or self.closing:
            return
        frames = self.decoder.feed(data)
        fault = self.decoder.fault
        self.notify(Got(self.link, [*frames]))
        if fault is not None and self.open:
            self.notify(Faulted(self.link, fault.code, str(fault)))

    def _end(self) -> None:
        """End the connection on this side. The owner is notified in the next turn."""
        self.open = False
        owner, link = self.owner, self.link
        owner.dropped(link)
        self.wire.schedule.after(0.0, lambda: self.notify(LinkDown(link, CLOSED)))

    def _give_up(self) -> None:
        """End a connection that took no bytes for too long."""
        if self.open and self.stalled:
            self.open = False
            self.owner.dropped(self.link)
            self.wire.carry(self, BROKEN)
            self.notify(LinkDown(self.link, "slow"))

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
                self.notify(LinkFilled(self.link))
            return
        if self._unsent:
            data, self._unsent = bytes(self._unsent), bytearray()
            self.wire.carry(self, data)
            self.owner.drained(self.link)
        if self.closing:
            self._end()
            self.wire.carry(self, CLOSED)
        elif self._full:
            self._full = False
            self.notify(LinkDrained(self.link))


class SimWire:
    """A connection: two ends and the bytes in flight between them.

    Attributes:
        quick, slow: The bounds of the drawn transfer time, in seconds. Bytes never overtake each other.
        dead: True if no bytes arrive any more, without a notification.
        carried: True if it is a circuit (CircuitWire).
        calm: True if no fault ever happened to it: neither end stalled, no bytes were held back, and it is not slow.
    """

    carried: bool = False

    def __init__(self, schedule: Schedule, chance: Random, quick: float, slow: float) -> None:
        self.schedule = schedule
        self.chance = chance
        self.quick: float = quick
        self.slow: float = slow
        self.dead: bool = False
        self.calm: bool = slow <= SLOW
        self.ends: list[WireEnd] = []
        self._deaf: list[WireEnd] = []  # ends at which nothing arrives
        self._arrived: list[tuple[WireEnd, Item]] = []  # held back at a deaf end, in order
        self._latest: dict[int, float] = {}  # index of the end -> when its last item arrives

    def join(self, one: WireEnd, other: WireEnd) -> None:
        self.ends = [one, other]
        one.other, other.other = other, one

    def carry(self, sender: WireEnd, item: Item) -> None:
        """Carry an item from one end to the other, perhaps in pieces."""
        if self.dead:
            return
        if isinstance(item, bytes) and len(item) > 1 and self.chance.random() < 0.3:
            cut = self.chance.randrange(1, len(item))
            self._carry_piece(sender, item[:cut])
            item = item[cut:]
        self._carry_piece(sender, item)

    @property
    def blocked(self) -> bool:
        return bool(self._deaf)

    def block(self, *deaf: WireEnd) -> None:
        """Hold back everything in flight to these ends, or to both: packets are lost, and TCP waits.

        An end that is no longer deaf gets what was held back for it before anything newer.
        """
        self._deaf, self.calm = [*deaf] or self.ends, False
        self._deliver_held()

    def unblock(self) -> None:
        """Deliver what was held back."""
        self._deaf = []
        self._deliver_held()

    def _deliver_held(self) -> None:
        held, self._arrived = self._arrived, []
        for receiver, item in held:
            self._arrive(receiver, item)

    def cut(self, *, learns: Callable[[], float | None]) -> None:
        """Break the connection. Bytes in flight are lost. `learns` gives the seconds until an end learns, or None."""
        self.dead, self.calm = True, False
        for end in self.ends:
            after = learns()
            if after is not None:
                self.schedule.after(after, lambda end=end: end.learn(BROKEN))  # type: ignore[misc]

    def _carry_piece(self, sender: WireEnd, item: Item) -> None:
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
            receiver.receive(item)


SEAL = Struct(">I8s")  # before each piece: its size, and what stands for TLS: nothing is changed, repeated or left out


class CircuitEnd:
    """What one process knows of a circuit that ends there.

    Attributes:
        wire, end: The connection, and this end of it.
        link: The link of the peer that carries it.
        id: Its number there.
        side: 0 for the dialler's end.
        window: What may be sent, and is taken.
        unsent: Sealed bytes for which there was no room yet.
        coming: Bytes that came and are no whole piece yet.
        sealed, opened: How many pieces were sent, and came.
    """

    def __init__(self, wire: CircuitWire, end: WireEnd, link: int, id: int, side: int) -> None:
        self.wire = wire
        self.end = end
        self.link = link
        self.id = id
        self.side = side
        self.window: CircuitWindow = CircuitWindow()
        self.unsent = bytearray()
        self.coming = bytearray()
        self.sealed: int = 0
        self.opened: int = 0


class CircuitWire(SimWire):
    """A connection over a circuit: its bytes go through the cores of both ends and of the peer that carries it.

    Attributes:
        dial: The number of the dial that waits for it; 0 once it has been answered.
        circuits: The ends that there are, the dialler's first.
    """

    carried = True

    def __init__(self, schedule: Schedule, chance: Random, dial: int, secret: bytes) -> None:
        super().__init__(schedule, chance, 0.0, 0.0)
        self.calm = False  # nobody knows what its carrier does
        self.dial: int = dial
        self.circuits: list[CircuitEnd] = []
        self._secret = secret

    def add(self, end: WireEnd, link: int, id: int) -> CircuitEnd:
        """Add the end at one process. The one that was dialled begins, and so proves who it is."""
        circuit = CircuitEnd(self, end, link, id, len(self.circuits))
        self.circuits.append(circuit)
        self.ends.append(end)
        self._send(circuit, Carried(id, room=circuit.window.take(0)))
        if circuit.side:
            self.join(*self.ends)
            end.notify(LinkAccepted(end.link, CARRIED, through=link))
            self.carry(end, b"")
        return circuit

    def block(self, *deaf: WireEnd) -> None:
        """Do nothing: what lies between the ends is blocked."""

    def carry(self, sender: WireEnd, item: Item) -> None:
        """Send an item to the other end."""
        circuit = self.circuits[self.ends.index(sender)]
        if self.dead:
            return
        if isinstance(item, str):
            self._send(circuit, Circuit(circuit.id, end="closed" if item == CLOSED else "lost"))
            return
        circuit.unsent += SEAL.pack(len(item), self._seal(circuit.side, circuit.sealed, item)) + item
        circuit.sealed += 1
        self._push(circuit)

    def on_frame(self, circuit: CircuitEnd, frame: Circuit | Carried) -> None:
        """Take a frame that came for one end."""
        if isinstance(frame, Circuit):
            self._end(circuit, CLOSED if frame.end == "closed" else BROKEN)
            return
        circuit.window.widen(frame.room)
        self._push(circuit)
        room = circuit.window.take(len(frame.d))
        if room:
            self._send(circuit, Carried(circuit.id, room=room))
        circuit.coming += frame.d
        while len(circuit.coming) >= SEAL.size and not self.dead:
            size, seal = SEAL.unpack_from(circuit.coming)
            item = bytes(circuit.coming[SEAL.size : SEAL.size + size])
            if len(item) < size:
                break
            if seal != self._seal(1 - circuit.side, circuit.opened, item):
                self._send(circuit, Circuit(circuit.id, end="lost"))
                self._end(circuit, BROKEN)
                break
            circuit.opened += 1
            del circuit.coming[: SEAL.size + size]
            self._deliver(circuit, item)

    def _deliver(self, circuit: CircuitEnd, item: bytes) -> None:
        if self.dial and not circuit.side:
            dial, self.dial = self.dial, 0
            server = circuit.end.other.owner.user
            circuit.end.notify(LinkDialled(circuit.end.link, dial, server, CARRIED, circuit.link))
        if item:
            circuit.end.receive(item)

    def _end(self, circuit: CircuitEnd, what: str) -> None:
        if self.dial and not circuit.side:
            dial, self.dial = self.dial, 0
            circuit.end.notify(DialFailed(dial, "the circuit has ended"))
        circuit.end.receive(what)

    def give_up(self) -> None:
        """End a dial that got no answer in time."""
        if self.dial:
            self._send(self.circuits[0], Circuit(self.circuits[0].id, end="lost"))
            self._end(self.circuits[0], BROKEN)

    def _push(self, circuit: CircuitEnd) -> None:
        while circuit.unsent and (most := circuit.window.may_send) > 0:
            data = bytes(circuit.unsent[:most])
            del circuit.unsent[:most]
            circuit.window.sent += len(data)
            self._send(circuit, Carried(circuit.id, data))

    def _send(self, circuit: CircuitEnd, frame: Circuit | Carried) -> None:
        circuit.end.notify(CircuitSent(circuit.link, frame))

    def _seal(self, side: int, number: int, item: bytes) -> bytes:
        return blake2b(
            item, digest_size=8, key=self._secret, salt=number.to_bytes(16, "big"), person=b"%d" % side
        ).digest()
