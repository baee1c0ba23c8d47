"""Random histories: a program of writing and accidents drawn from a seed, then the end in which all must come right.

A history has two to nine honest peers, some of them late, and sometimes a liar or a stranger. For a minute or several
of virtual time they write while processes crash, disks come back from old copies, links break and mend. Most then come
to rest: all accidents stop, everyone who did not leave for good is up and says one more thing, and the mesh must
settle (*liveness*). The others never heal, and settings are harsh: what must never happen has not (*safety*).

Every step of the program draws from a chance of its own, so one can be left out and the others stay what they were:
that is how a failing history is shrunk (many.py).
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
Steps = Collection[int]  # numbers of the steps that are played; the first two always are
NEVER_HEALS = 0.3  # of the histories
WITH_QUOTAS = 0.25
SIZES = {2: 4, 3: 6, 4: 6, 5: 5, 6: 1, 7: 1, 8: 1, 9: 1}  # honest peers at most, and how often


def play(seed: int, tell: Tell | None = None, steps: Steps | None = None) -> tuple[Simulation, list[Fault]]:
    """Play the history of this seed to its end, or only these steps of it; return it and every promise broken."""
    with cached_signatures():
        history = Scenario(seed, tell)
        history.play(steps)
        return history.sim, history.sim.check()


class Scenario:
    """One random history.

    Attributes:
        sim: The mesh it happens to.
        program: The names of its steps: methods of Accidents.
        heals: It comes to rest in the end.
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
        self._accidents = FaultInjector(self.sim, most_peers)
        self._chatter = Chatter(self.sim)
        self._guests = HostedUsers(self.sim, self.program)

    def play(self, steps: Steps | None = None) -> None:
        """Let everything happen, or only these steps; then let it settle, if it ever does."""
        for number, name in enumerate(self.program):
            if steps is None or number in steps or number < 2:
                self._step(number, name)
        self._reseed("end")
        if self.heals:
            self._end()
        else:
            self.sim.note("the end: nothing is mended")

    def _step(self, number: int, name: str) -> None:
        self._reseed(f"step {number}")
        self.sim.note(f"step {number}: {name}")
        getattr(self._accidents, name)()
        self._chatter.step(number)
        self._guests.step(number)
        chance = self._accidents.chance
        if number >= self._begun:
            self.sim.run(chance.expovariate(1 / chance.choice((0.01, 0.05, 0.5, 3.0, 8.0))))

    def _reseed(self, what: str) -> None:
        self._accidents.chance = Random(f"{self.sim.seed} {what}")
        self.sim.chance.seed(f"{self.sim.seed} accidents of {what}")

    def _end(self) -> None:
        """All accidents stop; everyone who did not leave for good is up, knows somebody, and says one thing more."""
        sim, chance = self.sim, self._accidents.chance
        sim.note("the end: everything is mended")
        sim.heal()
        remaining = [peer for peer in self._accidents.honest if not peer.gone]
        if not self._connected(remaining):
            sim.lift_never()
        for peer in sim.all_peers:
            peer.disk.broken = False
            peer.crash_never()
            peer.start()
            peer.allow_all()
        for peer in remaining:  # somebody tells them where another is, should they not know
            others = [other for other in remaining if other is not peer and sim.can_link(peer, other)]
            if others:
                peer.connect(others[0].endpoint)
        sim.run(chance.choice((0.0, 1.0, 20.0)))
        for peer in remaining:
            self._accidents.write(peer, None)
        self._chatter.last_words()
        self._guests.last_words()
        sim.settle()

    def _connected(self, peers: list[SimPeer]) -> bool:
        reached = peers[:1]
        for one in reached:
            reached += [peer for peer in peers if peer not in reached and self.sim.can_link(one, peer)]
        return len(reached) == len(peers)


def _draw_beginning(plan: Random, most_peers: int) -> list[str]:
    """Return what happens before any time has passed."""
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
