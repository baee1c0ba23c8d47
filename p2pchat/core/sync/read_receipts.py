"""Read marks: setting them, telling them to whom they concern, and comparing what was told by a sum.

A program says that a user has read everything up to a message: that becomes one mark on the newest log read of each
writer (bookmarks.py). Marks go to peers hosting the writer and to the reader's other peers, at once, and again at most
every read_told_every to each; what a link cannot take waits here, each mark once. With each digest goes the sum of
what that link is to know; who has heard something else asks, and gets all of it. What others tell goes to readers.py.

Source: docs/protocol.md, "Receipts and presence".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from p2pchat.core.effects import Counted, Send
from p2pchat.core.inputs import MarkedRead, ReceiptsChosen
from p2pchat.core.log import LogId, ref_key
from p2pchat.core.records import LogFacts, LogKey, ReadMark, ShownKey
from p2pchat.core.sync.anti_entropy import FIRST_ID, LAST_ID
from p2pchat.core.sync.bookmarks import Bookmarks, Pair, read_sum
from p2pchat.core.sync.consent import RECEIPTS_CHOSEN, Consent
from p2pchat.core.sync.delivery_receipts import Receipts
from p2pchat.core.sync.log_index import Conversation
from p2pchat.core.sync.progress import MAX_REMEMBERED, Shelf, Side
from p2pchat.core.sync.readers import Readers
from p2pchat.core.sync.told import Told
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, PeerId, Read, UserId

Item = tuple[ConversationId, UserId, str, int]  # conversation, reader, reference key of a log, last seq read

MOST_ABSENT = 1024  # peers whose word is remembered though they are gone, and marks of each: 20 MiB
MOST_TOLD_BY_ABSENT = 100


@dataclass(slots=True)
class Due:
    """What one link is to be told."""

    marks: set[tuple[LogId, UserId]] = field(default_factory=set)
    all: bool = False  # that is, everything
    told_at: float = float("-inf")  # monotonic
    waiting: bool = False  # a timer runs

    @property
    def anything(self) -> bool:
        """Whether there is something to tell; marks may have gone where none rose."""
        return self.all or bool(self.marks)


class Reads:
    """Read marks of users hosted here, and of others about them."""

    def __init__(self, shelf: Shelf, stored: list[ReadMark], meta: Mapping[str, str], receipts: Receipts) -> None:
        self._shelf = shelf
        self._ctx = shelf.ctx
        self.consent = Consent(meta)
        self.readers = Readers(shelf, stored, receipts, self.consent.wants)
        self._books = Bookmarks(item for item in stored if item.reader in shelf.hosted)
        self._told: dict[PeerId, Told] = {}
        self._due: dict[int, Due] = {}  # by link
        self._owed = False  # some link is to be told something
        self._later: dict[Pair, MarkedRead | None] = {}  # marked just now, or storage is asked; the highest mark since
        self._saving = False

    # ---- what is kept

    def take_unsaved(self) -> list[ReadMark]:
        """Return what the next commit shall keep."""
        if not (self._books.unsaved or self.readers.unsaved):
            return []
        return [*self._books.take_unsaved(), *self.readers.take_unsaved()]

    def save(self) -> None:
        """Have what was read saved now: nobody tells it again."""
        self._saving = False
        self._ctx.change.reads.extend(self._books.take_unsaved())

    def keep(self, former: Reads) -> None:
        """Storage failed and was loaded anew: what was told and read before stays so."""
        self.readers.keep(former.readers)
        self._books.keep(former._books)
        self.consent.keep(former.consent)
        self._save_soon()
        for later in former._later.values():
            if later is not None:
                self.marked(later)

    def _save_soon(self) -> None:
        if self._books.unsaved and not self._saving:
            self._saving = True
            self._shelf.after(self._ctx.settings.consumer_saved_after, self.save)

    def host(self, user: UserId, stored: Iterable[ReadMark]) -> None:
        """This peer speaks for one more user: go on with what is stored of it."""
        known = list(stored)
        self.readers.host((item.log, item.reader, item.seq) for item in known if item.log.user == user)
        self._books.load(item for item in known if item.reader == user)

    def unhost(self, user: UserId) -> None:
        """This peer speaks for a user no more: nothing is told of what it has read."""
        self.save()
        self._books.forget(user)
        for due in self._due.values():
            due.marks = {mark for mark in due.marks if mark[1] != user}

    # ---- what programs say

    def marked(self, mark: MarkedRead) -> None:
        """A hosted user has read everything in a conversation up to a place."""
        conversation = self._shelf.conversations.by_id.get(mark.log.conversation)
        if conversation is None or mark.user not in self._shelf.hosted:
            return
        pair = (conversation.id, mark.user)
        if pair in self._later:
            former = self._later[pair]
            self._later[pair] = mark if former is None or former.place < mark.place else former
            return
        self._later[pair] = None
        if _is_newest(conversation, mark):
            self._all_shown(conversation, mark)
            self._rest(pair)
        else:
            key = ShownKey(mark.place, tuple(self._tips(conversation, mark.user)))
            self._shelf.lookups.shown(key, partial(self._shown_by, conversation, mark))

    def _rest(self, pair: Pair) -> None:
        """Whoever marks each of a thousand messages costs no look at all writers for each: the next after a while."""
        self._shelf.after(self._ctx.settings.read_told_every, partial(self._rested, pair))

    def _rested(self, pair: Pair) -> None:
        later = self._later.pop(pair)
        if later is not None:
            self.marked(later)

    def read_to(self, conversation: ConversationId, reader: UserId) -> tuple[Mapping[LogId, int], int]:
        """Return how far a reader hosted here has read: which logs, and the place of what was marked just now, if it
        has still to be looked up; 0 for none."""
        later = self._later.get((conversation, reader))
        return self._books.of(conversation, reader), 0 if later is None else later.place

    def chosen(self, choice: ReceiptsChosen) -> None:
        """A hosted user wants receipts of reading, or none; what was told of it meanwhile comes with the next mark."""
        if self.consent.choose(choice.user, choice.on, choice.other):
            self._ctx.change.meta[RECEIPTS_CHOSEN] = self.consent.text

    def _tips(self, conversation: Conversation, reader: UserId) -> Iterator[LogId]:
        for user, writer in conversation.writers.items():
            if user != reader:
                yield from (log.id for log in writer.tips())

    def _may_hear(self, mark: MarkedRead, writer: UserId) -> bool:
        return writer != mark.user and writer not in mark.but and self.consent.wants(mark.user, writer)

    def _all_shown(self, conversation: Conversation, mark: MarkedRead) -> None:
        """Everything that was shown there is read."""
        reader = mark.user
        for user, writer in conversation.writers.items():
            if not self._may_hear(mark, user):
                continue
            tips = [log for log in writer.logs.values() if not (log.covered or log.forked)]
            for log in tips:
                self._rise(log.id, reader, log.released)
            runs = {log.id.run for log in tips if log.released}
            if tips and len(runs) == len(tips) and self._books.only(conversation.id, reader, user, runs):
                self._tell_all_soon(conversation, user, reader)

    def _shown_by(self, conversation: Conversation, mark: MarkedRead, shown: list[tuple[LogId, int]]) -> None:
        """Storage says how far logs had been shown when that message was."""
        for log, seq in [*shown, (mark.log, mark.seq)]:
            if self._may_hear(mark, log.user):
                self._rise(log, mark.user, seq)
        self._rest((conversation.id, mark.user))

    def _rise(self, log: LogId, reader: UserId, seq: int) -> None:
        if not self._books.rise(log, reader, seq):
            return
        self._save_soon()
        if log.user in self._shelf.hosted:
            self.readers.read_here(log, reader, seq)
        self._tell_soon(log, reader)

    # ---- telling

    def _tell_soon(self, log: LogId, reader: UserId) -> None:
        for due in self._dues(self._of(log.conversation), log.user, reader):
            due.marks.add((log, reader))

    def _tell_all_soon(self, conversation: Conversation, writer: UserId, reader: UserId) -> None:
        """Marks went: who is to be told of them now is told all there is, or would find out and ask."""
        for due in self._dues(conversation, writer, reader):
            due.all = True

    def _dues(self, conversation: Conversation, writer: UserId, reader: UserId) -> Iterator[Due]:
        """Yield what is due to each link that is to know of such marks; something will be."""
        for link in sorted(self._shelf.presence.hosts(writer) | self._shelf.presence.hosts(reader)):
            side = self._shelf.sides.get(link)
            if side is not None and side.begun and self._shelf.shares(side, conversation):
                self._owed = True
                yield self._due.setdefault(link, Due())

    @property
    def untold(self) -> bool:
        """Whether some link that takes it has to be told something yet."""
        owed = any(due.anything and link in self._shelf.sides for link, due in self._due.items())
        return owed or any(mark is not None for mark in self._later.values())

    def leave(self) -> None:
        """This peer stops: tell and save what it still can."""
        for later in self._later.values():
            conversation = self._of(later.log.conversation) if later is not None else None
            if later is not None and conversation is not None and _is_newest(conversation, later):
                self._all_shown(conversation, later)
        self.save()
        for link, due in self._due.items():
            side = self._shelf.sides.get(link)
            if due.anything and side is not None and side.hears_marks:
                self._tell(side, due)

    def tell(self) -> None:
        """Tell what is due to links that take it, not too often."""
        if not self._owed:
            return
        self._owed = False
        for link, due in self._due.items():
            side = self._shelf.sides.get(link)
            if not due.anything or due.waiting or side is None:
                continue
            wait = due.told_at + self._ctx.settings.read_told_every - self._ctx.now.mono
            if wait > 0:
                due.waiting = True
                self._shelf.after(wait, partial(self._tell_again, due))
            elif side.hears_marks:
                self._tell(side, due)
            else:
                self._owed = True  # until it drains

    def _tell_again(self, due: Due) -> None:
        due.waiting = False
        self._owed = True

    def _tell(self, side: Side, due: Due) -> None:
        self._shelf.presence.introduce()
        due.told_at = self._ctx.now.mono
        marks, due.marks = sorted(due.marks), set()
        tells_all, due.all = due.all, False
        if tells_all and sum(map(len, self._toward(side).values())) <= self._ctx.settings.page_items:
            self._send_all(side)
            return
        items: list[Item] = []
        for log, reader in marks:
            seq = self._books.seq(log, reader)
            if seq and reader in self._shelf.hosted and self._shelf.shares(side, self._of(log.conversation)):
                items.append((log.conversation, reader, ref_key(log.user, log.run), seq))
        for page, _ in self._pages(items):
            if page:
                self._shelf.send(Read(page), side, *page)

    def _of(self, conversation: ConversationId) -> Conversation:
        return self._shelf.conversations.by_id[conversation]

    def _pages(self, items: list[Item]) -> Iterator[tuple[dict[str, dict[str, list[tuple[str, int]]]], bool]]:
        """Yield at least one page of marks, and whether it is the last; `items` in order of conversations."""
        most = self._ctx.settings.page_items
        for start in range(0, max(1, len(items)), most):
            page: dict[str, dict[str, list[tuple[str, int]]]] = {}
            for conversation, reader, ref, seq in items[start : start + most]:
                page.setdefault(conversation, {}).setdefault(reader, []).append((ref, seq))
            yield page, start + most >= len(items)

    # ---- comparing

    def link_down(self, side: Side) -> None:
        """A link ends. What its peer told is remembered where that is little: what storage knows is most of it."""
        self._due.pop(side.link.id, None)
        self.readers.link_down(side)
        peer = side.link.peer
        told = self._told.get(peer)
        if told is not None and (told.count > MOST_TOLD_BY_ABSENT or len(self._told) > MOST_ABSENT):
            del self._told[peer]

    def send_sum(self, side: Side) -> None:
        """Tell the sum of what this link is to know; called with each digest."""
        due = self._due.get(side.link.id)
        if due is not None and due.anything:
            self._tell(side, due)  # else the far end would hear of them by a sum that is another, and ask for all
        total = self.sum_toward(side)
        if total:
            self._ctx.emit(Send(Read({}, sum=total), [side.link.id]))

    def sum_toward(self, side: Side) -> str:
        """Return the sum of what this link is to know; "" where there is nothing."""
        marks = self._toward(side)
        return read_sum(marks) if marks else ""

    def told_sum(self, peer: PeerId) -> str:
        """Return the sum of what a peer has told; "" when nothing is known of it."""
        return self._told[peer].sum if peer in self._told else ""

    def _toward(self, side: Side) -> Mapping[Pair, Mapping[str, int]]:
        every = self._shelf.conversations.by_id
        users = self._shelf.presence.users_of(side.link.id)
        return self._books.toward(users, lambda id: id in every and self._shelf.shares(side, every[id]))

    def _send_all(self, side: Side) -> None:
        """Tell everything, in pages that together cover all conversations."""
        self._shelf.presence.introduce()
        toward = sorted(self._toward(side).items())
        items = [(*pair, ref, seq) for pair, refs in toward for ref, seq in refs.items()]
        start = FIRST_ID
        for page, is_last in self._pages(items):
            end = LAST_ID if is_last else max(page)
            self._shelf.send(Read(page, span=(start, end)), side, *page)
            start = end  # a conversation may go on with the next page

    # ---- hearing

    def hear(self, side: Side, frame: Read) -> LogError | None:
        """Take what a peer tells of its users; returns the fault that must end the link."""
        self._shelf.learn(side, frame.names)
        hosted = self._shelf.presence.users_of(side.link.id)
        if any(reader not in hosted for readers in frame.marks.values() for reader in readers):
            return LogError("read: a user not hosted there", code="host")
        told = self._told_by(side)
        if frame.ask and side.hears_marks:  # if not: the sum will be told again
            self._send_all(side)
        if frame.sum is not None and frame.sum != told.sum and side.hears_marks:
            self._ctx.emit(Counted("read_sum_differs"))
            self._ctx.emit(Send(Read({}, ask=True), [side.link.id]))
        self._take(side, told, frame)
        return None

    def _told_by(self, side: Side) -> Told:
        peer = side.link.peer
        if peer not in self._told:
            self._told[peer] = Told(self.readers.of(self._shelf.presence.users_of(side.link.id)))
        return self._told[peer]

    def _take(self, side: Side, told: Told, frame: Read) -> None:
        hosted = self._shelf.hosted
        pairs = {
            (id, reader): [ref for ref in refs if reader in hosted or hosted.beginning(ref[0][:16])]
            for id, readers in frame.marks.items()
            if self._shelf.named(side, id) is not None
            for reader, refs in readers.items()
        }
        if frame.span is not None:
            told.page(frame.span, pairs)
        for pair, refs in pairs.items():
            if frame.span is None and not told.news(pair, refs):
                self._ctx.emit(Counted("marks_ignored"))
            for ref, seq in refs:
                self._heard(side, pair, ref, seq)

    def _heard(self, side: Side, pair: Pair, ref: str, seq: int) -> None:
        conversation, reader = self._of(pair[0]), pair[1]
        if reader in self._shelf.hosted:  # on another peer of theirs
            self._adopt(side, conversation, reader, ref, seq)
        for user in self._shelf.hosted.beginning(ref[:16]):
            if conversation.may_write(user):
                self.readers.heard(side, conversation, user, reader, ref[16:], seq)

    def _adopt(self, side: Side, conversation: Conversation, reader: UserId, ref: str, seq: int) -> None:
        log = conversation.by_ref.get(ref)
        if log is not None:
            self._rise(log.id, reader, seq)
        elif side.unsure < MAX_REMEMBERED:
            side.unsure += 1
            self._shelf.lookups.log(LogKey(conversation.id, ref), partial(self._found, side, reader, seq))

    def _found(self, side: Side, reader: UserId, seq: int, facts: LogFacts | None) -> None:
        side.unsure -= 1
        if facts is not None:
            self._rise(facts.log, reader, seq)


def _is_newest(conversation: Conversation, mark: MarkedRead) -> bool:
    """Say whether nothing was shown there since what is marked."""
    return bool(conversation.recent) and mark.place >= conversation.recent[-1][0]
