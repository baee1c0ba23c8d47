"""People with several machines in a simulation: peers with keys of their own, and one user.

In these histories one or two of the people have two or three machines. The first has the key of the member that answers
for the person; each later one has certificates for itself and for the person, as a device gets them
(p2pchat/devices.py). What histories do, each machine does: it writes as the person, reads, is killed, goes back to an
older disk, and leaves for good. Nobody blocks others in these histories: each machine would for itself alone.

Where people say who is a member, the first of them joins later than the login that founded the network, often by an
invite. So it is a founder, an admin or a plain member that revokes the key of a machine that was lost, and with it the
person's own key, as the program does (membership.py). The lost machine goes on as long as somebody has not heard of it.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from p2pchat.identity.identity import Identity
from simulation.hosted_users import SimHostedUser

if TYPE_CHECKING:
    from p2pchat.core.node_context import NetworkCredentials
    from simulation.simulated_peer import SimPeer
    from simulation.simulation import Simulation

NAMES = ("una", "leo")
WITH_TWO_PEOPLE = 0.25  # the part of these histories
WITH_THREE_MACHINES = 0.3  # the part of people
LEAST_PEERS = 4  # honest ones at most in a history, so that there is somebody else
BEGIN = 3  # peers that such a history begins with: two machines of one person, and another peer


class SimPerson(SimHostedUser):
    """A person with several machines; `hosts` are those."""

    def add(self, machine: SimPeer) -> None:
        """Add a machine."""
        self.hosts.append(machine)
        self.former.append(machine)
        self.since[machine] = machine.sim.now

    def credentials(self, network: NetworkCredentials, founder: str) -> NetworkCredentials:
        """Return the credentials of the next machine: only the first one can sign for the person's member."""
        if not self.hosts:
            return network
        return replace(self.hosts[0].network, founder=founder, sign=None, invitation=None)


class Machines:
    """The people with several machines of a history."""

    def __init__(self, sim: Simulation, *, on: bool, most_peers: int, late: bool = False) -> None:
        """Draw whose machines the peers are. `late`: none of the first two."""
        self._late = late
        self._roles: list[SimPerson | None] = []  # of each honest peer, in order
        if on:
            self._roles = self._draw(sim, Random(f"{sim.seed} machines"), most_peers)

    def _draw(self, sim: Simulation, chance: Random, most_peers: int) -> list[SimPerson | None]:
        first, *others = self._people(sim, chance)
        early: list[SimPerson | None] = [first, first, None]
        rest: list[SimPerson | None] = [*others, *others, None]
        rest += [person for person in (first, *others) if chance.random() < WITH_THREE_MACHINES]
        if self._late:
            early, rest = [None, None, first], [first, *rest]
        else:
            chance.shuffle(early)
        rest += [None] * (most_peers - len(early) - len(rest))
        chance.shuffle(rest)
        return early + rest

    def _people(self, sim: Simulation, chance: Random) -> list[SimPerson]:
        count = 2 if chance.random() < WITH_TWO_PEOPLE else 1
        people = [SimPerson(name, Identity.from_seed(chance.randbytes(32))) for name in NAMES[:count]]
        sim.people = {person.user: person for person in people}
        sim.guests.update(sim.people)
        return people

    def next(self, number: int) -> SimPerson | None:
        """Return whose machine the honest peer with this number is, counted from 0; None for a user of its own."""
        return self._roles[number] if number < len(self._roles) else None
