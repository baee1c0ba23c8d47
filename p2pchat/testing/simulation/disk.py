"""A simulated disk: what is committed stays, what was on its way at a crash is lost or just made it.

A Disk carries out commits as the runtime does: strictly in order, all that wait as one transaction, told to the node
a moment after they are durable. It also keeps its own plain record of what was made durable (`logs`), so that what
the storage says can be judged, and every change in order, so that an older state can be restored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

from p2pchat.config import Settings
from p2pchat.core.context import Timer
from p2pchat.core.effects import Commit
from p2pchat.core.inputs import CommitFailed, Committed
from p2pchat.core.log import Batch, LogId
from p2pchat.core.records import Change
from p2pchat.protocol import UserId
from p2pchat.storage.memory import MemoryStorage
from p2pchat.testing.simulation.environment import Schedule

Answer = Callable[[Committed | CommitFailed], None]


class SimDisk:
    """The disk of one peer; it outlives the peer's process.

    Attributes:
        storage: What a node starts from and owners read.
        logs: Each log's entries as committed, the first has number 1.
        ever: The highest number of each log that was durable here, even if an older copy was restored since.
        quick, slow: A transaction takes a time drawn between these, in seconds.
        broken: While True every commit fails.
        failed: Some commit of this process failed.
        on_batch: Told of every batch as it becomes durable.
    """

    def __init__(
        self, schedule: Schedule, chance: Random, user: UserId, counts: Counter[str], settings: Settings
    ) -> None:
        self._schedule = schedule
        self._chance = chance
        self._user = user
        self._counts = counts
        self._settings = settings
        self.storage = MemoryStorage(settings)
        self.logs: dict[LogId, list[str]] = {}
        self.ever: dict[LogId, int] = {}
        self.quick, self.slow = 0.0005, 0.02
        self.broken = False
        self.failed = False
        self.on_batch: Callable[[Batch], None] = lambda batch: None
        self._changes: list[Change] = []  # everything durable, in order
        self._answer: Answer | None = None
        self._waiting: list[Commit] = []
        self._writing: list[Commit] = []  # not durable yet
        self._untold: list[Commit] = []  # durable, and the node does not know
        self._event: Timer | None = None
        self._void = -1  # commits of this epoch and older are void

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._writing or self._untold)

    @property
    def owes_a_mark(self) -> bool:
        """Whether entries of others are durable, and the node does not know yet."""
        return any(not order.own and order.change.batches for order in self._untold)

    def __len__(self) -> int:
        """How many changes are durable: what restore() counts in."""
        return len(self._changes)

    def open(self, answer: Answer) -> None:
        """A process begins to use this disk; it is answered through `answer`."""
        self._answer = answer
        self._void = -1
        self.failed = False

    def commit(self, order: Commit) -> None:
        """Take an order; answered by Committed, in order, or by CommitFailed."""
        if order.epoch > self._void:
            self._waiting.append(order)
            self._go_on()

    def crash(self, written: bool | None = None) -> None:
        """The process is gone: what waits is lost, what is being written may have made it (`written`; None: drawn)."""
        if self._writing:
            self._counts["crash_with_commit_in_flight"] += 1
            if self._chance.random() < 0.5 if written is None else written:
                self._make_durable()
        if self.owes_a_mark:
            self._counts["crash_between_commit_and_have"] += 1
        self._forget()

    def finish(self) -> None:
        """The process ends in good order: what waits is written first."""
        while self._writing or self._waiting or self._untold:
            if self._event is not None:
                self._event.cancel()
            if self._untold:
                self._tell()
                continue
            if not self._writing:
                self._writing, self._waiting = self._waiting, []
            self._written()
        self._forget()

    def restore(self, length: int) -> None:
        """Go back to an older copy: the first `length` changes. Only while no process uses this disk."""
        self._changes = self._changes[:length]
        self.storage = MemoryStorage(self._settings)
        self.storage.commit(self._changes)
        self.logs = {}
        for change in self._changes:
            for batch in change.batches:
                self.logs.setdefault(batch.log, []).extend(batch.raws)

    # ---- the writer

    def _go_on(self) -> None:
        if self._event is None and self._waiting:
            self._writing, self._waiting = self._waiting, []
            self._event = self._schedule.after(self._chance.uniform(self.quick, self.slow), self._written)

    def _written(self) -> None:
        if self.broken:
            self._fail()
            return
        self._make_durable()
        pause = self._chance.uniform(0, self.slow) if self._chance.random() < 0.6 else 0.0
        self._event = self._schedule.after(pause, self._tell)

    def _make_durable(self) -> None:
        changes = [order.change for order in self._writing]
        self.storage.commit(changes)
        for change in changes:
            for batch in change.batches:
                self.on_batch(batch)
                self.logs.setdefault(batch.log, []).extend(batch.raws)
                self.ever[batch.log] = max(self.ever.get(batch.log, 0), batch.last)
        self._changes += changes
        self._untold, self._writing = self._writing, []

    def _tell(self) -> None:
        tickets = [order.ticket for order in self._untold]
        self._untold, self._event = [], None
        self._go_on()
        if self._answer is not None:
            self._answer(Committed(tickets))

    def _forget(self) -> None:
        if self._event is not None:
            self._event.cancel()
        self._waiting, self._writing, self._untold, self._event, self._answer = [], [], [], None, None

    def _fail(self) -> None:
        self._counts["commit_failed"] += 1
        self.failed = True
        self._void = max(order.epoch for order in self._writing)
        self._writing, self._event = [], None
        self._waiting = [order for order in self._waiting if order.epoch > self._void]
        self._go_on()
        if self._answer is not None:
            self._answer(CommitFailed(self._void, "the simulated disk is full"))
