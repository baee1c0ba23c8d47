"""A simulated mesh: whole nodes on virtual time, with the faults that networks and machines have.

    sim = Simulation(seed=7)
    ada, bob, cyd = sim.peers(3)
    ada.say("hello"), sim.calm()
    sim.partition([ada], [bob, cyd])
    ada.say("are you there?", to=bob), sim.run(30)
    sim.heal(), sim.settle()
    assert sim.check() == []

The nodes are production code; the execution of their effects is simulated (simulated_peer.py, disk.py, network.py,
virtual_time.py). The calls need no event loop, so a notebook can use them. All chance comes from the seed,
so a seed replays exactly on every system. invariants/ checks the promises; faults.py injects faults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from random import Random

from p2pchat.addresses import split_endpoint
from p2pchat.core import inputs
from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.effects import DialBeside
from p2pchat.core.inputs import Input
from p2pchat.core.members.statement import network_id
from p2pchat.core.node_context import NetworkCredentials
from p2pchat.identity.identity import Identity
from p2pchat.protocol import Circuit, UserId
from p2pchat.settings import Settings
from p2pchat.testing.eventlog_parser import Fault, Line, Log
from simulation.byzantine import MadeUpUser
from simulation.hole_punching import HolePunching
from simulation.hosted_users import SimHostedUser
from simulation.invariants.entry_invariants import QUIET_KINDS, Invariants
from simulation.machines import SimPerson
from simulation.membership import Membership, invites_key
from simulation.network import CircuitEnd, CircuitWire, SimWire, WireEnd
from simulation.simulated_peer import SimPeer
from simulation.virtual_time import SMALL, Schedule, signer

NAMES = ("ada", "bob", "cyd", "dan", "eva", "fay", "gus", "hal", "ivy", "joy")
SETTLE_WITHIN = 240.0  # seconds: twice the sum of dead_after, the longest redial and order_wait_most
SETTLE_MORE = 90.0  # seconds for each peer above five: digests repair lost acknowledgements one link at a time
DELAYED_FRAMES = 5.0  # seconds in which delayed frames (gossip, addresses) are still sent
MOST_OPENED = 4  # times that quiet minute: who has a carried link tries to open a direct way now and then
MOST_DELAYED = 4  # times so long: pages of marks go back and forth on a slow link, by when all is there
QUIET_FOR = 60.0  # seconds in which the traffic of a settled mesh is counted
FIRST_PORT = 40_000  # from which peers dial
CALM = 16.0  # seconds in which each link has a digest, and each redial that can succeed is made
CALM_WITHIN = 80.0  # seconds; marks that cannot become equal are compared for ever

Pair = frozenset[UserId]


class Simulation:
    """A mesh of simulated peers.

    Attributes:
        seed: The seed that decides everything that is drawn.
        settings: Limits and times of its peers, small ones by default.
        schedule: What happens next, in virtual time.
        chance: Draws the accidents of the network.
        invariants: What is checked after every step.
        counts: The number of each fault and of each counted event of the cores.
        frames: The number of frames sent, by kind.
        by_user: Every peer by its user id.
        guests: The hosted users besides the peers' own, and people with several machines, by user id.
        people: Those among them who have several machines, by user id.
        crowd: Byzantine peers of one network that take all links they get, by user id.
        made_up: The users that these made up, by user id.
        punching: The dials of two peers at one moment.
    """

    def __init__(self, seed: int = 0, *, settings: Settings = SMALL, tell: Callable[[str], None] | None = None) -> None:
        """Make an empty mesh. `tell` is called with a readable line for everything that happens."""
        self.seed = seed
        self.settings = settings
        self.schedule: Schedule = Schedule()
        self.chance: Random = Random(f"{seed} accidents")  # a text seed is hashed with SHA-512, alike on all systems
        self.counts: Counter[str] = Counter()
        self.frames: Counter[str] = Counter()
        self.by_user: dict[UserId, SimPeer] = {}
        self.guests: dict[UserId, SimHostedUser] = {}
        self.people: dict[UserId, SimPerson] = {}
        self.crowd: dict[UserId, SimPeer] = {}
        self.made_up: dict[UserId, MadeUpUser] = {}
        self.invariants: Invariants = Invariants(self)
        draws = Random(f"{seed} network")
        self.founder: Identity = Identity.from_seed(draws.randbytes(32))
        founder = self.founder.peer_id
        self._network = NetworkCredentials(
            network_id(founder), draws.randbytes(32).hex(), founder, member=founder, sign=signer(self.founder)
        )
        self.credentials_of: Callable[[int, Identity], NetworkCredentials] = lambda number, peer: self.network()
        self.membership: Membership | None = None
        self._by_endpoint: dict[str, SimPeer] = {}
        self._apart: set[Pair] = set()
        self._never: set[Pair] = set()
        self._dials: list[tuple[SimPeer, int, SimPeer]] = []  # in progress: (dialler, its session, target)
        self.punching: HolePunching = HolePunching(self)
        self._tell = tell

    # ---- peers and users

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self.schedule.now

    @property
    def all_peers(self) -> list[SimPeer]:
        """All peers that ever existed, in order of creation."""
        return list(self.by_user.values())

    @property
    def up(self) -> list[SimPeer]:
        """The peers that run now."""
        return [peer for peer in self.by_user.values() if peer.up]

    @property
    def honest_up(self) -> list[SimPeer]:
        """The peers that run now and are not byzantine."""
        return [peer for peer in self.up if not peer.byzantine]

    def peers(self, count: int) -> list[SimPeer]:
        """Add and start so many peers. Each dials one that was there before."""
        return [self.peer(start=True) for _ in range(count)]

    def peer(
        self, *, start: bool = False, stranger: bool = False, network: str = "10.0.0", person: SimPerson | None = None
    ) -> SimPeer:
        """Add a peer, and start it on request.

        Args:
            stranger: It does not know the network's key.
            network: The beginning of its address.
            person: Who has it as one of several machines.
        """
        number = len(self.by_user) + 1
        name = NAMES[number - 1] if number <= len(NAMES) else f"peer{number}"
        draws = Random(f"{self.seed} peer {number}")  # its own, so that other peers change nothing about it
        wrong_key = draws.randbytes(32).hex() if stranger else ""
        identity, host = Identity.from_seed(draws.randbytes(32)), f"{network}.{number}"
        keys = replace(self._network, key=wrong_key) if stranger else self.credentials_of(number, identity)
        if person is not None:
            keys = person.credentials(keys, self._network.founder)
        keys.invites_key = invites_key(identity.peer_id)
        peer = SimPeer(self, name, identity, number, draws.randbytes, keys, host, person)
        if person is not None:
            person.add(peer)
        others = self.honest_up
        self.by_user[peer.user] = peer
        self._by_endpoint[peer.endpoint] = peer
        if start:
            peer.start(*(other.endpoint for other in others[:1]))
        return peer

    def guest(self, name: str) -> SimHostedUser:
        """Return a new user that peers can host."""
        guest = SimHostedUser(name, Identity.from_seed(Random(f"{self.seed} guest {name}").randbytes(32)))
        self.guests[guest.user] = guest
        return guest

    def person(self, user: UserId) -> SimPeer | SimHostedUser | MadeUpUser:
        """Return the peer, the hosted user or the made-up user with this id."""
        return self.guests.get(user) or self.made_up.get(user) or self.by_user[user]

    def peers_of(self, user: UserId) -> list[SimPeer]:
        """Return the peers whose own user this is: of a person all machines."""
        return [peer for peer in self.by_user.values() if peer.own == user]

    def network(self) -> NetworkCredentials:
        """Return the network of this mesh."""
        return replace(self._network)

    # ---- faults

    def partition(self, *groups: Sequence[SimPeer]) -> None:
        """Disconnect groups from each other until heal(). A peer in no group reaches all."""
        for n, group in enumerate(groups):
            for other in groups[n + 1 :]:
                for one in group:
                    for two in other:
                        self.separate(one, two)

    def separate(self, one: SimPeer, two: SimPeer) -> None:
        """Disconnect two peers until heal()."""
        self._apart.add(frozenset((one.user, two.user)))
        for end in one.direct_wires_to(two):
            if self.chance.random() < 0.6:
                end.wire.block()  # packets wait, and both ends see silence
            else:
                self.break_wire(end.wire)

    def one_way(self, sender: SimPeer, receiver: SimPeer) -> None:
        """Let packets pass only from `sender` to `receiver` until heal(). No new connection succeeds."""
        self._apart.add(frozenset((sender.user, receiver.user)))
        for end in sender.wires_to(receiver):
            end.wire.block(end)

    def never(self, one: SimPeer, two: SimPeer) -> None:
        """Prevent links between two peers for good, also after heal()."""
        self._never.add(frozenset((one.user, two.user)))
        for end in one.direct_wires_to(two):
            self.break_wire(end.wire)

    def can_link(self, one: SimPeer, two: SimPeer) -> bool:
        """Return whether two peers can ever link."""
        others = [peer for peer in self.honest_up if peer not in (one, two)]
        return self.has_way(one, two) or any(self._carries(peer, one, two) for peer in others)

    def has_way(self, one: SimPeer, two: SimPeer) -> bool:
        """Return whether one of two peers can ever dial the other."""
        return self.can_dial(one, two) or self.can_dial(two, one)

    def _carries(self, carrier: SimPeer, *pair: SimPeer) -> bool:
        """Return whether a peer can carry links of these two with each other."""
        blocked = carrier.blocks.get(carrier.user, set())
        return all(
            self.has_way(carrier, peer)
            and peer.user not in blocked
            and carrier.user not in peer.blocks.get(peer.user, ())
            and carrier.admits(peer)
            and peer.admits(carrier)
            for peer in pair
        )

    def can_dial(self, one: SimPeer, two: SimPeer) -> bool:
        """Return whether the direct endpoint of a running peer answers another one, apart from passing faults."""
        return two.may_be_dialled and frozenset((one.user, two.user)) not in self._never

    def lift_never(self) -> None:
        """Let every pair of peers connect again."""
        self._never.clear()

    def cut(self, one: SimPeer, two: SimPeer) -> None:
        """Break the links between two peers. Each end learns at its own time, or never."""
        for end in one.wires_to(two):
            self.break_wire(end.wire)

    def slow(self, one: SimPeer, two: SimPeer, seconds: float) -> None:
        """Stop taking bytes from `one` for `two` for a time."""
        for end in one.wires_to(two):
            end.stall(True)
            self.schedule.after(seconds, lambda end=end: end.stall(False))  # type: ignore[misc]

    def move(self, peer: SimPeer, *, breaks: bool) -> None:
        """Give a peer another address. Nobody answers at the former one; `breaks`: its links end."""
        self.counts["moved"] += 1
        del self._by_endpoint[peer.endpoint]
        peer.moves += 1
        peer.port += 100
        self._by_endpoint[peer.endpoint] = peer
        for other in self.all_peers if breaks else ():
            self.cut(peer, other)
        if peer.up:
            peer.put(inputs.ListeningAt(peer.told_endpoints))

    def heal(self) -> None:
        """End all separations and repair all disks. Held-back bytes arrive, unless their link was given up."""
        self._apart.clear()
        for peer in self.up:
            peer.disk.broken = False
            peer.disk_low(DiskLevel.ENOUGH)
            for other in self.all_peers:
                for end in peer.wires_to(other):
                    self._heal_wire(end.wire)

    def _heal_wire(self, wire: SimWire) -> None:
        if wire.blocked and self.chance.random() < 0.5:
            self.break_wire(wire)
        elif wire.blocked:
            wire.unblock()

    def dial(self, dialler: SimPeer, dial: int, endpoint: str) -> None:
        """Carry out a Dial. It takes a while and succeeds or fails."""
        target = self._by_endpoint.get(endpoint)
        life = dialler.lives
        self.invariants.crowd.dialled(dialler, endpoint)
        through = target is not None and target.up and self._reaches(dialler, target)
        seconds = self.chance.uniform(0.001, 0.1) if through or self.chance.random() < 0.5 else 3.0
        pending = (dialler, life, target) if target is not None else None
        if pending is not None:
            self._dials.append(pending)

        def answer() -> None:
            if pending is not None:
                self._dials.remove(pending)
            if dialler.up and dialler.lives == life:
                is_there = self._by_endpoint.get(endpoint) is target
                if target is not None and target.up and is_there and self._reaches(dialler, target):
                    self._connect(dialler, dial, target)
                else:
                    dialler.put(inputs.DialFailed(dial, "nobody answers"))

        self.schedule.after(seconds, answer)

    def _connect(self, dialler: SimPeer, dial: int, server: SimPeer) -> None:
        near, far = self._wire(dialler, server)
        near.seen_at = f"{dialler.host}:{FIRST_PORT + near.link}"
        dialler.put(inputs.LinkDialled(near.link, dial, server.user, server.host))
        server.put(inputs.LinkAccepted(far.link, dialler.host, port=FIRST_PORT + near.link))

    def connect_beside(self, client: SimPeer, dialled: DialBeside, server: SimPeer, accepted: DialBeside) -> bool:
        """Connect two peers that dial each other. Return False if something is in the way."""
        if frozenset((client.user, server.user)) in self._apart | self._never:
            return False
        self.counts["punched"] += 1
        near, far = self._wire(client, server)
        near.seen_at, far.seen_at = accepted.endpoint, dialled.endpoint
        host, port = split_endpoint(accepted.endpoint)
        client.put(inputs.LinkDialled(near.link, dialled.dial, server.user, server.host))
        server.put(inputs.LinkAccepted(far.link, host, port=port, dial=accepted.dial))
        return True

    def _wire(self, dialler: SimPeer, server: SimPeer) -> tuple[WireEnd, WireEnd]:
        """Return the dialler's end and the server's end of a new connection."""
        quick = self.chance.choice((0.0005, 0.001, 0.01, 0.05))
        wire = SimWire(self.schedule, self.chance, quick, quick * self.chance.choice((1, 3, 30)))
        near = dialler.attach(wire)
        far = server.attach(wire)
        wire.join(near, far)
        return near, far

    def dial_through(self, dialler: SimPeer, dial: int, link: int, circuit: int) -> None:
        """Carry out a DialThrough."""
        self.counts["dialled_through"] += 1
        secret = f"{self.seed} {dialler.name} {dialler.lives} {dial}".encode()
        wire = CircuitWire(self.schedule, self.chance, dial, blake2b(secret, digest_size=32).digest())
        dialler.circuits[link, circuit] = wire.add(dialler.attach(wire), link, circuit)
        self.schedule.after(self.settings.handshake_timeout, wire.give_up)

    def accept_circuit(self, peer: SimPeer, link: int, circuit: int) -> None:
        """Have a peer be the other end of a circuit, if its dialler still waits for it."""
        begun = self._dialler_of(peer, link, circuit)
        if begun is None:
            peer.put(inputs.CircuitSent(link, Circuit(circuit, end="lost")))
            return
        peer.circuits[link, circuit] = begun.wire.add(peer.attach(begun.wire), link, circuit)

    def _dialler_of(self, peer: SimPeer, link: int, circuit: int) -> CircuitEnd | None:
        """Return the end of a circuit at its dialler, which the peer that carries it knows."""
        near = peer.end_of(link)
        carrier = None if near is None else near.other.owner
        if near is None or carrier is None or carrier.node is None:
            return None
        leg = carrier.node.links.circuits.legs.get(near.other.link, {}).get(circuit)
        far = None if leg is None or leg.other is None else carrier.end_of(leg.other.link.id)
        if leg is None or leg.other is None or far is None:
            return None
        begun = far.other.owner.circuits.get((far.other.link, leg.other.id))
        is_waiting = begun is not None and begun.end.open and len(begun.wire.ends) == 1
        return begun if is_waiting else None

    def break_wire(self, wire: SimWire) -> None:
        """Break a connection. Each end learns at its own time, or never."""

        def learns() -> float | None:
            return self.chance.uniform(0.0, 2.0) if self.chance.random() < 0.7 else None

        if not wire.dead:
            self.counts["cut"] += 1
            wire.cut(learns=learns)

    def _is_dialling(self) -> bool:
        """Return whether a dial between honest peers is in progress that may succeed (seed 92534)."""
        if any(wire.dial for peer in self.honest_up for wire in peer.open_circuits):
            return True
        return any(
            dialler.up and dialler.lives == life and target.up and self._reaches(dialler, target)
            for dialler, life, target in self._dials if not (dialler.byzantine or target.byzantine)
        )  # fmt: skip

    def _reaches(self, dialler: SimPeer, target: SimPeer) -> bool:
        return frozenset((dialler.user, target.user)) not in self._apart and self.can_dial(dialler, target)

    # ---- time

    def run(self, seconds: float) -> None:
        """Let virtual time pass, in seconds."""
        self.schedule.run_until(self.schedule.now + seconds)

    def calm(self) -> None:
        """Run until all that goes on has ended, also in a mesh with faults: no dial, and only regular frames."""
        for _ in range(int(CALM_WITHIN / CALM)):
            before = self.frames.copy()
            self.run(CALM)
            if not (self._is_dialling() or set(self.frames - before) - QUIET_KINDS):
                break

    def settle(self, within: float = SETTLE_WITHIN) -> bool:
        """Heal, run until all running peers have everything, then a quiet minute. Return False if time ran out."""
        self.heal()
        for peer in self.up:
            for end in peer.ends:
                end.resume_reading()  # otherwise held-back input arrives in the quiet minute (seed 5954)
                if end.stalled:  # likewise for held-back output (seed 658)
                    end.stall(False)
        deadline = self.now + within + SETTLE_MORE * max(0, len(self.up) - 5)
        while (self._is_dialling() or self.invariants.unsettled()) and self.now < deadline:
            self.run(1.0)
        settled = self.invariants.settled(self.now < deadline)
        for _ in range(MOST_DELAYED):
            before = self.frames.copy()
            self.run(DELAYED_FRAMES)
            if not self.invariants.loud(self.frames - before, forks_differ=False):
                break
        for _ in range(MOST_OPENED):
            carried = [(one, end.other.owner) for one in self.up for end in one.ends if end.wire.carried]
            before, forks_differ = self.frames.copy(), self.invariants.forks_differ()
            self.run(QUIET_FOR)
            found = [one.end_to(other) for one, other in carried]
            if all(end is None or end.wire.carried for end in found):  # else a direct way was opened: one more minute
                break
        self.invariants.quiet_minute(self.frames - before, forks_differ=forks_differ)
        if any(peer.byzantine for peer in self.up):  # it may have released entries that it alone held
            deadline = self.now + within
            while self.invariants.unsettled() and self.now < deadline:
                self.run(1.0)
        return settled

    def check(self) -> list[Fault]:
        """Return every broken promise. Call it after settle(), when nothing is in flight."""
        return self.invariants.faults()

    # ---- results

    def logs(self) -> list[Log]:
        """Return the event logs of all peers, as `p2pchat check` reads them."""
        return [Log(peer.name, peer.lines) for peer in self.all_peers]

    def fingerprint(self) -> str:
        """Return a hash of everything that happened. Equal seeds give equal hashes."""
        happened = repr((self.schedule.steps, sorted(self.counts.items()), sorted(self.frames.items())))
        happened += repr([peer.lines for peer in self.all_peers])
        return blake2b(happened.encode(), digest_size=8).hexdigest()

    def trace(self, peer: SimPeer, input: Input) -> None:
        """Trace an input of a peer's core."""
        if self._tell is not None:
            self._tell(f"{self.now:10.4f} {peer.name:5} <- {input}")

    def trace_line(self, peer: SimPeer, line: Line) -> None:
        """Trace an event line of a peer."""
        if self._tell is not None:
            self._tell(f"{self.now:10.4f} {peer.name:5} :: {line}")

    def note(self, text: str) -> None:
        """Trace an action of the scenario."""
        if self._tell is not None:
            self._tell(f"{self.now:10.4f} ----- {text}")
