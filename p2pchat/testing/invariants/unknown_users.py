"""Invariants of conversations that unknown users begin: nothing that waits is shown, and little of it is stored.

In a fifth of the histories few of them come straight, or none, and hosted users accept some at random times. Nobody
unknown hears what was read. Only what waits is deleted as a whole. At rest all users are known to each other, so that
the other invariants find everything shown: once, in order, whatever was killed meanwhile. What still waits waits for a
user who is hosted there no more.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from p2pchat.config import Settings
from p2pchat.core.inputs import RequestAccepted, RequestsChosen
from p2pchat.core.log import Batch
from p2pchat.core.sync.message_requests import stored_requests
from p2pchat.core.sync.request_places import CHOICES
from p2pchat.protocol import ConversationId, Frame, ReadFrame
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.testing.invariants.protocol import log_name

if TYPE_CHECKING:
    from p2pchat.testing.invariants.promises import Invariants
    from p2pchat.testing.simulation.network import WireEnd
    from p2pchat.testing.simulation.peer import SimPeer
    from p2pchat.testing.simulation.simulation import Simulation

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
