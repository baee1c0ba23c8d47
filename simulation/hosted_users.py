"""Hosted users in a simulation: keys that peers host for a while, sometimes on two peers at once.

In some histories a running peer hosts a user, who writes to the room and to others, is unhosted, and returns there or
elsewhere. Its messages are stored, spread, shown and acknowledged like those of a peer's own user, and everyone sees
its presence. The actions draw from a separate chance, so that other histories do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random
from typing import TYPE_CHECKING

from p2pchat.core.log import LogId
from p2pchat.identity.identity import Identity
from p2pchat.protocol import UserId
from simulation.virtual_time import signer

if TYPE_CHECKING:
    from simulation.simulated_peer import SimPeer
    from simulation.simulation import Simulation

WITH_GUESTS = 0.25  # the part of histories without clock jumps; certificates need clocks within an hour
NAMES = ("zoe", "yan")
HEARD_WITHIN = 3.0  # seconds, also by who is linked badly
ASKS = 0.5  # the part of steps in histories with conversations that wait
WITH_SESSIONS = 0.25  # the part of histories in which users of two hosts are written to, as in a cluster of gateways
IN_SESSIONS = {"host": 3, "host_elsewhere": 3, "unhost": 1, "answer": 8, "direct": 4}
ACTS = {"host": 4, "host_elsewhere": 2, "unhost": 3, "say": 6, "direct": 3, "answer": 3}


class SimHostedUser:
    """A user with no peer of its own.

    Attributes:
        hosts: The peers that host it now, running or not.
        former: The peers that ever hosted it.
        since: When each of them last began to host it, in true seconds.
        held_then: What each former host had held, by log, when others knew that it hosts the user no more.
    """

    byzantine = False

    def __init__(self, name: str, identity: Identity) -> None:
        self.name = name
        self.user: UserId = identity.peer_id
        self.own: UserId = self.user
        self.sign: Callable[[bytes], bytes] = signer(identity)
        self.hosts: list[SimPeer] = []
        self.former: list[SimPeer] = []
        self.since: dict[SimPeer, float] = {}
        self.held_then: dict[SimPeer, dict[LogId, int]] = {}

    @property
    def restored(self) -> bool:
        """True if a peer that ever hosted it was restored from an older copy."""
        return any(peer.restored for peer in self.former)

    def had(self, log: LogId) -> int:
        """Return the highest number of a log that any of its hosts ever held while it was there."""
        held = (self.held_then.get(peer, peer.disk.ever) for peer in self.former)
        return max((each.get(log, 0) for each in held), default=0)

    def leave_soon(self, peer: SimPeer) -> None:
        """Note what a former host has held when others had time to hear that it is one."""
        peer.sim.schedule.after(HEARD_WITHIN, lambda: self._left(peer))

    def _left(self, peer: SimPeer) -> None:
        if peer not in self.hosts:
            self.held_then[peer] = dict(peer.disk.ever)

    def here(self) -> list[SimPeer]:
        """Return the running peers that host it."""
        return [peer for peer in self.hosts if peer.up]

    def __repr__(self) -> str:
        return f"<Guest {self.name} of {[peer.name for peer in self.hosts]}>"


class HostedUsers:
    """The actions of hosted users in a history."""

    def __init__(self, sim: Simulation, program: Collection[str], *, crowded: bool) -> None:
        """Draw whether the history has hosted users, and with no crowd their sessions. `program`: its steps."""
        self._sim = sim
        self._may_not = "jump" in program
        self.is_open: bool = Random(f"{sim.seed} guests").random() < WITH_GUESTS and not self._may_not
        drawn = Random(f"{sim.seed} sessions").random()
        self._has_sessions = drawn < WITH_SESSIONS and not (self._may_not or crowded)
        self._count = 0

    def step(self, number: int) -> None:
        """Perhaps play one action."""
        chance = Random(f"{self._sim.seed} guests {number}")
        if self.is_open and chance.random() < 0.6:
            getattr(self, chance.choices([*ACTS], [*ACTS.values()])[0])(chance)
        if self._has_sessions:
            chance = Random(f"{self._sim.seed} sessions {number}")
            for act in chance.choices([*IN_SESSIONS], [*IN_SESSIONS.values()], k=3):
                getattr(self, act)(chance)

    def write_last(self) -> None:
        """Have every hosted user write once more at each of its peers."""
        for guest, peer in self._there() if self._sim.guests else ():
            self._say(guest, peer, None)

    def ask(self, chance: Random) -> None:
        """Perhaps have a hosted user write to somebody, who may not know it, or have one hosted who can."""
        if chance.random() < ASKS and not self._may_not:
            (self.direct if self._there() else self.host)(chance)

    def host(self, chance: Random) -> None:
        """Host a user that no peer hosts."""
        homeless = [guest for guest in self._guests() if not guest.hosts]
        if homeless:
            self._host(chance, chance.choice(homeless))

    def host_elsewhere(self, chance: Random) -> None:
        """Host a user on a second peer: one person on two gateways."""
        hosted = [guest for guest in self._guests() if len(guest.hosts) == 1]
        if hosted:
            self._host(chance, chance.choice(hosted))

    def _host(self, chance: Random, guest: SimHostedUser) -> None:
        peers = [peer for peer in self._sim.honest_up if peer not in guest.hosts]
        if peers:
            peer = chance.choice(peers)
            self._sim.note(f"{peer.name} hosts {guest.name}")
            self._sim.counts["hosted"] += 1
            peer.host_guest(guest)

    def unhost(self, chance: Random) -> None:
        there = self._there()
        if there:
            guest, peer = chance.choice(there)
            self._sim.note(f"{peer.name} unhosts {guest.name}")
            self._sim.counts["unhosted"] += 1
            peer.unhost_guest(guest)

    def say(self, chance: Random) -> None:
        """Have a hosted user write to the room, and perhaps unhost it at once."""
        there = self._there()
        if there:
            guest, peer = chance.choice(there)
            for _ in range(chance.choice((1, 1, 4))):
                self._say(guest, peer, None)
            if chance.random() < 0.2:
                self._sim.run(chance.choice((0.0, 0.05)))
                if peer.up and peer in guest.hosts:
                    peer.unhost_guest(guest)

    def direct(self, chance: Random) -> None:
        """Have a hosted user write to a peer's user."""
        there = self._there()
        if there:
            guest, peer = chance.choice(there)
            others = [other for other in self._sim.all_peers if not (other.byzantine or other.gone)]
            if others:
                self._say(guest, peer, chance.choice(others))

    def answer(self, chance: Random) -> None:
        """Have a peer's user write to a hosted user."""
        guests = [guest for guest in self._guests() if guest.former]
        writers = self._sim.honest_up
        if guests and writers:
            guest, peer = chance.choice(guests), chance.choice(writers)
            self._count += 1
            self._sim.counts["guest_written_to"] += 1
            peer.say_to_guest(guest, f"{peer.name} to {guest.name} {self._count}")

    def _guests(self) -> list[SimHostedUser]:
        for name in NAMES if self._sim.guests.keys() <= self._sim.people.keys() else ():
            self._sim.guest(name)
        return [guest for user, guest in self._sim.guests.items() if user not in self._sim.people]

    def _there(self) -> list[tuple[SimHostedUser, SimPeer]]:
        return [(guest, peer) for guest in self._guests() for peer in guest.here()]

    def _say(self, guest: SimHostedUser, peer: SimPeer, to: SimPeer | None) -> None:
        self._count += 1
        self._sim.counts["guest_said"] += 1
        peer.say_as(guest, f"{guest.name} {self._count}", to)
