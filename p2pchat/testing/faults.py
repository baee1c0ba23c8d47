"""Random histories: a program of writing and accidents drawn from a seed, then the end in which all must come right.

A history has two to five honest peers, some of them late, and sometimes a liar. For a minute or several of virtual
time they write while processes crash, disks come back from old copies, links break and mend. Then all accidents
stop, everyone who did not leave for good is up and says one more thing, and the mesh must settle.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from p2pchat.core.log import Entry, LogId, decode_entry, encode_entry, extend_chain, head_message
from p2pchat.protocol import Entries, Frame
from p2pchat.testing.checker import Fault
from p2pchat.testing.simpeer import SimPeer
from p2pchat.testing.simulation import Simulation
from p2pchat.testing.sticks import Stick, make_stick

Tell = Callable[[str], None]
STICKS_KEPT = 4  # files that lie about and may be used again


def play(seed: int, tell: Tell | None = None) -> tuple[Simulation, list[Fault]]:
    """Play the history of this seed to its end; return it and every promise that was broken."""
    history = History(seed, tell)
    history.play()
    return history.sim, history.sim.check()


class History:
    """One random history."""

    def __init__(self, seed: int, tell: Tell | None = None) -> None:
        self.sim = Simulation(seed, tell=tell)
        self._chance = Random(f"{seed} program")
        self._said = 0
        self._sticks: list[Stick] = []
        self._actions: list[tuple[Callable[[], None], int]] = [
            (self._say, 10), (self._dm, 6), (self._crash, 4), (self._start, 8), (self._cut, 3), (self._partition, 2),
            (self._heal, 2), (self._slow, 2), (self._restore, 2), (self._stop, 1), (self._jump, 1),
            (self._disk, 1), (self._low, 1), (self._join, 1), (self._leave, 1), (self._rename, 1), (self._busy, 1),
            (self._resume, 1), (self._stick, 4),
        ]  # fmt: skip

    def play(self) -> None:
        """Let everything happen, then let it settle."""
        self._begin()
        actions, weights = zip(*self._actions, strict=True)
        for _ in range(self._chance.randint(12, 40)):
            self._chance.choices(actions, weights)[0]()
            self.sim.run(self._chance.expovariate(1 / self._chance.choice((0.01, 0.05, 0.5, 3.0, 8.0))))
        self._end()

    def _begin(self) -> None:
        for _ in range(self._chance.randint(2, 4)):
            self._join()
        if self._chance.random() < 0.2:
            self._join_liar()
        if len(self.sim.all_peers) >= 4 and self._chance.random() < 0.3:
            one, other = self._chance.sample(self._honest(), 2)
            self.sim.never(one, other)
        if self._chance.random() < 0.15:
            self.sim.note("all are apart: only files pass between them")
            self.sim.partition(*([peer] for peer in self.sim.all_peers))

    def _end(self) -> None:
        self.sim.note("the end: everything is mended")
        self.sim.heal()
        remaining = [peer for peer in self._honest() if not peer.gone]
        if not self._connected(remaining):
            self.sim.lift_never()
        for peer in self.sim.all_peers:
            peer.disk.broken = False
            peer.start()
        for peer in remaining:  # somebody tells them where another is, should they not know
            peer.connect(
                next(other.endpoint for other in remaining if other is not peer and self.sim.can_link(peer, other))
            )
        self.sim.run(self._chance.choice((0.0, 1.0, 20.0)))
        for peer in remaining:
            self._write(peer, None)
        self.sim.settle()

    # ---- what can happen

    def _say(self) -> None:
        for _ in range(self._chance.choice((1, 1, 2, 5, 12))):
            if self.sim.up:
                self._write(self._chance.choice(self.sim.up), None)

    def _dm(self) -> None:
        writers = [peer for peer in self.sim.up if not peer.liar]
        if not writers:
            return
        writer = self._chance.choice(writers)
        others = [peer for peer in self._honest() if peer is not writer and self.sim.can_link(writer, peer)]
        if others:
            other = self._chance.choice(others)
            for _ in range(self._chance.choice((1, 1, 3, 10))):
                self._write(writer, other)

    def _crash(self) -> None:
        if self.sim.up:
            peer = self._chance.choice(self.sim.up)
            self.sim.note(f"{peer.name} is killed")
            self._write(peer, None)  # so that there is something to lose
            self.sim.run(self._chance.choice((0.0, 0.005, 0.02, 0.1)))
            peer.crash(silent=self._chance.random() < 0.3)

    def _start(self) -> None:
        down = [peer for peer in self.sim.all_peers if not peer.up and not peer.gone]
        if down:
            self._start_one(self._chance.choice(down))

    def _cut(self) -> None:
        if len(self.sim.up) >= 2:
            one, other = self._chance.sample(self.sim.up, 2)
            self.sim.note(f"the links between {one.name} and {other.name} break")
            self.sim.cut(one, other)

    def _partition(self) -> None:
        peers = self.sim.all_peers
        self._chance.shuffle(peers)
        size = self._chance.randint(1, len(peers) - 1)
        self.sim.note(f"{[peer.name for peer in peers[:size]]} are apart from {[peer.name for peer in peers[size:]]}")
        self.sim.partition(peers[:size], peers[size:])

    def _heal(self) -> None:
        self.sim.note("partitions heal")
        self.sim.heal()

    def _slow(self) -> None:
        if len(self.sim.up) >= 2:
            one, other = self._chance.sample(self.sim.up, 2)
            self.sim.note(f"nothing passes from {one.name} to {other.name} for a while")
            self.sim.slow(one, other, self._chance.choice((0.5, 5.0, 20.0)))

    def _busy(self) -> None:
        if self.sim.up:
            peer = self._chance.choice(self.sim.up)
            self.sim.note(f"{peer.name} reads nothing for a while")
            peer.read_nothing(self._chance.choice((0.1, 2.0, 40.0)))

    def _restore(self) -> None:
        peer = self._chance.choice(self.sim.all_peers)
        if len(peer.disk) and not peer.gone:
            peer.crash()
            length = self._chance.choice((0, self._chance.randrange(len(peer.disk))))
            self.sim.note(f"{peer.name}'s disk goes back to {length} of {len(peer.disk)} changes")
            peer.restore(length)
            self._start_one(peer)

    def _resume(self) -> None:
        peer = self._chance.choice(self._honest())
        if not peer.gone:
            self.sim.note(f"{peer.name}'s machine goes back to a snapshot of when its process began")
            peer.resume()

    def _stop(self) -> None:
        if self.sim.up:
            peer = self._chance.choice(self.sim.up)
            self.sim.note(f"{peer.name} leaves in good order")
            peer.stop()

    def _jump(self) -> None:
        peer = self._chance.choice(self.sim.all_peers)
        peer.clock.ahead += self._chance.choice((-3600.0, -5.0, 5.0, 250.0, 3600.0))
        self.sim.note(f"{peer.name}'s clock is {peer.clock.ahead:+} s off now")

    def _disk(self) -> None:
        peer = self._chance.choice(self.sim.all_peers)
        peer.disk.broken = not peer.disk.broken
        self.sim.note(f"{peer.name}'s disk is {'full' if peer.disk.broken else 'usable again'}")

    def _low(self) -> None:
        if self.sim.up:
            peer, on = self._chance.choice(self.sim.up), self._chance.random() < 0.6
            self.sim.note(f"{peer.name}'s disk has {'little' if on else 'enough'} room")
            peer.disk_low(on)

    def _join(self) -> None:
        if len(self._honest()) < 5:
            peer = self.sim.peer()
            peer.clock.rate = self._chance.choice((1.0, 0.999, 1.001))
            peer.clock.ahead = self._chance.choice((0.0, 0.0, 2.0, -2.0, 400.0))
            peer.disk.slow = self._chance.choice((0.002, 0.02, 0.2, 1.0))
            self.sim.note(f"{peer.name} comes for the first time")
            self._start_one(peer)

    def _join_liar(self) -> None:
        self._join()
        liar = self.sim.all_peers[-1]
        liar.liar = True
        liar.tamper = Liar(liar, self._chance).tamper
        self.sim.note(f"{liar.name} is a liar")

    def _leave(self) -> None:
        staying = [peer for peer in self._honest() if not peer.gone]
        if len(staying) > 2:
            peer = self._chance.choice(staying)
            self.sim.note(f"{peer.name} leaves for good")
            self._chance.choice((peer.crash, peer.stop))()
            peer.crash()
            peer.gone = True

    def _rename(self) -> None:
        if self.sim.up:
            peer = self._chance.choice(self.sim.up)
            self._said += 1
            peer.rename(f"{peer.name}{self._said}")

    def _stick(self) -> None:
        """Somebody carries a file from one peer to another: a new one, or one that has lain about."""
        if not self.sim.up:
            return
        liars = [peer for peer in self.sim.all_peers if peer.liar]
        maker = self._chance.choice(liars if liars and self._chance.random() < 0.4 else self.sim.all_peers)
        apart = [peer for peer in self.sim.up if peer is not maker and maker not in peer.linked]
        to = self._chance.choice(apart or self.sim.up)
        if not self._sticks or self._chance.random() < 0.7:
            only = self.sim.judge.room if self._chance.random() < 0.2 else None
            self._sticks = [*self._sticks[-STICKS_KEPT:], make_stick(maker, to, only)]
            stick = self._sticks[-1]
        else:
            stick = self._chance.choice(self._sticks)
        self.sim.note(f"{to.name} gets a file of {stick.maker.name}'s, made at {stick.made_at:.1f}")
        self.sim.counts["stick_again"] += bool(stick.uses)
        stick.uses += 1
        to.plug_in(self._damaged(stick.data))

    def _damaged(self, data: bytes) -> bytes:
        """Return the file as it arrives: mostly whole, sometimes cut off or with a wrong bit."""
        drawn = self._chance.random()
        at = self._chance.randrange(len(data))
        if drawn < 0.2:
            return data[:at]
        if drawn < 0.35:
            return data[:at] + bytes([data[at] ^ 1 << self._chance.randrange(8)]) + data[at + 1 :]
        return data

    # ---- how

    def _honest(self) -> list[SimPeer]:
        return [peer for peer in self.sim.all_peers if not peer.liar]

    def _write(self, writer: SimPeer, to: SimPeer | None) -> None:
        self._said += 1
        size = self._chance.choice((0, 0, 0, 300))
        writer.say(f"{writer.name} {self._said} {'long ' * size}".strip(), to)

    def _start_one(self, peer: SimPeer) -> None:
        """Start with an endpoint, if it cannot know one, or somebody gives one again."""
        self.sim.note(f"{peer.name} starts")
        others = [other for other in self._honest() if other is not peer and not other.gone]
        told = others and (len(peer.disk) == 0 or not peer.ever_linked or self._chance.random() < 0.5)
        peer.start(*([self._chance.choice(others).endpoint] if told else []))

    def _connected(self, peers: list[SimPeer]) -> bool:
        reached = peers[:1]
        for one in reached:
            reached += [peer for peer in peers if peer not in reached and self.sim.can_link(one, peer)]
        return len(reached) == len(peers)


class Liar:
    """A member that lies: it forges what others wrote, and tells different peers different versions of its own."""

    def __init__(self, peer: SimPeer, chance: Random) -> None:
        self._peer = peer
        self._chance = chance

    def tamper(self, frame: Frame, to: SimPeer) -> Frame:
        """Return what goes to this peer instead of a frame."""
        if not isinstance(frame, Entries) or self._chance.random() < 0.5:
            return frame
        *kept, last = frame.e
        true = decode_entry(last)
        if true.k != "text":
            return frame
        false = Entry(true.k, true.at, true.c, true.re, true.after, true.before, true.g, f"a lie for {to.name}")
        forged = [*kept, encode_entry(false)]
        head = frame.head if frame.u != self._peer.user else self._sign(frame, forged)
        return Entries(frame.c, frame.u, frame.r, frame.first, frame.prev, forged, head, frame.n, names=frame.names)

    def _sign(self, frame: Entries, forged: list[str]) -> str:
        """Return a head over another version of an own log: its author can sign as many as it likes."""
        chain = extend_chain(bytes.fromhex(frame.prev), forged)
        last = frame.first + len(forged) - 1
        return self._peer.identity.sign(head_message(LogId(frame.c, frame.u, frame.r), last, chain)).hex()
