"""The receipts of one peer: what its users and those of others have, have taken and have read.

Delivery is derived from the marks of peers (delivery_receipts.py); what users have read and taken are marks of their
own (mark_exchange.py). PeerReceipts says in which order they hear what happens.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pchat.core.durable_changes import Change, DeliveredMark, ReadMark, Stored
from p2pchat.core.effects import DeliveryReceipt, ReadStored, WriteAccepted
from p2pchat.core.log import LogId
from p2pchat.core.node_context import LAZY_COMMIT_EVERY
from p2pchat.core.receipts.delivery_receipts import (
    Acknowledgements,
    DeliveryReceipts,
)
from p2pchat.core.receipts.mark_exchange import MarkExchange
from p2pchat.core.sync.conversation_state import ConversationState, LogState
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.step import Step
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import RunId, UserId


class PeerReceipts:
    """All receipts, and the acknowledgements that others derive theirs from."""

    def __init__(self, sync: SyncContext, stored: Stored) -> None:
        self._sync = sync
        self.delivered: DeliveryReceipts = DeliveryReceipts(sync, stored.delivered, stored.meta)
        self.marks: MarkExchange = MarkExchange(sync, stored.reads, self.delivered)
        self.acknowledgements: Acknowledgements = Acknowledgements(sync)
        self._saved_at = float("-inf")  # marks of deliveries: entries take them once in 5 s, others always

    # ---- links

    def on_link_down(self, remote: RemoteState) -> None:
        self.delivered.on_gone(remote.link.peer)
        self.marks.on_link_down(remote)

    def on_acked(self, step: Step) -> None:
        """Take what a frame acknowledged."""
        for remote, conversation, user, acked, is_equal in step.acked:
            self.delivered.on_marks(remote, conversation, user, acked)
            if is_equal:
                equal = {*remote.link.users, remote.link.peer}  # a machine of a person is none of its users
                for log, member in self.delivered.left_out.lift((conversation.id, user), equal):
                    self.delivered.on_lifted(remote, conversation, log, member)
        step.acked = []

    # ---- users

    def on_user_hosted(self, user: UserId, delivered: Iterable[DeliveredMark], reads: Iterable[ReadMark]) -> None:
        self.delivered.add_known((mark.log, mark.member, mark.seq) for mark in delivered)
        self.marks.on_user_hosted(user, reads)

    # ---- commits

    def on_commit(self, change: Change) -> None:
        """Save what was heard of others since the last commit."""
        unsaved = self.delivered.unsaved
        if unsaved and (not change.batches or self._sync.ctx.now.mono >= self._saved_at + LAZY_COMMIT_EVERY):
            self._saved_at = self._sync.ctx.now.mono
            change.delivered += [DeliveredMark(*key, mark.seq) for key, mark in unsaved.items()]
            unsaved.clear()
        unsaved = self.marks.tracker.unsaved
        if unsaved:
            change.reads += [ReadMark(*key, mark.seq, mark.chain) for key, mark in unsaved.items()]
            unsaved.clear()

    def accept(self, ticket: int, log: LogState, first: int, count: int, kind: str) -> None:
        """Answer a request of a hosted user whose entries are durable; with none, what was asked was written before."""
        members, here, guests = self.delivered.recipients(log.conversation, log.user)
        self._sync.ctx.emit(WriteAccepted(ticket, log.id, first, count, members, kind, here, guests))
        if members == (log.user,) and count and not log.conversation.has_facts:  # a note to oneself is delivered
            self._sync.ctx.emit(DeliveryReceipt(log.id, first, first + count - 1, log.user))

    def on_durable(self, step: Step) -> None:
        """Acknowledge entries that are durable, and announce marks. Count marks that came before their entries."""
        if step.change.reads:
            self.marks.on_durable(step.change.reads)
        for ticket in step.reads:
            self._sync.ctx.emit(ReadStored(ticket))
        if step.sources:
            self.acknowledgements.on_durable(step)
        for log, batch in step.grown:
            if log.own:
                self.delivered.on_batch_durable(log, batch)
        for log in step.logs:
            if not log.own and log.user in self._sync.hosted:
                self.delivered.recount_acks(log.conversation, log.user)
        if self.marks.early.by_log:
            for log in step.logs:
                self.marks.recount(log.id)

    def on_texts_known(self, conversation: ConversationState, user: UserId, runs: Iterable[RunId]) -> None:
        """Count marks of logs again of which a remote told which texts it has."""
        self.delivered.recount_acks(conversation, user)
        for run in runs:
            self.marks.recount(LogId(conversation.id, user, run))

    def on_stop(self, change: Change) -> None:
        """Save and send everything, since there is no later commit."""
        self.on_commit(change)
        self.marks.on_stop()

    def take_over(self, former: PeerReceipts) -> None:
        """Take over what was reported before storage failed, so that nothing is twice, and what nobody marks again."""
        self.delivered.take_over(former.delivered)
        self.marks.tracker.take_over(former.marks.tracker)
        self.marks.take_over(former.marks)
