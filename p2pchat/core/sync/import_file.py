"""Entries that came in a file: the same checks as on a link, and a count of what became of each instead of answers.

Nobody is behind a file who could be asked for what lies between, blamed or told. So each of its frames is taken for
itself, and a bad one costs nothing but itself: what is new goes to the disk with the next commit and is told like
everything else, a batch whose predecessor is not here is not kept. The frames of one input are answered together, as
soon as what they brought is durable: that is the back-pressure of whoever reads the file.

Source: docs/protocol.md, "Files".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from p2pchat.core.context import Context
from p2pchat.core.effects import ImportResult
from p2pchat.core.inputs import ImportRequest
from p2pchat.core.log import Batch, LogId
from p2pchat.core.sync.forks import Forks
from p2pchat.core.sync.ingest import Ingest
from p2pchat.core.sync.log_index import ConversationState, Log
from p2pchat.core.sync.progress import NO_LINK, Key, PendingImport, SyncContext, Transaction
from p2pchat.core.sync.validation import EntrySource
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, Entries, Naming


class FileImport:
    """Takes what files bring."""

    def __init__(
        self, shelf: SyncContext, intake: Ingest, forks: Forks, newest: Callable[[], Transaction | None]
    ) -> None:
        """`newest` returns the step whose commit was ordered last, None when all is durable."""
        self._shelf = shelf
        self._ctx: Context = shelf.ctx
        self._intake = intake
        self._forks = forks
        self._newest = newest
        self._loads: dict[int, PendingImport] = {}  # not answered yet
        self.evidence: Batch | None = None  # one of the two batches that prove a fork, until the other comes

    def take(self, input: ImportRequest) -> None:
        """Take frames of a file; answered by Imported."""
        load = self._loads[input.ticket] = PendingImport(input.ticket)
        for frame in input.frames:
            self._take_one(load, frame)
        self._settle(load)

    def _take_one(self, load: PendingImport, frame: Entries) -> None:
        parcel = FileSource(self, load, frame)
        load.undecided += 1
        fault = self._intake.take_from(parcel, [frame])
        if fault is not None:
            parcel.faulted(fault)
        if not parcel.waits:
            parcel.done()

    # ---- what a parcel asks

    def learn(self, namings: Iterable[Naming]) -> None:
        """Know the direct conversations and groups named, as far as they are those of users hosted here."""
        for naming in namings:
            if naming.group:
                self._shelf.conversations.name_group(naming, self._shelf.hosted, "")
            if naming.dm and set(naming.dm) & self._shelf.hosted.keys():
                most = self._ctx.settings.max_conversations_a_user
                self._shelf.conversations.open_passing(naming, most)

    def find(self, id: ConversationId) -> ConversationState | None:
        conversation = self._shelf.conversations.by_id.get(id)
        here = conversation is not None and conversation.shared_with(self._shelf.hosted)
        return conversation if here else None

    def prove_fork(self, conversation: ConversationState, frame: Entries) -> None:
        self._forks.take(self, conversation, frame)

    def kept(self, load: PendingImport, key: Key) -> None:
        step = self._shelf.step
        step.loads[load.ticket] = load
        step.sources.setdefault(NO_LINK, set()).add(key)

    def known(self, load: PendingImport) -> None:
        """Something of it is here, and may be on its way to the disk still."""
        if self._ctx.change.batches:  # what waited with it came in this step
            self._shelf.step.loads[load.ticket] = load
            return
        step = self._newest()
        if step is not None and load.ticket not in step.loads:
            step.loads[load.ticket] = load
            load.commits += 1

    # ---- answering

    def decided(self, load: PendingImport) -> None:
        """What became of one frame that waited for storage is known."""
        self._settle(load)

    def durable(self, loads: Iterable[PendingImport]) -> None:
        """A commit with something of these is on disk."""
        for load in loads:
            load.commits -= 1
            self._settle(load)

    def _settle(self, load: PendingImport) -> None:
        """Answer, once all is decided and on disk."""
        waits = load.undecided or load.commits or load.ticket in self._shelf.step.loads
        if not waits and self._loads.pop(load.ticket, None) is not None:
            self._shelf.sweep()  # of what it named there may be nothing here
            self._ctx.emit(ImportResult(load.ticket, load.new, load.known, load.foreign, dict(load.refused)))

    def refuse_all(self, reason: str) -> None:
        """Storage failed: what is on its way was not kept."""
        loads, self._loads = self._loads, {}
        for load in loads.values():
            self._ctx.emit(ImportResult(load.ticket, failed=reason))


@dataclass(slots=True, eq=False)
class FileSource(EntrySource):
    """One frame of a file, and what became of its entries."""

    tells_the_past = True
    carrying: FileImport
    load: PendingImport
    frame: Entries
    kept_count: int = 0
    known_count: int = 0
    why: str = "member"  # why the rest is not kept; when nothing else is said its writer does not belong there
    waits: bool = field(default=False)

    def may_wait(self, waiting: int) -> bool:
        self.waits = True  # whoever carries files waits for answers: there are never many
        return True

    def learn(self, namings: Iterable[Naming]) -> None:
        self.carrying.learn(namings)

    def find(self, conversation: ConversationId) -> ConversationState | None:
        found = self.carrying.find(conversation)
        if found is None:
            self.why = "foreign"
        return found

    def evidence(self, conversation: ConversationState, frame: Entries) -> None:
        self.carrying.prove_fork(conversation, frame)

    def left_gap(self, log: LogId, frame: Entries) -> None:
        self.why = "gap"

    def is_full(self, key: Key) -> None:
        self.why = "full"

    def is_cut(self, key: Key) -> None:
        self.why = "member"

    def is_forked(self, log: Log) -> None:
        self.why = "fork"

    def contradicted(self) -> None:
        self.why = "fork"

    def repeated(self, count: int) -> None:
        self.known_count += count
        self.carrying.known(self.load)

    def kept(self, key: Key, count: int) -> None:
        self.kept_count += count
        self.carrying.kept(self.load, key)

    def faulted(self, error: LogError) -> None:
        self.why = error.code

    def done(self) -> None:
        """Count it."""
        load = self.load
        rest = 0 if self.frame.fork else len(self.frame.e) - self.kept_count - self.known_count
        load.new += self.kept_count
        load.known += self.known_count
        if self.why == "foreign":
            load.foreign += rest
        elif rest:
            load.refused[self.why] += rest
        load.undecided -= 1
        if self.waits:
            self.carrying.decided(load)
