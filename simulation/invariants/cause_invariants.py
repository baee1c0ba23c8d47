"""Invariants of causes: why a user lacks a message, as a peer would say it, is what the whole mesh shows.

Every few seconds each writer's peer is asked about all who are not known to have what it wrote (`Node.cause`). A cause
is wrong if it is not true and has not been for as long as a peer needs to learn of a change. Nothing is told of blocks.
The counts say in how many of these cases the cause was named that is true at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product
from math import inf
from typing import TYPE_CHECKING

from p2pchat.core.effects import WriteAccepted
from p2pchat.core.log import LogId
from p2pchat.core.mesh.peer_exchange import SIGNED_EVERY
from p2pchat.core.mesh.presence_tracker import Cause
from p2pchat.protocol import UserId

if TYPE_CHECKING:
    from simulation.invariants.entry_invariants import Invariants
    from simulation.network import WireEnd
    from simulation.simulated_peer import SimPeer

LOOKS_EVERY = 5.0  # seconds
LEARNS_WITHIN = 30.0  # seconds after `dead_after`, also over slow links and by who is busy
HEARS_WITHIN = 2 * SIGNED_EVERY + 60.0  # seconds until a peer that only others reach has signed that it is there
Fact = tuple[str, UserId, UserId]
Case = tuple["SimPeer", int, UserId, UserId]  # a peer, its session, a writer and who lacks something


class CauseInvariants:
    """Asks all writers, and compares."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self._lacking: dict[tuple[SimPeer, int, LogId, UserId], int] = {}  # by peer and session: the newest message
        self._began: dict[Fact, float] = {}  # what is true, and since when
        self._ended: dict[Fact, float] = {}  # what was true, and until when
        self._utc: dict[Fact, int] = {}  # of links that the first peer reads: when they last worked, by its clock
        self._said: dict[Case, tuple[Cause | None, float]] = {}  # what is said, and since when
        self._suspects: dict[Case, str] = {}  # what was wrong at the last look
        self._trues: dict[Case, tuple[str, float]] = {}  # the true cause, and since when
        self._sim.schedule.after(LOOKS_EVERY, self._look)

    def accepted(self, peer: SimPeer, answer: WriteAccepted) -> None:
        """Note for whom a message is."""
        if not peer.byzantine and answer.kind == "text":
            for user in set(answer.members) - {answer.log.user}:
                self._lacking[peer, peer.lives, answer.log, user] = answer.first + answer.count - 1

    def _look(self) -> None:
        self._sim.schedule.after(LOOKS_EVERY, self._look)
        self.note_facts()
        cases = dict[Case, None]()
        for (peer, life, log, user), seq in list(self._lacking.items()):
            node = peer.node
            if node is None or peer.lives != life or node.receipts.delivered.position(log, user) >= seq:
                del self._lacking[peer, life, log, user]
            elif log.user in peer.speaks_for and not self._sim.person(user).byzantine and self._is_member(peer):
                cases[peer, life, log.user, user] = None
        for case in cases:
            self._judge(case)

    def _is_member(self, peer: SimPeer) -> bool:
        """Return whether a peer is in the network, as far as it knows: else it says that, and nothing of others."""
        of_member, ids = [peer.network.member], {peer.user, peer.own}
        return peer.members is None or not any(peer.members.against(one, of_member) for one in ids)

    # ---- what is true

    def note_facts(self) -> None:
        """Note what is true from now on. A block that ends and begins again between two looks did not last."""
        now, true = self._sim.now, set(self._facts())
        for fact in self._began.keys() - true:
            del self._began[fact]
            self._ended[fact] = now
        for fact in true:
            self._began.setdefault(fact, now)
            what, one, other = fact
            if what == "linked" and self._reads(self._sim.by_user[one], other):
                self._utc[fact] = self._sim.by_user[one].clock.now().utc

    def _facts(self) -> Iterator[Fact]:
        ups = self._sim.up
        linked = {(one, other) for one, other in permutations(ups, 2) if self._works(one, other)}
        for one, other in permutations(ups, 2):
            if (one, other) in linked:
                yield "linked", one.user, other.user
            if any((one, via) in linked and (via, other) in linked for via in ups if not via.byzantine):
                yield "reached", one.user, other.user
        for peer in ups:
            writers, users = peer.speaks_for, (*self._sim.by_user, *self._sim.guests)
            for writer, user in product(writers, users):
                if self._is_blocked(peer, writer, user):
                    yield f"blocked at {peer.name}", writer, user

    def _is_blocked(self, peer: SimPeer, writer: UserId, user: UserId) -> bool:
        """Return whether a writer blocks a user at its peer, or all hosts of the user keep away from that peer.

        A writer whom its peer's own user blocks, or who blocks that one, has its links with others all the same.
        """
        pairs = (writer, user), (user, writer), (peer.user, user)
        if user in peer.speaks_for and user not in peer.blocks.get(writer, ()):
            return False  # an account here that the peer's own user had blocked before it came
        if any(two in peer.blocks.get(one, ()) for one, two in pairs):
            return True
        hosts = self._hosts(user)
        refuse = [peer.user in {*host.blocks.get(host.user, ()), *host.blocks.get(user, ())} for host in hosts]
        return bool(hosts) and peer not in hosts and all(refuse)

    def _works(self, one: SimPeer, other: SimPeer) -> bool:
        end = one.end_to(other)
        if end is None or not end.wire.carried:
            return end is not None
        carrier = self._carrier(one, end)
        return carrier is not None and None not in (one.end_to(carrier), carrier.end_to(other))

    def _carrier(self, peer: SimPeer, end: WireEnd) -> SimPeer | None:
        circuits = [circuit for circuit in peer.circuits.values() if circuit.end is end]
        near = peer.end_of(circuits[0].link) if circuits else None
        return None if near is None else near.other.owner

    def _lasts(self, *fact: str) -> float:
        """Return for how long something has been true; 0 if it is not."""
        what, one, other = fact
        return self._sim.now - self._began.get((what, one, other), self._sim.now)

    def _past(self, *fact: str) -> float:
        """Return for how long something has not been true; 0 if it is, inf if it never was."""
        what, one, other = fact
        if (what, one, other) in self._began:
            return 0.0
        return self._sim.now - self._ended.get((what, one, other), -inf)

    @property
    def _learnt(self) -> float:
        return self._sim.settings.dead_after + LEARNS_WITHIN

    # ---- what is said

    def _judge(self, key: Case) -> None:
        peer, _, writer, user = key
        cause = None if peer.node is None else peer.node.cause(writer, user)
        counts, true, kind = self._sim.counts, self._true(peer, writer, user), "" if cause is None else cause[0]
        was, since = self._trues.get(key, ("", 0.0))
        if was != true:
            self._trues[key] = true, self._sim.now
        for what in ("cause", *["cause_lasting"] * (was == true and self._sim.now - since > self._learnt)):
            counts[f"{what}_asked"] += 1
            counts[f"{what}_named"] += kind == true
        counts[f"cause_{true}_said_{kind or 'nothing'}"] += 1
        if key not in self._said or self._said[key][0] != cause:
            self._said[key] = cause, self._sim.now
        said_for = self._sim.now - self._said[key][1]
        why = "" if cause is None else self._fault(peer, writer, user, cause, said_for)
        before, self._suspects[key] = self._suspects.get(key, ""), why
        if why and before == why:  # a link that came and went between two looks is still told for a moment
            self._invariants.fail("cause", peer, f"says {self._sim.person(user).name} is {kind}: {why}")

    def _hosts(self, user: UserId) -> list[SimPeer]:
        """Return the running peers that host a user."""
        peer = self._sim.by_user.get(user)
        if peer is None:
            return self._sim.guests[user].here()
        return [peer] if peer.up else []

    def _ever_hosts(self, user: UserId) -> list[SimPeer]:
        """Return the peers that ever hosted a user, running or not; none for a login."""
        guest, peer = self._sim.guests.get(user), self._sim.by_user.get(user)
        if guest is not None:
            return [*guest.former]
        return [] if peer is None else [peer]

    def _true(self, peer: SimPeer, writer: UserId, user: UserId) -> str:
        """Return the cause that is true at this moment."""
        hosts = self._hosts(user)
        if self._removers(peer, user):
            return "expelled"
        if (f"blocked at {peer.name}", writer, user) in self._began:
            return "away"
        ends = [peer.end_to(host) for host in hosts if self._past("linked", peer.user, host.user) == 0]
        if peer in hosts or any(end is not None and not end.wire.carried for end in ends):
            return "online"
        if any(ends):
            return "carried"
        is_reached = any(self._past("reached", peer.user, host.user) == 0 for host in hosts)
        return "unreachable" if is_reached and user in self._sim.by_user else "away"

    def _removers(self, peer: SimPeer, user: UserId) -> set[UserId]:
        """Return the members who removed a user, and did not take that back, by the statements that a peer has."""
        if peer.members is None:
            return set()
        members = [peer.network.member for peer in self._sim.peers_of(user)[:1]]
        return {one.by for one in peer.members.against(user, members)}

    def _fault(self, peer: SimPeer, writer: UserId, user: UserId, cause: Cause, said_for: float) -> str:
        """Return what is wrong with a cause; "" if nothing is. Looks miss a link that soon breaks without a sign."""
        kind, since, by = cause
        learnt, guest, hosts = self._learnt, self._sim.guests.get(user), self._ever_hosts(user)
        if kind == "expelled":
            speaks_for = {by, *(host.network.member for host in self._ever_hosts(by))}
            if peer.node is not None:  # members that it named in certificates, wherever it was hosted
                speaks_for.update(peer.node.member_directory.members_of(by))
            return "that one did not expel it" if speaks_for.isdisjoint(self._removers(peer, user)) else ""
        if kind != "away" and self._lasts(f"blocked at {peer.name}", writer, user) > learnt:
            return "a block shows"
        if kind in ("online", "carried"):
            if peer in hosts:
                return ""
            ages = [min(self._past("linked", peer.user, host.user), self._silence(peer, host)) for host in hosts]
            if min(said_for, *ages) > learnt:
                return "no link works"
            if any(age <= learnt and peer.end_to(host) is None for host, age in zip(hosts, ages, strict=True)):
                return ""  # the link with another host, which broke without a sign
            ends = [end for host in self._hosts(user) for end in [peer.end_to(host)] if end is not None]
            if ends and all(end.wire.carried != (kind == "carried") for end in ends):
                return "the link is another one"
            carriers = [self._carrier(peer, end) for end in ends]
            is_right = kind == "online" or not ends or any(one and one.user == by for one in carriers)
            return "" if is_right else "another one carries it"
        if kind == "unreachable":
            if self._lasts("linked", peer.user, user) > learnt:
                return "it is linked"
            is_known = self._sim.by_user[by].byzantine or min(said_for, self._past("linked", by, user)) <= 2 * learnt
            return "" if is_known else "that one does not reach it"
        if (f"blocked at {peer.name}", writer, user) in self._began or guest is not None:
            return ""
        if self._lasts("linked", peer.user, user) > learnt:
            return "it is linked"
        node = peer.node
        is_refused = node is not None and user in node.links.dialer.no_place
        if self._lasts("reached", peer.user, user) > learnt + HEARS_WITHIN and not is_refused:
            return "others reach it"
        last = self._utc.get(("linked", peer.user, user), 0)
        is_known = since > 0 and not peer.clock.ahead
        return "it was linked later" if is_known and since < last - LEARNS_WITHIN * 1_000_000 else ""

    def _reads(self, peer: SimPeer, user: UserId) -> bool:
        """Return whether a peer reads its link with another one: else it has not heard yet who is there."""
        link = peer.node.links.by_peer.get(user) if peer.node is not None else None
        return link is not None and link.reads

    def _silence(self, peer: SimPeer, host: SimPeer) -> float:
        """Return for how long the first peer has heard nothing on its link with the second, while it reads."""
        link = peer.node.links.by_peer.get(host.user) if peer.node is not None else None
        if link is None:
            return inf
        return peer.clock.now().mono - link.heard_at if link.reads else 0.0
