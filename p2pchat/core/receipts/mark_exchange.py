"""Marks of hosted readers on logs: announced to the peers concerned, compared by a sum, and adopted from them.

A program says up to where a user got in a conversation. Each writer then gets one mark, on the newest of its logs that
was shown until there. Marks are committed at once. When they are durable, so that nobody is told what a kill could
undo, they are sent to the peers concerned: at most every TOLD_EVERY to each. For a link that accepts no marks they
are kept here, each once. Each digest is accompanied by the sum of all marks for that link. Each frame says what it
changes in that sum, so its receiver adds up one number and remembers no mark. If that differs from the sum, it asks,
and is sent all of them. Of a reader that a peer hosts from now on, too, it is sent the taken marks at once: so users
who come one after the other do not cost all marks each time.

There are two kinds, with frames and tables of their own. Taken marks say what the programs of a user were given
already: its sessions are now at one gateway and now at another, and what was taken at one counts at all of them. Only
peers that host the same user hear of them, and only they are believed: a peer may announce marks of nobody else. A mark
only rises. One that another host announced may be ahead of what is here: what comes later was taken there already.
What a user has read concerns its writers, too (peer_receipts.py).

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import islice
from typing import Generic, Self, TypeVar

from p2pchat.core.durable_changes import Collected, LogKey, ReadMark, ShownKey
from p2pchat.core.effects import ReadStored, WriteRefused
from p2pchat.core.inputs import MarkedRead, MarkedTaken
from p2pchat.core.log import SUM_MODULUS, LogId, marks_of_bytes, marks_to_bytes, ref_key
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, MarksFrame, PeerId, RunId, TakenFrame, UserId

M = TypeVar("M", MarkedRead, MarkedTaken)

TOLD_EVERY = 0.1  # seconds between two frames of read marks to one link; far below Settings.flood_a_second
MAX_PEERS = 1024  # absent peers of which is remembered what they told
MAX_EARLY = 10_000  # marks of a contact's link that cannot be counted yet, and of those of all others; a few MiB
MAX_ASKED = 900  # tips of which storage is asked how far they had been shown; with those below it looks at 1,000


# ---- positions of marks in memory: of hosted readers, with the sum that compares them, and early ones of others
#
# A mark says up to where one reader got in one log. There may be as many as users times conversations, so the marks of
# a reader on the logs of one writer are a row of bytes.


HASHES_CACHED = 1 << 15  # as many marks as two peers may share, and 4 MiB

ReaderKey = tuple[ConversationId, UserId]  # conversation and reader
ReadPosition = tuple[int, str]  # the last entry of a log, and the chain there; hex
NOWHERE: ReadPosition = (0, "")
MarksByReader = Mapping[ReaderKey, Mapping[str, ReadPosition]]  # reader -> reference key of a log -> its position
ChangedMark = tuple[ReadMark, ReadPosition]  # a mark, and the position before that a kill could not undo


@lru_cache(HASHES_CACHED)
def mark_number(pair: ReaderKey, ref: str, position: ReadPosition) -> int:
    """Return what a mark adds to a sum, 0 for NOWHERE. Only the peer that says a sum computes it."""
    data = f"{pair} {ref} {position}".encode()
    return int.from_bytes(blake2b(data, digest_size=32).digest(), "big") if position != NOWHERE else 0


def sum_text(total: int) -> str:
    """Return a sum as a frame carries it."""
    return f"{total % SUM_MODULUS:064x}"


class MarkPositions:
    """The positions of hosted readers: one mark for each reader and the newest log read of each writer.

    A mark on a log stands for all logs that it builds on, so it replaces marks below. The marks on the logs of one
    writer are one row of bytes: in the room there may be many thousands.
    """

    def __init__(self, stored: Iterable[ReadMark]) -> None:
        self._marks: dict[ReaderKey, dict[UserId, bytes]] = {}  # by writer
        self._sums: dict[ReaderKey, int] = {}  # over all durable marks of a reader, of those that did not change since
        # The durable position, then those ordered.
        self._changing: dict[tuple[LogId, UserId], list[ReadPosition]] = {}
        self.load(stored)

    def load(self, stored: Iterable[ReadMark], user: UserId = "") -> None:
        """Add stored marks of readers hosted here, or of one user.

        A user who was let go and comes back at once may have marks on their way to the disk: they count more.
        """
        for item in stored:
            self._put(item.log, item.reader, item.position)
        for (log, reader), ordered in self._changing.items():
            if reader == user:
                self._put(log, reader, ordered[-1])

    def forget(self, reader: UserId) -> None:
        """Forget a reader who is let go, but for marks on their way to the disk."""
        self._marks = {pair: marks for pair, marks in self._marks.items() if pair[1] != reader}
        self._sums = {pair: total for pair, total in self._sums.items() if pair[1] != reader}

    def all(self) -> Iterator[ReadMark]:
        """Yield all marks."""
        for (conversation, reader), rows in self._marks.items():
            for writer, row in rows.items():
                for run, position in _positions_of(row).items():
                    yield ReadMark(LogId(conversation, writer, run), reader, *position)

    @property
    def has_undurable(self) -> bool:
        """True if some mark is not durable yet."""
        return bool(self._changing)

    def take_undurable(self) -> list[ChangedMark]:
        """Return the marks that are not durable yet, and take them for durable."""
        taken = [(ReadMark(*mark, *ordered[-1]), min(ordered)) for mark, ordered in self._changing.items()]
        self._changing.clear()
        self._sums.clear()
        return taken

    def durable(self, log: LogId, reader: UserId) -> ReadPosition:
        """Return the position that a kill cannot undo; NOWHERE also if its removal was ordered."""
        ordered = self._changing.get((log, reader))
        return min(ordered) if ordered else self.position(log, reader)

    def on_durable(self, mark: ReadMark) -> ReadPosition | None:
        """Take that a mark is durable. Return the position before that was; None if that is nothing new."""
        ordered = self._changing.get((mark.log, mark.reader))
        if ordered is None or ordered[1] != mark.position:  # a mark of a reader elsewhere, or taken for durable
            return None
        former = min(ordered)
        del ordered[0]
        self._sums.pop((mark.log.conversation, mark.reader), None)
        if len(ordered) == 1:
            del self._changing[mark.log, mark.reader]
        return former if min(ordered) != former else None

    def _change(self, log: LogId, reader: UserId, former: ReadPosition, position: ReadPosition) -> None:
        self._sums.pop((log.conversation, reader), None)
        self._changing.setdefault((log, reader), [former]).append(position)

    def advance_to(self, log: LogId, reader: UserId, position: ReadPosition) -> bool:
        """Set a mark. Return False if it was there already, or higher."""
        former = self.position(log, reader)
        if position[0] <= former[0]:
            return False
        self._put(log, reader, position)
        self._change(log, reader, former, position)
        return True

    def keep_only(
        self, conversation: ConversationId, reader: UserId, writer: UserId, runs: AbstractSet[RunId]
    ) -> list[ChangedMark]:
        """Keep the marks on these logs of a writer, which stand for its others. Return the others, now removed."""
        marks = self.on_logs_of(conversation, reader, writer)
        others: list[ChangedMark] = []
        for log in [LogId(conversation, writer, run) for run in marks if run not in runs]:
            others.append((ReadMark(log, reader, *NOWHERE), self.durable(log, reader)))
            self._change(log, reader, marks.pop(log.run), NOWHERE)
        if others:
            self._marks[conversation, reader][writer] = _row(marks)
        return others

    def _put(self, log: LogId, reader: UserId, position: ReadPosition) -> None:
        marks = self.on_logs_of(log.conversation, reader, log.user)
        marks[log.run] = position
        if position == NOWHERE:
            del marks[log.run]
        self._marks.setdefault((log.conversation, reader), {})[log.user] = _row(marks)
        self._sums.pop((log.conversation, reader), None)

    def on_logs_of(self, conversation: ConversationId, reader: UserId, writer: UserId) -> dict[RunId, ReadPosition]:
        """Return the marks on the logs of one writer, by run."""
        marks = self._marks.get((conversation, reader))
        return _positions_of(marks.get(writer, b"")) if marks else {}

    def marks_for(
        self, readers: AbstractSet[UserId], writers: AbstractSet[UserId], is_shared: Callable[[ConversationId], bool]
    ) -> MarksByReader:
        """Return the durable marks by these readers, and those on logs of these writers, where it is shared."""
        found = self._marked(readers, writers, is_shared)
        marks = {pair: self._durable(pair, marked) for pair, marked, _ in found}
        return {pair: refs for pair, refs in marks.items() if refs}

    def sum_for(
        self, readers: AbstractSet[UserId], writers: AbstractSet[UserId], is_shared: Callable[[ConversationId], bool]
    ) -> str:
        """Return the sum over marks_for(); "" if there are none."""
        total, sums = 0, self._sums
        for pair, marked, is_all in self._marked(readers, writers, is_shared):
            known = sums.get(pair) if is_all else None
            if known is None:  # most readers marked nothing since the last time
                refs = self._durable(pair, marked)
                known = sum(mark_number(pair, ref, position) for ref, position in refs.items())
                if is_all:
                    sums[pair] = known
            total += known
        return sum_text(total) if total else ""

    def _marked(
        self, readers: AbstractSet[UserId], writers: AbstractSet[UserId], is_shared: Callable[[ConversationId], bool]
    ) -> Iterator[tuple[ReaderKey, Collection[UserId], bool]]:
        """Yield each of these readers with the writers that it marked, and whether they are all."""
        for pair, rows in self._marks.items():
            is_all = pair[1] in readers
            marked = rows.keys() if is_all else sorted(rows.keys() & writers)
            if marked and is_shared(pair[0]):
                yield pair, marked, is_all

    def _durable(self, pair: ReaderKey, writers: Iterable[UserId]) -> dict[str, ReadPosition]:
        """Return a reader's durable marks on logs of these writers, by reference key of a log."""
        refs, rows = dict[str, ReadPosition](), self._marks[pair]
        for writer in writers:
            for run, position in _positions_of(rows[writer]).items():
                if self._changing:  # mostly none; as durable(), which would look up each position
                    position = min(self._changing.get((LogId(pair[0], writer, run), pair[1]), (position,)))
                if position != NOWHERE:
                    refs[ref_key(writer, run)] = position
        return refs

    def of_readers(self, readers: AbstractSet[UserId]) -> list[tuple[LogId, UserId]]:
        """Return the logs with marks of these readers."""
        pairs = [pair for pair in self._marks if pair[1] in readers] if readers else ()
        return [(log, reader) for conversation, reader in pairs for log in self.positions(conversation, reader)]

    def has_any(self, conversation: ConversationId, reader: UserId) -> bool:
        """Return whether there is any mark of a reader in a conversation."""
        return any(self._marks.get((conversation, reader), {}).values())

    def positions(self, conversation: ConversationId, reader: UserId) -> Mapping[LogId, int]:
        """Return a reader's positions in a conversation, by log. Each stands for all that the log builds on."""
        marks = self._marks.get((conversation, reader), {})
        return {
            LogId(conversation, writer, run): seq
            for writer, row in marks.items()
            for run, (seq, _) in _positions_of(row).items()
        }

    def position(self, log: LogId, reader: UserId) -> ReadPosition:
        """Return a reader's position in a log; NOWHERE also if a mark on a later log stands for it."""
        return self.on_logs_of(log.conversation, reader, log.user).get(log.run, NOWHERE)


def _row(marks: Mapping[RunId, ReadPosition]) -> bytes:
    return marks_to_bytes((run, *position) for run, position in marks.items())


def _positions_of(row: bytes) -> dict[RunId, ReadPosition]:
    return {mark.run: mark[1:] for mark in marks_of_bytes(row)}


# ---- marks that cannot be counted yet


class EarlyMarks:
    """Marks that cannot be counted yet: their entries are not here, or storage is asked for the chain there.

    They are counted by link, so that a flood displaces only its own.
    """

    def __init__(self) -> None:
        self.by_log: dict[LogKey, dict[tuple[int, UserId], ReadPosition]] = {}  # by link and reader
        self._counts: Counter[int] = Counter()

    def keep(self, log: LogKey, link: int, reader: UserId, position: ReadPosition, most: int) -> bool:
        """Keep a mark. Return False if there would be more than `most` of that link."""
        marks = self.by_log.get(log, {})
        if (link, reader) not in marks and self._counts[link] >= most:
            return False
        self._counts[link] += (link, reader) not in marks
        self.by_log.setdefault(log, marks)[link, reader] = position
        return True

    def take(self, log: LogKey) -> Mapping[tuple[int, UserId], ReadPosition]:
        """Remove and return the marks on a log."""
        taken = self.by_log.pop(log, {})
        self._counts.subtract(link for link, _ in taken)
        return taken

    def forget(self, *, link: int = -1, reader: UserId = "") -> bool:
        """Forget the marks of a link or a reader. Return whether there were any."""
        forgotten = [(log, key) for log, marks in self.by_log.items() for key in marks if link in key or reader in key]
        for log, key in forgotten:
            del self.by_log[log][key]
            self._counts[key[0]] -= 1
            if not self.by_log[log]:
                del self.by_log[log]
        self._counts = +self._counts  # without links that have none
        return bool(forgotten)


# ---- the exchange


SentMark = tuple[str, int, str]  # as a frame carries it: the reference key of a log, last seq, chain there
MarkItem = tuple[ReaderKey, str, ReadPosition, ReadPosition]  # reader, reference key of a log, position before and now
MarkPage = dict[ConversationId, dict[UserId, list[SentMark]]]


class PendingMarks(Collected):
    """The marks that are due to one link, each with the position that it was told before."""

    marks: dict[tuple[LogId, UserId], ReadPosition] = {}
    sent_at: float = float("-inf")  # monotonic
    throttled: bool = False  # a timer runs


class MarkExchange(Generic[M]):
    """Marks of one kind: those of hosted readers, and the sum of what each peer announced.

    Attributes:
        is_due: Some link may be sent marks at the end of this step.
    """

    frame: type[MarksFrame]  # carries the marks
    differs: str  # counted when a peer announced another sum

    def __init__(self, sync: SyncContext, stored: Iterable[ReadMark]) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._positions = MarkPositions(item for item in stored if item.reader in sync.hosted)
        self._heard: dict[PeerId, int] = {}  # the sum of the marks that each peer announced, by its own account
        self._pending: dict[int, PendingMarks] = {}  # by link
        self.is_due: bool = False
        # Readers that marked just now, or whose mark storage looks up -> the highest mark since.
        self._deferred: dict[ReaderKey, M | None] = {}
        self._asked: list[M] = []  # marks that storage looks up
        self.early: EarlyMarks = EarlyMarks()

    # ---- what is different for read marks

    @property
    def _changed(self) -> list[ReadMark]:
        """The marks that this step's commit shall save."""
        return self._ctx.change.taken

    def _may_tell(self, mark: M, writer: UserId) -> bool:
        """Return whether what this user wrote is marked."""
        return writer != mark.user

    def _asked_by(self, mark: M, conversation: ConversationState) -> Iterable[LogId]:
        """Return the logs of which storage is asked how far they had been shown at the place of a mark."""
        writers = (writer for user, writer in reversed(conversation.writers.items()) if user != mark.user)
        return islice((log.id for writer in writers for log in writer.tips()), MAX_ASKED)

    def _links_of(self, writer: UserId, reader: UserId) -> Iterable[int]:
        """Return the links on which a mark of this reader, on a log of this writer, is told."""
        return self._sync.presence.hosts.get(reader, ())

    def _told_writers(self, remote: RemoteState) -> AbstractSet[UserId]:
        """Return the writers on whose logs a link is told all marks; those of its own readers it is told anyway."""
        return frozenset()

    def _concerns(self, reader: UserId, ref: str) -> bool:
        """Return whether a mark says something here, by reader and log."""
        return reader in self._sync.hosted

    def _on_mark(self, remote: RemoteState, pair: ReaderKey, ref: str, position: ReadPosition) -> bool:
        """Take one mark that a remote announced: of a user of this peer it is adopted. Return False if that must wait.

        A mark may be ahead of what is here: what comes later was taken there already.
        """
        log = self._of(pair[0]).log_at(ref) if pair[1] in self._sync.hosted else None
        if log is not None:
            self._advance(log.id, pair[1], position)
        return log is not None or pair[1] not in self._sync.hosted

    # ---- storage

    def on_durable(self, marks: Iterable[ReadMark]) -> None:
        """Announce the marks of hosted readers that are durable now."""
        changes = [(mark, self._positions.on_durable(mark)) for mark in marks]
        self._announce([(mark, former) for mark, former in changes if former is not None])

    def _announce(self, changes: list[ChangedMark]) -> None:
        for mark, former in changes:
            for due in self._pending_for(self._of(mark.log.conversation), mark.log.user, mark.reader):
                due.marks.setdefault((mark.log, mark.reader), former)

    def take_over(self, former: Self) -> None:
        """Take over what was marked before storage failed, on logs that it holds now. Nobody marks it again."""
        for mark in former._positions.all():
            if self._sync.conversations.find(mark.log) is not None:
                self._advance(mark.log, mark.reader, mark.position)
        for asked in former._asked:
            self.on_marked(asked)
        for later in former._deferred.values():
            if later is not None:
                self.on_marked(later)

    def on_user_hosted(self, user: UserId, stored: Iterable[ReadMark]) -> None:
        """Host one more user with these stored marks."""
        self._positions.load((item for item in stored if item.reader == user), user)

    def on_user_unhosted(self, user: UserId) -> None:
        """Stop announcing marks of a user."""
        self._positions.forget(user)
        if self.early.forget(reader=user):
            self._heard.clear()  # so peers send these again
        for due in self._pending.values():
            due.marks = {mark: former for mark, former in due.marks.items() if mark[1] != user}

    # ---- programs

    def on_marked(self, mark: M) -> None:
        """Take that a hosted user has read, or taken, everything in a conversation up to a place."""
        conversation = self._find_conversation(mark)
        if conversation is None:
            return
        pair = (conversation.id, mark.user)
        defers = pair not in self._deferred
        if not defers and not mark.ticket:
            former = self._deferred[pair]
            self._deferred[pair] = mark if former is None or former.place < mark.place else former
            return
        if defers:
            self._deferred[pair] = None
        is_newest = _is_newest(conversation, mark)
        asked = self._mark_all_shown(conversation, mark) if is_newest else self._asked_by(mark, conversation)
        if is_newest and not asked:
            self._on_marked(conversation, mark, defers)
        else:
            key = ShownKey(mark.place, tuple(asked))
            self._asked.append(mark)
            self._sync.lookups.ask("shown", key, partial(self._mark_shown, mark, defers))

    def _find_conversation(self, mark: M) -> ConversationState | None:
        """Return the conversation of a mark. If it or the user is not here, refuse the mark and return None."""
        conversation = self._sync.conversations.get(mark.conversation)
        if conversation is not None and mark.user in self._sync.hosted:
            return conversation
        if mark.ticket:
            self._ctx.emit(WriteRefused(mark.ticket, "gone", "the user or the conversation is no longer here"))
        return None

    def _on_marked(self, conversation: ConversationState, mark: M, defers: bool) -> None:
        """Commit a mark whose caller waits. Others wait before the next mark of a reader: marking 1,000 messages must
        not scan all writers 1,000 times.
        """
        pair = (conversation.id, mark.user)
        if defers:
            self._sync.after(TOLD_EVERY, partial(self._on_deferred, pair))
        if not mark.ticket:
            return
        change = self._ctx.change
        if self._sync.discarded:
            self._ctx.emit(mark_refused(mark.ticket))
        elif self._changed or self._positions.has_any(*pair):
            change.is_awaited = True
            self._sync.step.reads.append(mark.ticket)
        else:
            self._ctx.emit(ReadStored(mark.ticket))

    def _on_deferred(self, pair: ReaderKey) -> None:
        later = self._deferred.pop(pair)
        if later is not None:
            self.on_marked(later)

    def marked_to(self, conversation: ConversationId, reader: UserId) -> tuple[Mapping[LogId, int], int]:
        """Return the positions of a hosted reader, and the place of a recent mark that was not looked up yet, 0 for
        none.
        """
        later = self._deferred.get((conversation, reader))
        return self._positions.positions(conversation, reader), 0 if later is None else later.place

    def _mark_all_shown(self, conversation: ConversationState, mark: M) -> list[LogId]:
        """Mark everything that was shown in the conversation. Return the logs whose chain storage has to say."""
        reader, unclear = mark.user, list[LogId]()
        for user, writer in conversation.writers.items():
            shown = writer.shown_ends()
            if shown == self._positions.on_logs_of(conversation.id, reader, user) or not self._may_tell(mark, user):
                continue
            for run, position in shown.items():
                log = LogId(conversation.id, user, run)
                if position[1]:
                    self._advance(log, reader, position)
                elif position[0] > self._positions.position(log, reader)[0]:
                    unclear.append(log)
            if shown and all(chain for _, chain in shown.values()):
                removed = self._positions.keep_only(conversation.id, reader, user, shown.keys())
                self._changed.extend(mark for mark, _ in removed)
                self._announce(removed)
        return unclear

    def _mark_shown(self, mark: M, defers: bool, shown: list[tuple[LogId, int, str]]) -> None:
        """Mark the logs that storage says had been shown when the message was."""
        self._asked.remove(mark)
        conversation = self._find_conversation(mark)
        if conversation is None:  # let go meanwhile
            if defers:
                del self._deferred[mark.conversation, mark.user]
            return
        for one in shown:
            if self._may_tell(mark, one[0].user):
                self._advance(one[0], mark.user, one[1:])
        self._on_marked(conversation, mark, defers)

    def _advance(self, log: LogId, reader: UserId, position: ReadPosition) -> None:
        if self._positions.advance_to(log, reader, position):
            self._changed.append(ReadMark(log, reader, *position))

    # ---- sending

    def on_readers_announced(self, remote: RemoteState, readers: Iterable[UserId]) -> None:
        """Have a remote that hosts these readers from now on sent their marks; its sum is to include them."""
        if not remote.comparison.begun:
            return  # the first comparison asks for all
        marks = self._positions.of_readers({reader for reader in readers if reader in self._sync.hosted})
        if marks:
            self._pending.setdefault(remote.id, PendingMarks()).marks.update(dict.fromkeys(marks, NOWHERE))
            self._send_soon()

    def _pending_for(self, conversation: ConversationState, writer: UserId, reader: UserId) -> Iterator[PendingMarks]:
        """Yield the PendingMarks of each link concerned; the caller adds something to each."""
        for link in sorted(set(self._links_of(writer, reader))):
            remote = self._sync.remotes.get(link)
            if remote is not None and remote.comparison.begun and self._sync.shares(remote, conversation):
                self._send_soon()
                yield self._pending.setdefault(link, PendingMarks())

    @property
    def has_unsent(self) -> bool:
        """Return whether some link will be sent something."""
        owed = any(due.marks and link in self._sync.remotes for link, due in self._pending.items())
        return owed or self._positions.has_undurable or any(mark is not None for mark in self._deferred.values())

    def on_stop(self) -> None:
        """Save what is due, and send it with the same step, since this peer stops."""
        for later in self._deferred.values():
            if later is not None and _is_newest(conversation := self._of(later.conversation), later):
                self._mark_all_shown(conversation, later)
        self._announce(self._positions.take_undurable())
        for link, due in self._pending.items():
            remote = self._sync.remotes.get(link)
            if due.marks and remote is not None and remote.accepts_marks:
                self._send(remote, due)

    def send_pending(self) -> None:
        """Send what is due, not too often."""
        self.is_due = False
        for link, due in self._pending.items():
            remote = self._sync.remotes.get(link)
            if not due.marks or due.throttled or remote is None:
                continue
            wait = due.sent_at + TOLD_EVERY - self._ctx.now.mono
            if wait > 0:
                due.throttled = True
                self._sync.after(wait, partial(self._on_throttle_end, due))
            elif remote.accepts_marks:
                self._send(remote, due)
            else:
                self._send_soon()  # when the link drains

    def _send_soon(self) -> None:
        self.is_due = self._ctx.owes = True

    def _on_throttle_end(self, due: PendingMarks) -> None:
        due.throttled = False
        self._send_soon()

    def _send(self, remote: RemoteState, due: PendingMarks) -> None:
        due.sent_at = self._ctx.now.mono
        marks, due.marks = sorted(due.marks.items()), {}
        items: list[MarkItem] = []
        for (log, reader), former in marks:
            conversation = self._sync.conversations[log.conversation]
            if reader in self._sync.hosted and self._sync.shares(remote, conversation):
                now = self._positions.durable(log, reader)
                items.append(((conversation.id, reader), ref_key(log.user, log.run), former, now))
        if any(former != now for *_, former, now in items):
            self._send_pages(remote, items)

    def _send_pages(self, remote: RemoteState, items: list[MarkItem], *, all: bool = False) -> None:
        """Send marks, in order of conversations, each page with what it changes in the sum."""
        self._sync.presence.announcer.introduce()
        most = self._ctx.settings.page_items
        for start in range(0, max(1, len(items)), most):
            page, change = MarkPage(), 0
            for pair, ref, former, now in items[start : start + most]:
                change += mark_number(pair, ref, now) - mark_number(pair, ref, former)
                if now != NOWHERE:
                    page.setdefault(pair[0], {}).setdefault(pair[1], []).append((ref, now[0], now[1]))
            add = sum_text(change) if change else None
            self._sync.send(self.frame(page, all and not start, add), remote, *page)

    def _of(self, conversation: ConversationId) -> ConversationState:
        return self._sync.conversations[conversation]

    # ---- comparing

    def on_link_down(self, remote: RemoteState) -> None:
        """Forget the state of a link. What its peer told is known still, unless some of it could not be counted."""
        self._pending.pop(remote.id, None)
        if self.early.forget(link=remote.id) or len(self._heard) > MAX_PEERS:
            self._heard.pop(remote.link.peer, None)

    def send_sum(self, remote: RemoteState) -> None:
        """Send the sum of all marks for this link. Called before each digest."""
        due = self._pending.get(remote.id)
        if due is not None and due.marks:
            self._send(remote, due)  # otherwise the remote would see another sum and ask for everything
        total = self.sum_for(remote)
        if total:
            self._ctx.send(self.frame({}, sum=total), [remote.id])

    def sum_for(self, remote: RemoteState) -> str:
        """Return the sum of all marks for this link; "" if there are none."""
        return self._positions.sum_for(*self._told_to(remote))

    def _told_to(
        self, remote: RemoteState
    ) -> tuple[AbstractSet[UserId], AbstractSet[UserId], Callable[[ConversationId], bool]]:
        """Return whose marks a link is told, of readers and on logs of writers, and in which conversations."""
        every, users = self._sync.conversations, remote.link.users.keys()

        def is_told(id: ConversationId) -> bool:
            conversation = every.get(id)
            return conversation is not None and self._sync.shares(remote, conversation)

        return users, self._told_writers(remote), is_told

    def announced_sum(self, peer: PeerId) -> str:
        """Return the sum of the marks that a peer announced."""
        return sum_text(self._heard.get(peer, 0))

    def _send_all(self, remote: RemoteState) -> None:
        """Send all marks, in pages."""
        self._pending.pop(remote.id, None)  # they are among these
        toward = sorted(self._positions.marks_for(*self._told_to(remote)).items())
        items = [(pair, ref, NOWHERE, now) for pair, refs in toward for ref, now in refs.items()]
        self._sync.on_listed(remote, len(items))
        self._send_pages(remote, items, all=True)

    # ---- receiving

    def on_frame(self, remote: RemoteState, frame: MarksFrame) -> LogError | None:
        """Take the marks of a peer's users. Return the fault that must end the link, if any."""
        self._sync.learn_namings(remote, frame.names)
        hosted, peer = remote.link.users, remote.link.peer
        is_any_unknown = any(reader not in hosted for readers in frame.marks.values() for reader in readers)
        if is_any_unknown and not remote.link.omits_users:
            return LogError(f"{self.frame.__struct_config__.tag}: a user not hosted there", code="host")
        if frame.ask and self._sync.may_list(remote):  # otherwise the sum is repeated
            self._send_all(remote)
        if frame.sum is not None and frame.sum != self.announced_sum(peer) and remote.accepts_marks:
            self._ctx.count(self.differs)
            self._ctx.send(self.frame({}, ask=True), [remote.id])
        if self._take_marks(remote, frame):  # otherwise they come again, since the sums differ
            self._heard[peer] = (0 if frame.all else self._heard.get(peer, 0)) + int(frame.add or "0", 16)
        return None

    def _take_marks(self, remote: RemoteState, frame: MarksFrame) -> bool:
        """Take the marks of a frame. Return whether all were counted, or kept."""
        are_taken = True
        for id, readers in frame.marks.items():
            is_shared = self._sync.find_conversation(remote, id) is not None
            for reader, refs in readers.items():
                for said in refs:
                    is_hosted = is_shared and reader in remote.link.users
                    are_taken &= is_hosted and self._take_mark(remote, (id, reader), said[0], said[1:])
        return are_taken

    def _take_mark(self, remote: RemoteState, pair: ReaderKey, ref: str, position: ReadPosition) -> bool:
        """Count a mark, or keep it. Return False if it says nothing here, or too many are kept."""
        if not self._concerns(pair[1], ref):
            return False
        most, log = MAX_EARLY if remote.link.known else MAX_EARLY // len(self._sync.remotes), LogKey(pair[0], ref)
        is_counted = self._on_mark(remote, pair, ref, position)
        return is_counted or self.early.keep(log, remote.id, pair[1], position, most)

    def recount(self, log: LogId) -> None:
        """Take the marks that came before entries of a log, or while storage was asked about it."""
        if log.conversation in self._sync.conversations:
            ref = ref_key(log.user, log.run)
            for (link, reader), position in self.early.take(LogKey(log.conversation, ref)).items():
                remote = self._sync.remotes[link]
                if not self._take_mark(remote, (log.conversation, reader), ref, position):
                    self._heard.pop(remote.link.peer, None)


class TakenMarks(MarkExchange[MarkedTaken]):
    """The taken marks of hosted users."""

    frame: type[TakenFrame] = TakenFrame
    differs = "taken_sum_differs"


def mark_refused(ticket: int) -> WriteRefused:
    """Return the answer to a mark that cannot be stored now. Nobody makes it again, so it is taken over."""
    return WriteRefused(ticket, "storage", "not on disk yet: it is kept, and stored when storage works again")


def _is_newest(conversation: ConversationState, mark: MarkedRead | MarkedTaken) -> bool:
    """Return whether nothing was shown there after the marked entry."""
    return 0 < conversation.newest_place <= mark.place
