"""Simulated routers: who is behind one that lets nobody in, and whose links others carry (core/mesh/circuits.py)."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulation.simulated_peer import SimPeer
    from simulation.simulation import Simulation

ACTS_AT = 0.5  # the part of steps
BEHIND_A_ROUTER = 0.6  # the part of peers, at first
KEEPS_PORTS = 0.7  # the part of routers
BREAKS = 0.5  # the part of links that end when a router lets nobody in any more
PRIVATE, PUBLIC = "10.0.0", "192.0.2"  # the network of all peers of a history; what is told of them differs


class Routers:
    """The routers of the peers of a history. They change in many of its steps."""

    def __init__(self, sim: Simulation, *, on: bool) -> None:
        self.on = on
        self._sim = sim

    @property
    def network(self) -> str:
        """The beginning of the addresses of the peers."""
        return Random(f"{self._sim.seed} routers").choice((PRIVATE, PUBLIC)) if self.on else PRIVATE

    def place(self, peer: SimPeer) -> None:
        """Draw whether a new peer is behind a router. The first one is not: everybody has to begin somewhere."""
        chance = Random(f"{self._sim.seed} router of {peer.name}")
        peer.behind_router = self.on and len(self._sim.all_peers) > 1 and chance.random() < BEHIND_A_ROUTER
        peer.keeps_port = chance.random() < KEEPS_PORTS

    def step(self, number: int) -> None:
        """Perhaps have a peer come from behind its router, or go behind one."""
        chance = Random(f"{self._sim.seed} router {number}")
        there = [peer for peer in self._sim.all_peers if not peer.gone]
        if not (self.on and there and chance.random() < ACTS_AT):
            return
        peer = chance.choice(there)
        peer.behind_router = not peer.behind_router
        self._sim.counts["router_moved"] += 1
        self._sim.note(f"{peer.name} can{'not' if peer.behind_router else ''} be dialled")
        for end in peer.ends if peer.behind_router else ():
            if not end.wire.carried and chance.random() < BREAKS:
                self._sim.break_wire(end.wire)

    def open(self) -> None:
        """Have all peers be dialled."""
        for peer in self._sim.all_peers:
            peer.behind_router = False
