"""Read receipts: how far others have read what users here wrote, and which users exchange them.

The marks come by mark_exchange.py. A user may turn read receipts off, in both directions.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pchat.core.durable_changes import ReadMark
from p2pchat.core.effects import ReadReceipt
from p2pchat.core.log import LogId
from p2pchat.core.receipts.delivery_receipts import Acknowledgement, AckTracker, DeliveryReceipts
from p2pchat.core.sync.conversation_state import ConversationState, LogState
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import Mark, UserId


class ReadTracker(AckTracker):
    """The highest read mark that counts, per log of a hosted user and reader.

    A mark names the chain at the last entry read. So it proves that its reader has the log up to there, and a mark on
    entries of a copy of this machine does not count. Who has read a message has it: the delivery is reported first.
    In the room, where the holders are peers, a mark of a hosted user says nothing about its peer: that may pass on what
    the user read elsewhere.
    """

    def __init__(self, sync: SyncContext, stored: Iterable[ReadMark], receipts: DeliveryReceipts) -> None:
        mine = (item for item in stored if item.log.user in sync.hosted)
        most = sync.ctx.settings.max_hosted_users
        super().__init__(sync, ((item.log, item.reader, item.seq) for item in mine if not item.taken), most)
        self._receipts = receipts
        self._own = sync.ctx.own

    def on_read_mark(
        self, remote: RemoteState, conversation: ConversationState, user: UserId, reader: UserId, mark: Mark
    ) -> bool:
        """Take a read mark announced for a hosted user's log. Return False if it cannot be compared yet."""
        may_have_read = reader != user and conversation.may_write(reader) and not conversation.has_facts
        if not may_have_read or not self._own.exchange_receipts(user, reader):
            return True
        log = conversation.log(user, mark.run)
        if log is None or (mark.seq > log.durable_seq and not log.forked):
            return False  # after a restore from an older disk, the rest may come back
        counts = self._receipts.counts(log, mark)
        if counts:
            ack = Acknowledgement(remote, conversation, user, reader)
            if self._with_texts(ack, remote, mark) != mark:
                return False
            if conversation.allowed_writers is not None or reader == remote.link.peer:
                self._receipts.advance_to(ack, mark, log.before)
            self.advance_to(ack, mark, log.before)
        return counts is not None

    def on_local_read(self, mark: ReadMark) -> None:
        """Take the mark of one user of this peer on the log of another. It marks all logs that this log builds on."""
        log = mark.log
        if mark.seq > self.position(log, mark.reader) and self._own.exchange_receipts(log.user, mark.reader):
            conversation = self._sync.conversations[log.conversation]
            state = conversation.log(log.user, log.run)
            ack = Acknowledgement(None, conversation, log.user, mark.reader)
            self.advance_to(ack, Mark(log.run, *mark.position), () if state is None else state.before)

    # ---- hooks of AckTracker

    def _counts_below(self, ack: Acknowledgement, log: LogState, mark: Mark) -> bool:
        """Count a mark below. A reader who has a log has all that it builds on, unless it may have another version.

        Its own mark on that log counts at once.
        """
        if ack.remote is not None and log.id in self._receipts.left_out.logs:
            return self._receipts.position(log.id, ack.member) >= mark.seq
        return super()._counts_below(ack, log, mark)

    def _on_advance(self, log: LogId, first: int, last: int, member: UserId) -> None:
        self._sync.ctx.emit(ReadReceipt(log, first, last, member))
