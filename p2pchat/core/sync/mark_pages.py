"""Pages of marks: the marks of one conversation, as one link is sent them.

A page has a span of user ids, and the pages together cover the span that was asked for. Small conversations are one
page, which is sent at once. Of a large one, as the room is, each page is followed by a ping, and the next one goes when
the pong has come. So whatever else is said on the link waits for one page at the other end, and not for thousands of
marks, and none of our steps is longer than a page takes.

Both ends ask about a conversation whose sums differ. What is asked while the pages of that span go out anyway is
answered by them, and they do not ask for marks that came meanwhile. So each mark goes over the link once, or little
more. What is asked beyond their span widens it, so that this goes page by page, too.
"""

from __future__ import annotations

from collections import deque

from p2pchat.core.effects import Counted, Send
from p2pchat.core.sync.log_index import ConversationState
from p2pchat.core.sync.remote_state import MarkListing, RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import ConversationId, Have, Mark, Ping, UserId

FIRST_ID = "0" * 64
LAST_ID = "f" * 64
Span = tuple[UserId, UserId]


def next_id(id: str) -> str:
    """Return the next id in order; the last id is its own successor."""
    return LAST_ID if id == LAST_ID else f"{int(id, 16) + 1:064x}"


class MarkPages:
    """Sends pages of marks to all links."""

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
        users = conversation.writers.within(span)
        return deque([*users[size - 1 : -1 : size], span[1]])

    def _send_next(self, remote: RemoteState) -> None:
        """Send the next page of the first listing."""
        listings = remote.listings
        if not self._sync.is_up(remote) or remote.link.pongs < listings.pong or listings.timer is not None:
            return
        while listings.by_conversation:
            id, listing = next(iter(listings.by_conversation.items()))
            conversation = self._sync.conversations.by_id.get(id)
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
                self._ctx.emit(Counted("page_boundary"))
            if listings.by_conversation:
                remote.link.pings += 1
                listings.pong = remote.link.pings
                self._ctx.emit(Send(Ping(), [remote.link.id]))
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
                self._ctx.emit(Counted("page_boundary"))
                start, page, count = next_id(end), {}, 0
            page[user] = marks
            count += len(marks)
            self._sync.on_listed(remote, len(marks))
            remote.link.offered += 1
        self._sync.send(Have({conversation.id: page}, span=(start, span[1]), ask=ask), remote, conversation.id)
