"""Peer exchange: peers share their endpoints and the peers they are linked with, so one endpoint joins the whole mesh.

The first `peers` frame on a link has everything, later ones have the changes. Changes within 0.1 s are joined, and a
link that does not drain gets its changes when it does. In a large mesh, changes that other peers announce as well wait
until no more links come up: while a mesh forms, every peer links with every other, and would announce that repeatedly.
A received endpoint goes to the address book after a check of its form, and from there to the dialer with that peer's id
as the pin. Only endpoints that a peer sends about itself, and verified ones, are shared.

A member that finds no place is told a few linked peers with `admit`, before `bye`, and dials those.

No frame contains the receiver, with one exception: a peer that names the receiver among its links is linked with
another process that has the receiver's key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from p2pchat.core.effects import Counted, Send
from p2pchat.core.limits_by_origin import RELAY_HOST, address_line
from p2pchat.core.mesh.addressbook import (
    AddressBook,
    is_address,
    is_in_one_network,
    is_loopback,
    is_private,
    is_shareable,
    join_endpoint,
    relay_peer,
    split_endpoint,
)
from p2pchat.core.mesh.dialer import Dialer
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.node_context import SLACK, NodeContext, Timer
from p2pchat.protocol import FILES, HOLDS, PULLS, PeerId, Peers

FEW_LINKS = 8  # so many links get changes within peers_told_after; with more of them the pause grows in proportion
QUIET_PAUSES = 4  # pauses without a new link after which a mesh has formed; a guess
MAX_LINKED = 512  # peers that one peer says it is linked with: twice the links of a peer
MAX_SAMPLE = 12  # peers told by one without a place, each with two endpoints of 100 bytes: 3.4 KiB of a frame of 4
MAX_DELAY = 30.0  # seconds until all links hear news that other peers spread as well; a guess

Endpoints = tuple[str, ...]


class PeerExchange:
    """`peers` frames, sent and received.

    Args:
        up, by_peer: The tables of Links.
        on_copy: Called when a peer says that it is linked with us.
    """

    def __init__(
        self,
        ctx: NodeContext,
        book: AddressBook,
        dialer: Dialer,
        up: Mapping[int, PeerLink],
        by_peer: Mapping[PeerId, PeerLink],
        on_copy: Callable[[], None],
    ) -> None:
        self._ctx = ctx
        self._book = book
        self._dialer = dialer
        self._up = up
        self._by_peer = by_peer
        self._on_copy = on_copy
        # By whether the link is on loopback: what may be shared differs.
        self._own: dict[bool, tuple[int, Endpoints]] = {True: (0, ()), False: (0, ())}
        self._changes = {True: PeerChanges(), False: PeerChanges()}
        self._timer: Timer | None = None
        self._sent_at = float("-inf")  # when changes were last sent to all links
        self._came_up_at = float("-inf")  # when a link last came up
        self._linked_since: set[PeerId] = set()  # linked since then, or with another address; others may spread it too
        self._has_news = False  # something that others do not spread

    # Sending

    def on_listening(self, port: int, at: Endpoints) -> None:
        """This peer can be reached at these endpoints. Port 0 means that it does not listen."""
        self._own = {
            near: (port, tuple(each for each in at if self._is_shareable(each, near))) for near in (True, False)
        }
        self._on_news()

    def on_link_up(self, link: PeerLink) -> None:
        """Tell a new link everything, and the other links soon."""
        self._book.touched.add(link.peer)
        self._book.on_linked(link.peer)
        self._send_to(link)
        self._came_up_at = self._ctx.now.mono
        self._on_linked(link.peer)

    def on_link_down(self, link: PeerLink) -> None:
        """Tell the other links soon, unless another link to that peer is up."""
        self._book.touched.add(link.peer)
        if link.peer not in self._by_peer:
            self._book.on_unlinked(link.peer)
            self._on_news()

    def _on_linked(self, peer: PeerId) -> None:
        """A peer is linked now, or has another address. Others may spread that too, so it can wait."""
        self._linked_since.add(peer)
        if self._timer is None or not self._is_spread_by_others(peer):
            self._schedule()

    def _on_news(self) -> None:
        self._has_news = True
        self._schedule()

    def _schedule(self) -> None:
        """Set the timer for the next frames, or bring it forward."""
        if not self._up:
            return
        now = self._ctx.now.mono
        wait = max(self._ctx.settings.peers_told_after, self._sent_at + self._pause() - now)
        if self._timer is None or self._timer.at > now + wait:
            self.stop()
            self._timer = self._ctx.after(wait, self._on_timer)

    def _pause(self) -> float:
        """Return the pause between frames to all links: longer in a large mesh, where they go from all to all."""
        return self._ctx.settings.peers_told_after * len(self._up) / FEW_LINKS

    def _on_timer(self) -> None:
        """Send to all links, unless others spread all of it and links still come up."""
        self._timer = None
        now = self._ctx.now.mono
        until = min(self._came_up_at + QUIET_PAUSES * self._pause(), self._sent_at + MAX_DELAY)
        can_wait = len(self._up) > FEW_LINKS and now < until - SLACK and not self._has_news
        if can_wait and all(self._is_spread_by_others(peer) for peer in self._linked_since):
            self._timer = self._ctx.after(until - now, self._on_timer)
        else:
            self._send_to_all()

    def _is_spread_by_others(self, peer: PeerId) -> bool:
        return any(peer in link.linked for link in self._up.values())

    def on_drained(self, link: PeerLink) -> None:
        self._send_to(link)

    def send_copy_notice(self, link: PeerLink) -> None:
        """Tell one of two processes with one key that the other exists."""
        port, at = self._own[is_loopback(link.host)]
        self._ctx.emit(Send(Peers(port=port, at=list(at), linked=[(link.peer, ())]), [link.id]))

    def sample(self, link: PeerLink, peer: PeerId) -> list[tuple[PeerId, Endpoints]]:
        """Return some linked peers, drawn at random, for a member that proved itself and finds no place here.

        They are few, since the frame that tells them comes before `go` and is small.
        """
        self._update_changes()
        changes = self._changes[is_loopback(link.host)]
        linked = [(other, at[:2]) for other, at in sorted(changes.since(0).items()) if at and other != peer]
        return sorted(linked, key=lambda _: self._ctx.random())[: min(MAX_SAMPLE, self._ctx.settings.page_items)]

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _send_to_all(self) -> None:
        self._linked_since, self._has_news = set(), False
        self._sent_at = self._ctx.now.mono
        behind = False
        for link in list(self._up.values()):
            if link.full:
                behind = True
            else:
                self._send_to(link)
        if not behind:
            for changes in self._changes.values():
                changes.forget_gone()

    def _send_to(self, link: PeerLink) -> None:
        """Send one link the changes since the last frame to it."""
        self._update_changes()
        changes = self._changes[is_loopback(link.host)]
        news = changes.since(link.sent_change)
        news.pop(link.peer, None)
        own = self._own[is_loopback(link.host)]
        link.sent_change = changes.last
        if not news and link.sent_own == own:
            return
        can = [] if link.sent_own is not None else [FILES, HOLDS, PULLS]
        link.sent_own = own
        linked = [(peer, at) for peer, at in sorted(news.items()) if at is not None]
        gone = sorted(peer for peer, at in news.items() if at is None)
        for frame in self._pages(own, linked, gone, can):
            self._ctx.emit(Send(frame, [link.id]))

    def _update_changes(self) -> None:
        touched, self._book.touched = self._book.touched, set()
        for peer in sorted(touched):
            for near, changes in self._changes.items():
                changes.put(peer, self._shareable(peer, near) if peer in self._by_peer else None)

    def _pages(
        self, own: tuple[int, Endpoints], linked: list[tuple[PeerId, Endpoints]], gone: list[PeerId], can: list[str]
    ) -> Iterator[Peers]:
        most = self._ctx.settings.page_items
        pages = max(1, -(-len(linked) // most), -(-len(gone) // most))
        for page in range(pages):
            part = slice(page * most, (page + 1) * most)
            yield Peers(port=own[0], at=list(own[1]), linked=linked[part], gone=gone[part], can=[] if page else can)

    def _shareable(self, peer: PeerId, near: bool) -> Endpoints:
        """Return a peer's endpoints that links on loopback (`near`), or other links, may hear of.

        Hearsay is kept back: otherwise all peers of the mesh would dial whom one of them was told of.
        """
        shareable = [
            address.endpoint
            for address in self._book.addresses(peer)
            if (address.verified_at or address.teller == peer)
            and (peer, address.endpoint) not in self._book.hearsay
            and not address.failing_since
            and self._is_shareable(address.endpoint, near)
        ]
        return tuple(shareable[: self._ctx.settings.page_items])  # with more a receiver would end the link

    def _is_shareable(self, endpoint: str, near: bool) -> bool:
        return is_shareable(endpoint, from_loopback=near, settings=self._ctx.settings)

    # Receiving

    def on_peers(self, link: PeerLink, frame: Peers) -> None:
        if frame.can:
            link.takes_files, link.tells_files = FILES in frame.can, HOLDS in frame.can
            link.takes_many_pulls = PULLS in frame.can
        near = is_loopback(link.host)
        observed = [join_endpoint(link.host, frame.port)] if frame.port and not link.relayed else []
        for endpoint in (*observed, *frame.at):
            self._learn(link, link.peer, endpoint, near)
        for peer, endpoints in frame.linked:
            self._on_linked_there(link, peer, endpoints, near)
        for peer in frame.gone:
            link.linked.pop(peer, None)

    def on_told_instead(self, link: PeerLink, peers: Sequence[tuple[PeerId, Endpoints]]) -> None:
        """Take the peers that a member tells instead of linking, for which it has no place."""
        near = is_loopback(link.host)
        for peer, endpoints in peers:
            if peer != self._ctx.me and peer not in self._by_peer:
                for endpoint in endpoints:
                    if self._book.get(peer, endpoint) is None:
                        self._learn(link, peer, endpoint, near)

    def _on_linked_there(self, link: PeerLink, peer: PeerId, endpoints: Sequence[str], near: bool) -> None:
        """Take the news that the far end of `link` is linked with `peer`."""
        if peer == self._ctx.me:
            self._on_copy()
        elif len(link.linked) < MAX_LINKED:
            current = self._by_peer.get(peer)
            if current is not None:  # a linked peer tells its addresses itself; its id is shared by all links' tables
                link.linked[current.peer] = None
                return
            link.linked[peer] = None
            for endpoint in endpoints:
                if self._book.get(peer, endpoint) is None:  # a known address is no news from a third peer
                    self._learn(link, peer, endpoint, near)

    def _learn(self, link: PeerLink, peer: PeerId, endpoint: str, near: bool) -> None:
        named = relay_peer(split_endpoint(endpoint)[0]) if self._is_shareable(endpoint, near) else "?"
        if named not in ("", peer) or not self._is_within_reach(endpoint, link.host):
            self._ctx.emit(Counted("address_refused"))
            return
        here = address_line(link.host, link.peer)
        is_seen = bool(named) or self._is_place_of(link.host, endpoint, near)
        is_there = peer == link.peer and (link.known or is_seen)
        line = None if is_there else (link.peer,) if link.known else here
        is_news = self._book.learn(peer, endpoint, link.peer, line)
        if peer == link.peer:
            self._book.note_place(peer, endpoint, is_seen=is_seen)
        if is_news:
            address = self._book.get(peer, endpoint)
            if address is not None:
                self._dialer.on_learned(address)
                if peer == link.peer:
                    self._on_linked(peer)

    def _is_place_of(self, host: str, endpoint: str, near: bool) -> bool:
        """Return whether an endpoint is at the host of a link; for one on loopback, anywhere on this machine."""
        place = _place(endpoint)
        return place == address_line(host, "")[-1] or (near and place in map(_place, self._own[False][1]))

    def _is_within_reach(self, endpoint: str, teller: str) -> bool:
        """Return whether an endpoint means the same machine here as at a teller with this address.

        A private address that comes from the Internet most likely means a machine of another network, or is meant to
        have this peer dial its neighbours.
        """
        host = split_endpoint(endpoint)[0]
        if not is_private(host) or is_private(teller) or is_loopback(teller):
            return True
        if not is_address(teller) and teller != RELAY_HOST:
            return True
        return any(is_in_one_network(host, split_endpoint(own)[0]) for own in self._own[False][1])


def _place(endpoint: str) -> str:
    """Return the address or /64 of an endpoint."""
    return address_line(split_endpoint(endpoint)[0], "")[-1]


class PeerChanges:
    """Change log of the linked peers and their shareable endpoints; the last change is last.

    A link that has got all changes up to one gets those after it. The state of each link is not compared: in a forming
    mesh of n peers that would be n x n x n steps.

    Attributes:
        last: The number of the last change; 0 before the first.
    """

    def __init__(self) -> None:
        self.last: int = 0
        self._known: dict[PeerId, tuple[int, Endpoints | None]] = {}  # (change, endpoints or None: not linked any more)

    def put(self, peer: PeerId, at: Endpoints | None) -> None:
        """Store a peer's endpoints; None when it is not linked."""
        known = self._known.get(peer, (0, None))[1]
        if known != at:
            self.last += 1
            self._known.pop(peer, None)  # so that it moves to the end
            self._known[peer] = self.last, at

    def since(self, change: int) -> dict[PeerId, Endpoints | None]:
        """Return what changed after this change. After none (0), peers that are gone are left out."""
        news: dict[PeerId, Endpoints | None] = {}
        for peer, (number, at) in reversed(self._known.items()):
            if number <= change:
                break
            if change or at is not None:
                news[peer] = at
        return news

    def forget_gone(self) -> None:
        """Forget peers that are gone, once all links have got that change."""
        self._known = {peer: known for peer, known in self._known.items() if known[1] is not None}
