"""Invariants of unknown and of blocked users.

Nothing that waits is shown of a conversation that an unknown user began, and little of it is stored. Nothing of a user
who is blocked is stored or shown. That no goodbye tells of the block is checked in protocol_invariants.py.

In a fifth of the histories few of them come straight, or none, and hosted users accept some at random times. Nobody
unknown hears what was read. Only what waits is deleted as a whole. At rest all users are known to each other, so that
the other invariants find everything shown: once, in order, whatever was killed meanwhile. What still waits waits for a
user who is hosted there no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING

from p2pchat.config import Settings
from p2pchat.core.effects import Commit, Effect, LinkChanged, PresenceChanged, UserJoined
from p2pchat.core.groups.group_requests import CHOICES
from p2pchat.core.inputs import RequestAccepted, RequestsChosen
from p2pchat.core.log import Batch, LogId
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.core.sync.message_requests import stored_requests
from p2pchat.protocol import ConversationId, Frame, ReadFrame, UserId
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.testing.eventlog_parser import Fault
from simulation.invariants.protocol_invariants import log_name

if TYPE_CHECKING:
    from simulation.invariants.entry_invariants import Invariants
    from simulation.network import WireEnd
    from simulation.simulated_peer import SimPeer
    from simulation.simulation import Simulation

ACCEPTS = 0.3  # the part of steps in which somebody accepts a conversation
CHOOSES = 0.1  # the part of those in which it makes another choice for all of them


class RequestInvariants:
    """The invariants of all peers of one simulation."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim

    @property
    def _is_asking(self) -> bool:
        return self._sim.settings.straight_requests_a_peer < Settings().straight_requests_a_peer

    def handed_on(self, peer: SimPeer, one: ReleasedEntry) -> None:
        """Check that a conversation of which a program receives an entry does not wait, as the disk says."""
        if self._is_asking and not peer.byzantine:
            request = stored_requests(peer.disk.storage.meta()).get(one.log.conversation)
            if request is not None and request.waits:
                self._invariants.fail("asking", peer, f"{log_name(one.log)} {one.seq} waits, and is shown")

    def stored(self, peer: SimPeer, batch: Batch) -> None:
        """Check how much is stored of a conversation that waits: a batch, and more only up to a number."""
        if not self._is_asking or peer.byzantine or peer.node is None:
            return
        there = peer.node.sync.conversations.by_id.get(batch.log.conversation)
        if there is None or not there.waits:
            return
        settings = self._sim.settings
        held = sum(len(raws) for log, raws in peer.disk.logs.items() if log.conversation == there.id)
        if held and held + len(batch.raws) > settings.request_entries:
            self._invariants.fail("asking", peer, f"{log_name(batch.log)}: {len(batch.raws)} behind {held} that wait")
        self._sim.counts["asking_stored"] += 1

    def deleted(self, peer: SimPeer, conversation: ConversationId) -> None:
        """Check that a conversation that is deleted as a whole waits: nobody here has answered or seen it."""
        request = stored_requests(peer.disk.storage.meta()).get(conversation)
        if not peer.byzantine and (request is None or not request.waits):
            self._invariants.fail("asking", peer, f"deletes {conversation[:6]}, which does not wait")

    def frame_sent(self, peer: SimPeer, frame: Frame, ends: list[WireEnd]) -> None:
        """Check that a frame tells no unknown user what was read."""
        if not isinstance(frame, ReadFrame) or peer.byzantine or peer.node is None:
            return
        requests = peer.node.sync.requests.by_id
        for conversation in frame.marks.keys() & requests.keys():
            naming = peer.node.sync.conversations.by_id[conversation].naming
            unknown = {user for user in naming.dm or () if user not in peer.node.hosted}
            for end in ends:
                link = peer.node.links.up.get(end.link)
                if link is not None and not unknown.isdisjoint(link.users):
                    self._invariants.fail("asking", peer, f"told {end.other.owner.name} what it read unanswered")

    def abandoned(self, peer: SimPeer) -> int:
        """Return the number of entries that wait for a user who is hosted here no more, so that nobody accepts them."""
        requests = stored_requests(peer.disk.storage.meta())
        waiting = {id for id, request in requests.items() if request.waits}
        return sum(
            len(raws)
            for log, raws in peer.disk.logs.items()
            if log.conversation in waiting and not self._invariants.concerns(peer, log)
        )


def accept_some(sim: Simulation, chance: Random) -> None:
    """Perhaps have a hosted user accept a conversation that waits, or make another choice for all."""
    waiting = [
        (peer, host, conversation)
        for peer in sim.honest_up
        if peer.node is not None
        for host in sorted(peer.node.hosted)
        for conversation in peer.node.sync.requests.waiting(host)
    ]
    if not waiting or chance.random() >= ACCEPTS:
        return
    peer, host, conversation = chance.choice(waiting)
    assert peer.node is not None
    if chance.random() < CHOOSES:
        choice = chance.choice(CHOICES)
        sim.note(f"{peer.name}: {choice} of the conversations of unknown users are shown")
        peer.put(RequestsChosen(host, choice))
        return
    [other] = set(peer.node.sync.conversations.by_id[conversation].naming.dm or ()) - {host}
    sim.note(f"{peer.name} accepts {sim.person(other).name}")
    sim.counts["asking_accepted"] += 1
    peer.put(RequestAccepted(host, other))


# ---- blocked users


class BlockInvariants:
    """The invariants of blocks: nothing comes of a blocked user, and all others stay as they were.

    Attributes:
        any: True once somebody was blocked in this history.
    """

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self.any: bool = False

    def chosen(self, peer: SimPeer, by: UserId, user: UserId, *, on: bool) -> None:
        """Check what a peer did in the step in which a user of it blocked another, or ended that."""
        self.any = True
        self._sim.counts["user_blocked" if on else "user_unblocked"] += 1
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
        for effect in effects:
            if isinstance(effect, Commit):
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
                self._invariants.fail("blocked", peer, f"links with {self._name(effect.peer)}, who is blocked")

    def may_hide(self, peer: SimPeer, other: SimPeer, log: LogId) -> bool:
        """Return whether a conversation may be kept from a peer that hosts the blocked one of its two users.

        That peer said so before that one came to this peer too, and it was not noted.
        """
        blocked = [user for user in peer.blocks.get(peer.user, ()) if other.ever_spoke_for(user)] if self.any else []
        users = (*self._sim.by_user, *self._sim.guests) if blocked else ()
        return any(log.conversation == dm_id(user, each) for user in blocked for each in users)

    def _blocked_by(self, peer: SimPeer) -> set[UserId]:
        """Return the users who are blocked for all users of a peer."""
        return peer.blocks.get(peer.user, set()) - set(peer.speaks_for)

    def _is_blocked(self, peer: SimPeer, log: LogId) -> bool:
        assert peer.node is not None
        if log.user in self._blocked_by(peer):
            return not peer.node.sync.conversations.by_id[log.conversation].is_operations
        blockers = [by for by, users in peer.blocks.items() if by != peer.user and log.user in users]
        return log.user not in peer.speaks_for and any(log.conversation == dm_id(by, log.user) for by in blockers)

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
