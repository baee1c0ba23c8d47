"""Simulated routers, and the engine that links peers behind them: who is behind one or uses it, and its faults.

A peer with an engine is also at the endpoint `ID.relay:1`. Others with the engine reach it there while both are
connected to it, also behind a router that lets nobody in. The engine goes, and all its connections break; it comes
back and remembers nothing; it cuts one peer off, and withholds what two peers send each other. Each peer learns at its
own time that the engine is away. runtime/relay.py is the real other side, with pieces and windows; a simulated link
through the engine is a wire like others.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from p2pchat.core.inputs import Connect, RelayChanged
from p2pchat.protocol import UserId
from simulation.network import BROKEN

if TYPE_CHECKING:
    from simulation.simulated_peer import SimPeer
    from simulation.simulation import Simulation

LEARNS_WITHIN = 2.0  # seconds until a peer notices that its connection to the engine broke
MEETS_WITHIN = 0.5  # seconds until a peer has connected, or knows that the engine is away
LEARNS = 0.7  # the part of far ends that notice it, too; others wait until the link is dead

ACTS_AT = 0.6  # the part of steps
ACTIONS = {"go": 3, "come": 5, "restart": 2, "cut": 3, "withhold": 3, "move_router": 6, "change_option": 1}
WITH_ENGINE = 0.85  # the part of peers
BEHIND_A_ROUTER = 0.6  # the part of peers, at first
DEAF = 0.4  # the part of peers with an engine that do not listen
BREAKS = 0.5  # the part of links that end when a router lets nobody in any more
PRIVATE, PUBLIC = "10.0.0", "192.0.2"  # the network of all peers of a history; what is told of them differs


class SimEngine:
    """The engine of a simulation. Peers use it that have `has_engine` set.

    Attributes:
        up: It runs.
    """

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.up: bool = True
        self._connected: dict[UserId, int] = {}  # the session of each connected peer
        self._unaware: dict[UserId, int] = {}  # of each peer whose connection broke, until it learns that
        self._withheld: set[frozenset[UserId]] = set()

    def is_connected(self, peer: SimPeer) -> bool:
        """Return whether a running peer is connected."""
        return peer.up and self._connected.get(peer.user) == peer.lives

    def links(self, one: SimPeer, other: SimPeer) -> bool:
        """Return whether bytes pass between two peers now."""
        both = self.is_connected(one) and self.is_connected(other)
        return both and frozenset((one.user, other.user)) not in self._withheld

    def meet(self, peer: SimPeer, named: tuple[str, ...] = ()) -> None:
        """Have a process connect soon, or learn that the engine is away. Then it dials what a user named there."""

        def met() -> None:
            if not (self.is_connected(peer) or self._is_unaware(peer)):
                if self.up:
                    self._connected[peer.user] = peer.lives
                peer.put(RelayChanged(self.up))
            for endpoint in named:
                peer.put(Connect(endpoint))

        peer.soon(0.0, MEETS_WITHIN, met)

    def on_dialled(self, dialler: SimPeer, server: SimPeer) -> None:
        """End the links of a former process, or connection, of the dialler: the engine says that nobody is there."""
        for end in server.wires_to(dialler):
            if end.wire.relayed and not end.other.open:
                end.learn(BROKEN)

    # ---- faults

    def go(self) -> None:
        """End. All connections break."""
        self.up = False
        for peer in self._sim.up:
            if self.is_connected(peer):
                self._disconnect(peer)

    def come(self) -> None:
        """Start again. Peers that know that it was away connect."""
        self.up = True
        for peer in self._sim.up:
            if peer.has_engine and not (self.is_connected(peer) or self._is_unaware(peer)):
                self.meet(peer)

    def cut(self, peer: SimPeer) -> None:
        """Break the connection of one peer, which connects again."""
        if self.is_connected(peer):
            self._disconnect(peer)

    def withhold(self, one: SimPeer, other: SimPeer) -> None:
        """Keep back what these two send each other."""
        self._withheld.add(frozenset((one.user, other.user)))
        for end in one.wires_to(other):
            if end.wire.relayed:
                end.wire.block()

    def heal(self) -> None:
        """End all faults."""
        self._withheld.clear()
        if not self.up:
            self.come()

    def _is_unaware(self, peer: SimPeer) -> bool:
        return self._unaware.get(peer.user) == peer.lives

    def _disconnect(self, peer: SimPeer) -> None:
        chance, life = self._sim.chance, peer.lives
        del self._connected[peer.user]
        self._unaware[peer.user] = life
        for end in peer.ends:
            if end.wire.relayed and not end.wire.dead:
                end.wire.cut(learns=lambda: None)
                if chance.random() < LEARNS:
                    far = end.other
                    self._sim.schedule.after(chance.uniform(0.0, LEARNS_WITHIN), lambda far=far: far.learn(BROKEN))  # type: ignore[misc]

        def learns() -> None:
            del self._unaware[peer.user]
            for end in peer.ends:
                if end.wire.relayed:
                    end.learn(BROKEN)
            peer.put(RelayChanged(False))
            if self.up and peer.up:
                self.meet(peer)

        peer.soon(0.0, LEARNS_WITHIN, learns)


class EngineFaults:
    """The engine, the routers and the options of peers in a history. They change in many of its steps."""

    def __init__(self, sim: Simulation, *, on: bool) -> None:
        self.on = on
        self._sim = sim

    @property
    def network(self) -> str:
        """The beginning of the addresses of the peers."""
        if not self.on:
            return PRIVATE
        return Random(f"{self._sim.seed} engine").choice((PRIVATE, PUBLIC))

    @property
    def _may_be_deaf(self) -> bool:
        """Return whether peers may not listen: those believe nobody about private addresses (PeerExchange)."""
        return self.network == PUBLIC

    def place(self, peer: SimPeer) -> None:
        """Draw whether a new peer has the engine, listens, and is behind a router."""
        if not self.on:
            return
        chance = Random(f"{self._sim.seed} engine of {peer.name}")
        peer.has_engine = chance.random() < WITH_ENGINE
        peer.behind_router = chance.random() < BEHIND_A_ROUTER
        peer.listens = not (peer.has_engine and self._may_be_deaf and chance.random() < DEAF)

    def step(self, number: int) -> None:
        """Perhaps play one action."""
        chance = Random(f"{self._sim.seed} engine {number}")
        if self.on and chance.random() < ACTS_AT:
            action = chance.choices([*ACTIONS], [*ACTIONS.values()])[0]
            self._sim.counts[f"engine_{action}"] += 1
            getattr(self, action)(chance)

    def open_routers(self) -> None:
        """Have all peers that listen be dialled."""
        for peer in self._sim.all_peers:
            peer.behind_router = False

    def way(self, peer: SimPeer, other: SimPeer) -> str:
        """Return the endpoint by which the user of a peer names another one: one that answers, if there is one."""
        both = self.on and peer.has_engine and other.has_engine
        return other.relayed_endpoint if both and not other.may_be_dialled else other.endpoint

    def go(self, chance: Random) -> None:
        self._sim.note("the engine goes")
        self._sim.engine.go()

    def come(self, chance: Random) -> None:
        if not self._sim.engine.up:
            self._sim.note("the engine comes back")
            self._sim.engine.come()

    def restart(self, chance: Random) -> None:
        """Have the engine lose all that it knows: who is connected, and which connections there are."""
        self._sim.note("the engine starts again")
        self._sim.engine.go()
        self._sim.run(chance.choice((0.0, 0.0, 1.0)))
        self._sim.engine.come()

    def cut(self, chance: Random) -> None:
        connected = [peer for peer in self._sim.up if self._sim.engine.is_connected(peer)]
        if connected:
            peer = chance.choice(connected)
            self._sim.note(f"the engine cuts {peer.name} off")
            self._sim.engine.cut(peer)

    def withhold(self, chance: Random) -> None:
        connected = [peer for peer in self._sim.all_peers if peer.has_engine]
        if len(connected) >= 2:
            one, other = chance.sample(connected, 2)
            self._sim.note(f"the engine keeps back what {one.name} and {other.name} send each other")
            self._sim.engine.withhold(one, other)

    def move_router(self, chance: Random) -> None:
        """Have a peer come from behind its router, or go behind one: its direct endpoint answers, or does not."""
        listening = [peer for peer in self._sim.all_peers if peer.listens and not peer.gone]
        if not listening:
            return
        peer = chance.choice(listening)
        peer.behind_router = not peer.behind_router
        self._sim.note(f"{peer.name} can{'not' if peer.behind_router else ''} be dialled")
        for end in peer.ends if peer.behind_router else ():
            if not end.wire.relayed and chance.random() < BREAKS:
                self._sim.break_wire(end.wire)

    def change_option(self, chance: Random) -> None:
        """Start a peer with an engine again, with or without --no-listen."""
        running = [peer for peer in self._sim.up if peer.has_engine and not peer.byzantine]
        if running and self._may_be_deaf:
            peer = chance.choice(running)
            peer.listens = not peer.listens
            self._sim.note(f"{peer.name} starts again and listens{'' if peer.listens else ' no more'}")
            peer.crash()
            peer.start()
