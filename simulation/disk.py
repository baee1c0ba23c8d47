"""A simulated disk: committed changes stay; a commit in flight at a crash is lost or durable, by chance.

A SimDisk executes commits like the runtime: in order, all waiting ones as one transaction, and it informs the node a
moment after they are durable. It also keeps its own record of all durable entries (`logs`), to check the storage, and
every change in order, to restore an older state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from p2pchat.core.durable_changes import Change, Prune, Stored
from p2pchat.core.effects import Commit
from p2pchat.core.inputs import CommitFailed, Committed
from p2pchat.core.log import Batch, LogId, RawEntry, Ref, before_in, decode_entry, is_gone, ref_key, text_proof
from p2pchat.core.node_context import Timer
from p2pchat.protocol import Mark, UserId
from p2pchat.settings import Settings
from p2pchat.storage.temporary_storage import TemporaryStorage
from simulation.virtual_time import Schedule

Answer = Callable[[Committed | CommitFailed], None]


def is_same(raws: Sequence[RawEntry], others: Sequence[RawEntry]) -> bool:
    """Return whether these are the same entries, with texts or stubs."""
    return len(raws) == len(others) and all(
        (one[0], text_proof(one[1])) == (other[0], text_proof(other[1]))
        for one, other in zip(raws, others, strict=True)
    )


class SimDisk:
    """The disk of one peer. It outlives the peer's process.

    Attributes:
        storage: The storage that a node loads and its owner reads.
        logs: The committed entries of each log. The first has number 1.
        headers: The header of each log that was ever durable here.
        ever: The highest number of each log that was ever durable here, even before a restore.
        quick, slow: The bounds of the drawn time of a transaction, in seconds.
        broken: While True, every commit fails.
        failed: True after a commit of this process failed.
        on_batch: Called with every batch when it becomes durable.
        pruned: The entries 1..n of each log that were deleted here.
        ever_pruned: The same, even before a restore.
        stubs: The entries of each log of which no text ever was here.
        ever_stubs: Those of which none was here once: conversation, log as in references, number.
        on_prune: Called with every deletion when it becomes durable.
        changes: Everything durable, in order.
    """

    def __init__(self, schedule: Schedule, chance: Random, counts: Counter[str], settings: Settings) -> None:
        self._schedule = schedule
        self._chance = chance
        self._counts = counts
        self._settings = settings
        self.storage: TemporaryStorage = TemporaryStorage(settings)
        self.logs: dict[LogId, list[RawEntry]] = {}
        self.headers: dict[LogId, str] = {}
        self.ever: dict[LogId, int] = {}
        self.quick: float = 0.0005
        self.slow: float = 0.02
        self.broken = False
        self.failed: bool = False
        self.on_batch: Callable[[Batch], None] = lambda batch: None
        self.pruned: dict[LogId, int] = {}
        self.ever_pruned: dict[LogId, int] = {}
        self.stubs: dict[LogId, set[int]] = {}
        self.ever_stubs: set[tuple[str, str, int]] = set()
        self.on_prune: Callable[[Prune], None] = lambda prune: None
        self.changes: list[Change] = []
        self._stored: Stored | None = None  # since the last commit
        self._answer: Answer | None = None
        self._waiting: list[Commit] = []
        self._writing: list[Commit] = []  # not durable yet
        self._unreported: list[Commit] = []  # durable, and not reported to the node
        self._event: Timer | None = None
        self._void = -1  # commits of this epoch and older are void

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._writing or self._unreported)

    @property
    def owes_a_mark(self) -> bool:
        """True if entries of others are durable and not yet reported to the node."""
        return any(not order.own and order.change.batches for order in self._unreported)

    def owes_deletion(self, log: LogId, seq: int) -> bool:
        """Return whether a deletion of this entry, here or by its writer, is durable, but not reported to the node."""
        pruned = (prune for order in self._unreported for prune in order.change.pruned)
        return any(prune.log == log and seq <= prune.upto for prune in pruned) or any(
            '"k":"delete"' in str(raw[1]) and decode_entry(raw).re == Ref(ref_key(log.user, log.run), seq)
            for order in self._unreported
            for batch in order.change.batches if batch.log.conversation == log.conversation
            for raw in batch.raws
        )  # fmt: skip

    def __len__(self) -> int:
        """Return the number of durable changes, the unit of restore()."""
        return len(self.changes)

    def has(self, log: LogId, seq: int) -> bool:
        """Return whether an entry was stored here since the last restore."""
        return len(self.logs.get(log, ())) >= seq

    @property
    def stored(self) -> Stored:
        """The stored state that a process without users would start from now; for reading only."""
        if self._stored is None:
            self._stored = self.storage.load([])
        return self._stored

    def load(self, hosted: Sequence[UserId]) -> Stored:
        """Return what a process of these users starts from."""
        return self.storage.load(hosted)

    def open(self, answer: Answer) -> None:
        """Start to serve a process, which is answered through `answer`."""
        self._answer = answer
        self._void = -1
        self.failed = False

    def commit(self, order: Commit) -> None:
        """Queue a commit. Committed answers it, in order, or CommitFailed."""
        if order.epoch > self._void:
            self._waiting.append(order)
            self._write_next()

    def crash(self, written: bool | None = None) -> None:
        """End the process. Waiting commits are lost; the one being written is durable if `written` (None draws it)."""
        if self._writing:
            self._counts["crash_with_commit_in_flight"] += 1
            if self._chance.random() < 0.5 if written is None else written:
                self._make_durable()
        if self.owes_a_mark:
            self._counts["crash_between_commit_and_have"] += 1
        self._forget()

    def finish(self) -> None:
        """End the process in good order, after writing all waiting commits."""
        while self._writing or self._waiting or self._unreported:
            if self._event is not None:
                self._event.cancel()
            if self._unreported:
                self._report()
                continue
            if not self._writing:
                self._writing, self._waiting = self._waiting, []
            self._written()
        self._forget()

    def restore(self, length: int) -> None:
        """Restore the first `length` changes. Only while no process uses this disk."""
        self.changes = self.changes[:length]
        self.storage = TemporaryStorage(self._settings)
        self.storage.commit(self.changes)
        self._stored = None
        self.logs = {}
        self.pruned, self.stubs = {}, {}
        for change in self.changes:
            for batch in change.batches:
                self._note_header(batch)
                self._note_entries(batch)
            self._note_texts(change)
            self._note_pruned(change)

    def _note_header(self, batch: Batch) -> None:
        if batch.first == 1:
            self.headers[batch.log] = batch.header

    def before(self, log: LogId) -> tuple[Mark, ...]:
        """Return what a log builds on."""
        return before_in(self.headers[log]) if log in self.headers else ()

    def _note_pruned(self, change: Change) -> None:
        for prune in change.pruned:
            self.pruned[prune.log] = max(self.pruned.get(prune.log, 0), prune.upto)
            self.ever_pruned[prune.log] = max(self.ever_pruned.get(prune.log, 0), prune.upto)

    def _note_entries(self, batch: Batch) -> None:
        self.logs.setdefault(batch.log, []).extend(batch.raws)
        stubs = [seq for seq, raw in enumerate(batch.raws, batch.first) if is_gone(raw)]
        if stubs:
            self.stubs.setdefault(batch.log, set()).update(stubs)
            self.ever_stubs.update(
                (batch.log.conversation, ref_key(batch.log.user, batch.log.run), seq) for seq in stubs
            )

    def _note_texts(self, change: Change) -> None:
        for late in change.late:
            log = late.places.log
            for seq, raw in enumerate(late.raws, late.places.first):
                is_missing = seq in self.stubs.get(log, ()) and seq > self.pruned.get(log, 0)
                if is_missing and is_same([raw], [self.logs[log][seq - 1]]):
                    self.logs[log][seq - 1] = raw
                    self.stubs[log].discard(seq)
                    self._counts["late_text"] += 1

    def lacks_text(self, log: LogId, first: int, last: int) -> bool:
        """Return whether the text of one of these entries never was here, and was not deleted unseen."""
        deleted = self.pruned.get(log, 0)
        return any(max(first, deleted + 1) <= seq <= last for seq in self.stubs.get(log, ()))

    # ---- the writer

    def _write_next(self) -> None:
        if self._event is None and self._waiting:
            self._writing, self._waiting = self._waiting, []
            self._event = self._schedule.after(self._chance.uniform(self.quick, self.slow), self._written)

    def _written(self) -> None:
        if self.broken:
            self._fail()
            return
        self._make_durable()
        pause = self._chance.uniform(0, self.slow) if self._chance.random() < 0.6 else 0.0
        self._event = self._schedule.after(pause, self._report)

    def _make_durable(self) -> None:
        changes = [order.change for order in self._writing]
        self.storage.commit(changes)
        self._stored = None
        for change in changes:
            for batch in change.batches:
                self.on_batch(batch)
                self._note_header(batch)
                self._note_entries(batch)
                self._counts["stub_taken"] += any(map(is_gone, batch.raws))
                self.ever[batch.log] = max(self.ever.get(batch.log, 0), batch.last)
            self._note_texts(change)
            self._note_pruned(change)
            for prune in change.pruned:
                self.on_prune(prune)
        self.changes += changes
        self._unreported, self._writing = self._writing, []

    def _report(self) -> None:
        tickets = [order.ticket for order in self._unreported]
        self._unreported, self._event = [], None
        self._write_next()
        if self._answer is not None:
            self._answer(Committed(tickets))

    def _forget(self) -> None:
        if self._event is not None:
            self._event.cancel()
        self._waiting, self._writing, self._unreported, self._event, self._answer = [], [], [], None, None

    def _fail(self) -> None:
        self._counts["commit_failed"] += 1
        self.failed = True
        self._void = max(order.epoch for order in self._writing)
        self._writing, self._event = [], None
        self._waiting = [order for order in self._waiting if order.epoch > self._void]
        self._write_next()
        if self._answer is not None:
            self._answer(CommitFailed(self._void, "the simulated disk is full"))
