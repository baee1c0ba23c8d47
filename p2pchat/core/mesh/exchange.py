"""Peers tell each other where they listen and whom they are linked with, so that one endpoint joins the whole mesh.

The first `peers` on a link tells all, later ones what changed; changes within 0.1 s are joined, and a link that does
not drain gets its share when it does. What is heard goes to the address book after a look at its form, and from there
to the dialler with that peer's id as the pin. Only what a peer says of itself, and what answered, is told on.

Nobody is told of itself, with one exception: who names the receiver among those it is linked with has met another
process with the receiver's key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from p2pchat.core.context import Context, Timer
from p2pchat.core.effects import Counted, Send
from p2pchat.core.mesh.addressbook import AddressBook
from p2pchat.core.mesh.dialing import Dialing
from p2pchat.core.mesh.endpoints import is_loopback, join_endpoint, may_be_told
from p2pchat.core.mesh.link import Link
from p2pchat.protocol import PeerId, Peers

Linked = dict[bool, dict[PeerId, tuple[str, ...]]]  # what links on loopback, and others, may hear of all linked peers


class Exchange:
    """What is told and heard in `peers` frames. `up` is Links' own table; `copied` is called when one names us."""

    def __init__(
        self, ctx: Context, book: AddressBook, dialing: Dialing, up: Mapping[int, Link], copied: Callable[[], None]
    ) -> None:
        self._ctx = ctx
        self._book = book
        self._dialing = dialing
        self._up = up
        self._copied = copied
        self._port = 0
        self._at: tuple[str, ...] = ()
        self._timer: Timer | None = None

    # ---- telling

    def listening(self, port: int, at: tuple[str, ...]) -> None:
        """This peer can be reached there; port 0: it does not listen."""
        self._port, self._at = port, at
        self.changed()

    def link_up(self, link: Link) -> None:
        """Tell a new link all; the others hear of it soon."""
        self._tell(link)
        self.changed()

    def changed(self) -> None:
        """Tell everyone soon what is another."""
        if self._timer is None and self._up:
            self._timer = self._ctx.after(self._ctx.settings.peers_told_after, self._tell_all)

    def drained(self, link: Link) -> None:
        self._tell(link)

    def tell_of_copy(self, link: Link) -> None:
        """Tell one of two processes with one key that there is the other."""
        own = self._own(link)
        self._ctx.emit(Send(Peers(port=own[0], at=list(own[1]), linked=[(link.peer, [])]), [link.id]))

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tell_all(self) -> None:
        self._timer = None
        linked: Linked = {}
        for link in list(self._up.values()):
            if not link.full:
                self._tell(link, linked)

    def _tell(self, link: Link, known: Linked | None = None) -> None:
        """Tell one link what is another; `known` keeps for the next link what is the same for it."""
        near = is_loopback(link.host)
        known = {} if known is None else known
        if near not in known:
            known[near] = {other.peer: self._endpoints(other.peer, link) for other in self._up.values()}
        linked = {peer: at for peer, at in known[near].items() if peer != link.peer}
        news = [(peer, list(at)) for peer, at in sorted(linked.items()) if link.told.get(peer) != at]
        gone = sorted(link.told.keys() - linked.keys())
        own = self._own(link)
        if not news and not gone and link.told_self == own:
            return
        link.told, link.told_self = linked, own
        for frame in self._pages(own, news, gone):
            self._ctx.emit(Send(frame, [link.id]))

    def _pages(
        self, own: tuple[int, tuple[str, ...]], news: list[tuple[PeerId, list[str]]], gone: list[PeerId]
    ) -> Iterator[Peers]:
        most = self._ctx.settings.page_items
        pages = max(1, -(-len(news) // most), -(-len(gone) // most))
        for page in range(pages):
            part = slice(page * most, (page + 1) * most)
            yield Peers(port=own[0], at=list(own[1]), linked=news[part], gone=gone[part])

    def _own(self, link: Link) -> tuple[int, tuple[str, ...]]:
        """Return where this peer listens, as `link` may hear it."""
        return self._port, tuple(at for at in self._at if self._is_for(at, link))

    def _endpoints(self, peer: PeerId, link: Link) -> tuple[str, ...]:
        """Return what `link` may hear about where a peer is."""
        return tuple(
            address.endpoint
            for address in self._book.addresses(peer)
            if (address.verified_at or address.teller == peer)
            and not address.failing_since
            and self._is_for(address.endpoint, link)
        )

    def _is_for(self, endpoint: str, link: Link) -> bool:
        return may_be_told(endpoint, from_loopback=is_loopback(link.host), settings=self._ctx.settings)

    # ---- hearing

    def got(self, link: Link, frame: Peers) -> bool:
        """Take what a link tells; True when `link.linked` is another now."""
        seen = [join_endpoint(link.host, frame.port)] if frame.port else []
        for endpoint in (*seen, *frame.at):
            self._learn(link, link.peer, endpoint)
        before = set(link.linked)
        speak = {other.peer for other in self._up.values()}  # who is linked speaks for itself
        for peer, endpoints in frame.linked:
            self._heard_of(link, peer, () if peer in speak else endpoints)
        link.linked.difference_update(frame.gone)
        return link.linked != before

    def _heard_of(self, link: Link, peer: PeerId, endpoints: Sequence[str]) -> None:
        if peer == self._ctx.me:
            self._copied()
        elif len(link.linked) < self._ctx.settings.max_addresses:
            link.linked.add(peer)
            for endpoint in endpoints:
                self._learn(link, peer, endpoint)

    def _learn(self, link: Link, peer: PeerId, endpoint: str) -> None:
        if not self._is_for(endpoint, link):
            self._ctx.emit(Counted("address_refused"))
        elif self._book.tell(peer, endpoint, link.peer):
            address = self._book.get(peer, endpoint)
            if address is not None:
                self._dialing.learned(address)
                if peer == link.peer:
                    self.changed()
