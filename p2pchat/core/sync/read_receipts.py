"""Read marks: setting them, telling them to whom they concern, and comparing what was told by a sum.

A program says that a user has read everything up to a message: that becomes one mark on the newest log read of each
writer (read_receipts.py). Marks go to peers hosting the writer and to the reader's other peers, at once, and again at
most every read_told_every to each; what a link cannot take waits here, each mark once. With each digest goes the sum of
what that link is to know; who has heard something else asks, and gets all of it. What others tell goes to
read_receipts.py.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache, partial
from hashlib import blake2b

from p2pchat.core.effects import Counted, ReadReceipt, Send
from p2pchat.core.inputs import MarkedRead, ReceiptsChosen
from p2pchat.core.log import SUM_MODULUS, LogId, ref_key
from p2pchat.core.records import LogFacts, LogKey, ReadMark, ShownKey
from p2pchat.core.sync.anti_entropy import FIRST_ID, LAST_ID, next_id
from p2pchat.core.sync.delivery_receipts import AckKey, AckTracker, Continuation, DeliveryReceipts, nothing
from p2pchat.core.sync.log_index import ConversationState, Log
from p2pchat.core.sync.sync_context import MAX_REMEMBERED, RemoteState, SyncContext
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, Mark, PeerId, ReadFrame, RunId, UserId

ReadItem = tuple[ConversationId, UserId, str, int]  # conversation, reader, reference key of a log, last seq read

MAX_ABSENT_PEERS = 1024  # peers whose word is remembered though they are gone, and marks of each: 20 MiB
MAX_ANNOUNCED_BY_ABSENT = 100


@dataclass(slots=True)
class PendingReads:
    """What one link is to be told."""

    marks: set[tuple[LogId, UserId]] = field(default_factory=set)
    all: bool = False  # that is, everything
    sent_at: float = float("-inf")  # monotonic
    throttled: bool = False  # a timer runs

    @property
    def has_any(self) -> bool:
        """Return whether there is something to tell; marks may have gone where none rose."""
        return self.all or bool(self.marks)


class ReadReceipts:
    """Read marks of users hosted here, and of others about them."""

    def __init__(
        self, sync: SyncContext, stored: list[ReadMark], meta: Mapping[str, str], receipts: DeliveryReceipts
    ) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self.privacy = ReceiptPrivacy(meta)
        self.tracker = ReadTracker(sync, stored, receipts, self.privacy.wants)
        self._positions = ReadPositions(item for item in stored if item.reader in sync.hosted)
        self._announced: dict[PeerId, AnnouncedReads] = {}
        self._pending: dict[int, PendingReads] = {}  # by link
        self._owed = False  # some link is to be told something
        self._deferred: dict[
            ReaderKey, MarkedRead | None
        ] = {}  # marked just now, or storage is asked; the highest mark since
        self._save_scheduled = False

    # ---- what is kept

    def take_unsaved(self) -> list[ReadMark]:
        """Return what the next commit shall keep."""
        if not (self._positions.unsaved or self.tracker.unsaved):
            return []
        return [*self._positions.take_unsaved(), *self.tracker.take_unsaved()]

    def save(self) -> None:
        """Have what was read saved now: nobody tells it again."""
        self._save_scheduled = False
        self._ctx.change.reads.extend(self._positions.take_unsaved())

    def take_over(self, former: ReadReceipts) -> None:
        """Storage failed and was loaded anew: what was told and read before stays so."""
        self.tracker.take_over(former.tracker)
        self._positions.take_over(former._positions)
        self.privacy.take_over(former.privacy)
        self._save_soon()
        for later in former._deferred.values():
            if later is not None:
                self.on_marked_read(later)

    def _save_soon(self) -> None:
        if self._positions.unsaved and not self._save_scheduled:
            self._save_scheduled = True
            self._sync.after(self._ctx.settings.consumer_saved_after, self.save)

    def on_user_hosted(self, user: UserId, stored: Iterable[ReadMark]) -> None:
        """This peer speaks for one more user: go on with what is stored of it."""
        known = list(stored)
        self.tracker.add_known((item.log, item.reader, item.seq) for item in known if item.log.user == user)
        self._positions.load(item for item in known if item.reader == user)

    def on_user_unhosted(self, user: UserId) -> None:
        """This peer speaks for a user no more: nothing is told of what it has read."""
        self.save()
        self._positions.forget(user)
        for due in self._pending.values():
            due.marks = {mark for mark in due.marks if mark[1] != user}

    # ---- what programs say

    def on_marked_read(self, mark: MarkedRead) -> None:
        """A hosted user has read everything in a conversation up to a place."""
        conversation = self._sync.conversations.by_id.get(mark.log.conversation)
        if conversation is None or mark.user not in self._sync.hosted:
            return
        pair = (conversation.id, mark.user)
        if pair in self._deferred:
            former = self._deferred[pair]
            self._deferred[pair] = mark if former is None or former.place < mark.place else former
            return
        self._deferred[pair] = None
        if _is_newest(conversation, mark):
            self._mark_all_shown(conversation, mark)
            self._defer(pair)
        else:
            key = ShownKey(mark.place, tuple(self._tips(conversation, mark.user)))
            self._sync.lookups.shown_at(key, partial(self._mark_shown, conversation, mark))

    def _defer(self, pair: ReaderKey) -> None:
        """Whoever marks each of a thousand messages costs no look at all writers for each: the next after a while."""
        self._sync.after(self._ctx.settings.read_told_every, partial(self._on_deferred, pair))

    def _on_deferred(self, pair: ReaderKey) -> None:
        later = self._deferred.pop(pair)
        if later is not None:
            self.on_marked_read(later)

    def read_to(self, conversation: ConversationId, reader: UserId) -> tuple[Mapping[LogId, int], int]:
        """Return how far a reader hosted here has read: which logs, and the place of what was marked just now, if it
        has still to be looked up; 0 for none."""
        later = self._deferred.get((conversation, reader))
        return self._positions.positions(conversation, reader), 0 if later is None else later.place

    def on_privacy_chosen(self, choice: ReceiptsChosen) -> None:
        """A hosted user wants receipts of reading, or none; what was told of it meanwhile comes with the next mark."""
        if self.privacy.choose(choice.user, choice.on, choice.other):
            self._ctx.change.meta[RECEIPTS_CHOSEN] = self.privacy.text

    def _tips(self, conversation: ConversationState, reader: UserId) -> Iterator[LogId]:
        for user, writer in conversation.writers.items():
            if user != reader:
                yield from (log.id for log in writer.tips())

    def _may_tell(self, mark: MarkedRead, writer: UserId) -> bool:
        return writer != mark.user and writer not in mark.except_writers and self.privacy.wants(mark.user, writer)

    def _mark_all_shown(self, conversation: ConversationState, mark: MarkedRead) -> None:
        """Everything that was shown there is read."""
        reader = mark.user
        for user, writer in conversation.writers.items():
            if not self._may_tell(mark, user):
                continue
            tips = [log for log in writer.logs.values() if not (log.covered or log.forked)]
            for log in tips:
                self._advance(log.id, reader, log.released)
            runs = {log.id.run for log in tips if log.released}
            if tips and len(runs) == len(tips) and self._positions.keep_only(conversation.id, reader, user, runs):
                self._queue_all(conversation, user, reader)

    def _mark_shown(self, conversation: ConversationState, mark: MarkedRead, shown: list[tuple[LogId, int]]) -> None:
        """Storage says how far logs had been shown when that message was."""
        for log, seq in [*shown, (mark.log, mark.seq)]:
            if self._may_tell(mark, log.user):
                self._advance(log, mark.user, seq)
        self._defer((conversation.id, mark.user))

    def _advance(self, log: LogId, reader: UserId, seq: int) -> None:
        if not self._positions.advance_to(log, reader, seq):
            return
        self._save_soon()
        if log.user in self._sync.hosted:
            self.tracker.on_local_read(log, reader, seq)
        self._queue_mark(log, reader)

    # ---- telling

    def _queue_mark(self, log: LogId, reader: UserId) -> None:
        for due in self._pending_for(self._of(log.conversation), log.user, reader):
            due.marks.add((log, reader))

    def _queue_all(self, conversation: ConversationState, writer: UserId, reader: UserId) -> None:
        """Marks went: who is to be told of them now is told all there is, or would find out and ask."""
        for due in self._pending_for(conversation, writer, reader):
            due.all = True

    def _pending_for(self, conversation: ConversationState, writer: UserId, reader: UserId) -> Iterator[PendingReads]:
        """Yield what is due to each link that is to know of such marks; something will be."""
        for link in sorted(self._sync.presence.hosts(writer) | self._sync.presence.hosts(reader)):
            remote = self._sync.remotes.get(link)
            if remote is not None and remote.comparing and self._sync.shares(remote, conversation):
                self._owed = True
                yield self._pending.setdefault(link, PendingReads())

    @property
    def has_unsent(self) -> bool:
        """Return whether some link that takes it has to be told something yet."""
        owed = any(due.has_any and link in self._sync.remotes for link, due in self._pending.items())
        return owed or any(mark is not None for mark in self._deferred.values())

    def on_stop(self) -> None:
        """This peer stops: tell and save what it still can."""
        for later in self._deferred.values():
            conversation = self._of(later.log.conversation) if later is not None else None
            if later is not None and conversation is not None and _is_newest(conversation, later):
                self._mark_all_shown(conversation, later)
        self.save()
        for link, due in self._pending.items():
            remote = self._sync.remotes.get(link)
            if due.has_any and remote is not None and remote.accepts_marks:
                self._send(remote, due)

    def send_pending(self) -> None:
        """Tell what is due to links that take it, not too often."""
        if not self._owed:
            return
        self._owed = False
        for link, due in self._pending.items():
            remote = self._sync.remotes.get(link)
            if not due.has_any or due.throttled or remote is None:
                continue
            wait = due.sent_at + self._ctx.settings.read_told_every - self._ctx.now.mono
            if wait > 0:
                due.throttled = True
                self._sync.after(wait, partial(self._on_throttle_end, due))
            elif remote.accepts_marks:
                self._send(remote, due)
            else:
                self._owed = True  # until it drains

    def _on_throttle_end(self, due: PendingReads) -> None:
        due.throttled = False
        self._owed = True

    def _send(self, remote: RemoteState, due: PendingReads) -> None:
        self._sync.presence.introduce()
        due.sent_at = self._ctx.now.mono
        marks, due.marks = sorted(due.marks), set()
        tells_all, due.all = due.all, False
        if tells_all and sum(map(len, self._marks_for(remote).values())) <= self._ctx.settings.page_items:
            self._send_all(remote)
            return
        items: list[ReadItem] = []
        for log, reader in marks:
            seq = self._positions.position(log, reader)
            if seq and reader in self._sync.hosted and self._sync.shares(remote, self._of(log.conversation)):
                items.append((log.conversation, reader, ref_key(log.user, log.run), seq))
        for page, _ in self._pages(items):
            if page:
                self._sync.send(ReadFrame(page), remote, *page)

    def _of(self, conversation: ConversationId) -> ConversationState:
        return self._sync.conversations.by_id[conversation]

    def _pages(self, items: list[ReadItem]) -> Iterator[tuple[dict[str, dict[str, list[tuple[str, int]]]], bool]]:
        """Yield at least one page of marks, and whether it is the last; `items` in order of conversations."""
        most = self._ctx.settings.page_items
        for start in range(0, max(1, len(items)), most):
            page: dict[str, dict[str, list[tuple[str, int]]]] = {}
            for conversation, reader, ref, seq in items[start : start + most]:
                page.setdefault(conversation, {}).setdefault(reader, []).append((ref, seq))
            yield page, start + most >= len(items)

    # ---- comparing

    def on_link_down(self, remote: RemoteState) -> None:
        """A link ends. What its peer told is remembered where that is little: what storage knows is most of it."""
        self._pending.pop(remote.link.id, None)
        self.tracker.on_link_down(remote)
        peer = remote.link.peer
        told = self._announced.get(peer)
        if told is not None and (told.count > MAX_ANNOUNCED_BY_ABSENT or len(self._announced) > MAX_ABSENT_PEERS):
            del self._announced[peer]

    def send_sum(self, remote: RemoteState) -> None:
        """Tell the sum of what this link is to know; called with each digest."""
        due = self._pending.get(remote.link.id)
        if due is not None and due.has_any:
            self._send(remote, due)  # else the far end would hear of them by a sum that is another, and ask for all
        total = self.sum_for(remote)
        if total:
            self._ctx.emit(Send(ReadFrame({}, sum=total), [remote.link.id]))

    def sum_for(self, remote: RemoteState) -> str:
        """Return the sum of what this link is to know; "" where there is nothing."""
        marks = self._marks_for(remote)
        return read_sum(marks) if marks else ""

    def announced_sum(self, peer: PeerId) -> str:
        """Return the sum of what a peer has told; "" when nothing is known of it."""
        return self._announced[peer].sum if peer in self._announced else ""

    def _marks_for(self, remote: RemoteState) -> Mapping[ReaderKey, Mapping[str, int]]:
        every = self._sync.conversations.by_id
        users = self._sync.presence.users_of(remote.link.id)
        return self._positions.marks_for(users, lambda id: id in every and self._sync.shares(remote, every[id]))

    def _send_all(self, remote: RemoteState) -> None:
        """Tell everything, in pages that together cover all conversations."""
        self._sync.presence.introduce()
        toward = sorted(self._marks_for(remote).items())
        items = [(*pair, ref, seq) for pair, refs in toward for ref, seq in refs.items()]
        start = FIRST_ID
        for page, is_last in self._pages(items):
            end = LAST_ID if is_last else max(page)
            self._sync.send(ReadFrame(page, span=(start, end)), remote, *page)
            start = end  # a conversation may go on with the next page

    # ---- hearing

    def on_read(self, remote: RemoteState, frame: ReadFrame) -> LogError | None:
        """Take what a peer tells of its users; returns the fault that must end the link."""
        self._sync.learn_namings(remote, frame.names)
        hosted = self._sync.presence.users_of(remote.link.id)
        if any(reader not in hosted for readers in frame.marks.values() for reader in readers):
            return LogError("read: a user not hosted there", code="host")
        told = self._announced_by(remote)
        if frame.ask and remote.accepts_marks:  # if not: the sum will be told again
            self._send_all(remote)
        if frame.sum is not None and frame.sum != told.sum and remote.accepts_marks:
            self._ctx.emit(Counted("read_sum_differs"))
            self._ctx.emit(Send(ReadFrame({}, ask=True), [remote.link.id]))
        self._take_marks(remote, told, frame)
        return None

    def _announced_by(self, remote: RemoteState) -> AnnouncedReads:
        peer = remote.link.peer
        if peer not in self._announced:
            self._announced[peer] = AnnouncedReads(self.tracker.marks_of(self._sync.presence.users_of(remote.link.id)))
        return self._announced[peer]

    def _take_marks(self, remote: RemoteState, told: AnnouncedReads, frame: ReadFrame) -> None:
        hosted = self._sync.hosted
        pairs = {
            (id, reader): [ref for ref in refs if reader in hosted or hosted.with_prefix(ref[0][:16])]
            for id, readers in frame.marks.items()
            if self._sync.find_conversation(remote, id) is not None
            for reader, refs in readers.items()
        }
        if frame.span is not None:
            told.on_page(frame.span, pairs)
        for pair, refs in pairs.items():
            if frame.span is None and not told.update(pair, refs):
                self._ctx.emit(Counted("marks_ignored"))
            for ref, seq in refs:
                self._on_mark(remote, pair, ref, seq)

    def _on_mark(self, remote: RemoteState, pair: ReaderKey, ref: str, seq: int) -> None:
        conversation, reader = self._of(pair[0]), pair[1]
        if reader in self._sync.hosted:  # on another peer of theirs
            self._adopt_mark(remote, conversation, reader, ref, seq)
        for user in self._sync.hosted.with_prefix(ref[:16]):
            if conversation.may_write(user):
                self.tracker.on_read_mark(remote, conversation, user, reader, ref[16:], seq)

    def _adopt_mark(
        self, remote: RemoteState, conversation: ConversationState, reader: UserId, ref: str, seq: int
    ) -> None:
        log = conversation.by_ref.get(ref)
        if log is not None:
            self._advance(log.id, reader, seq)
        elif remote.lookups_pending < MAX_REMEMBERED:
            remote.lookups_pending += 1
            self._sync.lookups.log(LogKey(conversation.id, ref), partial(self._on_log_found, remote, reader, seq))

    def _on_log_found(self, remote: RemoteState, reader: UserId, seq: int, facts: LogFacts | None) -> None:
        remote.lookups_pending -= 1
        if facts is not None:
            self._advance(facts.log, reader, seq)


def _is_newest(conversation: ConversationState, mark: MarkedRead) -> bool:
    """Return whether nothing was shown there since what is marked."""
    return bool(conversation.recently_shown) and mark.place >= conversation.recently_shown[-1][0]


# ---- bookmarks
#
# How far the users hosted here have read: one mark for each reader and newest log read of each writer.
#
# A mark on a log stands for all that the log builds on, so the mark below goes when one above is set. The books know
# who is to be told of which mark and what all of that sums up to; when it is told is decided in read_receipts.py.
#
# Source: docs/protocol.md, "Receipts and presence".


READ_TAG = b"p2pchat/read/1\0"
HASHES_CACHED = 1 << 15  # as many marks as two peers may have between them, and 4 MiB

ReaderKey = tuple[ConversationId, UserId]  # conversation and reader
MarksByReader = Mapping[ReaderKey, Mapping[str, int]]  # pair -> reference key of a log -> last seq read


@lru_cache(HASHES_CACHED)
def _read_hash(conversation: ConversationId, reader: UserId, ref: str, seq: int) -> int:
    data = READ_TAG + bytes.fromhex(conversation + reader + ref) + seq.to_bytes(8, "big")
    return int.from_bytes(blake2b(data, digest_size=32).digest(), "big")


def read_sum(marks: MarksByReader) -> str:
    """Return the sum over read marks as a `read` frame tells it."""
    hashes = (_read_hash(*pair, ref, seq) for pair, refs in marks.items() for ref, seq in refs.items())
    return f"{sum(hashes) % SUM_MODULUS:064x}"


class ReadPositions:
    """The marks of readers hosted here."""

    def __init__(self, stored: Iterable[ReadMark]) -> None:
        self._marks: dict[ReaderKey, dict[LogId, int]] = {}
        self._about: dict[UserId, set[ReaderKey]] = {}  # by writer
        self._of: dict[UserId, set[ReaderKey]] = {}  # by reader
        self.unsaved: dict[tuple[LogId, UserId], int] = {}
        self.load(stored)

    def load(self, stored: Iterable[ReadMark]) -> None:
        """Take what is stored of readers hosted here."""
        for item in stored:
            self._put(item.log, item.reader, item.seq)

    def forget(self, reader: UserId) -> None:
        """A reader is hosted here no more."""
        for pair in self._of.pop(reader, ()):
            for writer in {log.user for log in self._marks.pop(pair)}:
                self._about[writer].discard(pair)

    def take_unsaved(self) -> list[ReadMark]:
        """Return what the next commit shall keep."""
        taken, self.unsaved = self.unsaved, {}
        return [ReadMark(log, reader, seq) for (log, reader), seq in taken.items()]

    def take_over(self, former: ReadPositions) -> None:
        """Take over what was read before storage failed: it may not have been saved."""
        for pair, marks in former._marks.items():
            for log, seq in marks.items():
                self.advance_to(log, pair[1], seq)

    def advance_to(self, log: LogId, reader: UserId, seq: int) -> bool:
        """Set a mark; False when it stood there already or higher."""
        if seq <= self._marks.get((log.conversation, reader), {}).get(log, 0):
            return False
        self._put(log, reader, seq)
        self.unsaved[log, reader] = seq
        return True

    def keep_only(self, conversation: ConversationId, reader: UserId, writer: UserId, runs: AbstractSet[RunId]) -> bool:
        """Of this writer's logs there only these are needed: they stand for the others; True if there were others."""
        marks = self._marks.get((conversation, reader), {})
        others = [log for log in marks if log.user == writer and log.run not in runs]
        for log in others:
            del marks[log]
            self.unsaved[log, reader] = 0
        return bool(others)

    def _put(self, log: LogId, reader: UserId, seq: int) -> None:
        pair = (log.conversation, reader)
        self._marks.setdefault(pair, {})[log] = seq
        self._about.setdefault(log.user, set()).add(pair)
        self._of.setdefault(reader, set()).add(pair)

    def marks_for(self, users: AbstractSet[UserId], is_shared: Callable[[ConversationId], bool]) -> MarksByReader:
        """Return what a peer hosting these users is told: what was read of theirs, and all that they have read."""
        there = users
        pairs = {pair for books in (self._about, self._of) for user in books.keys() & there for pair in books[user]}
        told: dict[ReaderKey, dict[str, int]] = {}
        for pair in pairs:
            if not is_shared(pair[0]):
                continue
            of_theirs = pair[1] in there
            refs = {
                ref_key(log.user, log.run): seq
                for log, seq in self._marks[pair].items()
                if of_theirs or log.user in there
            }
            if refs:
                told[pair] = refs
        return told

    def positions(self, conversation: ConversationId, reader: UserId) -> Mapping[LogId, int]:
        """Return how far a reader has read which logs of a conversation: a mark on one stands for all it builds on."""
        return self._marks.get((conversation, reader), {})

    def position(self, log: LogId, reader: UserId) -> int:
        """Return how far a reader has read a log; 0: nothing, or all of it by a mark above."""
        return self._marks.get((log.conversation, reader), {}).get(log, 0)


# ---- readers
#
# Who has read what a hosted user wrote, by the read marks that the readers' peers tell.
#
# A read mark counts as far as its reader is known to have the log: so a message is never read before it is delivered,
# and a mark of what a copy of this machine wrote is none of ours. The rest of it counts when that receipt comes. Of a
# log in storage only receipts are not in memory: who has something of every tip that may build on it has all of it.


WantsReceipts = Callable[[UserId, UserId], bool]  # a hosted user and another: whether they hear of each other's reading


class ReadTracker(AckTracker):
    """What is read: the highest read mark that counts, per log of a hosted user and reader."""

    def __init__(
        self, sync: SyncContext, stored: Iterable[ReadMark], receipts: DeliveryReceipts, wants: WantsReceipts
    ) -> None:
        mine = (item for item in stored if item.log.user in sync.hosted)
        super().__init__(sync, ((item.log, item.reader, item.seq) for item in mine))
        self._receipts = receipts
        self._wants = wants
        self._early: dict[AckKey, tuple[RemoteState, int]] = {}  # told, and not known to be delivered that far

    def take_unsaved(self) -> list[ReadMark]:
        """Return what the next commit shall keep."""
        taken, self.unsaved = self.unsaved, {}
        return [ReadMark(log, member, seq) for (log, member), seq in taken.items()]

    def marks_of(self, readers: Iterable[UserId]) -> list[ReadMark]:
        """Return what is known of these readers."""
        wanted = set(readers)
        return [ReadMark(log, member, seq) for (log, member), seq in self._positions.items() if member in wanted]

    def on_read_mark(
        self, remote: RemoteState, conversation: ConversationState, user: UserId, reader: UserId, run: str, seq: int
    ) -> None:
        """Take a read mark told of a hosted user's log."""
        if reader != user and conversation.may_write(reader) and self._wants(user, reader):
            self.on_mark(remote, conversation, user, reader, Mark(run, seq, ""), nothing)

    def on_local_read(self, log: LogId, reader: UserId, seq: int) -> None:
        """Two users of this peer: one has read what the other wrote."""
        if seq > self.position(log, reader) and self._wants(log.user, reader):
            self._set_position((log, reader), seq)

    def on_delivered(self, log: LogId, first: int, member: UserId) -> None:
        """A member is known to have more of a log: what was told too early counts as far as that goes."""
        self._recount(log, member)
        if first == 1:
            for earlier, reader in [each for each in self._early if each[1] == member and each[0].key == log.key]:
                self._recount(earlier, reader)  # perhaps it has something of every tip now

    def on_fork(self, log: LogId) -> None:
        """A log of a hosted user's forked: no receipt of it will come."""
        for earlier, reader in [each for each in self._early if each[0].key == log.key]:
            self._recount(earlier, reader)

    def _recount(self, log: LogId, member: UserId) -> None:
        early = self._early.pop((log, member), None)
        if early is not None:
            self.on_read_mark(
                early[0], self._sync.conversations.by_id[log.conversation], log.user, member, log.run, early[1]
            )

    # ---- as levels ask

    def _countable(self, remote: RemoteState, log: Log, member: UserId, mark: Mark) -> int:
        if log.forked:
            return 0
        had = self._receipts.position(log.id, member)
        if mark.seq > had:
            self._keep_early(remote, log.id, member, mark.seq)
        return min(mark.seq, had)

    def _keep_early(self, remote: RemoteState, log: LogId, member: UserId, seq: int) -> None:
        if len(self._early) >= MAX_REMEMBERED:
            self._make_room()
        self._early[log, member] = remote, seq

    def _make_room(self) -> None:
        """Whoever told most loses half of it: one who tells without end crowds out nobody else."""
        most, count = Counter(remote.link.peer for remote, _ in self._early.values()).most_common(1)[0]
        its = [level for level, (remote, _) in self._early.items() if remote.link.peer == most]
        for level in its[: (count + 1) // 2]:
            del self._early[level]

    def on_link_down(self, remote: RemoteState) -> None:
        """A link ends: what was told on it is kept, and nothing else that is known of its far end."""
        if any(told is remote for told, _ in self._early.values()):
            bare = RemoteState(remote.link)
            self._early = {level: (bare if told is remote else told, seq) for level, (told, seq) in self._early.items()}

    def _look_up(
        self,
        remote: RemoteState,
        conversation: ConversationState,
        user: UserId,
        member: UserId,
        mark: Mark,
        then: Continuation,
    ) -> None:
        log = LogId(conversation.id, user, mark.run)
        if self.position(log, member) < mark.seq:
            self._keep_early(remote, log, member, mark.seq)  # a disk from an older copy: the log may come back
        super()._look_up(remote, conversation, user, member, mark, then)

    def _is_other_version(self, facts: LogFacts, mark: Mark) -> bool:
        return False  # a read mark tells no chain

    def _on_mark_below(
        self,
        remote: RemoteState,
        conversation: ConversationState,
        user: UserId,
        member: UserId,
        mark: Mark,
        then: Continuation,
    ) -> None:
        """Whoever has a log has all that it builds on: that was told before."""
        log = conversation.log(user, mark.run)
        if log is not None and not log.forked:
            self.advance_to(remote, conversation, log.id, member, min(mark.seq, log.durable_seq), log.before, then)
        elif log is not None or remote.lookups_pending >= MAX_REMEMBERED:
            self._run(then)
        else:
            remote.lookups_pending += 1
            key = LogKey(conversation.id, ref_key(user, mark.run))
            self._sync.lookups.log(key, partial(self._on_log_below_found, remote, conversation, member, mark, then))

    def _on_log_below_found(
        self,
        remote: RemoteState,
        conversation: ConversationState,
        member: UserId,
        mark: Mark,
        then: Continuation,
        facts: LogFacts | None,
    ) -> None:
        remote.lookups_pending -= 1
        if facts is None or facts.forked or self._is_forked(facts.log):
            self._run(then)
        else:
            seq = min(mark.seq, facts.seq)
            self.advance_to(remote, conversation, facts.log, member, seq, facts.before, then)

    def _on_stored_log(
        self,
        remote: RemoteState,
        conversation: ConversationState,
        member: UserId,
        seq: int,
        facts: LogFacts,
        then: Continuation,
    ) -> None:
        """Storage has the log: it is an earlier one. Of those it is known in this run who has what is built on them."""
        had = self._receipts.position(facts.log, member)
        writer = conversation.writers.get(facts.log.user)
        if had < seq and writer is not None and facts.covered:
            above = [tip for tip in writer.tips() if writer.may_build_on(tip, facts.log.run)]
            if above and all(self._receipts.position(tip.id, member) for tip in above):
                had = facts.seq
        early = self._early.get((facts.log, member))
        if early is not None and early[1] <= min(seq, had):  # else more of it counts later
            del self._early[facts.log, member]
        self.advance_to(remote, conversation, facts.log, member, min(seq, had), facts.before, then)

    def _on_advance(self, log: LogId, first: int, last: int, member: UserId) -> None:
        self._sync.ctx.emit(ReadReceipt(log, first, last, member))


# ---- told
#
# What one peer has told of how far its users have read: kept as it was told, whatever counts of it here.
#
# So two peers can compare by a sum: each knows what *that* peer said, though another of the same reader says more.
# Pages that tell all come in order, and replace what was known when the last of them has come.


MAX_ANNOUNCED = 10_000  # marks of one peer: as many as users it may host; a few MiB


class AnnouncedReads:
    """One peer's word."""

    def __init__(self, known: Iterable[ReadMark]) -> None:
        """Begin with what is known of this peer's users: told in an earlier run, and nothing else, most likely."""
        self._marks: dict[ReaderKey, dict[str, int]] = {}
        self._count = 0
        self._pages: dict[ReaderKey, dict[str, int]] | None = None  # told so far of all
        self._pages_count = 0
        self._pages_to: ConversationId = ""
        for item in known:
            self.update((item.log.conversation, item.reader), [(ref_key(item.log.user, item.log.run), item.seq)])

    @property
    def count(self) -> int:
        """How many marks."""
        return self._count

    @property
    def sum(self) -> str:
        return read_sum(self._marks)

    def update(self, pair: ReaderKey, refs: Sequence[tuple[str, int]]) -> bool:
        """Take what is told of a reader in a conversation; False when that would be too much."""
        known = self._marks.get(pair, {})
        more = len({ref for ref, _ in refs} - known.keys())
        if self._count + more > MAX_ANNOUNCED:
            return False
        if not refs:
            return True
        self._marks.setdefault(pair, known).update(refs)
        self._count += more
        return True

    def on_page(
        self, span: tuple[ConversationId, ConversationId], told: dict[ReaderKey, list[tuple[str, int]]]
    ) -> None:
        """Take a page of all it has to tell; one that does not follow the page before is nothing."""
        if span[0] == FIRST_ID:
            self._pages, self._pages_count = {}, 0
        elif self._pages is None or not self._pages_to <= span[0] <= next_id(self._pages_to):
            self._pages = None
            return
        self._pages_to = span[1]
        for pair, refs in told.items():
            if refs:
                page = self._pages.setdefault(pair, {})
                self._pages_count += len({ref for ref, _ in refs} - page.keys())
                page.update(refs)
        if self._pages_count > MAX_ANNOUNCED:
            self._pages = None
        elif span[1] == LAST_ID:
            self._marks, self._count, self._pages = self._pages, self._pages_count, None


# ---- consent
#
# Who tells others what they have read, and hears it of them: everybody, but for those who chose otherwise.
#
# It is one choice for both directions, in general and for single others, and kept by storage, so that nothing slips out
# between a start and the moment a program says it again.


RECEIPTS_CHOSEN = "receipts_chosen"  # in meta: "user other on|off" with blanks between, other "-" for all, by commas
_ALL = "-"


class ReceiptPrivacy:
    """What hosted users chose."""

    def __init__(self, meta: Mapping[str, str]) -> None:
        self._chosen: dict[tuple[UserId, str], bool] = {}
        for item in filter(None, meta.get(RECEIPTS_CHOSEN, "").split(",")):
            user, other, on = item.split(" ")
            self._chosen[user, other] = on == "on"

    def choose(self, user: UserId, on: bool | None, other: UserId) -> bool:
        """Take a choice, `other` "" for all who have none of their own, None to end it; False when it was so."""
        key = (user, other or _ALL)
        if self._chosen.get(key) == on:
            return False
        if on is None:
            del self._chosen[key]
        else:
            self._chosen[key] = on
        return True

    def wants(self, user: UserId, other: UserId) -> bool:
        """Return whether a hosted user and another hear of each other's reading, as far as the first is asked."""
        found = self._chosen.get((user, other))
        return self.default(user) if found is None else found

    def default(self, user: UserId) -> bool:
        """Say what holds for everyone without a choice of their own."""
        return self._chosen.get((user, _ALL), True)

    def exceptions(self, user: UserId) -> dict[UserId, bool]:
        """Return the choices for single others."""
        return {other: on for (one, other), on in self._chosen.items() if one == user and other != _ALL}

    def take_over(self, former: ReceiptPrivacy) -> None:
        """Take over what was chosen before storage failed."""
        self._chosen = former._chosen

    @property
    def text(self) -> str:
        """What is kept."""
        return ",".join(f"{user} {other} {'on' if on else 'off'}" for (user, other), on in self._chosen.items())
