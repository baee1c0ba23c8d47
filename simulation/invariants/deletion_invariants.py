"""Invariants of deletion: it changes no mark, no sum and no receipt, and what was deleted stays away.

What is deleted on one peer changes no mark, no sum and no receipt, and stays away; who lacks it gets stubs, and the
texts that somebody linked still has. The fields of Stored in SAME stay as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from p2pchat.core.durable_changes import Change, Prune
from p2pchat.core.effects import Commit
from p2pchat.core.log import LogId, Ref, ref_key
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.protocol import ConversationId
from p2pchat.settings import Settings
from p2pchat.storage.temporary_storage import TemporaryStorage
from p2pchat.testing.eventlog_parser import Fault

if TYPE_CHECKING:
    from simulation.invariants.entry_invariants import Invariants
    from simulation.simulated_peer import SimPeer

SAME = ("delivered", "reads", "next_place", "users", "consumers", "group_entries")


class DeletionInvariants:
    """The invariants of deletion.

    Attributes:
        any: True once something was deleted in this history.
    """

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self.any: bool = False
        self._unprotected: set[tuple[str, Prune]] = set()  # by peer: of users who were not hosted when it was ordered

    def ordered(self, peer: SimPeer, order: Commit) -> None:
        """Note deletions of users who are not hosted now. They may be before these are stored."""
        pruned = (prune for prune in order.change.pruned if prune.log.user not in peer.speaks_for)
        self._unprotected |= {(peer.name, prune) for prune in pruned}

    def stored(self, peer: SimPeer, prune: Prune) -> None:
        """Check a deletion that becomes durable: what hosted users wrote is held by another peer."""
        self.any = True
        if peer.byzantine or prune.log.user not in peer.speaks_for or self._invariants.may_fork(prune.log):
            return
        to_oneself = dm_id(self._invariants.room, prune.log.user, prune.log.user)
        if (peer.name, prune) in self._unprotected or prune.log.conversation == to_oneself:
            return  # a note to oneself is for nobody else
        others = [other for other in self._sim.all_peers if other is not peer]
        is_claimed = any(other.byzantine for other in others)  # it may have lied
        if not is_claimed and all(other.disk.ever.get(prune.log, 0) < prune.upto for other in others):
            self._invariants.fail("kept", peer, f"deletes {prune.upto} entries of {prune.log.run[:6]} that nobody has")

    def faults(self, peer: SimPeer) -> Iterator[Fault]:
        """Compare a disk with what it would be without its deletions."""
        if not peer.disk.pruned:
            return
        whole, storage = TemporaryStorage(self._sim.settings), peer.disk.storage
        bare = [_without_deletions(change) for change in peer.disk.changes]
        whole.commit(bare)
        expected, found = whole.load(peer.speaks_for), storage.load(peer.speaks_for)
        tips = [facts.replace(pruned=0) for facts in found.tips]
        forked = set(found.forked) == set(expected.forked)  # their order is that of the commits
        is_same = all(_in_order(getattr(found, name)) == _in_order(getattr(expected, name)) for name in SAME)
        if tips != expected.tips or not forked or not is_same:
            yield Fault("marks_stay", "a deletion has changed marks or receipts", peer.name)
        here = {(one.log, one.seq, one.raw) for one in storage.places(0, 1 << 30)}
        entries = whole.places(0, 1 << 30)
        left = {(one.log, one.seq, one.raw) for one in entries if not self.is_deleted(peer, one.log, one.seq)}
        if here != left:
            yield Fault("deleted", f"shows {len(here)} entries and not the {len(left)} it did not delete", peer.name)

    def is_deleted(self, peer: SimPeer, log: LogId, seq: int) -> bool:
        """Return whether a peer deleted this entry."""
        return seq <= peer.disk.pruned.get(log, 0)

    def is_gone(self, peer: SimPeer, conversation: ConversationId, ref: Ref) -> bool:
        """Return whether a peer deleted the entry that a reference names."""
        return any(
            log.conversation == conversation and ref_key(log.user, log.run) == ref.log and ref.seq <= upto
            for log, upto in peer.disk.pruned.items()
        )

    def withheld(self, peer: SimPeer, honest: list[SimPeer]) -> Iterator[Fault]:
        """Yield, at rest, texts that are missing at a peer, and that a linked one has."""
        if self._sim.settings.contact_bytes < Settings().contact_bytes:
            return  # there may be no room for them
        for log, seqs in peer.disk.stubs.items():
            missing = {seq for seq in seqs if seq > peer.disk.pruned.get(log, 0)}
            if not missing or self._invariants.may_fork(log) or self._sim.person(log.user).byzantine:
                continue
            for other in honest:
                held = len(other.disk.logs.get(log, ()))
                there = {seq for seq in missing if other.disk.pruned.get(log, 0) < seq <= held}
                there -= other.disk.stubs.get(log, set())
                if there and peer.end_to(other) and self._invariants.concerns(other, log):
                    yield Fault("withheld", f"has stubs of {len(there)} entries that {other.name} has", peer.name)


def _in_order(stored: object) -> object:
    """Return rows in an order of their own: storage gives them in that of numbers, which depend on what is deleted."""
    return sorted(stored, key=repr) if isinstance(stored, list) else stored


def _without_deletions(change: Change) -> Change:
    fields = {name: getattr(change, name) for name in change.__struct_fields__}
    return Change(**fields | {"pruned": []})
