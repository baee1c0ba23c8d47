"""Random histories: messages and faults drawn from a seed, followed by an end in which everything must be right.

A history has two to nine honest peers, some of them late, and sometimes a byzantine peer or a stranger. For some
minutes of virtual time they write while processes crash, disks are restored from old copies and links break. Most
histories then come to rest: all faults stop, every peer that did not leave for good runs and writes once more, and the
mesh must settle (*liveness*). The others never heal and have harsh settings; only what must never happen is checked
(*safety*).

Every step draws from a chance of its own, so a step can be left out without changing the others. That is how a failing
history is shrunk (many.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random

from p2pchat.testing.checker import Fault
from p2pchat.testing.invariants.receipts import Chatter
from p2pchat.testing.simulation.environment import cached_signatures, draw_settings, with_quota
from p2pchat.testing.simulation.faults import WEIGHTS, FaultInjector, draw_openings, draw_steps
from p2pchat.testing.simulation.hosted_users import HostedUsers
from p2pchat.testing.simulation.peer import SimPeer
from p2pchat.testing.simulation.simulation import Simulation

Tell = Callable[[str], None]
Steps = Collection[int]  # numbers of the steps to play; the first two are always played
NEVER_HEALS = 0.3  # the part of histories
WITH_QUOTAS = 0.25
SIZES = {2: 4, 3: 6, 4: 6, 5: 5, 6: 1, 7: 1, 8: 1, 9: 1}  # most honest peers -> relative frequency


def play(seed: int, tell: Tell | None = None, steps: Steps | None = None) -> tuple[Simulation, list[Fault]]:
    """Play the history of a seed, or only some steps. Return its simulation and every broken promise."""
    with cached_signatures():
        history = Scenario(seed, tell)
        history.play(steps)
        return history.sim, history.sim.check()


class Scenario:
    """One random history.

    Attributes:
        sim: The simulated mesh.
        program: The names of its steps, which are methods of FaultInjector.
        heals: Whether it comes to rest in the end.
    """

    def __init__(self, seed: int, tell: Tell | None = None) -> None:
        plan = Random(f"{seed} plan")
        self.heals = plan.random() >= NEVER_HEALS
        settings, rare = draw_settings(plan, harsh=not self.heals), Random(f"{seed} rare")
        if rare.random() < WITH_QUOTAS:
            settings = with_quota(settings, rare)
        self.sim = Simulation(seed, settings=settings, tell=tell)
        most_peers = plan.choices([*SIZES], [*SIZES.values()])[0]
        self.program = _draw_beginning(plan, most_peers)
        self.program += draw_openings(rare, settings, self.program)
        self._begun = len(self.program)
        self.program += plan.choices([*WEIGHTS], [*WEIGHTS.values()], k=plan.randint(12, 40))
        groups = Random(f"{seed} groups")
        for name in draw_steps(groups):
            self.program.insert(groups.randint(self._begun, len(self.program)), name)
        self._faults = FaultInjector(self.sim, most_peers)
        self._chatter = Chatter(self.sim)
        self._guests = HostedUsers(self.sim, self.program)

    def play(self, steps: Steps | None = None) -> None:
        """Play all steps or only some, then let the mesh settle if this history heals."""
        for number, name in enumerate(self.program):
            if steps is None or number in steps or number < 2:
                self._step(number, name)
        self._reseed("end")
        if self.heals:
            self._end()
        else:
            self.sim.note("the end: nothing heals")

    def _step(self, number: int, name: str) -> None:
        self._reseed(f"step {number}")
        self.sim.note(f"step {number}: {name}")
        getattr(self._faults, name)()
        self._chatter.step(number)
        self._guests.step(number)
        chance = self._faults.chance
        if number >= self._begun:
            self.sim.run(chance.expovariate(1 / chance.choice((0.01, 0.05, 0.5, 3.0, 8.0))))

    def _reseed(self, what: str) -> None:
        self._faults.chance = Random(f"{self.sim.seed} {what}")
        self.sim.chance.seed(f"{self.sim.seed} accidents of {what}")

    def _end(self) -> None:
        """Stop all faults, start every peer that did not leave for good, and have each write once more."""
        sim, chance = self.sim, self._faults.chance
        sim.note("the end: everything heals")
        sim.heal()
        remaining = [peer for peer in self._faults.honest if not peer.gone]
        if not self._connected(remaining):
            sim.lift_never()
        for peer in sim.all_peers:
            peer.disk.broken = False
            peer.crash_never()
            peer.start()
            peer.allow_all()
        for peer in remaining:  # in case they know no address
            others = [other for other in remaining if other is not peer and sim.can_link(peer, other)]
            if others:
                peer.connect(others[0].endpoint)
        sim.run(chance.choice((0.0, 1.0, 20.0)))
        for peer in remaining:
            self._faults.write(peer, None)
        self._chatter.write_last()
        self._guests.write_last()
        sim.settle()

    def _connected(self, peers: list[SimPeer]) -> bool:
        reached = peers[:1]
        for one in reached:
            reached += [peer for peer in peers if peer not in reached and self.sim.can_link(one, peer)]
        return len(reached) == len(peers)


def _draw_beginning(plan: Random, most_peers: int) -> list[str]:
    """Return the steps before any time has passed."""
    program = ["join"] * plan.randint(2, most_peers if most_peers > 5 else min(4, most_peers))
    if plan.random() < 0.3:
        program.append("join_liar")
    if plan.random() < 0.05:
        program.append("join_stranger")
    if most_peers >= 3 and plan.random() < 0.25:
        program.append("keep_two_apart")
    if plan.random() < 0.15:
        program.append("keep_all_apart")
    return program
