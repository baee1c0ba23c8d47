"""The receipts of one peer: what its users and those of others have, have taken and have read.

Delivery is derived from the marks of peers (delivery_receipts.py); what users have read and taken are marks of their
own (read_receipts.py, mark_exchange.py). This file says in which order they hear what happens.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pchat.core.commits import LAZY_COMMIT_EVERY
from p2pchat.core.durable_changes import Change, DeliveredMark, ReadMark
from p2pchat.core.effects import DeliveryReceipt, ReadStored, WriteAccepted
from p2pchat.core.receipts.delivery_receipts import Acknowledgements, DeliveryReceipts
from p2pchat.core.receipts.mark_exchange import TakenMarks
from p2pchat.core.receipts.read_receipts import ReadReceipts
from p2pchat.core.storage_answers import Stored
from p2pchat.core.sync.conversation_state import LogState
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.step import Step
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import MarksFrame, ReadFrame, UserId


class PeerReceipts:
    """All receipts, and the acknowledgements that others derive theirs from."""

    def __init__(self, sync: SyncContext, stored: Stored) -> None:
        self._sync = sync
        self.delivered: DeliveryReceipts = DeliveryReceipts(sync, stored.delivered, stored.meta)
        self.read: ReadReceipts = ReadReceipts(sync, stored.reads, stored.meta, self.delivered)
        self.taken: TakenMarks = TakenMarks(sync, stored.taken)
        self.acknowledgements: Acknowledgements = Acknowledgements(sync)
        self._marks = (self.read, self.taken)
        self._saved_at = float("-inf")  # marks of deliveries: entries take them once a second, others always

    def marks_of(self, frame: MarksFrame) -> ReadReceipts | TakenMarks:
        """Return the marks that a frame is about."""
        return self.read if isinstance(frame, ReadFrame) else self.taken

    # ---- links

    def on_link_down(self, remote: RemoteState) -> None:
        self.delivered.on_gone(remote.link.peer)
        for marks in self._marks:
            marks.on_link_down(remote)

    def on_acked(self, step: Step) -> None:
        """Take what a frame acknowledged."""
        for remote, conversation, user, acked, is_equal in step.acked:
            self.delivered.on_marks(remote, conversation, user, acked)
            if is_equal:
                for log, member in self.delivered.left_out.lift((conversation.id, user), remote.link.users):
                    self.delivered.on_lifted(remote, conversation, log, member)
        step.acked = []

    def send_sums(self, remote: RemoteState) -> None:
        """Send the sums of marks that go with each digest."""
        for marks in self._marks:
            marks.send_sum(remote)

    def send_pending(self) -> None:
        """Send the marks that are due at the end of a step."""
        for marks in self._marks:
            if marks.is_due:
                marks.send_pending()

    # ---- users

    def on_user_hosted(
        self, user: UserId, delivered: Iterable[DeliveredMark], reads: Iterable[ReadMark], taken: Iterable[ReadMark]
    ) -> None:
        self.delivered.add_known((mark.log, mark.member, mark.seq) for mark in delivered)
        self.read.on_user_hosted(user, reads)
        self.taken.on_user_hosted(user, taken)

    def on_user_unhosted(self, user: UserId) -> None:
        for marks in self._marks:
            marks.on_user_unhosted(user)

    # ---- commits

    def on_commit(self, change: Change) -> None:
        """Save what was heard of others since the last commit."""
        now = self._sync.ctx.now.mono
        if self.delivered.unsaved and (not change.batches or now >= self._saved_at + LAZY_COMMIT_EVERY):
            self._saved_at = now
            change.delivered.extend(self.delivered.take_unsaved_marks())
        if self.read.unsaved:
            change.reads.extend(self.read.take_unsaved())

    def accept(self, ticket: int, log: LogState, first: int, count: int, kind: str) -> None:
        """Answer a request of a hosted user whose entries are durable."""
        members, here, guests = self.delivered.recipients(log.conversation, log.user)
        self._sync.ctx.emit(WriteAccepted(ticket, log.id, first, count, members, kind, here, guests))
        if members == (log.user,) and not log.conversation.is_operations:  # a note to oneself is delivered already
            self._sync.ctx.emit(DeliveryReceipt(log.id, first, first + count - 1, log.user))

    def on_durable(self, step: Step, logs: Iterable[LogState]) -> None:
        """Acknowledge entries that are durable, and announce marks. Count marks that came before their entries."""
        if step.change.reads:
            self.read.on_durable(step.change.reads)
        if step.change.taken:
            self.taken.on_durable(step.change.taken)
        for ticket in step.reads:
            self._sync.ctx.emit(ReadStored(ticket))
        if step.sources:
            self.acknowledgements.on_durable(step)
        for log, batch in step.grown:
            if log.own:
                self.delivered.on_batch_durable(log, batch)
        for log in logs:
            if not log.own and log.user in self._sync.hosted:
                self.delivered.recount_acks(log.conversation, log.user)
            for marks in self._marks:
                if marks.early.by_log:
                    marks.recount(log.id)

    def on_chains_found(self) -> None:
        """Count the marks for which storage was asked."""
        for log in self.delivered.recount_unsure():
            self.read.recount(log)

    def on_stop(self, change: Change) -> None:
        """Save and send everything, since there is no later commit."""
        self.on_commit(change)
        for marks in self._marks:
            marks.on_stop()

    def take_over(self, former: PeerReceipts) -> None:
        """Take over what was reported before storage failed, so that nothing is twice, and what nobody marks again."""
        self.delivered.take_over(former.delivered)
        self.read.tracker.take_over(former.read.tracker)
        self.read.take_over(former.read)
        self.taken.take_over(former.taken)

    def fail_all(self, reason: str) -> None:
        """Refuse the marks that storage looks up, since it failed."""
        for marks in self._marks:
            marks.refuse_unanswered(reason)
