"""Peers tell each other where they listen and whom they are linked with, so that one endpoint joins the whole mesh.

The first `peers` on a link tells all, later ones what changed; changes within 0.1 s are joined, and a link that does
not drain gets its share when it does. In a large mesh whom others tell of as well can wait until no more links come
up: while it forms, everybody links with everybody, and would tell everybody of it, again and again. What is heard goes
to the address book after a look at its form, and from there to the dialler with that peer's id as the pin. Only what a
peer says of itself, and what answered, is told on.

Nobody is told of itself, with one exception: who names the receiver among those it is linked with has met another
process with the receiver's key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from p2pchat.core.context import Context, Timer
from p2pchat.core.effects import Counted, Send
from p2pchat.core.mesh.addressbook import AddressBook, is_loopback, join_endpoint, may_be_told
from p2pchat.core.mesh.dialer import Dialer
from p2pchat.core.mesh.link import PeerLink
from p2pchat.protocol import PeerId, Peers

FEW = 8  # links that are all told within peers_told_after; of more none is told again before proportionally longer
STILL = 4  # as often as that, when no link has come up for so long: a mesh has formed; a guess
KNOWN_AFTER = 30.0  # seconds at most until all are told of a link with whom others tell of too; a guess
_SLACK = 0.001  # seconds: deadlines are sums of floats


class PeerExchange:
    """What is told and heard in `peers` frames.

    Args:
        up, by_peer: Links' own tables.
        copied: Called when one names us.
    """

    def __init__(
        self,
        ctx: Context,
        book: AddressBook,
        dialing: Dialer,
        up: Mapping[int, PeerLink],
        by_peer: Mapping[PeerId, PeerLink],
        copied: Callable[[], None],
    ) -> None:
        self._ctx = ctx
        self._book = book
        self._dialing = dialing
        self._up = up
        self._by_peer = by_peer
        self._copied = copied
        self._own: dict[bool, tuple[int, At]] = {True: (0, ()), False: (0, ())}  # for links on loopback, and for others
        self._timer: Timer | None = None
        self._told_at = float("-inf")  # when all were last told
        self._came_up_at = float("-inf")  # when a link last did
        self._linked_now: set[PeerId] = set()  # since then, or has another address; others may tell of them too
        self._news = False  # something else is to be told
        self._rosters = {True: PeerChanges(), False: PeerChanges()}  # for links on loopback, and for others

    # ---- telling

    def listening(self, port: int, at: At) -> None:
        """This peer can be reached there; port 0: it does not listen."""
        self._own = {near: (port, tuple(each for each in at if self._is_for(each, near))) for near in (True, False)}
        self.changed()

    def link_up(self, link: PeerLink) -> None:
        """Tell a new link all; the others hear of it soon."""
        self._book.touched.add(link.peer)
        self._tell(link)
        self._came_up_at = self._ctx.now.mono
        self._tell_of(link.peer)

    def link_down(self, link: PeerLink) -> None:
        """Tell the others soon, if no other link took its place."""
        self._book.touched.add(link.peer)
        if link.peer not in self._by_peer:
            self.changed()

    def _tell_of(self, peer: PeerId) -> None:
        """This peer is linked now, or has another address: who waits to be told of others can wait for that too."""
        self._linked_now.add(peer)
        if self._timer is None or not self._others_tell_of(peer):
            self._tell_soon()

    def changed(self) -> None:
        """Tell everyone soon what is another."""
        self._news = True
        self._tell_soon()

    def _tell_soon(self) -> None:
        """See who can be told, a while after they were told last; sooner, if that was meant already."""
        if not self._up:
            return
        now = self._ctx.now.mono
        wait = max(self._ctx.settings.peers_told_after, self._told_at + self._pause() - now)
        if self._timer is None or self._timer.at > now + wait:
            self.stop()
            self._timer = self._ctx.after(wait, self._tell_due)

    def _pause(self) -> float:
        """Return how long all are left alone once they were told: longer in a large mesh, for that is all to all."""
        return self._ctx.settings.peers_told_after * len(self._up) / FEW

    def _tell_due(self) -> None:
        """All can be told; unless everything is known to them from others, so that it can wait until links stand."""
        self._timer = None
        now = self._ctx.now.mono
        until = min(self._came_up_at + STILL * self._pause(), self._told_at + KNOWN_AFTER)
        can_wait = len(self._up) > FEW and now < until - _SLACK and not self._news
        if can_wait and all(self._others_tell_of(peer) for peer in self._linked_now):
            self._timer = self._ctx.after(until - now, self._tell_due)
        else:
            self._tell_all()

    def _others_tell_of(self, peer: PeerId) -> bool:
        return any(peer in link.linked for link in self._up.values())

    def drained(self, link: PeerLink) -> None:
        self._tell(link)

    def tell_of_copy(self, link: PeerLink) -> None:
        """Tell one of two processes with one key that there is the other."""
        own = self._own[is_loopback(link.host)]
        self._ctx.emit(Send(Peers(port=own[0], at=list(own[1]), linked=[(link.peer, ())]), [link.id]))

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tell_all(self) -> None:
        self._linked_now, self._news = set(), False
        self._told_at = self._ctx.now.mono
        behind = False
        for link in list(self._up.values()):
            if link.full:
                behind = True
            else:
                self._tell(link)
        if not behind:
            for roster in self._rosters.values():
                roster.forget_gone()

    def _tell(self, link: PeerLink) -> None:
        """Tell one link what is another."""
        self._bring_up_to_date()
        roster = self._rosters[is_loopback(link.host)]
        news = roster.since(link.told)
        news.pop(link.peer, None)
        own = self._own[is_loopback(link.host)]
        link.told = roster.change
        if not news and link.told_self == own:
            return
        link.told_self = own
        there = [(peer, at) for peer, at in sorted(news.items()) if at is not None]
        gone = sorted(peer for peer, at in news.items() if at is None)
        for frame in self._pages(own, there, gone):
            self._ctx.emit(Send(frame, [link.id]))

    def _bring_up_to_date(self) -> None:
        touched, self._book.touched = self._book.touched, set()
        for peer in sorted(touched):
            for near, roster in self._rosters.items():
                roster.put(peer, self._endpoints(peer, near) if peer in self._by_peer else None)

    def _pages(self, own: tuple[int, At], news: list[tuple[PeerId, At]], gone: list[PeerId]) -> Iterator[Peers]:
        most = self._ctx.settings.page_items
        pages = max(1, -(-len(news) // most), -(-len(gone) // most))
        for page in range(pages):
            part = slice(page * most, (page + 1) * most)
            yield Peers(port=own[0], at=list(own[1]), linked=news[part], gone=gone[part])

    def _endpoints(self, peer: PeerId, near: bool) -> At:
        """Return what links on loopback (`near`), or others, may hear about where a peer is."""
        return tuple(
            address.endpoint
            for address in self._book.addresses(peer)
            if (address.verified_at or address.teller == peer)
            and not address.failing_since
            and self._is_for(address.endpoint, near)
        )

    def _is_for(self, endpoint: str, near: bool) -> bool:
        return may_be_told(endpoint, from_loopback=near, settings=self._ctx.settings)

    # ---- hearing

    def got(self, link: PeerLink, frame: Peers) -> None:
        """Take what a link tells."""
        near = is_loopback(link.host)
        seen = [join_endpoint(link.host, frame.port)] if frame.port else []
        for endpoint in (*seen, *frame.at):
            self._learn(link, link.peer, endpoint, near)
        for peer, endpoints in frame.linked:
            self._heard_of(link, peer, endpoints, near)
        for peer in frame.gone:
            link.linked.pop(peer, None)

    def _heard_of(self, link: PeerLink, peer: PeerId, endpoints: Sequence[str], near: bool) -> None:
        if peer == self._ctx.me:
            self._copied()
        elif len(link.linked) < self._ctx.settings.max_addresses:
            there = self._by_peer.get(peer)
            if there is not None:  # who is linked speaks for itself; and its id is kept once: all links tell of it
                link.linked[there.peer] = None
                return
            link.linked[peer] = None
            for endpoint in endpoints:
                if self._book.get(peer, endpoint) is None:  # what it knows it has heard of all others: that is no news
                    self._learn(link, peer, endpoint, near)

    def _learn(self, link: PeerLink, peer: PeerId, endpoint: str, near: bool) -> None:
        if not self._is_for(endpoint, near):
            self._ctx.emit(Counted("address_refused"))
        elif self._book.tell(peer, endpoint, link.peer):
            address = self._book.get(peer, endpoint)
            if address is not None:
                self._dialing.learned(address)
                if peer == link.peer:
                    self._tell_of(peer)


# ---- roster
#
# What links may hear of the peers linked here, in the order in which it changed.
#
# A link that was told everything up to one change gets what came after it, and nobody compares all that each of them
# knows: in a mesh of n peers that forms, that would be n x n x n steps. What may be told differs for links on loopback
# and others, so there is one Roster for each of the two.


At = tuple[str, ...]  # the endpoints told of a peer


class PeerChanges:
    """Linked peers with the endpoints that may be told; what changed last is last.

    Attributes:
        change: The number of the last change; 0 before the first.
    """

    def __init__(self) -> None:
        self.change = 0
        self._known: dict[PeerId, tuple[int, At | None]] = {}  # the change it came with; None: not linked any more

    def put(self, peer: PeerId, at: At | None) -> None:
        """Note where a peer is now; None when it is not linked."""
        known = self._known.get(peer, (0, None))[1]
        if known != at:
            self.change += 1
            self._known.pop(peer, None)  # or it would keep its place
            self._known[peer] = self.change, at

    def since(self, change: int) -> dict[PeerId, At | None]:
        """Return what is another than after that change; after none (0) nobody is gone."""
        news: dict[PeerId, At | None] = {}
        for peer, (number, at) in reversed(self._known.items()):
            if number <= change:
                break
            if change or at is not None:
                news[peer] = at
        return news

    def forget_gone(self) -> None:
        """All links have been told: who is gone needs no mention any more."""
        self._known = {peer: known for peer, known in self._known.items() if known[1] is not None}
