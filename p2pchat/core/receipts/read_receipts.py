"""Read marks: how far users have read messages.

When a program marks a message as read, each writer gets one mark on the newest of its logs that was read. It goes to
the writer's peers and the reader's other peers (mark_exchange.py).

A read mark that another peer announces counts only as far as the message is known to be delivered. A user may turn read
receipts off, in both directions.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import starmap

from p2pchat.core.durable_changes import ReadMark
from p2pchat.core.effects import ReadReceipt
from p2pchat.core.inputs import MarkedRead, ReceiptsChosen
from p2pchat.core.log import LogId, WriterKey
from p2pchat.core.receipts.delivery_receipts import (
    AckKey,
    Acknowledgement,
    AckTracker,
    DeliveryReceipts,
)
from p2pchat.core.receipts.mark_exchange import MarkExchange
from p2pchat.core.receipts.mark_positions import MAX_ANNOUNCED, ReaderKey
from p2pchat.core.sync.log_index import ConversationState, LogState
from p2pchat.core.sync.remote_state import MAX_REMEMBERED, RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import Mark, PeerId, ReadFrame, UserId

MAX_ANNOUNCED_UNKNOWN = 50_000  # marks of all unknown peers, and as many in equal parts; a guess: 20 MiB


class ReadReceipts(MarkExchange[ReadFrame, MarkedRead]):
    """The read marks of hosted users, and the marks of others about their messages.

    Attributes:
        unsaved: What the next commit shall save, of other readers.
    """

    frame = ReadFrame
    differs = "read_sum_differs"

    def __init__(
        self, sync: SyncContext, stored: list[ReadMark], meta: Mapping[str, str], receipts: DeliveryReceipts
    ) -> None:
        super().__init__(sync, stored)
        self.privacy: ReceiptPrivacy = ReceiptPrivacy(meta)
        self.tracker: ReadTracker = ReadTracker(sync, stored, receipts, self.privacy.wants)
        self.unsaved: dict[AckKey, int] = self.tracker.unsaved

    # ---- storage

    def take_unsaved(self) -> list[ReadMark]:
        """Return what the next commit shall save."""
        return list(starmap(ReadMark, self.tracker.take_unsaved()))

    @property
    def _changed(self) -> list[ReadMark]:
        return self._ctx.change.reads

    def _announce(self, marks: list[ReadMark]) -> None:
        for mark in marks:
            if mark.seq and mark.log.user in self._sync.hosted:
                self.tracker.on_local_read(mark.log, mark.reader, mark.seq)
        super()._announce(marks)

    def take_over(self, former: ReadReceipts) -> None:
        """Take over what was announced and read before storage failed."""
        self.tracker.take_over(former.tracker)
        self.privacy.take_over(former.privacy)
        super().take_over(former)

    def on_user_hosted(self, user: UserId, stored: Iterable[ReadMark]) -> None:
        """Host one more user with these stored marks."""
        known = list(stored)
        self.tracker.add_known((item.log, item.reader, item.seq) for item in known if item.log.user == user)
        super().on_user_hosted(user, known)

    # ---- programs

    def on_privacy_chosen(self, choice: ReceiptsChosen) -> None:
        """Set a hosted user's choice. Marks of the meantime go with the next mark."""
        if self.privacy.choose(choice.user, choice.on, choice.other):
            self._ctx.change.meta[RECEIPTS_CHOSEN] = self.privacy.text

    def _may_tell(self, mark: MarkedRead, writer: UserId) -> bool:
        wants = writer not in mark.except_writers and self.privacy.wants(mark.user, writer)
        return wants and super()._may_tell(mark, writer)

    def _named_by(self, mark: MarkedRead) -> Iterable[tuple[LogId, int]]:
        return [(mark.log, mark.seq)]

    # ---- who hears of them

    def _links_of(self, writer: UserId, reader: UserId) -> Iterable[int]:
        return (*self._sync.presence.hosts.get(writer, ()), *super()._links_of(writer, reader))

    def _tells(self, remote: RemoteState, conversation: ConversationState) -> bool:
        """Return whether a remote hears what was read there: not the peer of an unknown user without an answer."""
        if conversation.id in self._sync.requests.by_id:
            unknown = set(conversation.naming.dm or ()) - self._sync.hosted.keys()
            if not unknown.isdisjoint(remote.link.users):
                return False
        return super()._tells(remote, conversation)

    def _told_writers(self, remote: RemoteState) -> AbstractSet[UserId]:
        return remote.link.users.keys()

    def on_answered(self, conversation: ConversationState, writer: UserId, reader: UserId) -> None:
        """Tell what was read of a user who was unknown until now."""
        if self._positions.has_any(conversation.id, reader):
            self._queue_all(conversation, writer, reader)

    # ---- receiving

    def on_link_down(self, remote: RemoteState) -> None:
        """Forget the state of a link. The marks of its peer are kept if they are few; storage knows most of them."""
        super().on_link_down(remote)
        self.tracker.on_link_down(remote)

    def _marks_of(self, remote: RemoteState) -> Iterable[ReadMark]:
        return self.tracker.marks_of(remote.link.users)

    def _max_announced(self, remote: RemoteState) -> int:
        """Return how many marks of a peer are remembered: those of unknown peers share a number (SyncContext)."""
        if remote.link.known:
            return MAX_ANNOUNCED
        equal_part = MAX_ANNOUNCED_UNKNOWN // len(self._sync.remotes)
        if self._announced[remote.link.peer].count + self._ctx.settings.page_items <= equal_part:
            return equal_part  # whatever others have
        others = sum(one.count for peer, one in self._announced.items() if peer != remote.link.peer)
        return min(MAX_ANNOUNCED, max(equal_part, MAX_ANNOUNCED_UNKNOWN - others))

    def _concerns(self, reader: UserId, ref: str) -> bool:
        return super()._concerns(reader, ref) or bool(self._sync.hosted.with_prefix(ref[:16]))

    def _on_mark(self, remote: RemoteState, pair: ReaderKey, ref: str, seq: int) -> None:
        super()._on_mark(remote, pair, ref, seq)  # perhaps on another peer of that user
        conversation, reader = self._of(pair[0]), pair[1]
        for user in self._sync.hosted.with_prefix(ref[:16]):
            if conversation.may_write(user):
                self.tracker.on_read_mark(remote, conversation, user, reader, ref[16:], seq)


# ---- marks by readers elsewhere

# Early marks that are counted again together, and seconds until the next ones: a member may announce 10,000, and each
# may ask storage. A guess: 2 % of a core.
RECOUNTED_AT_ONCE = 128
RECOUNTED_EVERY = 0.1

WantsReceipts = Callable[[UserId, UserId], bool]  # whether a hosted user and another exchange read receipts


class ReadTracker(AckTracker):
    """The highest read mark that counts, per log of a hosted user and reader.

    A read mark counts as far as its reader is known to have the log, so no message is read before it is delivered, and
    a mark on entries of a copy of this machine does not count. The rest counts when the delivery receipt comes. For a
    log in storage, a reader who has something of every tip that may build on it has all of it.
    """

    def __init__(
        self, sync: SyncContext, stored: Iterable[ReadMark], receipts: DeliveryReceipts, wants: WantsReceipts
    ) -> None:
        mine = (item for item in stored if item.log.user in sync.hosted)
        super().__init__(sync, ((item.log, item.reader, item.seq) for item in mine))
        self._receipts = receipts
        self._wants = wants
        self.early: dict[AckKey, tuple[RemoteState, int]] = {}  # announced, but not known to be delivered that far
        self._early_of: dict[WriterKey, dict[UserId, dict[LogId, None]]] = {}  # the same logs, by writer and reader
        self._early_readers: dict[LogId, set[UserId]] = {}  # the same readers, by log
        self._to_recount: dict[WriterKey, dict[UserId, None]] = {}
        self._recounting: deque[AckKey] = deque()  # of the writers and readers before these
        self._rests = False  # from recounting, until a timer ends

    def marks_of(self, readers: Iterable[UserId]) -> list[ReadMark]:
        """Return the known marks of these readers."""
        wanted = set(readers)
        return [
            ReadMark(log, member, positions[member])
            for log, positions in self._positions.items()
            for member in sorted(positions.keys() & wanted)
        ]

    def on_read_mark(
        self, remote: RemoteState, conversation: ConversationState, user: UserId, reader: UserId, run: str, seq: int
    ) -> None:
        """Take a read mark announced for a hosted user's log."""
        if reader != user and conversation.may_write(reader) and self._wants(user, reader):
            self.on_mark(Acknowledgement(remote, conversation, user, reader), Mark(run, seq, ""))

    def on_local_read(self, log: LogId, reader: UserId, seq: int) -> None:
        """Take the mark of one user of this peer on the log of another. It marks all logs that this log builds on."""
        if seq > self.position(log, reader) and self._wants(log.user, reader):
            conversation = self._sync.conversations.by_id[log.conversation]
            state = conversation.log(log.user, log.run)
            ack = Acknowledgement(None, conversation, log.user, reader)
            self.advance_to(ack, log, seq, () if state is None else state.before)

    def on_delivered(self, log: LogId, first: int, members: Sequence[UserId]) -> None:
        """Recount marks that came before their delivery."""
        early, readers = self._early_of.get(log.key), self._early_readers.get(log)
        if readers is not None:
            for member in [member for member in members if member in readers]:  # of thousands that have it now
                self._recount(log, member)
        if first == 1 and early and not early.keys().isdisjoint(members):  # they may have something of every tip now
            self._to_recount.setdefault(log.key, {}).update(dict.fromkeys(members))
        self._recount_some()

    def on_fork(self, log: LogId) -> None:
        """Recount the marks of a writer one of whose logs forked: it will get no receipts."""
        if log.key in self._early_of:
            self._to_recount.setdefault(log.key, {}).update(dict.fromkeys(self._early_of[log.key]))
        self._recount_some()

    def _recount_some(self) -> None:
        """Recount some marks, and others later: one mark of a peer may tell that it has a thousand logs."""
        if self._rests or not (self._recounting or self._to_recount):
            return
        while self._to_recount and len(self._recounting) < RECOUNTED_AT_ONCE:
            writer, readers = next(iter(self._to_recount.items()))
            reader, _ = readers.popitem()
            if not readers:
                del self._to_recount[writer]
            self._recounting.extend((log, reader) for log in self._early_of.get(writer, {}).get(reader, ()))
        for _ in range(min(RECOUNTED_AT_ONCE, len(self._recounting))):
            self._recount(*self._recounting.popleft())
        self._rests = True
        self._sync.after(RECOUNTED_EVERY, self._on_rested)

    def _on_rested(self) -> None:
        self._rests = False
        self._recount_some()

    def _recount(self, log: LogId, member: UserId) -> None:
        early = self._forget_early((log, member))
        conversation = self._sync.conversations.by_id.get(log.conversation)  # None: deleted meanwhile
        if early is not None and conversation is not None:
            self.on_read_mark(early[0], conversation, log.user, member, log.run, early[1])

    def _forget_early(self, key: AckKey) -> tuple[RemoteState, int] | None:
        early = self.early.pop(key, None)
        if early is not None:
            log, reader = key
            readers = self._early_of[log.key]
            del readers[reader][log]
            if not readers[reader]:
                del readers[reader]
            if not readers:
                del self._early_of[log.key]
            self._early_readers[log].discard(reader)
            if not self._early_readers[log]:
                del self._early_readers[log]
        return early

    # ---- hooks of AckTracker

    def on_mark(self, ack: Acknowledgement, mark: Mark) -> None:
        if ack.conversation.log(ack.writer, mark.run) is None:
            # After a restore from an older disk, the log may come back.
            self._keep_early(ack, LogId(ack.conversation.id, ack.writer, mark.run), mark.seq)
        super().on_mark(ack, mark)

    def _countable(self, ack: Acknowledgement, log: LogState, mark: Mark) -> int:
        """Count a mark as far as its reader is known to have the log.

        Of a covered log, this run may know only who has what builds on it.
        """
        if log.forked:
            return 0
        had = self._receipts.position(log.id, ack.member)
        if had < mark.seq and log.durable_covered and log.id not in self._sync.left_out.logs:
            writer = ack.conversation.writer(ack.writer)
            above = [tip for tip in writer.tips() if writer.may_build_on(tip, mark.run)]
            if above and all(self._receipts.position(tip.id, ack.member) for tip in above):
                had = log.durable_seq
        if mark.seq > had:
            self._keep_early(ack, log.id, mark.seq)
        return min(mark.seq, had)

    def _countable_below(self, ack: Acknowledgement, log: LogState, mark: Mark) -> int:
        """Count a mark below. A reader who has a log has all that it builds on."""
        if log.id in self._sync.left_out.logs:
            return self._countable(ack, log, mark)
        return super()._countable_below(ack, log, mark)

    def _keep_early(self, ack: Acknowledgement, log: LogId, seq: int) -> None:
        assert ack.remote is not None  # what users of this peer read is here
        if len(self.early) >= MAX_REMEMBERED:
            self._make_room()
        former = self.early[log, ack.member][1] if (log, ack.member) in self.early else 0
        if seq >= former:  # a later log implies less of it, and so may another peer of the reader
            self.early[log, ack.member] = ack.remote, seq
            self._early_of.setdefault(log.key, {}).setdefault(ack.member, {})[log] = None
            self._early_readers.setdefault(log, set()).add(ack.member)

    def _make_room(self) -> None:
        """Drop half the marks of the peers that announced most, so that a flood displaces only its own."""
        dropped, freed = dict[PeerId, int](), 0
        for peer, count in Counter(remote.link.peer for remote, _ in self.early.values()).most_common():
            dropped[peer] = (count + 1) // 2
            freed += dropped[peer]
            if freed >= MAX_REMEMBERED // 16:  # not a few for each mark, since all are counted for it
                break
        for key, (remote, _) in [*self.early.items()]:
            if dropped.get(remote.link.peer):
                dropped[remote.link.peer] -= 1
                self._forget_early(key)

    def on_link_down(self, remote: RemoteState) -> None:
        """Keep the marks announced on a link, without the rest of its state."""
        if any(by is remote for by, _ in self.early.values()):
            bare = RemoteState(remote.link)
            self.early = {key: (bare if by is remote else by, seq) for key, (by, seq) in self.early.items()}

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

    def take_over(self, former: ReceiptPrivacy) -> None:
        """Take over the choices made before storage failed."""
        self._chosen = former._chosen

    @property
    def text(self) -> str:
        return ",".join(f"{user} {other} {'on' if on else 'off'}" for (user, other), on in self._chosen.items())
