"""What can happen in a history: writing, and every accident that a network, a disk, a machine or a hand can have.

Each is one method without arguments; whom it meets is drawn from the chance of its step (scenario.py), and it does
nothing where it cannot happen.
"""

from __future__ import annotations

from random import Random

from p2pchat.testing.histories.groupacts import GroupAccidents
from p2pchat.testing.histories.openings import OpeningAccidents
from p2pchat.testing.judges.mending import mend_something
from p2pchat.testing.simulation.byzantine import Liar
from p2pchat.testing.simulation.export_files import Stick, make_stick
from p2pchat.testing.simulation.peer import SimPeer
from p2pchat.testing.simulation.simulation import Simulation

STICKS_KEPT = 4  # files that lie about and may be used again

# How often each happens beside the others; the method of Accidents has the same name.
WEIGHTS = {
    "say": 10, "dm": 6, "crash": 4, "kill": 4, "start": 8, "cut": 3, "partition": 2, "one_way": 2, "heal": 3, "slow": 3,
    "restore": 2, "stop": 1, "jump": 1, "disk": 1, "low": 1, "join": 1, "leave": 1, "rename": 1, "busy": 1, "resume": 1,
    "stick": 6, "dial_oneself": 1,
}  # fmt: skip


class Accidents(GroupAccidents, OpeningAccidents):
    """What can happen to the peers of one simulation.

    Attributes:
        chance: What the present step draws from.
    """

    def __init__(self, sim: Simulation, most_peers: int) -> None:
        self.sim = sim
        self.chance = Random()
        self._most_peers = most_peers
        self._said = 0
        self._sticks: list[Stick] = []

    def say(self) -> None:
        for _ in range(self.chance.choice((1, 1, 2, 5, 12))):
            if self.sim.up:
                self.write(self.chance.choice(self.sim.up), None)
        mend_something(self.sim, self._said)

    def dm(self) -> None:
        writers = [peer for peer in self.sim.up if not peer.liar]
        if not writers:
            return
        writer = self.chance.choice(writers)
        others = [peer for peer in self.honest if peer is not writer and self.sim.can_link(writer, peer)]
        if others:
            other = self.chance.choice(others)
            for _ in range(self.chance.choice((1, 1, 3, 10))):
                self.write(writer, other)

    def crash(self) -> None:
        if self.sim.up:
            peer = self.chance.choice(self.sim.up)
            self.sim.note(f"{peer.name} is killed")
            if self.chance.random() < 0.5:
                self.write(peer, None)  # so that there is something to lose
                self.sim.run(self.chance.choice((0.0, 0.005, 0.02, 0.1)))
            else:
                self._await_its_silence(peer)
            peer.crash(silent=self.chance.random() < 0.3)

    def _await_its_silence(self, peer: SimPeer) -> None:
        """Others write until something of it is on this peer's disk and nobody has heard so."""
        for other in self.sim.up:
            if other is not peer:
                self.write(other, None)
        for _ in range(50):
            if peer.disk.owes_a_mark:
                return
            self.sim.run(0.004)

    def kill(self) -> None:
        """Somebody is killed in the middle of a step: some of its effects were carried out, the rest never is."""
        if self.sim.up:
            peer = self.chance.choice(self.sim.up)
            effects = self.chance.choice((1, 2, 3, 5, 8, 20, 60))
            self.sim.note(f"{peer.name} will be killed after {effects} effects")
            peer.crash_within(effects, silent=self.chance.random() < 0.2)
            self.write(peer, None)

    def start(self) -> None:
        down = [peer for peer in self.sim.all_peers if not peer.up and not peer.gone]
        if down:
            self._start_one(self.chance.choice(down))

    def cut(self) -> None:
        if len(self.sim.up) >= 2:
            one, other = self.chance.sample(self.sim.up, 2)
            self.sim.note(f"the links between {one.name} and {other.name} break")
            self.sim.cut(one, other)

    def partition(self) -> None:
        peers = self.sim.all_peers
        self.chance.shuffle(peers)
        size = self.chance.randint(1, len(peers) - 1)
        self.sim.note(f"{[peer.name for peer in peers[:size]]} are apart from {[peer.name for peer in peers[size:]]}")
        self.sim.partition(peers[:size], peers[size:])

    def one_way(self) -> None:
        if len(self.sim.up) >= 2:
            one, *others = self.chance.sample(self.sim.up, self.chance.randint(2, len(self.sim.up)))
            out = self.chance.random() < 0.5
            to = [other.name for other in others]
            self.sim.note(f"{one.name} {'is heard by' if out else 'hears'} {to}, and not the other way round")
            for other in others:
                self.sim.one_way(*((one, other) if out else (other, one)))

    def heal(self) -> None:
        self.sim.note("partitions heal")
        self.sim.heal()

    def slow(self) -> None:
        if len(self.sim.up) >= 2:
            one, other = self.chance.sample(self.sim.up, 2)
            self.sim.note(f"nothing passes from {one.name} to {other.name} for a while")
            self.sim.slow(one, other, self.chance.choice((0.5, 5.0, 20.0)))
            for _ in range(self.chance.choice((0, 4, 8))):  # until it is full, and then more
                self.write(one, None)
                self.sim.run(self.chance.choice((0.01, 0.1)))

    def busy(self) -> None:
        if self.sim.up:
            peer = self.chance.choice(self.sim.up)
            self.sim.note(f"{peer.name} reads nothing for a while")
            peer.read_nothing(self.chance.choice((0.1, 2.0, 40.0)))

    def restore(self) -> None:
        peer = self.chance.choice(self.sim.all_peers)
        if len(peer.disk) and not peer.gone:
            peer.crash()
            length = self.chance.choice((0, self.chance.randrange(len(peer.disk))))
            self.sim.note(f"{peer.name}'s disk goes back to {length} of {len(peer.disk)} changes")
            peer.restore(length)
            self._start_one(peer)

    def resume(self) -> None:
        peer = self.chance.choice(self.honest)
        if not peer.gone:
            if peer.up and self.chance.random() < 0.6:
                self.write(peer, None)  # others have it, and it comes back to who has not written it
                self.sim.run(0.5)
            self.sim.note(f"{peer.name}'s machine goes back to a snapshot of when its process began")
            peer.resume()
            if self.chance.random() < 0.5:
                self.sim.run(2.0)

    def stop(self) -> None:
        if self.sim.up:
            peer = self.chance.choice(self.sim.up)
            self.sim.note(f"{peer.name} leaves in good order")
            peer.stop()

    def jump(self) -> None:
        peer = self.chance.choice(self.sim.all_peers)
        peer.clock.ahead += self.chance.choice((-3600.0, -5.0, 5.0, 250.0, 3600.0))
        self.sim.note(f"{peer.name}'s clock is {peer.clock.ahead:+} s off now")

    def disk(self) -> None:
        peer = self.chance.choice(self.sim.all_peers)
        peer.disk.broken = not peer.disk.broken
        self.sim.note(f"{peer.name}'s disk is {'full' if peer.disk.broken else 'usable again'}")

    def low(self) -> None:
        if self.sim.up:
            peer, on = self.chance.choice(self.sim.up), self.chance.random() < 0.6
            self.sim.note(f"{peer.name}'s disk has {'little' if on else 'enough'} room")
            peer.disk_low(on)

    def join(self) -> None:
        if len(self.honest) < self._most_peers:
            peer = self.sim.peer()
            peer.clock.rate = self.chance.choice((1.0, 0.999, 1.001))
            peer.clock.ahead = self.chance.choice((0.0, 0.0, 2.0, -2.0, 400.0))
            peer.disk.slow = self.chance.choice((0.002, 0.02, 0.2, 1.0))
            self.sim.note(f"{peer.name} comes for the first time")
            self._start_one(peer)

    def join_liar(self) -> None:
        liar = self.sim.peer()
        liar.liar = True
        liar.lie = Liar(liar, self.sim.chance)
        self.sim.note(f"{liar.name} comes, who {' and '.join(liar.lie.moods)}")
        self._start_one(liar)

    def join_stranger(self) -> None:
        stranger = self.sim.peer(stranger=True)
        stranger.liar = True
        self.sim.note(f"{stranger.name} comes, who does not know the network's key")
        self._start_one(stranger)

    def keep_two_apart(self) -> None:
        if len(self.honest) >= 3:
            one, other = self.chance.sample(self.honest, 2)
            self.sim.note(f"{one.name} and {other.name} can never link")
            self.sim.never(one, other)

    def keep_all_apart(self) -> None:
        self.sim.note("all are apart: only files pass between them")
        self.sim.partition(*([peer] for peer in self.sim.all_peers))

    def dial_oneself(self) -> None:
        """Somebody is given its own address."""
        if self.sim.up:
            peer = self.chance.choice(self.sim.up)
            self.sim.note(f"{peer.name} is told its own address")
            peer.connect(peer.endpoint)

    def leave(self) -> None:
        staying = [peer for peer in self.honest if not peer.gone]
        if len(staying) > 2:
            peer = self.chance.choice(staying)
            self.sim.note(f"{peer.name} leaves for good")
            self.chance.choice((peer.crash, peer.stop))()
            peer.crash()
            peer.gone = True

    def rename(self) -> None:
        if self.sim.up:
            peer = self.chance.choice(self.sim.up)
            self._said += 1
            peer.rename(f"{peer.name}{self._said}")

    def stick(self) -> None:
        """Somebody carries a file from one peer to another: a new one, or one that has lain about."""
        if not self.sim.up:
            return
        liars = [peer for peer in self.sim.all_peers if peer.liar]
        maker = self.chance.choice(liars if liars and self.chance.random() < 0.4 else self.sim.all_peers)
        apart = [peer for peer in self.sim.up if peer is not maker and maker not in peer.linked]
        to = self.chance.choice(apart or self.sim.up)
        if not self._sticks or self.chance.random() < 0.7:
            only = self.sim.judge.room if self.chance.random() < 0.2 else None
            self._sticks = [*self._sticks[-STICKS_KEPT:], make_stick(maker, to, only)]
            stick = self._sticks[-1]
        else:
            stick = self.chance.choice(self._sticks)
        self.sim.note(f"{to.name} gets a file of {stick.maker.name}'s, made at {stick.made_at:.1f}")
        self.sim.counts["stick_again"] += bool(stick.uses)
        stick.uses += 1
        to.plug_in(self._damaged(stick.data))

    def _damaged(self, data: bytes) -> bytes:
        """Return the file as it arrives: mostly whole, sometimes cut off or with a wrong bit."""
        drawn = self.chance.random()
        at = self.chance.randrange(len(data))
        if drawn < 0.2:
            return data[:at]
        if drawn < 0.35:
            return data[:at] + bytes([data[at] ^ 1 << self.chance.randrange(8)]) + data[at + 1 :]
        return data

    # ---- how

    @property
    def honest(self) -> list[SimPeer]:
        return [peer for peer in self.sim.all_peers if not peer.liar]

    def write(self, writer: SimPeer, to: SimPeer | None) -> None:
        if not writer.up:  # the last words killed it
            return
        self._said += 1
        size = self.chance.choice((0, 0, 0, 300))
        writer.say(f"{writer.name} {self._said} {'long ' * size}".strip(), to)

    def _start_one(self, peer: SimPeer) -> None:
        """Start with an endpoint, if it cannot know one, or somebody gives one again."""
        self.sim.note(f"{peer.name} starts")
        others = [other for other in self.honest if other is not peer and not other.gone]
        told = others and (len(peer.disk) == 0 or not peer.ever_linked or self.chance.random() < 0.5)
        peer.start(*([self.chance.choice(others).endpoint] if told else []))
