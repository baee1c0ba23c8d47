"""Marks of hosted readers on logs: announced to the peers concerned, compared by a sum, and adopted from them.

A program says up to where a user got in a conversation. Each writer then gets one mark, on the newest of its logs that
was shown until there. Marks are committed at once. When they are durable, so that nobody is told what a kill could
undo, they are sent to the peers concerned: at most every TOLD_EVERY to each. For a link that accepts no marks they
are kept here, each once. Each digest is accompanied by the sum of all marks for that link. Each frame says what it
changes in that sum, so its receiver adds up one number and remembers no mark. If that differs from the sum, it asks,
and is sent all of them. Of a reader that a peer hosts from now on, too, it is sent the marks at once: so users
who come one after the other do not cost all marks each time.

There are two kinds. A read mark concerns the writer, too: it goes to the peers of the writer and to the other peers of
the reader. It names the chain where it ends, so it proves that its reader has the log up to there. A taken mark says
what the programs of a user were given already: its sessions are now at one gateway and now at another, and what was
taken at one counts at all of them. Only peers that host the same user hear of it, and only they are believed: a peer
may announce marks of nobody else. A mark only rises. One that another host announced may be ahead of what is here: what
comes later was taken there already.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import islice

from p2pchat.core.durable_changes import Collected, LogKey, ReadMark, ShownKey
from p2pchat.core.effects import ReadStored, WriteRefused
from p2pchat.core.inputs import MarkedRead, MarkedTaken
from p2pchat.core.log import SUM_MODULUS, LogId, marks_of_bytes, marks_to_bytes, ref_key
from p2pchat.core.own_state import OwnState
from p2pchat.core.receipts.delivery_receipts import DeliveryReceipts
from p2pchat.core.receipts.read_tracker import ReadTracker
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, Mark, PeerId, ReadFrame, RunId, UserId, split_ref, user_start

Marked = MarkedRead | MarkedTaken

TOLD_EVERY = 0.1  # seconds between two frames of read marks to one link; far below Settings.flood_a_second
MAX_PEERS = 1024  # absent peers of which is remembered what they told
MAX_EARLY = 10_000  # marks of a contact's link that cannot be counted yet, and of those of all others; a few MiB
MAX_ASKED = 900  # tips of which storage is asked how far they had been shown; with those below it looks at 1,000


# ---- positions of marks in memory: of hosted readers, with the sum that compares them, and early ones of others
#
# A mark says up to where one reader got in one log. There may be as many as users times conversations, so the marks of
# a reader on the logs of one writer are a row of bytes.


HASHES_CACHED = 1 << 15  # as many marks as two peers may share, and 4 MiB

ReaderKey = tuple[ConversationId, UserId, bool]  # conversation and reader; True: what it has taken
MarkKey = tuple[LogId, UserId, bool]  # the same of one log
ReadPosition = tuple[int, str]  # the last entry of a log, and the chain there; hex
NOWHERE: ReadPosition = (0, "")
MarksByReader = Mapping[ReaderKey, Mapping[str, ReadPosition]]  # reader -> reference key of a log -> its position


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

    def __init__(self, own: OwnState) -> None:
        self._wants = own.wants_receipts
        self._marks: dict[ReaderKey, dict[UserId, bytes]] = {}  # by writer
        self._sums: dict[ReaderKey, int] = {}  # over all marks of a reader, of those that did not change since

    def put(self, mark: ReadMark) -> ReadPosition:
        """Set a mark, or remove it (NOWHERE). Return the position before."""
        log, pair = mark.log, (mark.log.conversation, mark.reader, mark.taken)
        marks = self.on_logs_of(pair, log.user)
        former = marks.pop(log.run, NOWHERE)
        if mark.position != NOWHERE:
            marks[log.run] = mark.position
        self._marks.setdefault(pair, {})[log.user] = _row(marks)
        self._sums.pop(pair, None)
        return former

    def forget(self, reader: UserId) -> None:
        """Forget a reader who is let go."""
        self._marks = {pair: marks for pair, marks in self._marks.items() if pair[1] != reader}
        self._sums = {pair: total for pair, total in self._sums.items() if pair[1] != reader}

    def all(self) -> Iterator[ReadMark]:
        """Yield all marks."""
        for (conversation, reader, taken), rows in self._marks.items():
            for writer, row in rows.items():
                for run, position in _positions_of(row).items():
                    yield ReadMark(LogId(conversation, writer, run), reader, *position, taken)

    def on_logs_of(self, pair: ReaderKey, writer: UserId) -> dict[RunId, ReadPosition]:
        """Return the marks on the logs of one writer, by run."""
        marks = self._marks.get(pair)
        return _positions_of(marks.get(writer, b"")) if marks else {}

    def marks_for(self, users: AbstractSet[UserId], is_shared: Callable[[ConversationId], bool]) -> MarksByReader:
        """Return the marks by these users, and read marks on their logs, where it is shared."""
        marks = {pair: self._by_ref(pair, marked) for pair, marked, _ in self._marked(users, is_shared)}
        return {pair: refs for pair, refs in marks.items() if refs}

    def sum_for(self, users: AbstractSet[UserId], is_shared: Callable[[ConversationId], bool]) -> str:
        """Return the sum over marks_for(); "" if there are none."""
        total, sums = 0, self._sums
        for pair, marked, is_all in self._marked(users, is_shared):
            known = sums.get(pair) if is_all else None
            if known is None:  # most readers marked nothing since the last time
                refs = self._by_ref(pair, marked)
                known = sum(mark_number(pair, ref, position) for ref, position in refs.items())
                if is_all:
                    sums[pair] = known
            total += known
        return sum_text(total) if total else ""

    def _marked(
        self, users: AbstractSet[UserId], is_shared: Callable[[ConversationId], bool]
    ) -> Iterator[tuple[ReaderKey, Collection[UserId], bool]]:
        """Yield each of these users, and who marked what they wrote, with the writers marked; whether they are all."""
        for pair, rows in self._marks.items():
            is_all = pair[1] in users
            writers = frozenset[UserId]() if pair[2] else users
            marked = rows.keys() if is_all else sorted(filter(partial(self._wants, pair[1]), rows.keys() & writers))
            if marked and is_shared(pair[0]):
                yield pair, marked, is_all

    def _by_ref(self, pair: ReaderKey, writers: Iterable[UserId]) -> dict[str, ReadPosition]:
        """Return a reader's marks on logs of these writers, by reference key of a log."""
        rows = self._marks[pair]
        return {
            ref_key(writer, run): position
            for writer in writers
            for run, position in _positions_of(rows[writer]).items()
        }

    def of_readers(self, readers: AbstractSet[UserId]) -> list[MarkKey]:
        """Return the marks of these readers."""
        pairs = [pair for pair in self._marks if pair[1] in readers] if readers else ()
        return [(log, *pair[1:]) for pair in pairs for log in self.positions(pair)]

    def has_any(self, pair: ReaderKey) -> bool:
        """Return whether there is any mark of a reader in a conversation."""
        return any(self._marks.get(pair, {}).values())

    def positions(self, pair: ReaderKey) -> dict[LogId, int]:
        """Return a reader's positions in a conversation, by log. Each stands for all that the log builds on."""
        return {
            LogId(pair[0], writer, run): seq
            for writer, row in self._marks.get(pair, {}).items()
            for run, (seq, _) in _positions_of(row).items()
        }

    def position(self, key: MarkKey) -> ReadPosition:
        """Return a reader's position in a log; NOWHERE also if a mark on a later log stands for it."""
        return self.on_logs_of((key[0].conversation, *key[1:]), key[0].user).get(key[0].run, NOWHERE)


def _row(marks: Mapping[RunId, ReadPosition]) -> bytes:
    return marks_to_bytes((run, *position) for run, position in marks.items())


def _positions_of(row: bytes) -> dict[RunId, ReadPosition]:
    return {mark.run: mark[1:] for mark in marks_of_bytes(row)}


# ---- marks that cannot be counted yet


EarlyKey = tuple[int, UserId, bool]  # link and reader; True: what it has taken


class EarlyMarks:
    """Marks that cannot be counted yet: their entries are not here, or storage is asked for the chain there.

    They are counted by link, so that a flood displaces only its own.
    """

    def __init__(self) -> None:
        self.by_log: dict[LogKey, dict[EarlyKey, ReadPosition]] = {}
        self._counts: Counter[int] = Counter()

    def keep(self, log: LogKey, key: EarlyKey, position: ReadPosition, most: int) -> bool:
        """Keep a mark. Return False if there would be more than `most` of that link."""
        marks = self.by_log.get(log, {})
        if key not in marks and self._counts[key[0]] >= most:
            return False
        self._counts[key[0]] += key not in marks
        self.by_log.setdefault(log, marks)[key] = position
        return True

    def take(self, log: LogKey) -> Mapping[EarlyKey, ReadPosition]:
        """Remove and return the marks on a log."""
        taken = self.by_log.pop(log, {})
        self._counts.subtract(key[0] for key in taken)
        return taken

    def forget(self, *, link: int = -1, reader: UserId = "") -> bool:
        """Forget the marks of a link or a reader. Return whether there were any."""
        every = [(log, key) for log, marks in self.by_log.items() for key in marks]
        forgotten = [(log, key) for log, key in every if key[0] == link or key[1] == reader]
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

    marks: dict[MarkKey, ReadPosition] = {}
    sent_at: float = float("-inf")  # monotonic
    throttled: bool = False  # a timer runs


class MarkExchange:
    """The read and taken marks of hosted users, the marks of others about their messages, and the sum of what each
    peer announced.

    Attributes:
        tracker: How far others have read what hosted users wrote.
        is_due: Some link may be sent marks at the end of this step.
    """

    def __init__(self, sync: SyncContext, stored: list[ReadMark], receipts: DeliveryReceipts) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self.tracker: ReadTracker = ReadTracker(sync, stored, receipts)
        self._positions = MarkPositions(sync.ctx.own)
        for mark in stored:
            if mark.reader in sync.hosted:
                self._positions.put(mark)
        self._ordered: dict[MarkKey, ReadPosition] = {}  # the newest of marks on their way to the disk
        self._heard: dict[PeerId, int] = {}  # the sum of the marks that each peer announced, by its own account
        self._pending: dict[int, PendingMarks] = {}  # by link
        self.is_due: bool = False
        # Readers that marked just now, or whose mark storage looks up -> the highest mark since.
        self._deferred: dict[ReaderKey, Marked | None] = {}
        self._asked: list[Marked] = []  # marks that storage looks up
        self.early: EarlyMarks = EarlyMarks()

    # ---- storage

    def on_durable(self, marks: Iterable[ReadMark]) -> None:
        """Set and announce the marks of hosted readers that are durable now."""
        for mark in marks:
            ordered = self._ordered.get(mark.key, NOWHERE)  # of a reader elsewhere, or removed
            if ordered == mark.position:
                self._ordered.pop(mark.key, None)
            if ordered != NOWHERE and mark.reader in self._sync.hosted:
                self._set(mark)

    def _set(self, mark: ReadMark) -> None:
        """Set or remove a mark, and announce it."""
        log, hosts = mark.log, self._sync.presence.hosts
        former, conversation = self._positions.put(mark), self._sync.conversations[log.conversation]
        if mark.seq and log.user in self._sync.hosted and not mark.taken:
            self.tracker.on_local_read(mark)
        tells = not mark.taken and self._ctx.own.wants_receipts(mark.reader, log.user)
        for link in sorted({*hosts.get(mark.reader, ()), *(hosts.get(log.user, ()) if tells else ())}):
            remote = self._sync.remotes.get(link)
            if remote is not None and remote.comparison.begun and self._sync.shares(remote, conversation):
                self._pending.setdefault(link, PendingMarks()).marks.setdefault(mark.key, former)
                self._send_soon()

    def take_over(self, former: MarkExchange) -> None:
        """Take over what was marked before storage failed, on logs that it holds now. Nobody marks it again."""
        for mark in (*former._positions.all(), *former._coming()):
            if self._sync.conversations.find(mark.log) is not None:
                self._advance(mark.key, mark.position)
        for asked in former._asked:
            self.on_marked(asked)
        for later in former._deferred.values():
            if later is not None:
                self.on_marked(later)

    def on_user_hosted(self, user: UserId, stored: Iterable[ReadMark]) -> None:
        """Host one more user with these stored marks."""
        known = list(stored)
        mine = (mark for mark in known if mark.log.user == user and not mark.taken)
        self.tracker.add_known((mark.log, mark.reader, mark.seq) for mark in mine)
        for mark in known:
            if mark.reader == user:
                self._positions.put(mark)

    def on_user_unhosted(self, user: UserId) -> None:
        """Stop announcing marks of a user."""
        self._positions.forget(user)
        if self.early.forget(reader=user):
            self._heard.clear()  # so peers send these again
        for due in self._pending.values():
            due.marks = {mark: former for mark, former in due.marks.items() if mark[1] != user}

    # ---- programs

    def on_receipts_chosen(self, user: UserId) -> None:
        """Take a choice of a hosted user. Marks of the meantime go once sums are compared, or with the next mark."""
        for remote in self._sync.remotes.values() if user == self._ctx.user else ():
            self.send_sum(remote)

    def _may_tell(self, mark: Marked, writer: UserId) -> bool:
        """Return whether what this user wrote is marked."""
        if writer == mark.user or isinstance(mark, MarkedTaken):
            return writer != mark.user
        is_told = mark.user == self._ctx.user or self._ctx.own.wants_receipts(mark.user, writer)  # to its machines too
        return writer not in mark.except_writers and is_told

    def _asked_by(self, mark: Marked, conversation: ConversationState) -> Iterable[LogId]:
        """Return the logs of which storage is asked how far they had been shown at the place of a mark."""
        writers = (writer for user, writer in reversed(conversation.writers.items()) if user != mark.user)
        tips = islice((log.id for writer in writers for log in writer.tips()), MAX_ASKED)
        return tips if isinstance(mark, MarkedTaken) else dict.fromkeys([mark.log, *tips])

    def on_marked(self, mark: Marked) -> None:
        """Take that a hosted user has read, or taken, everything in a conversation up to a place."""
        conversation = self._find_conversation(mark)
        if conversation is None:
            return
        pair = _pair_of(mark)
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

    def _find_conversation(self, mark: Marked) -> ConversationState | None:
        """Return the conversation of a mark. If it or the user is not here, refuse the mark and return None."""
        conversation = self._sync.conversations.get(mark.conversation)
        if conversation is not None and mark.user in self._sync.hosted:
            return conversation
        if mark.ticket:
            self._ctx.emit(WriteRefused(mark.ticket, "gone", "the user or the conversation is no longer here"))
        return None

    def _on_marked(self, conversation: ConversationState, mark: Marked, defers: bool) -> None:
        """Commit a mark whose caller waits. Others wait before the next mark of a reader: marking 1,000 messages must
        not scan all writers 1,000 times.
        """
        pair = _pair_of(mark)
        if defers:
            self._sync.after(TOLD_EVERY, partial(self._on_deferred, pair))
        if not mark.ticket:
            return
        change = self._ctx.change
        if self._sync.discarded:
            self._ctx.emit(mark_refused(mark.ticket))
        elif self._ordered or self._positions.has_any(pair):
            change.is_awaited = True
            self._sync.step.reads.append(mark.ticket)
        else:
            self._ctx.emit(ReadStored(mark.ticket))

    def _on_deferred(self, pair: ReaderKey) -> None:
        later = self._deferred.pop(pair)
        if later is not None:
            self.on_marked(later)

    def marked_to(
        self, conversation: ConversationId, reader: UserId, *, taken: bool = False
    ) -> tuple[Mapping[LogId, int], int]:
        """Return the positions of a hosted reader, and the place of a recent mark that was not looked up yet, 0 for
        none.
        """
        pair = conversation, reader, taken
        later, marks = self._deferred.get(pair), self._positions.positions(pair)
        coming = {key[0]: seq for key, (seq, _) in self._ordered.items() if (key[0].conversation, *key[1:]) == pair}
        return marks | coming, 0 if later is None else later.place

    def _coming(self) -> list[ReadMark]:
        """Return the marks on their way to the disk."""
        return [ReadMark(*key[:2], *position, key[2]) for key, position in self._ordered.items()]

    def _mark_all_shown(self, conversation: ConversationState, mark: Marked) -> list[LogId]:
        """Mark everything that was shown in the conversation. Return the logs whose chain storage has to say."""
        pair, unclear = _pair_of(mark), list[LogId]()
        for user, writer in conversation.writers.items():
            shown = writer.shown_ends()
            if shown == self._positions.on_logs_of(pair, user) or not self._may_tell(mark, user):
                continue
            for run, position in shown.items():
                key = LogId(conversation.id, user, run), *pair[1:]
                if position[1]:
                    self._advance(key, position)
                elif position[0] > self._position(key)[0]:
                    unclear.append(key[0])
            if shown and all(chain for _, chain in shown.values()):
                for run in sorted(self._positions.on_logs_of(pair, user).keys() - shown.keys()):
                    key = LogId(conversation.id, user, run), *pair[1:]
                    self._order(key, NOWHERE)  # one on a later log counts
                    self._set(ReadMark(*key[:2], *NOWHERE, key[2]))
        return unclear

    def _mark_shown(self, mark: Marked, defers: bool, shown: list[tuple[LogId, int, str]]) -> None:
        """Mark the logs that storage says had been shown when the message was."""
        self._asked.remove(mark)
        conversation = self._find_conversation(mark)
        if conversation is None:  # let go meanwhile
            if defers:
                del self._deferred[_pair_of(mark)]
            return
        for one in shown:
            if self._may_tell(mark, one[0].user):
                self._advance((one[0], *_pair_of(mark)[1:]), one[1:])
        self._on_marked(conversation, mark, defers)

    def _position(self, key: MarkKey) -> ReadPosition:
        return self._ordered.get(key) or self._positions.position(key)

    def _advance(self, key: MarkKey, position: ReadPosition) -> None:
        if position[0] > self._position(key)[0]:
            self._order(key, position)

    def _order(self, key: MarkKey, position: ReadPosition) -> None:
        self._ordered[key] = position
        self._ctx.change.reads.append(ReadMark(*key[:2], *position, key[2]))

    # ---- sending

    def on_readers_announced(self, remote: RemoteState, readers: Iterable[UserId]) -> None:
        """Have a remote that hosts these readers from now on sent their marks; its sum is to include them."""
        if not remote.comparison.begun:
            return  # the first comparison asks for all
        marks = self._positions.of_readers({reader for reader in readers if reader in self._sync.hosted})
        if marks:
            self._pending.setdefault(remote.id, PendingMarks()).marks.update(dict.fromkeys(marks, NOWHERE))
            self._send_soon()

    @property
    def has_unsent(self) -> bool:
        """Return whether some link will be sent something."""
        owed = any(due.marks and link in self._sync.remotes for link, due in self._pending.items())
        return owed or bool(self._ordered) or any(mark is not None for mark in self._deferred.values())

    def on_stop(self) -> None:
        """Save what is due, and send it with the same step, since this peer stops."""
        for later in self._deferred.values():
            if later is not None and _is_newest(conversation := self._sync.conversations[later.conversation], later):
                self._mark_all_shown(conversation, later)
        self.on_durable(self._coming())
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
        for key, former in marks:
            log, reader, taken = key
            if reader in self._sync.hosted and self._sync.shares(remote, self._sync.conversations[log.conversation]):
                now = self._positions.position(key)
                items.append(((log.conversation, reader, taken), ref_key(log.user, log.run), former, now))
        if any(former != now for *_, former, now in items):
            self._send_pages(remote, items)

    def _send_pages(self, remote: RemoteState, items: list[MarkItem], *, all: bool = False) -> None:
        """Send marks, in order of conversations, each page with what it changes in the sum."""
        self._sync.presence.announcer.introduce()
        most = self._ctx.settings.page_items
        for start in range(0, max(1, len(items)), most):
            read, taken, change = MarkPage(), MarkPage(), 0
            for pair, ref, former, now in items[start : start + most]:
                change += mark_number(pair, ref, now) - mark_number(pair, ref, former)
                if now != NOWHERE:
                    page = taken if pair[2] else read
                    page.setdefault(pair[0], {}).setdefault(pair[1], []).append((ref, *now))
            add = sum_text(change) if change else None
            self._sync.send(ReadFrame(read, taken, all and not start, add), remote, *{**read, **taken})

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
            self._ctx.send(ReadFrame({}, sum=total), [remote.id])

    def sum_for(self, remote: RemoteState) -> str:
        """Return the sum of all marks for this link; "" if there are none."""
        return self._positions.sum_for(*self._told_to(remote))

    def _told_to(self, remote: RemoteState) -> tuple[AbstractSet[UserId], Callable[[ConversationId], bool]]:
        """Return whose marks a link is told, and in which conversations."""
        every = self._sync.conversations

        def is_told(id: ConversationId) -> bool:
            conversation = every.get(id)
            return conversation is not None and self._sync.shares(remote, conversation)

        return remote.link.users.keys(), is_told

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

    def on_frame(self, remote: RemoteState, frame: ReadFrame) -> LogError | None:
        """Take the marks of a peer's users. Return the fault that must end the link, if any."""
        self._sync.learn_namings(remote, frame.names)
        hosted, peer = remote.link.users, remote.link.peer
        marked = [
            ((id, reader, taken), refs)
            for taken, marks in ((False, frame.marks), (True, frame.taken))
            for id, readers in marks.items()
            for reader, refs in readers.items()
        ]
        if not remote.link.omits_users and any(pair[1] not in hosted for pair, _ in marked):
            return LogError("read: a user not hosted there", code="host")
        if frame.ask and self._sync.may_list(remote):  # otherwise the sum is repeated
            self._send_all(remote)
        if frame.sum is not None and frame.sum != self.announced_sum(peer) and remote.accepts_marks:
            self._ctx.count("read_sum_differs")
            self._ctx.send(ReadFrame({}, ask=True), [remote.id])
        are_taken = True
        for pair, refs in marked:
            is_told = self._sync.find_conversation(remote, pair[0]) is not None and pair[1] in hosted
            for said in refs:
                are_taken &= is_told and self._take_mark(remote, pair, said[0], said[1:])
        if are_taken:  # otherwise they come again, since the sums differ
            self._heard[peer] = (0 if frame.all else self._heard.get(peer, 0)) + int(frame.add or "0", 16)
        return None

    def _take_mark(self, remote: RemoteState, pair: ReaderKey, ref: str, position: ReadPosition) -> bool:
        """Count a mark, or keep it. Return False if it says nothing here, or too many are kept."""
        writer = "" if pair[2] else self._sync.hosted.by_prefix.get(user_start(ref), "")
        if pair[1] not in self._sync.hosted and not writer:
            return False
        most, log = MAX_EARLY if remote.link.known else MAX_EARLY // len(self._sync.remotes), LogKey(pair[0], ref)
        is_counted = self._on_mark(remote, pair, ref, position, writer)
        return is_counted or self.early.keep(log, (remote.id, *pair[1:]), position, most)

    def _on_mark(self, remote: RemoteState, pair: ReaderKey, ref: str, position: ReadPosition, writer: UserId) -> bool:
        """Take one mark that a remote announced: of a user of this peer it is adopted. Return False if that must wait.

        A mark may be ahead of what is here: what comes later was taken, or read, at another host already.

        Args:
            writer: A user of this peer who gets a receipt for it; "" for none.
        """
        conversation = self._sync.conversations[pair[0]]
        log = conversation.log_at(ref) if pair[1] in self._sync.hosted else None
        if log is not None:
            self._advance((log.id, *pair[1:]), position)
        is_taken = log is not None or pair[1] not in self._sync.hosted
        if writer and conversation.may_write(writer):
            mark = Mark(split_ref(ref)[1], *position)
            is_taken &= self.tracker.on_read_mark(remote, conversation, writer, pair[1], mark)
        return is_taken

    def recount(self, log: LogId) -> None:
        """Take the marks that came before entries of a log, or while storage was asked about it."""
        if log.conversation in self._sync.conversations:
            ref = ref_key(log.user, log.run)
            for (link, reader, taken), position in self.early.take(LogKey(log.conversation, ref)).items():
                remote = self._sync.remotes[link]
                if not self._take_mark(remote, (log.conversation, reader, taken), ref, position):
                    self._heard.pop(remote.link.peer, None)


def _pair_of(mark: Marked) -> ReaderKey:
    return mark.conversation, mark.user, isinstance(mark, MarkedTaken)


def mark_refused(ticket: int) -> WriteRefused:
    """Return the answer to a mark that cannot be stored now. Nobody makes it again, so it is taken over."""
    return WriteRefused(ticket, "storage", "not on disk yet: it is kept, and stored when storage works again")


def _is_newest(conversation: ConversationState, mark: Marked) -> bool:
    """Return whether nothing was shown there after the marked entry."""
    return 0 < conversation.newest_place <= mark.place
