"""Comparing what two peers hold: a sum over everything shared, then a sum a conversation, then marks.

A digest is the sum, mod 2**256, of the hashes of all visible tips. Equal digests acknowledge everything in them and
are not answered unless they ask. One that differs is answered with the sums of all shared conversations, in pages;
those that differ with marks, in pages that ask; marks end it: whoever lacks something wants it (fetch.py).

The other end learns that sums are equal from a digest of this side. What this side told may have been another sum,
for it held less then: so who has heard nothing that ends a comparison asks with each digest that it tells again.

Source: docs/protocol.md, "Comparing"; the sum is an additive multiset hash (Clarke et al., "Incremental Multiset
Hash Functions", 2003), good enough against accidents; entries themselves are proven by heads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from p2pchat.core.effects import Counted, Send
from p2pchat.core.log import LogId, ref_key
from p2pchat.core.records import LogFacts, LogKey
from p2pchat.core.sync.delivery_receipts import DeliveryReceipts
from p2pchat.core.sync.fetch import Fetcher
from p2pchat.core.sync.forks import Forks
from p2pchat.core.sync.log_index import ConversationState, Log, sum_of
from p2pchat.core.sync.progress import MAX_REMEMBERED, Key, RemoteState, SyncContext
from p2pchat.protocol import ConversationId, Digest, Have, Mark, UserId

FIRST_ID = "0" * 64
LAST_ID = "f" * 64
COMPARED_ROOM = "compared_room"  # in meta: the room whose first marks were heard


def next_id(id: str) -> str:
    """Return the next id in order; the last one's is itself."""
    return LAST_ID if id == LAST_ID else f"{int(id, 16) + 1:064x}"


class AntiEntropy:
    """Digests and marks, out and in."""

    def __init__(self, shelf: SyncContext, pull: Fetcher, receipts: DeliveryReceipts, forks: Forks) -> None:
        self._shelf = shelf
        self._ctx = shelf.ctx
        self._pull = pull
        self._receipts = receipts
        self._forks = forks
        self.on_digest: Callable[[RemoteState], None] = lambda side: None  # told before each digest

    # ---- digests

    def begin(self, side: RemoteState) -> None:
        """Compare everything with a far end whose hosted users are known now (again, when they change)."""
        side.begun = True
        side.sharing_seen = dict.fromkeys(self._shelf.presence.users_of(side.link.id))
        side.all_compared = side.sum_told = False
        side.compared.clear()
        side.named.clear()  # as long as its users were others it took no names of what concerns these, and forgot some
        self._forks.tell_hosts(side)
        if side.insisting is not None:
            side.insisting.cancel()
        self._insist(side, self._ctx.settings.gossip_within)

    def _insist(self, side: RemoteState, wait: float) -> None:
        """Send the digest, at least once, and again, more and more rarely, until everything is compared."""
        side.insisting = None
        if self._shelf.is_up(side) and not (side.all_compared and side.sum_told):
            if side.hears_marks:
                self.send_digest(side, ask=side.sum_told)
            again = min(2 * wait, self._ctx.settings.digest_every)
            side.insisting = self._shelf.after(wait, partial(self._insist, side, again))

    def send_digest(self, side: RemoteState, *, ask: bool = False) -> None:
        """Tell the sum of everything shared; with `ask` the far end says so if its own is equal."""
        side.sum_told = True
        self.on_digest(side)
        self._ctx.emit(Send(Digest(sum=sum_of(self._shelf.shared(side)), ask=ask), [side.link.id]))

    def digest(self, side: RemoteState, frame: Digest) -> None:
        """Take a digest. A link that may be told nothing now gets no answer: the digest is told again."""
        self._shelf.learn(side, frame.names)
        if not side.hears_marks:
            self._ctx.emit(Counted("digest_unanswered"))
        elif frame.sum is not None:
            self._ctx.emit(Counted("digest_sum"))
            self._total(side, frame.sum, ask=frame.ask)
        elif frame.sums is not None and frame.span is not None:
            self._ctx.emit(Counted("digest_sums"))
            self._sums(side, frame.sums, frame.span)

    def _total(self, side: RemoteState, told: str, *, ask: bool) -> None:
        shared = self._shelf.shared(side)
        if sum_of(shared) != told:
            self._send_sums(side, shared)
            return
        for conversation in shared:
            self._equal(side, conversation)
        side.all_compared = True
        side.differing.clear()
        side.ahead.clear()
        side.ahead_count = 0
        self._no_longer_new(self._shelf.conversations.room)
        self._talks_no_longer_new(side, (FIRST_ID, LAST_ID))
        if ask:
            self.send_digest(side)

    def _send_sums(self, side: RemoteState, shared: list[ConversationState]) -> None:
        size = self._shelf.page
        start = FIRST_ID
        for index in range(0, max(1, len(shared)), size):
            page = shared[index : index + size]
            last = index + size >= len(shared)
            end = LAST_ID if last else page[-1].id
            sums = {conversation.id: sum_of([conversation]) for conversation in page}
            self._shelf.send(Digest(sums=sums, span=(start, end)), side, *sums)
            if not last:
                self._ctx.emit(Counted("page_boundary"))
            start = next_id(end)

    def _sums(self, side: RemoteState, told: dict[ConversationId, str], span: tuple[str, str]) -> None:
        if span[0] == FIRST_ID:
            side.sums_to, side.differing = "", {}
        in_order = span[0] == FIRST_ID or (bool(side.sums_to) and span[0] <= next_id(side.sums_to))
        here = {item.id: item for item in self._shelf.shared(side) if span[0] <= item.id <= span[1]}
        for id in told:
            found = here.get(id) or self._shelf.named(side, id)
            if found is not None:
                _spoken(side, found)
                if self._shelf.shares(side, found):
                    here[id] = found
        for id in sorted(here):
            if self._group_differs(here, told, id):
                side.differing[id] = None  # the group first: what of its talk is visible depends on it
            elif sum_of([here[id]]) == told.get(id, sum_of([])):
                self._equal(side, here[id])
                side.compared[id] = None
            else:
                side.differing[id] = None
                self.send_marks(side, here[id], (FIRST_ID, LAST_ID), ask=True)
        room = self._shelf.conversations.room
        if span[0] <= room <= span[1] and room not in side.differing:
            self._no_longer_new(room)  # also where nobody has written yet: it is in no sum then
        self._talks_no_longer_new(side, span)
        if in_order:
            side.sums_to = max(side.sums_to, span[1])
        if side.sums_to == LAST_ID and not side.differing:
            side.all_compared = True

    def _group_differs(
        self, here: dict[ConversationId, ConversationState], told: dict[ConversationId, str], id: str
    ) -> bool:
        """Say whether this is the talk of a group that the far end holds other than this side."""
        group = here[id].group
        if group is None or not here[id].is_talk or group.id not in here:
            return False
        return sum_of([here[group.id]]) != told.get(group.id, sum_of([]))

    def _equal(self, side: RemoteState, conversation: ConversationState) -> None:
        """The far end holds exactly what is held here: that acknowledges all of it."""
        _spoken(side, conversation)
        for user in sorted(self._shelf.hosted.keys() & conversation.writers.keys()):
            marks = conversation.writers[user].marks()
            side.heard[conversation.id, user] = {mark.run: mark for mark in marks}
            self._receipts.heard(side, conversation, user, marks)
        for key in [key for key in side.ahead if key[0] == conversation.id]:
            side.set_ahead(key, {})

    # ---- marks

    def send_marks(
        self, side: RemoteState, conversation: ConversationState, span: tuple[UserId, UserId], *, ask: bool
    ) -> None:
        """Tell all marks of a conversation within a span of users, in pages that together cover the span."""
        size = self._shelf.page
        start, page, count = span[0], dict[UserId, list[Mark]](), 0
        for user, marks in conversation.marks(span).items():
            if count and count + len(marks) > size:
                end = max(page)
                self._send_page(side, conversation, page, (start, end), ask)
                self._ctx.emit(Counted("page_boundary"))
                start, page, count = next_id(end), {}, 0
            page[user] = marks
            count += len(marks)
        self._send_page(side, conversation, page, (start, span[1]), ask)

    def _send_page(
        self,
        side: RemoteState,
        conversation: ConversationState,
        page: dict[UserId, list[Mark]],
        span: tuple[str, str],
        ask: bool,
    ) -> None:
        self._shelf.send(Have({conversation.id: page}, span=span, ask=ask), side, conversation.id)

    def have(self, side: RemoteState, frame: Have) -> None:
        """Take marks: a page of a comparison, an acknowledgement, the end of a want, or news."""
        self._shelf.learn(side, frame.names)
        for id, users in frame.marks.items():
            conversation = self._shelf.named(side, id)
            if conversation is None:
                continue
            _spoken(side, conversation)
            if frame.span is not None:
                self._page(side, conversation, users, frame.span, ask=frame.ask)
            else:
                for user, marks in users.items():
                    self._heard(side, conversation, user, marks, urgent=False)
        for id, refused in frame.full.items():
            if self._shelf.named(side, id) is not None:
                for user in refused:
                    side.refuses((id, user))
        if frame.end is not None:
            self._pull.ended(side, frame.end)

    def _page(
        self,
        side: RemoteState,
        conversation: ConversationState,
        users: dict[UserId, list[Mark]],
        span: tuple[str, str],
        *,
        ask: bool,
    ) -> None:
        for user in sorted(users):
            if span[0] <= user <= span[1]:
                self._heard(side, conversation, user, users[user], urgent=True)
                self._forks.tell_who_differs(side, conversation, user, users[user])
        unlisted = [key for key in (*side.ahead, *side.heard) if key[0] == conversation.id and key[1] not in users]
        for key in unlisted:
            if span[0] <= key[1] <= span[1]:
                side.set_ahead(key, {})
                side.heard.pop(key, None)
        if ask and side.hears_marks and self._shelf.shares(side, conversation):  # if not: the digest will be told again
            self.send_marks(side, conversation, span, ask=False)
        self._covered(side, conversation.id, span)

    def _covered(self, side: RemoteState, conversation: ConversationId, span: tuple[str, str]) -> None:
        """Note how far pages have come; a conversation is compared when they reached the end."""
        if span[0] == FIRST_ID:
            side.pages_to[conversation] = span[1]
        elif conversation in side.pages_to and span[0] <= next_id(side.pages_to[conversation]):
            side.pages_to[conversation] = max(span[1], side.pages_to[conversation])
        if side.pages_to.get(conversation) == LAST_ID:
            del side.pages_to[conversation]
            side.compared[conversation] = None
            side.differing.pop(conversation, None)
            if side.sums_to == LAST_ID and not side.differing:
                side.all_compared = True
            self._no_longer_new(conversation)

    def _no_longer_new(self, conversation: ConversationId) -> None:
        """The first marks of a conversation new here were heard: what comes from now on is news."""
        found = self._shelf.conversations.by_id.get(conversation)
        if found is not None and found.newcomer:
            found.newcomer = False
            self._shelf.conversations.new_talks.discard(found.id)
            if not found.is_talk:
                self._ctx.change.meta[COMPARED_ROOM] = found.id  # who comes back to an empty room is no newcomer
            if found.past.marks:
                self._ctx.change.meta[found.past_key] = str(found.past)

    def _talks_no_longer_new(self, side: RemoteState, span: tuple[str, str]) -> None:
        """Of the talks new here within a span these are compared now: as it is in the room."""
        for id in sorted(self._shelf.conversations.new_talks):
            talk = self._shelf.conversations.by_id[id]
            group = talk.group.id if talk.group is not None else ""
            same = id not in side.differing and not any(key[0] == group for key in side.ahead)
            if span[0] <= id <= span[1] and same and self._shelf.shares(side, talk):
                self._no_longer_new(id)

    def _heard(
        self, side: RemoteState, conversation: ConversationState, user: UserId, marks: list[Mark], *, urgent: bool
    ) -> None:
        if len(marks) > self._ctx.settings.max_tips or not conversation.may_write(user):
            self._ctx.emit(Counted("marks_ignored"))
            return
        key = (conversation.id, user)
        side.told_marks(key, marks)
        self._of_a_copy(conversation, user, marks)
        if user in self._shelf.hosted:
            side.heard[key] = {mark.run: mark for mark in marks}
            self._receipts.heard(side, conversation, user, marks)
            self._raise_tails(side, key)
        elif conversation.newcomer:
            self._was_there(conversation, user, marks, urgent)
        if self._shelf.trusts(side, user):
            self._find_ahead(side, conversation, key, marks, urgent)

    def _was_there(self, conversation: ConversationState, user: UserId, marks: list[Mark], all_of_them: bool) -> None:
        """First marks of a writer; what a file brought up to them was shown before."""
        if all_of_them:
            conversation.past.listed(user, {mark.run for mark in marks})
        unshown = [mark for mark in marks if not _is_shown(conversation, user, mark)]
        if unshown:
            conversation.past.told(user, unshown, self._ctx.settings.max_tips)

    def _was_shown(self, facts: LogFacts) -> None:
        """A log in storage only may be one of which first marks were heard: a file had brought it, and it was shown."""
        conversation = self._shelf.conversations.by_id.get(facts.log.conversation)
        if conversation is not None and conversation.past.marks:
            conversation.past.shown(facts.log, facts.released)
            if not conversation.newcomer:
                self._ctx.change.meta[conversation.past_key] = str(conversation.past)

    def _of_a_copy(self, conversation: ConversationState, user: UserId, marks: list[Mark]) -> None:
        """A log of this run that is not here: a copy of this process wrote it, and what is written here is another."""
        for mark in marks:
            if mark.run == self._shelf.run and conversation.log(user, mark.run) is None:
                self._shelf.taken(LogId(conversation.id, user, mark.run))

    def _raise_tails(self, side: RemoteState, key: Key) -> None:
        """Marks of a running log may be further than what was written to this link."""
        for run, mark in side.heard[key].items():
            tail = side.tails.get(LogId(*key, run))
            if tail is not None and mark.seq > tail.sent:
                tail.sent = mark.seq

    def _find_ahead(
        self, side: RemoteState, conversation: ConversationState, key: Key, marks: list[Mark], urgent: bool
    ) -> None:
        ahead: dict[str, Mark] = {}
        unsure: list[Mark] = []
        for mark in marks:
            log = conversation.log(key[1], mark.run)
            if log is not None:
                if log.forked:
                    self._forks.tell(side, log)
                elif conversation.lacks(key[1], mark):
                    ahead[mark.run] = mark
            elif conversation.is_talk and not conversation.lacks(key[1], mark):
                continue  # nothing of it can be visible
            elif conversation.may_be_only_stored(key[1]):
                unsure.append(mark)
            else:
                ahead[mark.run] = mark
        if self._shelf.quota.refuses(side.link.peer, key):
            ahead, unsure = {}, []
        remembered = side.set_ahead(key, ahead)
        if not remembered:
            self._ctx.emit(Counted("marks_ignored"))
        elif ahead:
            self._pull.consider(key, urgent=urgent)
        for mark in unsure:
            self._look_up(side, conversation, key, mark, urgent)

    def _look_up(self, side: RemoteState, conversation: ConversationState, key: Key, mark: Mark, urgent: bool) -> None:
        """Ask storage whether the log of a mark is held: it may be covered here."""
        if side.unsure >= MAX_REMEMBERED:
            self._ctx.emit(Counted("marks_ignored"))  # the next comparison brings it again
            return
        side.unsure += 1
        ref = LogKey(conversation.id, ref_key(key[1], mark.run))
        self._shelf.lookups.log(ref, partial(self._looked_up, side, key, mark, urgent))

    def _looked_up(self, side: RemoteState, key: Key, mark: Mark, urgent: bool, facts: LogFacts | None) -> None:
        side.unsure -= 1
        if facts is not None:
            self._was_shown(facts)
        lacks = facts is None or Log.from_facts(facts).is_behind(mark)
        if lacks and self._shelf.is_up(side) and side.add_ahead(key, mark):
            self._pull.consider(key, urgent=urgent)


def _is_shown(conversation: ConversationState, user: UserId, mark: Mark) -> bool:
    """Say whether all that a mark tells of was shown here: a file may have brought it before."""
    log = conversation.log(user, mark.run)
    return log is not None and log.released >= mark.seq


def _spoken(side: RemoteState, conversation: ConversationState) -> None:
    """The far end tells of a conversation: so it is shared there."""
    if conversation.group is not None:
        side.spoken[conversation.id] = None
