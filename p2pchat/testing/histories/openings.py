"""Openings: what seldom comes of chance alone, brought about on purpose in a part of the histories.

Each is one method without arguments, played when all who come first have come and before anything else happens. What
becomes of it is left to chance like everything: links may be slow, disks too, and somebody may lie.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from p2pchat.config import Settings
from p2pchat.core.mesh.clones import SETTLED_AFTER
from p2pchat.core.mesh.election import decides
from p2pchat.testing.simulation.export_files import make_stick
from p2pchat.testing.simulation.peer import SimPeer
from p2pchat.testing.simulation.simulation import Simulation

WITH_A_GAP = 0.7  # of the histories of three or more
WITH_COPIES = 0.15
WITH_A_FAILED_IMPORT = 0.15
CROWDED = 0.8  # of those with few conversations for each user
FILLED = 0.9  # of those with quotas
CLOSELY = 0.005  # seconds between two looks at what is awaited
PATIENCE = 3.0
COPIES = Settings().clone_replacements


def draw_openings(chance: Random, settings: Settings, beginning: list[str]) -> list[str]:
    """Return what happens at first; [] for many. `beginning` is who comes before."""
    drawn = ["leave_a_gap"] if len(beginning) > 2 and chance.random() < WITH_A_GAP else []
    if settings.max_conversations_a_user == 1 and len(beginning) > 2 and chance.random() < CROWDED:
        drawn.append("crowd_somebody")
    if settings.user_quota_bytes < Settings().user_quota_bytes and chance.random() < FILLED:
        drawn.append("fill_a_quota")
    if chance.random() < WITH_COPIES:
        drawn.append("meet_copies")
    if chance.random() < WITH_A_FAILED_IMPORT:
        drawn.append("import_on_a_full_disk")
    return drawn


class OpeningAccidents:
    """What may happen at first."""

    sim: Simulation
    chance: Random

    @property
    def honest(self) -> list[SimPeer]:
        raise NotImplementedError

    def write(self, writer: SimPeer, to: SimPeer | None) -> None:
        raise NotImplementedError

    def leave_a_gap(self) -> None:
        """Somebody is cut off with an entry and without the one that it follows, and nobody comes for a while."""
        if len(self.honest) < 3:
            return
        writer, follower, reader = self.chance.sample(self.honest, 3)
        self.sim.note(f"{reader.name} is kept from what {writer.name} writes, not from what {follower.name} says to it")
        for other in self.sim.all_peers:
            if other not in (follower, reader):
                self.sim.separate(reader, other)
        if self._await(lambda: writer in follower.linked and reader in follower.linked):
            self.write(writer, None)
            self._await(lambda: any(line.get("sender") == writer.name for line in follower.lines))
            self.write(follower, None)
            self._await(lambda: any(log.user == follower.user for log in reader.disk.logs))
        self.sim.partition([reader], [peer for peer in self.sim.all_peers if peer is not reader])
        self.sim.run(self.sim.settings.order_wait + 1.0)

    def crowd_somebody(self) -> None:
        """Everybody writes to one alone, who has room for one conversation."""
        one, *others = self.chance.sample(self.honest, len(self.honest))
        self.sim.note(f"everybody writes to {one.name} alone")
        for other in others:
            self._await(lambda other=other: one in other.linked)  # type: ignore[misc]
            if self.sim.can_link(one, other):
                self.write(other, one)

    def fill_a_quota(self) -> None:
        """Somebody writes more than others store of one user."""
        writer, *_ = self.chance.sample(self.honest, len(self.honest))
        self.sim.note(f"{writer.name} writes and writes")
        self._await(lambda: bool(writer.linked))
        for _ in range(24):
            self.write(writer, None)

    def meet_copies(self) -> None:
        """A machine goes back to one snapshot again and again, and no link is told of its end."""
        one, other = self.chance.sample(self.honest, 2)
        if decides(one.user, other.user):
            one, other = other, one  # whoever decides sees its links replaced, each by the next
        for _ in range(COPIES):
            self._await(lambda: other in one.linked and one in other.linked)
            self.sim.run(SETTLED_AFTER + 0.1)
            self.write(one, None)
            self.sim.note(f"{one.name}'s machine goes back to a snapshot of when its process began")
            one.crash(silent=True)
            one.resume(other.endpoint)
        self._await(lambda: other in one.linked)

    def import_on_a_full_disk(self) -> None:
        """Somebody reads a file while its disk cannot be written; then it can."""
        maker, reader = self.chance.sample(self.honest, 2)
        self.sim.partition([maker], [reader])
        self.write(maker, None)
        self._await(lambda: bool(len(maker.disk)) and not maker.disk.busy)
        self.sim.note(f"{reader.name} gets a file of {maker.name}'s, and its disk is full")
        reader.disk.broken = True
        reader.plug_in(make_stick(maker, reader).data)
        self._await(lambda: reader.fails)
        reader.disk.broken = False
        self.sim.heal()

    def _await(self, happened: Callable[[], bool]) -> bool:
        """Let time pass in short steps, three seconds at most, until something has happened; say whether it has."""
        until = self.sim.now + PATIENCE
        while not happened() and self.sim.now < until:
            self.sim.run(CLOSELY)
        return happened()
