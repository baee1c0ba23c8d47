"""Invariants of conversations that somebody begins who is no contact, and of blocked users.

Each such conversation is told once while a program runs, and few of each user are stored before somebody there answers.
In a part of the histories that is one or none, and peers make some of those contacts whose conversations have no place.
At rest all users are known to each other, so that the other invariants find everything stored.

Nothing of a user who is blocked is stored or shown. That no goodbye tells of the block is checked in
protocol_invariants.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING

from p2pchat.core.effects import (
    Commit,
    ConversationBegun,
    Effect,
    LinkChanged,
    OwnStateChanged,
    PresenceChanged,
    UserJoined,
)
from p2pchat.core.log import LogId
from p2pchat.core.node_context import HostedIdentity
from p2pchat.core.own_state import CHOSEN, id_in
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.protocol import UserId
from p2pchat.testing.eventlog_parser import Fault
from simulation.invariants.protocol_invariants import log_name

if TYPE_CHECKING:
    from simulation.invariants.entry_invariants import Invariants
    from simulation.simulated_peer import SimPeer
    from simulation.simulation import Simulation

ANSWERS = 0.3  # the part of steps in which somebody makes a contact of a user whose conversation has no place


class InboxInvariants:
    """The invariants of all peers of one simulation."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self._told: dict[
            tuple[str, int], list[tuple[ConversationBegun, HostedIdentity | None]]
        ] = {}  # by peer and session

    def begun(self, peer: SimPeer, begun: ConversationBegun) -> None:
        """Check that this was not told before, and that there was a place."""
        assert peer.node is not None
        self._sim.counts["conversation_begun"] += 1
        told, hosted = self._told.setdefault((peer.name, peer.lives), []), peer.node.hosted
        if any(one == begun for one, _ in told):
            self._invariants.fail("inbox", peer, f"tells again that {begun.conversation[:6]} began")
        told.append((begun, hosted.get(begun.host)))  # None: unhosted while this was committed
        inbox, conversations = peer.node.replicator.inbox, peer.node.replicator.conversations
        open = {(host, one.conversation) for host in peer.node.hosted for one in inbox.of(host)}
        # What is stored of a user has its place when that user is hosted again, beyond the limits.
        since = [one for one, host in told if hosted.get(one.host) is host]
        of_user = {one.conversation for one in since if one.user == begun.user and (one.host, one.conversation) in open}
        groups = {id for id in of_user if conversations[id].is_talk}
        settings = self._sim.settings
        if len(groups) > settings.max_unanswered_groups or len(of_user - groups) > settings.max_unanswered:
            self._invariants.fail("inbox", peer, f"{len(of_user)} conversations of one user are unanswered")


def answer_some(sim: Simulation, chance: Random) -> None:
    """Perhaps have a peer make a contact of somebody whose conversation has no place there."""
    refused = [
        (peer, one.user)
        for peer in sim.honest_up
        if peer.node is not None
        for one in peer.node.replicator.inbox.of(peer.own)
        if not one.has_place
    ]
    if refused and chance.random() < ANSWERS:
        peer, other = chance.choice(refused)
        sim.note(f"{peer.name} makes a contact of {sim.person(other).name}")
        sim.counts["refused_answered"] += 1
        peer.choose(peer.user, f"{CHOSEN}:{other}", "1")


# ---- blocked users


class BlockInvariants:
    """The invariants of blocks: nothing comes of a blocked user, and all others stay as they were.

    Attributes:
        any: True once somebody chose to block another in this history.
    """

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self.any: bool = False

    def chosen(self, peer: SimPeer, by: UserId, user: UserId, *, on: bool) -> None:
        """Check what a peer did in the step in which a user of it blocked another, or ended that."""
        self._sim.counts["user_blocked" if on else "user_unblocked"] += 1
        self._invariants.causes.note_facts()
        if peer.node is None or peer.byzantine:
            return
        if on and by == peer.user and user in peer.node.links.by_peer:
            self._invariants.fail("blocked", peer, f"is still linked with {self._name(user)}")
        told = peer.node.presence.status(user)[0]
        if on and by == peer.user and user not in peer.speaks_for and told not in ("offline", "unknown"):
            self._invariants.fail("blocked", peer, f"still shows {self._name(user)} as {told}")

    def handled(self, peer: SimPeer, effects: list[Effect]) -> None:
        """Check the effects of one step: a commit has nothing of a blocked user, and programs hear of no arrival."""
        if not self.any or peer.byzantine or peer.node is None:
            return
        later = [id_in(effect.key) for effect in effects if isinstance(effect, OwnStateChanged) and effect.text]
        for effect in effects:
            if isinstance(effect, OwnStateChanged) and effect.text:  # before, it was not blocked
                later.remove(id_in(effect.key))
            elif isinstance(effect, Commit):
                for batch in effect.change.batches:
                    if self._is_blocked(peer, batch.log):
                        text = (
                            f"stores {log_name(batch.log)} {batch.last} of {self._name(batch.log.user)}, who is blocked"
                        )
                        self._invariants.fail("blocked", peer, text)
            elif isinstance(effect, (UserJoined, PresenceChanged)) and effect.user in self._blocked_by(peer):
                if isinstance(effect, UserJoined) or effect.status != "offline":
                    self._invariants.fail("blocked", peer, f"shows {self._name(effect.user)}, who is blocked")
            elif isinstance(effect, LinkChanged) and effect.state == "up" and effect.peer in self._blocked_by(peer):
                if effect.peer in later:
                    continue
                self._invariants.fail("blocked", peer, f"links with {self._name(effect.peer)}, who is blocked")

    def may_hide(self, peer: SimPeer, other: SimPeer, log: LogId) -> bool:
        """Return whether a conversation may be kept from a peer that hosts the blocked one of its two users.

        That peer said so before that one came to this peer too, and it was not noted.
        """
        blocked = [user for user in peer.blocks.get(peer.user, ()) if other.ever_spoke_for(user)] if self.any else []
        users = (*self._sim.by_user, *self._sim.guests) if blocked else ()
        return any(log.conversation == dm_id(self._invariants.room, user, each) for user in blocked for each in users)

    def _blocked_by(self, peer: SimPeer) -> set[UserId]:
        """Return the users who are blocked for all users of a peer."""
        return peer.blocks.get(peer.user, set()) - set(peer.speaks_for)

    def _is_blocked(self, peer: SimPeer, log: LogId) -> bool:
        assert peer.node is not None
        if log.user in self._blocked_by(peer):
            return not peer.node.replicator.conversations[log.conversation].has_facts
        blockers = [by for by, users in peer.blocks.items() if by != peer.user and log.user in users]
        return log.user not in peer.speaks_for and any(
            log.conversation == dm_id(self._invariants.room, by, log.user) for by in blockers
        )

    def missing(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """Yield what peers lack that do not block each other: links, and what others wrote to the room."""
        room = self._invariants.room
        for peer in honest:
            for other in honest:
                is_wanted = self._sim.can_link(peer, other) and not (
                    other.user in self._blocked_by(peer) or peer.user in self._blocked_by(other)
                )
                # Perhaps all blocked the one peer between them, and one of them does not know that the other joined.
                is_wanted &= peer.admits(other) and other.admits(peer)
                if peer is other or not is_wanted:
                    continue
                if peer.end_to(other) is None:
                    yield Fault("unharmed", f"no link with {other.name}, though neither blocks the other", peer.name)
                for log, raws in other.disk.logs.items():
                    is_expected = log.conversation == room and log.user not in self._blocked_by(peer)
                    # What a forked log covers is announced once the fork is known, and one who blocks takes no proof.
                    has_copy = any(user == log.user for user, _ in self._invariants.copied)
                    is_expected &= not (has_copy and log.user in self._blocked_by(other))
                    held = len(peer.disk.logs.get(log, ()))
                    if is_expected and held < len(raws) and not self._invariants.may_fork(log):
                        text = f"has {held} of {len(raws)} entries of {self._name(log.user)} that {other.name} holds"
                        yield Fault("unharmed", text, peer.name)

    def _name(self, user: UserId) -> str:
        return self._sim.person(user).name
