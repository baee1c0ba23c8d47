"""Invariants of deletion: it changes no mark, no sum and no receipt, and what was deleted stays away.

What is deleted on one peer changes no mark, no sum and no receipt, and stays away. In a history with deletions some
entries are nowhere any more: a peer that lacks them, or what builds on them, is not expected to get them. The fields
of Stored in SAME stay as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from p2pchat.core.durable_changes import Change, Prune
from p2pchat.core.effects import Commit
from p2pchat.core.log import LogId, Ref, ref_key
from p2pchat.core.receipts.delivery_receipts import LEFT_OUT
from p2pchat.protocol import ConversationId, UserId
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
        if (peer.name, prune) in self._unprotected:
            return
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
        here = {(one.log, one.seq, one.place, one.raw) for one in storage.places(0, 1 << 30)}
        entries = whole.places(0, 1 << 30)
        left = {
            (one.log, one.seq, one.place, one.raw) for one in entries if not self.is_deleted(peer, one.log, one.seq)
        }
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

    def can_serve(self, one: SimPeer, peer: SimPeer, log: LogId) -> bool:
        """Return whether a peer that holds more of a log can serve it to another, which can take it."""
        held = len(peer.disk.logs.get(log, ()))
        if one.disk.pruned.get(log, 0) > held:
            return False
        before = one.disk.before(log) if not held else ()
        below = {log._replace(run=mark.run): mark.seq for mark in before}
        return all(
            len(peer.disk.logs.get(each, ())) >= seq and not any(self._hides_fork(at, each) for at in (one, peer))
            for each, seq in below.items()
        )

    def hides_fork(self, log: LogId, *peers: SimPeer) -> bool:
        """Return whether one of these peers deleted all of a log of this writer here that may fork.

        That peer cannot prove the fork. So its marks of this writer may imply nothing at another one.
        """
        return any(self._hides_fork(peer, each) for peer in peers for each in peer.disk.pruned if each.key == log.key)

    def hides_end(self, log: LogId, at: SimPeer, host: SimPeer) -> bool:
        """Return whether a host deleted more of a log than its writer's peer holds, or of one that builds on it.

        That peer lost the end with its disk, and cannot tell whether the host held another version. So it takes no
        later log for a receipt.
        """
        lost = [
            each for each, upto in host.disk.pruned.items()
            if each.key == log.key and 0 < len(at.disk.logs.get(each, ())) < upto
        ]  # fmt: skip
        for each in lost:
            before = at.disk.before(each)
            lost += [below for mark in before if (below := each._replace(run=mark.run)) not in lost]
        return log in lost

    def leaves_out(self, log: LogId, at: SimPeer, user: UserId, peer: SimPeer) -> bool:
        """Return whether a user is left out of a log although that user's peer may hold it now.

        An equal sum ends that. A peer that lacks what was deleted never has one.
        """
        return self.lacks_deleted(peer) and user in at.disk.stored.meta.get(LEFT_OUT + ",".join(log), "").split()

    def _hides_fork(self, peer: SimPeer, log: LogId) -> bool:
        return self._invariants.may_fork(log) and peer.disk.pruned.get(log, 0) >= len(peer.disk.logs.get(log, ())) > 0

    def lacks_deleted(self, peer: SimPeer) -> bool:
        """Return whether a peer lacks entries that another one holds, and that nobody can serve to it.

        Or it deleted a log of which another holds another version, or may.
        """
        if any(self._hides_fork(peer, log) or self._has_another(peer, log) for log in peer.disk.pruned):
            return True
        return self.any and any(
            len(raws) > len(peer.disk.logs.get(log, ())) and self._invariants.concerns(peer, log)
            for other in self._sim.honest_up
            for log, raws in other.disk.logs.items()
        )

    def _has_another(self, peer: SimPeer, log: LogId) -> bool:
        """Return whether a byzantine user signed another version of a log that is here, and deleted as a whole."""
        raws = peer.disk.logs.get(log, [])
        if not self._sim.person(log.user).byzantine or peer.disk.pruned.get(log, 0) < len(raws):
            return False
        others = [other.disk.logs.get(log, []) for other in self._sim.honest_up]
        return any(theirs[: len(raws)] != raws[: len(theirs)] for theirs in others)


def _in_order(stored: object) -> object:
    """Return rows in an order of their own: storage gives them in that of numbers, which depend on what is deleted."""
    return sorted(stored, key=repr) if isinstance(stored, list) else stored


def _without_deletions(change: Change) -> Change:
    fields = {name: getattr(change, name) for name in change.__struct_fields__}
    return Change(**fields | {"pruned": []})
