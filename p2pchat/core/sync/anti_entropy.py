"""Anti-entropy: comparison of the logs that two peers hold, which repairs whatever was lost, acknowledgements too.

Peers compare a sum of everything shared, then a sum per conversation, then marks. A sum is a hash of the hashes of all
visible tips, in order. An equal one acknowledges everything in it, and is not answered unless the digest asks. A digest
that differs is answered with the sums of all shared conversations, in pages. Conversations whose sums differ are
followed by marks, in pages that ask for the other side's marks. A peer whose marks are behind then fetches what it
lacks (fetcher.py).

A peer learns that sums are equal only from the other's digest, and its own digest may have been sent when it held less.
So a peer that has heard nothing to end the comparison repeats its digest and asks for an answer.

Users who come during a comparison share the next one, which begins a moment after it ends, or in time if it never does.
So a thousand users who come one after the other cost a few comparisons of everything.

Source: docs/protocol.md, "Compare". The hashes are not added up: whoever makes logs finds sets of them with one sum
(Wagner, "A Generalized Birthday Problem", 2002), and an equal sum would hide what another wrote.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from p2pchat.core.durable_changes import Collected
from p2pchat.core.effects import ComparisonEnded
from p2pchat.core.inputs import ComparisonAwaited
from p2pchat.core.log import NO_SUM, LogId, WriterKey
from p2pchat.core.node_context import NodeContext
from p2pchat.core.sync.conversation_state import ConversationState, HeldMark, sum_of
from p2pchat.core.sync.fetcher import Fetcher
from p2pchat.core.sync.forks import Forks
from p2pchat.core.sync.remote_state import Comparison, MarkListing, RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import ConversationId, Digest, Have, Mark, Ping, UserId

FIRST_ID = "0" * 64
LAST_ID = "f" * 64
Span = tuple[UserId, UserId]
NEXT_WITHIN = 4.0  # times gossip_within: an answer that was lost is repeated before. A guess
NEXT_AFTER = 0.3  # times gossip_within, from the end of one comparison to the next: users come one by one. A guess
CHECKED_EVERY = 0.02  # seconds; a comparison takes some round trips
CHECKED_EVERY_OF_EACH = 0.0001  # seconds for each that waits, so that a thousand at once cost no more than one


def next_id(id: str) -> str:
    """Return the next id in order; the last id is its own successor."""
    return LAST_ID if id == LAST_ID else f"{int(id, 16) + 1:064x}"


def repeat_at_random(ctx: NodeContext, send_digest: Callable[[], None]) -> None:
    """Call this again and again, with random pauses, digest_every seconds on average: peers do not fall into step."""

    def on_due() -> None:
        send_digest()
        repeat_at_random(ctx, send_digest)

    ctx.after(ctx.settings.digest_every * (0.5 + ctx.random()), on_due)


class AntiEntropy:
    """Compares with every link, by digests and marks.

    Args:
        before_digest: Called before each digest; what goes with it comes to the link first.
    """

    def __init__(
        self, sync: SyncContext, fetcher: Fetcher, forks: Forks, before_digest: Callable[[RemoteState], None]
    ) -> None:
        self._before_digest = before_digest
        self.compared_users: ComparedUsers = ComparedUsers(sync, self)
        self._sync = sync
        self.pages: MarkPages = MarkPages(sync)
        self._ctx = sync.ctx
        self._fetcher = fetcher
        self._forks = forks
        self._changed: set[ConversationId] = set()  # groups about which a digest is sent soon

    # ---- digests

    def begin_next(self, remote: RemoteState, *, ask: bool = False) -> int:
        """Start a comparison since users came at either end, not during another or just after. Return its number."""
        comparison = remote.comparison
        is_over = comparison.all_compared
        wait = self._until_next(remote) if is_over else NEXT_WITHIN * self._ctx.settings.gossip_within
        if wait <= 0.0 or comparison.number < 2:  # the first one may be of nobody but the peer's own user
            self._begin(remote, ask=ask)
            return comparison.number
        if comparison.next_timer is None:
            comparison.next_timer = self._sync.after(wait, partial(self._on_next_due, remote))
        self._on_users_changed(remote)
        return comparison.number + 1

    def _until_next(self, remote: RemoteState) -> float:
        """Return in how many seconds the next comparison may begin, when one has ended."""
        return remote.comparison.ended_at + NEXT_AFTER * self._ctx.settings.gossip_within - self._ctx.now.mono

    def _on_next_due(self, remote: RemoteState) -> None:
        if self._sync.is_up(remote):
            self._begin(remote, ask=True)  # it began none itself if it was told of nobody new

    def _on_users_changed(self, remote: RemoteState) -> None:
        """Take that the present comparison, or the next, is one of all users of a remote."""
        remote.comparison.known_users = dict.fromkeys(remote.link.users)
        self._forks.send_to_hosts(remote)

    def begin(self, remote: RemoteState) -> None:
        """Start a comparison now, of what was compared before, too. It is also the one for which users wait."""
        remote.forget_told()  # it ignored or forgot names for which it had no place
        self._begin(remote)

    def _begin(self, remote: RemoteState, *, ask: bool = False) -> None:
        comparison = remote.comparison
        if comparison.next_timer is not None:
            comparison.next_timer.cancel()
            comparison.next_timer = None
        if comparison.present.digest_timer is not None:
            comparison.present.digest_timer.cancel()
        # Pages of the former one, still on their way, do not end this one.
        comparison.present = Comparison(comparison.number + 1)
        self._on_users_changed(remote)
        self._repeat_digest(remote, self._ctx.settings.gossip_within, ask)

    def _end(self, remote: RemoteState) -> None:
        """Note that everything is compared, but for users who wait for the next comparison."""
        comparison = remote.comparison
        if comparison.ended < comparison.number:
            comparison.ended, comparison.ended_at = comparison.number, self._ctx.now.mono
        present = comparison.present
        present.is_over = True
        if present.digest_timer is not None and present.digest_sent and comparison.all_compared:
            present.digest_timer.cancel()
        if comparison.next_timer is not None:
            comparison.next_timer.cancel()
            wait = max(0.0, self._until_next(remote))
            comparison.next_timer = self._sync.after(wait, partial(self._on_next_due, remote))

    def _repeat_digest(self, remote: RemoteState, wait: float, ask: bool) -> None:
        """Send the digest, and repeat it less and less often until everything is compared."""
        comparison = remote.comparison.present
        comparison.digest_timer = None
        if self._sync.is_up(remote) and not (remote.comparison.all_compared and comparison.digest_sent):
            if remote.accepts_marks:
                self.send_digest(remote, ask=ask or comparison.digest_sent)
            again = min(2 * wait, self._ctx.settings.digest_every)
            comparison.digest_timer = self._sync.after(wait, partial(self._repeat_digest, remote, again, ask))

    def send_digest(self, remote: RemoteState, *, ask: bool = False) -> None:
        """Send the sum of everything shared. With `ask`, the remote answers even if its own sum is equal."""
        remote.comparison.present.digest_sent, remote.comparison.digest_at = True, self._ctx.now.mono
        self._before_digest(remote)
        self._sync.send(Digest(sum=sum_of(self._sync.shared_conversations(remote)), ask=ask), remote)

    def on_freed(self, user: UserId, remotes: Iterable[RemoteState]) -> None:
        """Have what these remotes hold of a user come again, with the next comparison: it was refused, and there is
        room now.
        """
        for remote in remotes:
            remote.full_sent_at = {key: at for key, at in remote.full_sent_at.items() if key[1] != user}
            if remote.comparison.begun:
                remote.forget_told()
                self.begin_next(remote)

    def on_groups_changed(self, groups: set[ConversationId]) -> None:
        """Compare soon with everyone who may know these groups, whose new facts are durable."""
        self.compared_users.on_groups_changed(groups)
        if not self._changed:
            wait = self._ctx.settings.gossip_within * (0.1 + 0.4 * self._ctx.random())
            self._sync.after(wait, self._send_digests)
        self._changed |= groups

    def _send_digests(self) -> None:
        groups, self._changed = self._changed, set()
        conversations = [self._sync.conversations[id] for id in sorted(groups)]
        for remote in self._sync.remotes.values():
            is_told = remote.comparison.begun and any(self._sync.shares(remote, each) for each in conversations)
            if is_told and remote.accepts_marks:  # others are compared later
                self.send_digest(remote)

    def send_random_digest(self) -> None:
        """Send a digest to the link that had none for longest."""
        ready = [remote for remote in self._sync.remotes.values() if remote.comparison.begun and remote.accepts_marks]
        if ready:
            self.send_digest(min(ready, key=lambda remote: remote.comparison.digest_at))

    def on_digest(self, remote: RemoteState, frame: Digest) -> None:
        """Take a digest. If the link accepts no marks now, there is no answer; the remote repeats its digest."""
        self._sync.learn_namings(remote, frame.names)
        if not self._sync.may_list(remote):
            self._ctx.count("digest_unanswered")
        elif frame.sum is not None:
            self._ctx.count("digest_sum")
            self._on_sum(remote, frame.sum, ask=frame.ask)
        elif frame.sums is not None and frame.span is not None:
            self._ctx.count("digest_sums")
            self._on_sums(remote, frame.sums, frame.span)

    def _on_sum(self, remote: RemoteState, theirs: str, *, ask: bool) -> None:
        shared = self._sync.shared_conversations(remote)
        if sum_of(shared) != theirs:
            self._send_sums(remote, shared)
            return
        remote.clear_ahead()
        for conversation in self._newly_equal(remote, shared):
            self._on_equal(remote, conversation)
        remote.comparison.present.differing.clear()
        self._end(remote)
        if ask:
            self.send_digest(remote)

    def _send_sums(self, remote: RemoteState, shared: list[ConversationState]) -> None:
        self._sync.on_listed(remote, len(shared))
        size = self._sync.page_size
        start = FIRST_ID
        for index in range(0, max(1, len(shared)), size):
            page = shared[index : index + size]
            last = index + size >= len(shared)
            end = LAST_ID if last else page[-1].id
            sums = {conversation.id: conversation.sum for conversation in page}
            self._sync.send(Digest(sums=sums, span=(start, end)), remote, *sums)
            if not last:
                self._ctx.count("page_boundary")
            start = next_id(end)

    def _on_sums(self, remote: RemoteState, theirs: dict[ConversationId, str], span: tuple[str, str]) -> None:
        comparison = remote.comparison.present
        if span[0] == FIRST_ID:
            comparison.sums_through, comparison.differing = "", {}
        through = comparison.sums_through
        in_order = span[0] == FIRST_ID or (bool(through) and span[0] <= next_id(through))
        here = {item.id: item for item in self._sync.shared_conversations(remote, span)}
        for id in theirs:
            found = here.get(id) or self._sync.find_conversation(remote, id)
            if found is not None and id not in here and self._sync.shares(remote, found):
                here[id] = found
        differing, equal = list[ConversationId](), list[ConversationState]()
        for id in sorted(here):
            group = here[id].group
            there = here.get(group.id) if group is not None and here[id].is_talk else None
            if there is not None and there.sum != theirs.get(there.id, NO_SUM):
                comparison.differing[id] = None  # the group first: visibility in its talk depends on it
            elif here[id].sum == theirs.get(id, NO_SUM):
                equal.append(here[id])
                comparison.compared[id] = None
            else:
                differing.append(id)
        for conversation in self._newly_equal(remote, equal):
            self._on_equal(remote, conversation)
        for id in sorted(differing, key=lambda id: (not self._sync.is_among_known(here[id]), id)):  # what floods waits
            comparison.differing[id] = None
            self.pages.ask(remote, here[id])
        if in_order:
            comparison.sums_through = max(comparison.sums_through, span[1])
        if comparison.sums_through == LAST_ID and not comparison.differing:
            self._end(remote)

    def _newly_equal(self, remote: RemoteState, equal: list[ConversationState]) -> list[ConversationState]:
        """Return those of equal sums that were not equal before, of which there are mostly few among thousands."""
        former = remote.comparison.equal
        return [item for item in equal if former.get(item.id) != item.sum or not item.naming.dm]

    def _on_equal(self, remote: RemoteState, conversation: ConversationState) -> None:
        """Take an equal sum, which acknowledges everything held here."""
        writers, hosted = conversation.writers, self._sync.hosted
        few, many = (writers, hosted) if len(writers) < len(hosted) else (hosted, writers)
        for user in sorted(user for user in few if user in many):  # of a thousand hosted users a few write here
            held: list[HeldMark] = [(log.mark, log) for log in writers[user].tips()]
            remote.acked[conversation.id, user] = {mark.run: mark for mark, _ in held}
            self._sync.step.acked.append((remote, conversation, user, held, True))
        for key in _keys_of(remote, conversation):
            remote.set_ahead(key, {})
        if conversation.naming.dm:  # the same sum says nothing when it is equal again
            remote.comparison.equal[conversation.id] = conversation.sum

    # ---- marks

    def on_have(self, remote: RemoteState, frame: Have) -> None:
        """Take marks: a page of a comparison, an acknowledgement, the end of a want, or news."""
        if frame.names:
            self._sync.learn_namings(remote, frame.names)
        for id, users in frame.marks.items():
            conversation = self._sync.find_conversation(remote, id)
            if conversation is None:
                continue
            remote.comparison.equal.pop(id, None)
            if frame.span is not None:
                self._on_page(remote, conversation, users, frame.span, ask=frame.ask)
            else:
                for user, marks in users.items():
                    self._on_marks(remote, conversation, user, marks, urgent=False)
        for id, refused in frame.full.items():
            if self._sync.find_conversation(remote, id) is not None:
                for user in refused:
                    remote.on_refused((id, user))
        if frame.end is not None:
            self._fetcher.on_want_ended(remote, frame.end)

    def _on_page(
        self,
        remote: RemoteState,
        conversation: ConversationState,
        users: dict[UserId, list[Mark]],
        span: tuple[str, str],
        *,
        ask: bool,
    ) -> None:
        for user in sorted(users):
            if span[0] <= user <= span[1]:
                self._on_marks(remote, conversation, user, users[user], urgent=True)
                self._forks.send_if_marks_differ(remote, conversation, user, users[user])
        for key in _keys_of(remote, conversation):
            if key[1] not in users and span[0] <= key[1] <= span[1]:
                remote.set_ahead(key, {})
                remote.acked.pop(key, None)
        # Without an answer the digest is repeated.
        if ask and self._sync.may_list(remote) and self._sync.shares(remote, conversation):
            self.pages.answer(remote, conversation, span)
        # How far pages have come. A conversation is compared when they reach the end.
        comparison, id = remote.comparison.present, conversation.id
        self.pages.on_page(remote, id, span)
        through = comparison.marks_through
        if span[0] == FIRST_ID:
            through[id] = span[1]
        elif id in through and span[0] <= next_id(through[id]):
            through[id] = max(span[1], through[id])
        if through.get(id) == LAST_ID:
            del through[id]
            comparison.compared[id] = None
            comparison.differing.pop(id, None)
            if comparison.sums_through == LAST_ID and not comparison.differing:
                self._end(remote)

    def _on_marks(
        self, remote: RemoteState, conversation: ConversationState, user: UserId, marks: list[Mark], *, urgent: bool
    ) -> None:
        if len(marks) > self._ctx.settings.max_tips or not conversation.may_write(user):
            return
        key, held = (conversation.id, user), conversation.held(user, marks)
        if remote.refusals:
            remote.on_marks(key, marks)
        if user in self._sync.hosted:
            remote.acked[key] = {mark.run: mark for mark in marks}
            self._sync.step.acked.append((remote, conversation, user, held, False))
        ahead: dict[str, Mark] = {}
        for mark, log in held:
            if log is None:  # perhaps of this run: a copy of this process wrote it, so new logs get another run
                self._sync.change_run_if_cloned(LogId(*key, mark.run))
            elif log.forked:
                self._forks.send_evidence(remote, log.id)
                continue
            elif (cursor := remote.serving.cursors.get(log.id)) is not None and mark.seq > cursor.sent:
                cursor.sent = mark.seq
            if conversation.lacks(user, mark, log):
                ahead[mark.run] = mark
        is_refused = key[0] in remote.groups_refused and not conversation.is_stored
        if ahead and (is_refused or key in remote.refuted or not self._sync.quota.check(key)):
            ahead = {}
        if remote.set_ahead(key, ahead) and ahead:
            self._fetcher.request(key, urgent=urgent)


def _keys_of(remote: RemoteState, conversation: ConversationState) -> list[WriterKey]:
    """Return the writers of a conversation of which a remote may hold more than this node, or what was written here.

    Between two people there are two of them. A gateway compares thousands of such conversations at once, and looks
    through all that it knows of the remote only for the others.
    """
    if conversation.naming.dm is not None:
        return [(conversation.id, user) for user in dict.fromkeys(conversation.naming.dm)]
    return [key for key in (*remote.ahead, *remote.acked) if key[0] == conversation.id]


# ---- pages of marks


class MarkPages:
    """Sends the marks of conversations to links, in pages.

    A page has a span of user ids, and the pages together cover the span that was asked for. Small conversations are one
    page, which is sent at once. Of a large one, as the room is, each page is followed by a ping, and the next one goes
    when the pong has come. So whatever else is said on the link waits for one page at the other end, and not for
    thousands of marks, and none of our steps is longer than a page takes.

    Both ends ask about a conversation whose sums differ. What is asked while the pages of that span go out anyway is
    answered by them, and they do not ask for marks that came meanwhile. So each mark goes over the link once, or little
    more. What is asked beyond their span widens it, so that this goes page by page, too.
    """

    def __init__(self, sync: SyncContext) -> None:
        self._sync = sync
        self._ctx = sync.ctx

    def ask(self, remote: RemoteState, conversation: ConversationState) -> None:
        """Send all marks of a conversation, and ask for those of the remote."""
        listing = remote.listings.by_conversation.get(conversation.id)
        if listing is None or not listing.asks or listing.comparison != remote.comparison.number:
            self._send(remote, conversation, (FIRST_ID, LAST_ID), ask=True)

    def answer(self, remote: RemoteState, conversation: ConversationState, span: Span) -> None:
        """Send the marks of a conversation within a span of users for which a remote asks."""
        listing = remote.listings.by_conversation.get(conversation.id)
        if listing is None:
            self._send(remote, conversation, span, ask=False)
        elif listing.next <= span[0]:  # its pages are chosen when they go, once for all that was asked until then
            listing.span = listing.span[0], max(span[1], listing.span[1])
        elif not listing.span[0] <= span[0] <= span[1] <= listing.span[1]:
            # Some of it was sent before, maybe in a former comparison of the remote. Nothing is beyond the new listing,
            # so however often a remote asks, a listing begins anew only once.
            self._send(remote, conversation, (FIRST_ID, LAST_ID), ask=listing.asks)

    def on_page(self, remote: RemoteState, conversation: ConversationId, span: Span) -> None:
        """Take that the marks of a remote within a span have come."""
        listing = remote.listings.by_conversation.get(conversation)
        if listing is not None and (span[0] == FIRST_ID or (listing.heard and span[0] <= next_id(listing.heard))):
            listing.heard = max(listing.heard, span[1])

    def on_pong(self, remote: RemoteState) -> None:
        """Send the next page if this is the pong behind the last one."""
        if remote.listings.by_conversation:
            self._send_next(remote)

    def _send(self, remote: RemoteState, conversation: ConversationState, span: Span, *, ask: bool) -> None:
        ends = self._ends(conversation, span)
        if len(ends) == 1:
            self._send_page(remote, conversation, span, ask=ask)
            return
        listings = remote.listings
        is_first = not listings.by_conversation
        listings.by_conversation[conversation.id] = MarkListing(remote.comparison.number, span, ask, span[0], ends)
        if is_first:  # a step later, so that what was asked about small ones is not behind it at the other end
            self._try_later(remote, 0.0)

    def _ends(self, conversation: ConversationState, span: Span) -> deque[UserId]:
        """Return the ends of the pages within a span."""
        size = self._sync.page_size
        if len(conversation.writers) <= size:  # thousands of them are compared at once
            return deque([span[1]])
        users = conversation.writers_within(span)
        return deque([*users[size - 1 : -1 : size], span[1]])

    def _send_next(self, remote: RemoteState) -> None:
        """Send the next page of the first listing."""
        listings = remote.listings
        if not self._sync.is_up(remote) or remote.link.pongs < listings.pong or listings.timer is not None:
            return
        while listings.by_conversation:
            id, listing = next(iter(listings.by_conversation.items()))
            conversation = self._sync.conversations.get(id)
            if conversation is None or not self._sync.shares(remote, conversation):
                del listings.by_conversation[id]
                continue
            if not remote.accepts_marks:
                self._try_later(remote, self._ctx.settings.gossip_within)
                return
            if not listing.ends:  # the span was widened
                listing.ends = self._ends(conversation, (listing.next, listing.span[1]))
            page = listing.next, listing.ends.popleft()
            self._send_page(remote, conversation, page, ask=listing.asks and listing.heard < page[1])
            listing.next = next_id(page[1])
            if page[1] == listing.span[1]:
                del listings.by_conversation[id]
            else:
                self._ctx.count("page_boundary")
            if listings.by_conversation:
                remote.link.pings += 1
                listings.pong = remote.link.pings
                self._ctx.send(Ping(), [remote.id])
            return

    def _try_later(self, remote: RemoteState, seconds: float) -> None:
        def on_due() -> None:
            remote.listings.timer = None
            self._send_next(remote)

        if remote.listings.timer is None:
            remote.listings.timer = self._sync.after(seconds, on_due)

    def _send_page(self, remote: RemoteState, conversation: ConversationState, span: Span, *, ask: bool) -> None:
        """Send the marks within a span of users. There are several pages if many came since the span was chosen, or if
        writers have several marks.
        """
        size = self._sync.page_size
        start, page, count = span[0], dict[UserId, list[Mark]](), 0
        for user, marks in conversation.marks(span, self._ctx.settings.max_tips).items():
            if count and count + len(marks) > size:
                end = max(page)
                self._sync.send(Have({conversation.id: page}, span=(start, end), ask=ask), remote, conversation.id)
                self._ctx.count("page_boundary")
                start, page, count = next_id(end), {}, 0
            page[user] = marks
            count += len(marks)
            self._sync.on_listed(remote, len(marks))
            remote.link.offered += 1
        self._sync.send(Have({conversation.id: page}, span=(start, span[1]), ask=ask), remote, conversation.id)


# ---- users that came from another peer


class ComparisonWait(Collected):
    """One wait of a program for one user."""

    user: UserId
    until: float  # monotonic
    pongs: dict[int, int] = {}  # by link: the pong awaited
    comparisons: dict[int, int] = {}  # by link: the comparison awaited behind the pong
    commit: int | None = None  # the commit that has to be durable; None: nothing was compared yet


class ComparedUsers:
    """Waits until what this peer holds of a hosted user's conversations was compared with the user's other peers.

    A user who was hosted elsewhere before has conversations of which this peer holds nothing yet. A comparison that
    began before the other peer knew that the user is hosted here, too, says nothing about them, and its last frames may
    still be on their way. So the other peer is pinged behind the announcement: what comes after its pong is about these
    conversations, too. Then the next comparison counts, and when it is over, what is fetched has to come and to be
    durable. If a group came, one more is needed, since nothing was known of its messages.
    """

    def __init__(self, sync: SyncContext, anti_entropy: AntiEntropy) -> None:
        self._sync = sync
        self._anti_entropy = anti_entropy
        self._waits: dict[int, ComparisonWait] = {}  # by ticket

    def on_awaited(self, request: ComparisonAwaited) -> None:
        """Begin a wait; the check comes with the next input, so that users who come together share a comparison."""
        if not self._waits:
            self._sync.after(0.0, self._check)
        self._waits[request.ticket] = ComparisonWait(request.user, self._sync.ctx.now.mono + request.within)

    def on_groups_changed(self, groups: set[ConversationId]) -> None:
        """Have users who are named in groups that are changed durably wait for a comparison that begins now."""
        found = [self._sync.conversations.groups[id] for id in groups]
        for wait in self._waits.values():
            if any(wait.user in group.named for group in found):
                wait.pongs, wait.comparisons, wait.commit = {}, {}, None

    def end_all(self) -> None:
        """End all waits: storage failed, and everything held is loaded anew."""
        for ticket in [*self._waits]:
            self._end(ticket, False)

    def _end(self, ticket: int, compared: bool) -> None:
        del self._waits[ticket]
        self._sync.ctx.emit(ComparisonEnded(ticket, compared))

    def _check(self) -> None:
        pinged: dict[int, int] = {}
        begun: dict[int, list[ComparisonWait]] = {}
        behind: dict[int, set[UserId]] = {}
        for ticket, wait in list(self._waits.items()):
            for remote in self._hosts(wait.user) if wait.commit is None else ():
                link = remote.link
                if link.id not in wait.pongs:
                    wait.pongs[link.id] = pinged.get(link.id) or pinged.setdefault(link.id, self._ping(remote))
                elif link.id not in wait.comparisons:
                    if link.pongs >= wait.pongs[link.id]:
                        begun.setdefault(link.id, []).append(wait)
                elif remote.comparison.ended >= wait.comparisons[link.id]:
                    if link.id not in behind:
                        behind[link.id] = self._users_behind(remote)
                    if wait.user not in behind[link.id]:
                        wait.commit = max(self._sync.pending, default=0)
            if wait.commit is not None and next(iter(self._sync.pending), wait.commit + 1) > wait.commit:
                self._end(ticket, True)
            elif self._sync.ctx.now.mono >= wait.until or wait.user not in self._sync.hosted:
                self._end(ticket, False)
        for id, waits in begun.items():
            number = self._anti_entropy.begin_next(self._sync.remotes[id], ask=True)
            for wait in waits:
                wait.comparisons[id] = number
        if self._waits:
            self._sync.after(max(CHECKED_EVERY, CHECKED_EVERY_OF_EACH * len(self._waits)), self._check)

    def _hosts(self, user: UserId) -> list[RemoteState]:
        links = sorted(self._sync.presence.hosts.get(user, ()))
        found = (self._sync.remotes.get(link) for link in links)
        return [remote for remote in found if remote is not None and remote.comparison.begun]

    def _ping(self, remote: RemoteState) -> int:
        """Ask for a pong behind the announcement of all users hosted here; return its number."""
        self._sync.presence.announcer.introduce()
        remote.link.pings += 1
        self._sync.ctx.send(Ping(), [remote.id])
        return remote.link.pings

    def _users_behind(self, remote: RemoteState) -> set[UserId]:
        """Return the users in whose conversations a remote holds more; the room, which never rests, does not count.

        Of a group whose first fact is not here yet nobody knows the members: it counts for all who wait.
        """
        ids = {id for id, _ in remote.ahead}
        found = [each for id in ids if (each := self._sync.conversations.get(id)) is not None]
        if any(each.has_facts and not each.writers for each in found):
            return {wait.user for wait in self._waits.values()}
        return {user for each in found for user in each.members or ()}
