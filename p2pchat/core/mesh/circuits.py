"""Circuits: links of two members who cannot dial each other, carried by a third with which both have a direct link.

    A -> R   circuit  id, to B            A asks the carrier R
    R -> B   circuit  id of its own, from A
    A <-> B  carried  bytes, and room     through R, which changes the ids and nothing else

The bytes are those of an ordinary connection: TLS from A to B, where A requires B's key, then frames. So R sees who has
a link with whom, when, and how much goes over it. A circuit goes over direct links only, and ends with either of them.

An end says how many bytes it takes in all, as in QUIC ("room", RFC 9000, section 4.1), and a carrier passes on less
room the more circuits a member has. So a sender stops, nothing is dropped, and what waits at a carrier is bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from p2pchat.bounded import remember
from p2pchat.core.effects import CircuitReceived, DialThrough
from p2pchat.core.inputs import CircuitSent
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.node_context import NodeContext
from p2pchat.protocol import MAX_CARRIED_BYTES, Carried, Circuit, PeerId, UserId

WINDOW_BYTES = 256 * 1024  # on their way on one circuit: 3 MB/s at 80 ms
FIRST_ROOM = 16 * 1024  # before the other end says how much it takes: more than TLS and the proofs need
FEW_BYTES = 64  # a frame with fewer is charged by a carrier, as any other: a guess, less than a ping and its TLS record
MAX_CARRIERS = 1024  # that are remembered; four times as many as may be linked
MAX_DIALLED = 8  # circuits under way through one carrier: one that answers none costs few places. A guess
MAX_OF_PAIR = 4  # circuits that a carrier has for two peers: each dials the other one, and again; a guess


class CircuitWindow:
    """What one end of a circuit may send, and takes.

    Attributes:
        sent: The number of bytes that were sent so far.
        room: The number that the other end takes in all.
    """

    def __init__(self) -> None:
        self.sent: int = 0
        self.room: int = FIRST_ROOM
        self._taken = 0
        self._granted = FIRST_ROOM

    @property
    def may_send(self) -> int:
        """The number of bytes that one frame may have now."""
        return min(MAX_CARRIED_BYTES, self.room - self.sent)

    def widen(self, room: int) -> None:
        """Take how much the other end takes in all: at most a window above what was sent, whatever it says."""
        self.room = max(self.room, min(room, self.sent + WINDOW_BYTES))

    def take(self, count: int) -> int:
        """Note that so many bytes were passed on. Return the room to tell the other end, 0 if it may wait."""
        self._taken += count
        room = self._taken + WINDOW_BYTES
        if room - self._granted < FIRST_ROOM:
            return 0
        self._granted = room
        return room


@dataclass(slots=True, eq=False)
class CircuitLeg:
    """A circuit on one link of this peer.

    Attributes:
        other: The leg on the other link; None at the peer where the circuit ends.
        came: Bytes that came on this leg.
        room: Bytes that may come on it in all.
        sent: Bytes that were passed on to it.
        told_room: The room that the far end told while its link was full; 0 for none.
        most_room: The most that the far end told.
    """

    link: PeerLink
    id: int
    other: CircuitLeg | None = None
    came: int = 0
    room: int = FIRST_ROOM
    sent: int = 0
    told_room: int = 0
    most_room: int = 0


class Circuits:
    """The circuits that begin, end or are carried here.

    Args:
        up, by_peer: The tables of Links.

    Attributes:
        legs: By link and number.
        dialling: The link of the carrier, by dials under way.
        begun: The circuits begun from here through each peer, less those whose links ended with a goodbye and were in
            time. So one that carries nothing for long, goes away again and again, or is slow, is asked last.
    """

    def __init__(self, ctx: NodeContext, up: Mapping[int, PeerLink], by_peer: Mapping[PeerId, PeerLink]) -> None:
        self._ctx = ctx
        self._up = up
        self._by_peer = by_peer
        self.legs: dict[int, dict[int, CircuitLeg]] = {}
        self.dialling: dict[int, int] = {}
        self.begun: dict[PeerId, int] = {}
        self._carried: Counter[UserId] = Counter()  # legs that are carried, by member

    # At an end

    def on_goodbye(self, carrier: PeerId) -> None:
        """A link that was begun from here through this peer ended, and one end of it said why."""
        if carrier in self.begun:
            self.begun[carrier] -= 1

    def carrier(self, peer: PeerId) -> PeerLink | None:
        """Return the link of the peer that is to carry a link with another one; None if there is none now.

        Links spread over their carriers. One through which none comes up, or lasts, is asked last.
        """
        under_way = Counter(self.dialling.values())
        able = [link for link in self._able if link.reaches(peer) and under_way[link.id] < MAX_DIALLED]
        return min(able, key=lambda link: (self.begun.get(link.peer, 0), self._spread(link.peer, peer)), default=None)

    def reached(self, peers: Iterable[PeerId]) -> set[PeerId]:
        """Return those of these peers with which others can carry a link."""
        able = self._able
        return {peer for peer in peers if any(link.reaches(peer) for link in able)}

    @property
    def _able(self) -> list[PeerLink]:
        return [link for link in self._up.values() if link.carries and not link.carrier]

    def _spread(self, carrier: PeerId, peer: PeerId) -> int:
        """Return a number that the ids of three peers have, in whichever direction."""
        return int(carrier, 16) ^ int(peer, 16) ^ int(self._ctx.me, 16)

    def dial(self, dial: int, peer: PeerId, link: PeerLink) -> None:
        """Begin a circuit to a peer through this carrier."""
        self.dialling[dial] = link.id
        remember(self.begun, link.peer, self.begun.get(link.peer, 0) + 1, MAX_CARRIERS)
        leg = self._begin(link)
        self._ctx.send(Circuit(leg.id, to=peer), [link.id])
        self._ctx.emit(DialThrough(dial, link.id, leg.id))

    def on_sent(self, input: CircuitSent) -> None:
        """Send what this end of a circuit has for the other one."""
        leg = self.legs.get(input.link, {}).get(input.frame.id)
        if leg is None or leg.other is not None:
            return  # it has ended
        self._ctx.send(input.frame, [input.link])
        if isinstance(input.frame, Circuit):
            self._forget(leg)
        elif input.frame.room:
            leg.room = input.frame.room

    # Frames

    def on_circuit(self, link: PeerLink, frame: Circuit) -> str:
        """Take the begin or the end of a circuit. Return what is wrong with it, "" if nothing is."""
        leg = self.legs.get(link.id, {}).get(frame.id)
        if frame.end is not None:
            if leg is not None:
                self._end(leg, frame.end)
            return ""
        if frame.id <= link.circuit_begun or frame.id % 2 != (link.peer > self._ctx.me):
            return "circuit: its number is not the next one"
        link.circuit_begun = frame.id
        why = self._refusal(link, frame)
        if why:
            self._ctx.send(Circuit(frame.id, end=why), [link.id])
        elif frame.to is not None:
            self._carry(CircuitLeg(link, frame.id), self._by_peer[frame.to])
        else:
            self._add(CircuitLeg(link, frame.id))
            self._ctx.emit(CircuitReceived(link.id, frame))
        return ""

    def _refusal(self, link: PeerLink, frame: Circuit) -> str:
        """Return why a circuit does not begin, "" if it does."""
        if frame.to is None:
            return "unknown" if link.carrier or frame.origin is None else ""
        other = self._by_peer.get(frame.to)
        if link.carrier or other is None or other.carrier or other is link:
            return "unknown"
        is_many = self._carried[link.member] >= self._ctx.settings.max_circuits
        if is_many or link.carried_with[frame.to] >= MAX_OF_PAIR:
            return "busy"
        return "" if self._ctx.work.take("circuits", (link.member, frame.to)) else "busy"

    def _carry(self, leg: CircuitLeg, to: PeerLink) -> None:
        self._ctx.count("circuit_carried")
        self._add(leg)
        leg.other = self._begin(to)
        leg.other.other = leg
        for one, other in ((leg, leg.other), (leg.other, leg)):
            self._carried[one.link.member] += 1
            one.link.carried_with[other.link.peer] += 1
        self._ctx.send(Circuit(leg.other.id, origin=leg.link.peer), [to.id])

    def on_carried(self, link: PeerLink, frame: Carried) -> None:
        """Pass on what came on a circuit. Frames that its room does not bound count against the link."""
        leg = self.legs.get(link.id, {}).get(frame.id)
        if leg is None:
            link.charged += 1
            return  # it has ended
        least = 1 if leg.other is None else FEW_BYTES  # what comes from a carrier was counted there
        link.charged += len(frame.d) < least and frame.room < leg.most_room + FIRST_ROOM
        leg.most_room = max(leg.most_room, frame.room)
        leg.came += len(frame.d)
        if leg.came > leg.room:
            self._ctx.send(Circuit(leg.id, end="limit"), [leg.link.id])
            self._end(leg, "limit")
        else:
            self._pass_on(leg, frame.d, frame.room)

    def on_drained(self, link: PeerLink) -> None:
        """Pass on the room that came while the link was full: whoever tells it need not read what it asks for."""
        for leg in self.legs.get(link.id, {}).values():
            if leg.told_room:
                self._pass_on(leg, b"", leg.told_room)

    def _pass_on(self, leg: CircuitLeg, data: bytes, room: int) -> None:
        leg.told_room = max(leg.told_room, room) if leg.link.full else 0
        room = 0 if leg.link.full else room
        if leg.other is None:
            self._ctx.emit(CircuitReceived(leg.link.id, Carried(leg.id, data, room)))
            return
        members = {leg.link.member, leg.other.link.member}
        most = max(self._carried[one] for one in members) * len(members) // 2  # of one member both count
        room = self._room_for(leg.other, min(room, leg.sent + WINDOW_BYTES), most) if room else 0
        if data or room:
            leg.other.sent += len(data)
            self._ctx.send(Carried(leg.other.id, data, room), [leg.other.link.id])

    def _room_for(self, leg: CircuitLeg, room: int, circuits: int) -> int:
        """Return how much room to pass on to a sender if one of the two has so many circuits; 0 for no more.

        A receiver may give less than a window at once: the sender may always go on by what it began with.
        """
        less = room - WINDOW_BYTES + max(FIRST_ROOM, WINDOW_BYTES // circuits)
        room = max(less, min(room, leg.came + FIRST_ROOM))
        if room <= leg.room:
            return 0
        leg.room = room
        return room

    # Ends

    def on_link_down(self, link: PeerLink) -> None:
        """End the circuits of a link that is down."""
        for leg in list(self.legs.get(link.id, {}).values()):
            self._end(leg, "lost")
        self.legs.pop(link.id, None)

    def _end(self, leg: CircuitLeg, why: str) -> None:
        """Tell what lies behind a leg that the circuit has ended there."""
        self._forget(leg)
        if leg.other is None:
            self._ctx.emit(CircuitReceived(leg.link.id, Circuit(leg.id, end=why)))
        else:
            self._forget(leg.other)
            self._ctx.send(Circuit(leg.other.id, end=why), [leg.other.link.id])

    # Internals

    def _begin(self, link: PeerLink) -> CircuitLeg:
        """Return the leg of a circuit that this peer begins on a link."""
        link.last_circuit += 2
        leg = CircuitLeg(link, link.last_circuit + (self._ctx.me > link.peer))
        self._add(leg)
        return leg

    def _add(self, leg: CircuitLeg) -> None:
        self.legs.setdefault(leg.link.id, {})[leg.id] = leg

    def _forget(self, leg: CircuitLeg) -> None:
        self.legs[leg.link.id].pop(leg.id, None)
        if leg.other is not None:
            self._carried -= Counter([leg.link.member])
            leg.link.carried_with -= Counter([leg.other.link.peer])
