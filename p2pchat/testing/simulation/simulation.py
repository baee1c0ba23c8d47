"""A simulated mesh: whole nodes on virtual time, with every accident a network and a machine can have.

    sim = Simulation(seed=7)
    ada, bob, cyd = sim.peers(3)
    ada.say("hello"), sim.run(5)
    sim.partition([ada], [bob, cyd])
    ada.say("are you there?", to=bob), sim.run(30)
    sim.heal(), sim.settle()
    assert sim.check() == []

The nodes are the ones that run in production; only what carries their effects out is simulated (peer.py, disk.py,
network.py, environment.py). Plain calls, no event loop: usable in a notebook. All chance comes from the seed, so one
seed replays exactly, on every system. What is promised is judged by promises.py, accidents at random by faults.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random

from p2pchat.config import Settings
from p2pchat.core import inputs
from p2pchat.core.context import NetworkCredentials
from p2pchat.core.inputs import Input
from p2pchat.core.sync.conversations import dm_id
from p2pchat.identity.keys import Identity
from p2pchat.protocol import ConversationId, UserId
from p2pchat.testing.checker import Fault, Log
from p2pchat.testing.invariants.promises import Invariants
from p2pchat.testing.simulation.environment import SMALL, Schedule
from p2pchat.testing.simulation.hosted_users import SimHostedUser
from p2pchat.testing.simulation.network import SimWire
from p2pchat.testing.simulation.peer import SimPeer
from p2pchat.testing.simulation.program import Line, Written

NAMES = ("ada", "bob", "cyd", "dan", "eva", "fay", "gus", "hal", "ivy", "joy")
SETTLE_WITHIN = 240.0  # seconds: dead_after, the longest redial and order_wait_most after one another, twice
SETTLE_MORE = 90.0  # for each peer above five: a lost acknowledgement is made good by a digest, to one link at a time
LAST_WORDS = 5.0  # seconds in which what was put off a little (gossip, addresses) is still said
QUIET_FOR = 60.0  # seconds for which the traffic is counted once all is settled

Pair = frozenset[UserId]


class Simulation:
    """A mesh of simulated peers.

    Attributes:
        counts: How often what happened: the accidents, and what the cores count of themselves.
        frames: How many frames of each kind were sent.
        written: All that was written and not refused, by its text: no two texts are equal.
        by_user: Every peer by its user id.
        guests: Users who are hosted beside those of peers, by user id.
        now: Virtual seconds since the beginning.
    """

    def __init__(self, seed: int = 0, *, settings: Settings = SMALL, tell: Callable[[str], None] | None = None) -> None:
        """`tell` is given a readable line for everything that happens; None: nobody listens."""
        self.seed = seed
        self.settings = settings
        self.schedule = Schedule()
        self.chance = Random(f"{seed} accidents")  # a text as seed is hashed with SHA-512, everywhere alike
        self.counts: Counter[str] = Counter()
        self.frames: Counter[str] = Counter()
        self.written: dict[str, Written] = {}
        self.by_user: dict[UserId, SimPeer] = {}
        self.guests: dict[UserId, SimHostedUser] = {}
        self.judge = Invariants(self)
        draws = Random(f"{seed} network")
        self._network = draws.randbytes(16).hex(), draws.randbytes(32).hex()
        self._by_endpoint: dict[str, SimPeer] = {}
        self._apart: set[Pair] = set()
        self._never: set[Pair] = set()
        self._dials: list[tuple[SimPeer, int, SimPeer]] = []  # under way: dialler, its life, target
        self._tell = tell

    # ---- who is there

    @property
    def now(self) -> float:
        return self.schedule.now

    @property
    def all_peers(self) -> list[SimPeer]:
        """Everyone who was ever there, in order of arrival."""
        return list(self.by_user.values())

    @property
    def up(self) -> list[SimPeer]:
        """Everyone who runs now."""
        return [peer for peer in self.by_user.values() if peer.up]

    def peers(self, count: int) -> list[SimPeer]:
        """Add so many peers and start them; each knows the endpoint of one that was there before."""
        return [self.peer(start=True) for _ in range(count)]

    def peer(self, *, start: bool = False, stranger: bool = False) -> SimPeer:
        """Add one peer; it is not started unless asked for. A stranger does not know the network's key."""
        number = len(self.by_user) + 1
        name = NAMES[number - 1] if number <= len(NAMES) else f"peer{number}"
        draws = Random(f"{self.seed} peer {number}")  # its own, so that who else is there changes nothing about it
        network = NetworkCredentials(self._network[0], draws.randbytes(32).hex()) if stranger else self.network()
        peer = SimPeer(self, name, Identity.from_seed(draws.randbytes(32)), number, draws.randbytes, network)
        others = [other for other in self.up if not other.liar]
        self.by_user[peer.user] = peer
        self._by_endpoint[peer.endpoint] = peer
        if start:
            peer.start(*(other.endpoint for other in others[:1]))
        return peer

    def guest(self, name: str) -> SimHostedUser:
        """Return a new user whom peers may host."""
        guest = SimHostedUser(name, Identity.from_seed(Random(f"{self.seed} guest {name}").randbytes(32)))
        self.guests[guest.user] = guest
        return guest

    def person(self, user: UserId) -> SimPeer | SimHostedUser:
        """Return who this is: a peer, as its own user, or a guest."""
        return self.guests.get(user) or self.by_user[user]

    def direct(self, one: UserId, other: UserId) -> ConversationId:
        """Return the direct conversation of two users."""
        return dm_id(one, other)

    def network(self) -> NetworkCredentials:
        """Return the network everyone here was invited to."""
        return NetworkCredentials(*self._network)

    # ---- accidents

    def partition(self, *groups: Sequence[SimPeer]) -> None:
        """Keep the groups apart until heal(): nothing passes, no dial gets through. Who is in no group sees all."""
        for n, group in enumerate(groups):
            for other in groups[n + 1 :]:
                for one in group:
                    for two in other:
                        self.separate(one, two)

    def separate(self, one: SimPeer, two: SimPeer) -> None:
        """Keep two peers apart until heal()."""
        self._apart.add(frozenset((one.user, two.user)))
        for end in one.wires_to(two):
            if self.chance.random() < 0.6:
                end.wire.block()  # packets wait: both ends see silence
            else:
                self._break(end.wire)

    def one_way(self, sender: SimPeer, receiver: SimPeer) -> None:
        """Until heal() packets pass only from `sender` to `receiver`, so that no new connection comes about either."""
        self._apart.add(frozenset((sender.user, receiver.user)))
        for end in sender.wires_to(receiver):
            end.wire.block(end)

    def never(self, one: SimPeer, two: SimPeer) -> None:
        """These two can never link, not after heal() either."""
        self._never.add(frozenset((one.user, two.user)))
        for end in one.wires_to(two):
            self._break(end.wire)

    def can_link(self, one: SimPeer, two: SimPeer) -> bool:
        """Say whether two peers may ever be linked."""
        return frozenset((one.user, two.user)) not in self._never

    def lift_never(self) -> None:
        self._never.clear()

    def cut(self, one: SimPeer, two: SimPeer) -> None:
        """Break what links there are between two peers; each end learns at its own time, or not at all."""
        for end in one.wires_to(two):
            self._break(end.wire)

    def slow(self, one: SimPeer, two: SimPeer, seconds: float) -> None:
        """The network takes nothing from `one` for `two` for so long."""
        for end in one.wires_to(two):
            end.stall(True)
            self.schedule.after(seconds, lambda end=end: end.stall(False))  # type: ignore[misc]

    def heal(self) -> None:
        """End all separations, and mend all disks. What was held back arrives, unless it was given up."""
        self._apart.clear()
        for peer in self.up:
            peer.disk.broken = False
            peer.disk_low(False)
            for other in self.all_peers:
                for end in peer.wires_to(other):
                    self._heal_wire(end.wire)

    def _heal_wire(self, wire: SimWire) -> None:
        if wire.blocked and self.chance.random() < 0.5:
            self._break(wire)
        elif wire.blocked:
            wire.unblock()

    def dial(self, dialler: SimPeer, dial: int, endpoint: str) -> None:
        """Carry out a Dial: it takes a while, and comes to a link or to nothing."""
        target = self._by_endpoint.get(endpoint)
        life = dialler.lives
        through = target is not None and target.up and self._reachable(dialler, target)
        seconds = self.chance.uniform(0.001, 0.1) if through or self.chance.random() < 0.5 else 3.0
        under_way = (dialler, life, target) if target is not None else None
        if under_way is not None:
            self._dials.append(under_way)

        def answer() -> None:
            if under_way is not None:
                self._dials.remove(under_way)
            if dialler.up and dialler.lives == life:
                if target is not None and target.up and self._reachable(dialler, target):
                    self._connect(dialler, dial, target)
                else:
                    dialler.put(inputs.DialFailed(dial, "nobody answers"))

        self.schedule.after(seconds, answer)

    def _connect(self, dialler: SimPeer, dial: int, server: SimPeer) -> None:
        quick = self.chance.choice((0.0005, 0.001, 0.01, 0.05))
        wire = SimWire(self.schedule, self.chance, quick, quick * self.chance.choice((1, 3, 30)))
        near = dialler.attach(wire)
        far = server.attach(wire)
        wire.join(near, far)
        dialler.put(inputs.LinkDialled(near.link, dial, server.user, server.host))
        server.put(inputs.LinkAccepted(far.link, dialler.host))

    def _break(self, wire: SimWire) -> None:
        def told() -> float | None:
            return self.chance.uniform(0.0, 2.0) if self.chance.random() < 0.7 else None

        if not wire.dead:
            self.counts["cut"] += 1
            wire.cut(told=told)

    def _is_dialling(self) -> bool:
        """Say whether a dial between honest peers is under way that may come to a link (seed 92534)."""
        return any(
            dialler.up and dialler.lives == life and target.up and self._reachable(dialler, target)
            for dialler, life, target in self._dials if not (dialler.liar or target.liar)
        )  # fmt: skip

    def _reachable(self, one: SimPeer, two: SimPeer) -> bool:
        return frozenset((one.user, two.user)) not in self._apart and self.can_link(one, two)

    # ---- time

    def run(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        self.schedule.run_until(self.schedule.now + seconds)

    def settle(self, within: float = SETTLE_WITHIN) -> bool:
        """Heal, run until those who are up have all they should, then a quiet minute. False: time ran out before."""
        self.heal()
        for peer in self.up:
            for end in peer.ends:
                end.resume_reading()  # or what comes to it waits for the middle of the quiet minute (seed 5954)
                if end.stalled:  # the same of what it holds back (seed 658)
                    end.stall(False)
        deadline = self.now + within + SETTLE_MORE * max(0, len(self.up) - 5)
        while (self._is_dialling() or self.judge.unsettled()) and self.now < deadline:
            self.run(1.0)
        settled = self.judge.settled(self.now < deadline)
        self.run(LAST_WORDS)
        before = self.frames.copy()
        self.run(QUIET_FOR)
        self.judge.quiet_minute(self.frames - before)
        if any(peer.liar for peer in self.up):  # what it alone held, and withheld, it may have given to somebody by now
            deadline = self.now + within
            while self.judge.unsettled() and self.now < deadline:
                self.run(1.0)
        return settled

    def check(self) -> list[Fault]:
        """Return every promise that was broken; best after settle(), for until then something may be on its way."""
        return self.judge.faults()

    # ---- what came of it

    def logs(self) -> list[Log]:
        """Return everyone's event log, as `p2pchat check` reads them."""
        return [Log(peer.name, peer.lines) for peer in self.all_peers]

    def fingerprint(self) -> str:
        """Return a hash of all that happened: equal for equal seeds."""
        happened = repr((self.schedule.steps, sorted(self.counts.items()), sorted(self.frames.items())))
        happened += repr([peer.lines for peer in self.all_peers])
        return blake2b(happened.encode(), digest_size=8).hexdigest()

    def trace(self, peer: SimPeer, input: Input) -> None:
        if self._tell is not None:
            self._tell(f"{self.now:10.4f} {peer.name:5} <- {input}")

    def trace_line(self, peer: SimPeer, line: Line) -> None:
        if self._tell is not None:
            self._tell(f"{self.now:10.4f} {peer.name:5} :: {line}")

    def note(self, text: str) -> None:
        """Tell of something that the program of a history does."""
        if self._tell is not None:
            self._tell(f"{self.now:10.4f} ----- {text}")
