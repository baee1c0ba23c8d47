"""The receipts of one peer: what its users and those of others have, have taken and have read.

Delivery is derived from the marks of peers (delivery_receipts.py); what users have read and taken are marks of their
own (mark_exchange.py). PeerReceipts says in which order they hear what happens; read marks stand below.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from p2pchat.core.durable_changes import Change, DeliveredMark, ReadMark, Stored
from p2pchat.core.effects import DeliveryReceipt, ReadReceipt, ReadStored, WriteAccepted
from p2pchat.core.inputs import MarkedRead, ReceiptsChosen
from p2pchat.core.log import LogId
from p2pchat.core.node_context import LAZY_COMMIT_EVERY
from p2pchat.core.receipts.delivery_receipts import (
    Acknowledgement,
    Acknowledgements,
    AckTracker,
    DeliveryReceipts,
)
from p2pchat.core.receipts.mark_exchange import ChangedMark, MarkExchange, ReaderKey, ReadPosition, TakenMarks
from p2pchat.core.sync.conversation_state import ConversationState, LogState
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.step import Step
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import Mark, MarksFrame, ReadFrame, RunId, UserId, split_ref, user_start


class PeerReceipts:
    """All receipts, and the acknowledgements that others derive theirs from."""

    def __init__(self, sync: SyncContext, stored: Stored) -> None:
        self._sync = sync
        self.delivered: DeliveryReceipts = DeliveryReceipts(sync, stored.delivered, stored.meta)
        self.read: ReadReceipts = ReadReceipts(sync, stored.reads, stored.meta, self.delivered)
        self.taken: TakenMarks = TakenMarks(sync, stored.taken)
        self.acknowledgements: Acknowledgements = Acknowledgements(sync)
        self._marks = (self.read, self.taken)
        self._saved_at = float("-inf")  # marks of deliveries: entries take them once in 5 s, others always

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
        unsaved = self.delivered.unsaved
        if unsaved and (not change.batches or self._sync.ctx.now.mono >= self._saved_at + LAZY_COMMIT_EVERY):
            self._saved_at = self._sync.ctx.now.mono
            change.delivered += [DeliveredMark(*key, mark.seq) for key, mark in unsaved.items()]
            unsaved.clear()
        unsaved = self.read.tracker.unsaved
        if unsaved:
            change.reads += [ReadMark(*key, mark.seq, mark.chain) for key, mark in unsaved.items()]
            unsaved.clear()

    def accept(self, ticket: int, log: LogState, first: int, count: int, kind: str) -> None:
        """Answer a request of a hosted user whose entries are durable."""
        members, here, guests = self.delivered.recipients(log.conversation, log.user)
        self._sync.ctx.emit(WriteAccepted(ticket, log.id, first, count, members, kind, here, guests))
        if members == (log.user,) and not log.conversation.is_operations:  # a note to oneself is delivered already
            self._sync.ctx.emit(DeliveryReceipt(log.id, first, first + count - 1, log.user))

    def on_durable(self, step: Step) -> None:
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
        for log in step.logs:
            if not log.own and log.user in self._sync.hosted:
                self.delivered.recount_acks(log.conversation, log.user)
        for marks in self._marks:
            if marks.early.by_log:
                for log in step.logs:
                    marks.recount(log.id)

    def on_texts_known(self, conversation: ConversationState, user: UserId, runs: Iterable[RunId]) -> None:
        """Count marks of logs again of which a remote told which texts it has."""
        self.delivered.recount_acks(conversation, user)
        for run in runs:
            self.read.recount(LogId(conversation.id, user, run))

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


# ---- read marks: how far users have read messages
#
# When a program marks a message as read, each writer gets one mark on the newest of its logs that was read. It goes to
# the writer's peers and the reader's other peers. It names the chain where it ends, so it proves that its reader has
# the log up to there. A user may turn read receipts off, in both directions.


class ReadReceipts(MarkExchange[MarkedRead]):
    """The read marks of hosted users, and the marks of others about their messages."""

    frame: type[ReadFrame] = ReadFrame
    differs = "read_sum_differs"

    def __init__(
        self, sync: SyncContext, stored: list[ReadMark], meta: Mapping[str, str], receipts: DeliveryReceipts
    ) -> None:
        super().__init__(sync, stored)
        self.privacy: ReceiptPrivacy = ReceiptPrivacy(meta)
        self.tracker: ReadTracker = ReadTracker(sync, stored, receipts, self.privacy)

    # ---- storage

    @property
    def _changed(self) -> list[ReadMark]:
        return self._ctx.change.reads

    def _announce(self, changes: list[ChangedMark]) -> None:
        for mark, _ in changes:
            if mark.seq and mark.log.user in self._sync.hosted:
                self.tracker.on_local_read(mark)
        super()._announce(changes)

    def on_user_hosted(self, user: UserId, stored: Iterable[ReadMark]) -> None:
        """Host one more user with these stored marks."""
        known = list(stored)
        self.tracker.add_known((item.log, item.reader, item.seq) for item in known if item.log.user == user)
        super().on_user_hosted(user, known)

    # ---- programs

    def on_privacy_chosen(self, choice: ReceiptsChosen) -> None:
        """Set a hosted user's choice. Marks of the meantime go with the next mark."""
        if self.privacy.choose(choice.user, choice.on, choice.other):
            self._ctx.choose(RECEIPTS_CHOSEN, self.privacy.text)

    def _may_tell(self, mark: MarkedRead, writer: UserId) -> bool:
        wants = writer not in mark.except_writers and self.privacy.wants(mark.user, writer)
        return wants and super()._may_tell(mark, writer)

    def _asked_by(self, mark: MarkedRead, conversation: ConversationState) -> Iterable[LogId]:
        return dict.fromkeys([mark.log, *super()._asked_by(mark, conversation)])

    # ---- who hears of them

    def _links_of(self, writer: UserId, reader: UserId) -> Iterable[int]:
        return (*self._sync.presence.hosts.get(writer, ()), *super()._links_of(writer, reader))

    def _told_writers(self, remote: RemoteState) -> AbstractSet[UserId]:
        return remote.link.users.keys()

    # ---- receiving

    def _concerns(self, reader: UserId, ref: str) -> bool:
        return super()._concerns(reader, ref) or user_start(ref) in self._sync.hosted.by_prefix

    def _on_mark(self, remote: RemoteState, pair: ReaderKey, ref: str, position: ReadPosition) -> bool:
        is_taken = super()._on_mark(remote, pair, ref, position)  # perhaps on another peer of that user
        start, run = split_ref(ref)
        conversation, mark = self._of(pair[0]), Mark(run, *position)
        user = self._sync.hosted.by_prefix.get(start)
        if user is not None and conversation.may_write(user):
            is_taken &= self.tracker.on_read_mark(remote, conversation, user, pair[1], mark)
        return is_taken


# ---- marks by readers elsewhere


class ReadTracker(AckTracker):
    """The highest read mark that counts, per log of a hosted user and reader.

    A mark names the chain at the last entry read. So it proves that its reader has the log up to there, and a mark on
    entries of a copy of this machine does not count. Who has read a message has it: the delivery is reported first.
    In the room, where the holders are peers, a mark of a hosted user says nothing about its peer: that may pass on what
    the user read elsewhere.
    """

    def __init__(
        self, sync: SyncContext, stored: Iterable[ReadMark], receipts: DeliveryReceipts, privacy: ReceiptPrivacy
    ) -> None:
        mine = (item for item in stored if item.log.user in sync.hosted)
        most = sync.ctx.settings.max_hosted_users
        super().__init__(sync, ((item.log, item.reader, item.seq) for item in mine), most)
        self._receipts = receipts
        self._privacy = privacy

    def on_read_mark(
        self, remote: RemoteState, conversation: ConversationState, user: UserId, reader: UserId, mark: Mark
    ) -> bool:
        """Take a read mark announced for a hosted user's log. Return False if it cannot be compared yet."""
        may_have_read = reader != user and conversation.may_write(reader) and not conversation.is_operations
        if not may_have_read or not self._privacy.wants(user, reader):
            return True
        log = conversation.log(user, mark.run)
        if log is None or (mark.seq > log.durable_seq and not log.forked):
            return False  # after a restore from an older disk, the rest may come back
        counts = self._receipts.counts(log, mark)
        if counts:
            ack = Acknowledgement(remote, conversation, user, reader)
            if self._with_texts(ack, mark) != mark:
                return False
            if conversation.allowed_writers is not None or reader == remote.link.peer:
                self._receipts.advance_to(ack, mark, log.before)
            self.advance_to(ack, mark, log.before)
        return counts is not None

    def on_local_read(self, mark: ReadMark) -> None:
        """Take the mark of one user of this peer on the log of another. It marks all logs that this log builds on."""
        log = mark.log
        if mark.seq > self.position(log, mark.reader) and self._privacy.wants(log.user, mark.reader):
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


# ---- privacy


RECEIPTS_CHOSEN = "receipts_chosen"  # in meta: "user other on|off" joined by commas; "-" for all others
_ALL = "-"


class ReceiptPrivacy:
    """The choice of hosted users to exchange read receipts with others. Everyone does by default.

    One choice holds for both directions, in general or for a single other user. It is stored, so that nothing is
    revealed between a start and the moment a program repeats it.
    """

    def __init__(self, meta: Mapping[str, str]) -> None:
        self._chosen: dict[tuple[UserId, str], bool] = {}
        for item in filter(None, meta.get(RECEIPTS_CHOSEN, "").split(",")):
            user, other, on = item.split(" ")
            self._chosen[user, other] = on == "on"

    def choose(self, user: UserId, on: bool | None, other: UserId) -> bool:
        """Set a choice: `other` "" for everyone without a choice of their own, `on` None to remove it. Return whether
        it changed.
        """
        key = (user, other or _ALL)
        if self._chosen.get(key) == on:
            return False
        if on is None:
            del self._chosen[key]
        else:
            self._chosen[key] = on
        return True

    def line_with(self, choice: ReceiptsChosen) -> dict[str, str | None]:
        """Return what stores these choices and another one."""
        changed = ReceiptPrivacy({RECEIPTS_CHOSEN: self.text})
        changed.choose(choice.user, choice.on, choice.other)
        return {RECEIPTS_CHOSEN: changed.text}

    def line_without(self, user: UserId) -> dict[str, str | None]:
        """Return what stores the choices of all but a user, if it made one."""
        changed = ReceiptPrivacy({RECEIPTS_CHOSEN: self.text})
        changed.forget(user)
        return {} if changed.text == self.text else {RECEIPTS_CHOSEN: changed.text}

    def forget(self, user: UserId) -> None:
        """Forget the choices of a user, when it is deleted."""
        self._chosen = {key: on for key, on in self._chosen.items() if key[0] != user}

    def wants(self, user: UserId, other: UserId) -> bool:
        """Return whether a hosted user exchanges read receipts with another."""
        found = self._chosen.get((user, other))
        return self.default(user) if found is None else found

    def default(self, user: UserId) -> bool:
        """Return the choice for everyone without one of their own."""
        return self._chosen.get((user, _ALL), True)

    def exceptions(self, user: UserId) -> dict[UserId, bool]:
        """Return the choices for single others."""
        return {other: on for (one, other), on in self._chosen.items() if one == user and other != _ALL}

    @property
    def text(self) -> str:
        return ",".join(f"{user} {other} {'on' if on else 'off'}" for (user, other), on in self._chosen.items())
