"""Simulated dials of two peers that both dial at one moment (core/mesh/hole_puncher.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pchat.core.effects import DialBeside
from p2pchat.core.inputs import DialFailed

if TYPE_CHECKING:
    from simulation.simulated_peer import SimPeer
    from simulation.simulation import Simulation

WAITS = 3.0  # seconds for the other one


class HolePunching:
    """The dials that wait for the other end. Each comes from where the other side of a link sees it."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._waiting: dict[tuple[str, str], tuple[SimPeer, int, DialBeside]] = {}  # by from and to

    def dial(self, peer: SimPeer, order: DialBeside) -> None:
        """Carry out a DialBeside. It succeeds if the other one does the same, and no router is in the way."""
        near = peer.end_of(order.link)
        here = "" if near is None else near.seen_at
        met = self._waiting.pop((order.endpoint, here), None)
        if met is not None and self._meets(*met, peer, order):
            return
        self._waiting[here, order.endpoint] = attempt = peer, peer.lives, order
        self._sim.schedule.after(WAITS, lambda: self._give_up(here, *attempt))
        if met is not None:
            self._fail(*met)

    def _meets(self, other: SimPeer, life: int, others: DialBeside, peer: SimPeer, order: DialBeside) -> bool:
        """Connect the two, if they can be."""
        lets_in = all(not one.behind_router or one.keeps_port for one in (peer, other))
        if not (lets_in and other.up and other.lives == life and order.serve != others.serve):
            return False
        pair = ((peer, order), (other, others))
        (server, accepted), (client, dialled) = pair if order.serve else pair[::-1]
        return self._sim.connect_beside(client, dialled, server, accepted)

    def _give_up(self, here: str, peer: SimPeer, life: int, order: DialBeside) -> None:
        if self._waiting.get((here, order.endpoint)) == (peer, life, order):
            del self._waiting[here, order.endpoint]
            self._fail(peer, life, order)

    def _fail(self, peer: SimPeer, life: int, order: DialBeside) -> None:
        if peer.up and peer.lives == life:
            peer.put(DialFailed(order.dial, "no answer", "no_answer"))
