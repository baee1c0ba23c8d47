"""Commits and disk space: what may wait for the next commit; slow, failing and full disks.

Each step of a node orders at most one commit (node.py). Gossip waits for the next one, for a limited time (LazyCommit).
StorageState warns people when one is under way for long. After a commit that failed nothing is accepted until storage
was loaded again; when free disk space is short, less and less is accepted.
Threads and transactions are in runtime/storage_worker.py.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from operator import attrgetter
from typing import Any

from p2pchat.core.durable_changes import Change, DiskLevel
from p2pchat.core.effects import Reload, WarningIssued, WriteRefused
from p2pchat.core.node_context import SLACK, NodeContext
from p2pchat.protocol import Holds, Lacks, Piece, Pong, Pull, TypingFrame, Want
from p2pchat.settings import OWN_ONLY_FACTOR

# Seconds after its deadline that a timer fires: this process itself stood still, and the disk may be well.
SUSPENDED_AFTER = 1.0

# Frames that are taken while nothing can be stored. Pieces that were asked for go to the store, which has no room.
NEEDS_NO_DISK = (Want, TypingFrame, Pull, Piece, Lacks, Holds, Pong)

REFUSED = {  # times the least free disk space, and what is refused below it
    DiskLevel.OWN_ONLY: (OWN_ONLY_FACTOR, "your messages are accepted, nothing of others"),
    DiskLevel.NOTHING: (
        1,
        "nothing is accepted, neither your messages nor those of others; what is stored can be read, and links stay",
    ),
}


class StorageState:
    """State of storage: if it accepts commits and answers in time, and how much disk space is left.

    People are warned of each change.

    Attributes:
        works: The last commit did not fail, or storage was loaded again since.
        epoch: How many times a commit failed. A commit ordered before the last failure is void.
        disk: How much disk space is left.
    """

    def __init__(self, ctx: NodeContext) -> None:
        self._ctx = ctx
        self.works: bool = True
        self.epoch: int = 0
        self.disk: DiskLevel = DiskLevel.ENOUGH
        self._ordered_at: dict[int, float] = {}  # commits in flight, oldest first, and when they were ordered
        self._watching = False
        self._warned = False

    @property
    def accepts_writes(self) -> bool:
        """Return whether messages of users here are accepted."""
        return self.works and self.disk is not DiskLevel.NOTHING

    def check_writable(self, ticket: int) -> bool:
        """Return whether a request can be accepted now; if not, refuse the request with this ticket."""
        if self.accepts_writes:
            return True
        if not self.works:
            self._ctx.emit(WriteRefused(ticket, "storage", "storage does not work: nothing is accepted"))
        else:
            self._ctx.emit(WriteRefused(ticket, "disk_low", "the disk is nearly full: make room, then send again"))
        return False

    def on_failed(self, reason: str) -> None:
        """Accept nothing, and have storage loaded as soon as it works again."""
        self.epoch += 1
        self.works = self._warned = False
        self._ordered_at.clear()
        self._ctx.emit(WarningIssued("storage", f"nothing is accepted until storage works again: {reason}"))
        self._ctx.emit(Reload())

    def on_loaded(self) -> None:
        """Accept again."""
        self.works = True
        self._ctx.emit(WarningIssued("storage_works", "storage works again"))

    def on_disk_level(self, level: DiskLevel) -> None:
        """Note how much disk space is left."""
        self.disk = level
        if level is DiskLevel.ENOUGH:
            self._ctx.emit(WarningIssued("disk_enough", "there is enough disk again"))
            return
        factor, what = REFUSED[level]
        free = (factor * self._ctx.settings.min_free_disk_bytes) >> 20
        text = f"less than {free} MiB of disk are free: {what}; free some space, and it goes on by itself"
        self._ctx.emit(WarningIssued("disk_low", text))

    # ---- slow commits: people are warned when the disk does not answer, and again when it does
    #
    # Nothing else follows from a slow disk. Uncommitted entries are neither acknowledged nor sent, links stay alive
    # because the core waits for no disk, and everything continues when the commit returns. One timer serves all.

    def on_ordered(self, ticket: int) -> None:
        """Note an ordered commit."""
        self._ordered_at[ticket] = self._ctx.now.mono
        if not self._watching:
            self._watch_oldest()

    def on_committed(self, tickets: Sequence[int]) -> None:
        """Note commits that are durable."""
        for ticket in tickets:
            self._ordered_at.pop(ticket, None)
        if self._warned and not self._is_slow():
            self._warned = False
            self._ctx.emit(WarningIssued("storage_works", "the disk answers again: what waited for it is kept"))
            self._watch_oldest()

    def _is_slow(self) -> bool:
        return bool(self._ordered_at) and self._ctx.now.mono >= self._due()

    def _due(self) -> float:
        return next(iter(self._ordered_at.values())) + self._ctx.settings.slow_storage_after

    def _watch_oldest(self) -> None:
        if self._ordered_at and not self._watching:
            self._watching = True
            due = self._due()
            self._ctx.after(due - self._ctx.now.mono, lambda: self._check(due))

    def _check(self, due: float) -> None:
        self._watching = False
        now = self._ctx.now.mono
        if now - due > SUSPENDED_AFTER:
            self._ordered_at = dict.fromkeys(self._ordered_at, now)
        if not self._is_slow():
            self._watch_oldest()
        elif not self._warned:
            self._warned = True
            seconds = self._ctx.settings.slow_storage_after
            self._ctx.emit(
                WarningIssued(
                    "storage_slow", f"the disk has not answered for {seconds:g} s: nothing is accepted until it does"
                )
            )


# ---- lazy commits


fields_of: attrgetter[tuple[Any, ...]] = attrgetter(*Change.__struct_fields__)  # asked at every step of a node
GOSSIP = {"users", "addresses", "forgotten", "records"}  # in Change: what other peers will send again
_all_but_gossip_of = attrgetter(*(name for name in Change.__struct_fields__ if name not in GOSSIP))
FEW_PEERS = 8  # known peers: one of so many will be found after a restart; a guess
LAZY_COMMIT_EVERY = 1.0  # seconds; a guess, the same as for the places of consumers


class LazyCommit:
    """Delays commits of gossip: addresses, names and receipts of files that other peers will send again.

    Until a few peers are stored, gossip is committed at once, so that a peer killed in its first second finds its mesh
    again. Afterwards it is committed at most once a second: while a mesh forms every link brings some, and each commit
    costs an fsync and a thread that competes with the loop. Any other commit takes the gossip along, as does a user's
    request to forget. A crash loses one second of it.

    Args:
        book: The peers whose addresses are known, at first those of earlier runs.
    """

    def __init__(self, ctx: NodeContext, book: Sized) -> None:
        self._ctx = ctx
        self._book = book
        self._saved_peers = len(book)  # number of peers at the last commit
        self._saved_at = float("-inf")
        self._scheduled = False  # a timer is set
        self._forced = False

    def force(self) -> None:
        """Commit in this step: a user waits for it, or nothing comes after it."""
        self._forced = True

    def may_defer(self, change: Change) -> bool:
        """Return whether this change may be committed later, together with what comes until then."""
        now = self._ctx.now.mono
        must = any(_all_but_gossip_of(change)) or self._forced or self._saved_peers < FEW_PEERS
        if must or now >= self._saved_at + LAZY_COMMIT_EVERY - SLACK:
            self._saved_at, self._forced = now, False
            if change.addresses or change.forgotten:
                self._saved_peers = len(self._book)
            return False
        if not self._scheduled:
            self._scheduled = True
            self._ctx.after(self._saved_at + LAZY_COMMIT_EVERY - now, self._due)
        return True

    def _due(self) -> None:
        """Let this step commit what waits."""
        self._scheduled = False
