"""Peer exchange: peers share their records and those of the peers they are linked with, so that one endpoint joins the
whole mesh. A record says where a peer can be reached, and the peer itself signs it:

    [text, signature of U over TAG || N || text]      text = {"id":U,"at":µs,"e":[endpoint],"guest":[M,signature]?}

A text is stored and passed on as it came, with what a later version says in it. Of two records of a peer the newer one
counts, however far ahead of the local time: a peer stores its own record and signs only newer ones, and a wrong time
harms nobody else. The certificate says which member answers for the peer, so whoever hears of a peer knows whose it is
before it dials it.

The first `peers` frame on a link has everything, later ones have the changes. Changes within 0.1 s are joined, and a
link that does not drain gets its changes when it does. In a large mesh, changes that other peers announce as well wait
until no more links come up: while a mesh forms, every peer links with every other, and would announce that repeatedly.
A record is checked; its endpoints go to the address book, and from there to the dialer with that peer's id as the pin.
One whose member is not admitted waits with its link until statements admit it.

A member that finds no place is told a few linked peers with `admit`, before `bye`, and dials those.

No frame names the receiver as linked, with one exception: a peer that names the receiver among its links is linked with
another process that has the receiver's key.

Whoever is named as linked for a while and is not linked here is not offline: the two cannot reach each other. What both
write to the room goes by the peer between them. A member can name who is long gone. So a record counts that is newer
than the last link with that peer, or came since the start: each of the two signs one when it finds the other like this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache

from p2pchat.addresses import is_address, is_in_one_network, is_loopback, is_private, is_shareable, split_endpoint
from p2pchat.bounded import remember
from p2pchat.core.log import verify
from p2pchat.core.members.admission import Admission
from p2pchat.core.members.statement import is_guest
from p2pchat.core.mesh.addressbook import AddressBook
from p2pchat.core.mesh.circuits import Circuits
from p2pchat.core.mesh.dialer import CARRIED, Dialer
from p2pchat.core.mesh.election import DuplicateKeyDetector
from p2pchat.core.mesh.peer_link import MeshListener, PeerLink
from p2pchat.core.node_context import SLACK, HostedIdentity, NodeContext, Timer
from p2pchat.protocol import (
    CARRY,
    FILES,
    MAX_ENDPOINTS,
    MAX_RECORDS,
    GuestCertificate,
    PeerId,
    PeerRecord,
    Peers,
    UserId,
)

FEW_LINKS = 8  # so many links get changes within peers_told_after; with more of them the pause grows in proportion
QUIET_PAUSES = 4  # pauses without a new link after which a mesh has formed; a guess
MAX_LINKED = 512  # peers that one peer says it is linked with: twice the links of a peer
MAX_SAMPLE_BYTES = 3584  # of records told by one without a place, in a frame of 4 KiB
MAX_QUIET = 8  # times as long, at most, wait news that other peers spread as well; a guess
LOOK_AFTER = 0.3  # seconds after a change
UNREACHABLE_AFTER = 5.0  # seconds for which looks find a peer: a dial takes a moment. A guess
SIGNED_EVERY = 60.0  # seconds at least between records for peers that only others reach; a guess


# ---- records


RECORD_TAG = b"p2pchat/peer/2\0"
CACHE_SIZE = 1024  # records remembered; the peers of one process, as those of a test, check the same ones


def make_record(
    network: str,
    peer: PeerId,
    sign: Callable[[bytes], bytes],
    at: int,
    endpoints: Sequence[str],
    guest: GuestCertificate | None,
) -> PeerRecord:
    """Return a record of this peer.

    Args:
        network: The id of the network, N (hex).
        sign: Signs with the key of the peer.
        at: UTC microseconds.
        guest: The certificate of the member that answers for it.
    """
    said: dict[str, object] = {"at": at, "e": list(endpoints), "id": peer}
    if guest is not None:
        said["guest"] = [guest.member, guest.sig]
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return PeerRecord(text, sign(_signed(network, text)).hex())


@lru_cache(CACHE_SIZE)
def is_signed(network: str, record: PeerRecord) -> bool:
    """Return whether the peer signed its record for this network, and the member in it the certificate."""
    if not verify(record.id, bytes.fromhex(record.sig), _signed(network, record.text)):
        return False
    return record.guest is None or is_guest(network, record.id, record.guest)


def member_of(record: PeerRecord) -> UserId:
    """Return the member that answers for the peer of a record."""
    return record.id if record.guest is None else record.guest.member


def _signed(network: str, text: str) -> bytes:
    return RECORD_TAG + bytes.fromhex(network) + text.encode()


# ---- the exchange


class PeerExchange:
    """`peers` frames, sent and received.

    Args:
        network: The id of the network.
        own: The user whose key is this peer's.
        admission: Who is admitted.
        up, by_peer: The tables of Links.
        duplicates: Told when a peer says that it is linked with us.
        circuits: Knows who can carry a link.
        listener: Told of a peer that only others reach, and one that does, "" when none does any more.
    """

    def __init__(
        self,
        ctx: NodeContext,
        network: str,
        own: HostedIdentity,
        admission: Admission,
        book: AddressBook,
        dialer: Dialer,
        up: Mapping[int, PeerLink],
        by_peer: Mapping[PeerId, PeerLink],
        duplicates: DuplicateKeyDetector,
        circuits: Circuits,
        listener: MeshListener,
    ) -> None:
        self._ctx = ctx
        self._network = network
        self._sign = own.sign
        self._admission = admission
        self._book = book
        self._dialer = dialer
        self._up = up
        self._by_peer = by_peer
        self._duplicates = duplicates
        self._circuits = circuits
        self._listener = listener
        self._reached_since: dict[PeerId, float] = {}  # peers that others reach, and since when looks find that
        self._reported: dict[PeerId, PeerId] = {}
        self._fresh: dict[PeerId, float] = {}  # when a new record came; no more once its peer's link ended after that
        self._signed_at = float("-inf")  # for those that only others reach
        self._look_timer: Timer | None = None
        self._at: tuple[str, ...] = ()
        self._near: tuple[str, ...] = ()  # addresses of this machine, or said to be
        self._told_at = 0  # the time of the last own record that was told
        self._changes = PeerChanges()
        self._touched: set[PeerId] = set()  # whose links came up or ended since
        self._timer: Timer | None = None
        self._sent_at = float("-inf")  # when changes were last sent to all links
        self._came_up_at = float("-inf")  # when a link last came up
        self._linked_since: set[PeerId] = set()  # linked since then, or with another record; others may spread it too
        self._has_news = False  # something that others do not spread

    # Sending

    def on_listening(self, at: tuple[str, ...], near: tuple[str, ...]) -> None:
        """This peer can be reached at these endpoints, and its machine has these addresses."""
        self._at = tuple(endpoint for endpoint in at if self._is_shareable(endpoint, near=True))[:MAX_ENDPOINTS]
        self._near = (*near, *(split_endpoint(endpoint)[0] for endpoint in self._at))
        self._renew_record()

    def _renew_record(self) -> None:
        former, guest = self._own, self._admission.guest
        now = self._ctx.now.utc if former is None else max(self._ctx.now.utc, former.at + 1)
        self._book.records[self._ctx.me] = make_record(self._network, self._ctx.me, self._sign, now, self._at, guest)
        self._on_news()

    @property
    def _own(self) -> PeerRecord | None:
        return self._book.records.get(self._ctx.me)

    def on_link_up(self, link: PeerLink) -> None:
        """Tell a new link everything, and the other links soon."""
        self._touched.add(link.peer)
        self._book.free_share(link.peer)
        self._send_to(link)
        self._came_up_at = self._ctx.now.mono
        self._on_linked(link.peer)
        self.look_soon()

    def on_link_down(self, link: PeerLink) -> None:
        """Tell the other links soon, unless another link to that peer is up."""
        self._touched.add(link.peer)
        if link.peer not in self._by_peer:
            if self._fresh.get(link.peer, 0.0) <= link.heard_at:
                self._fresh.pop(link.peer, None)
            self._book.on_unlinked(link.peer)
            self._on_news()
        self.look_soon()

    def _on_linked(self, peer: PeerId) -> None:
        """A peer is linked now, or has another record. Others may spread that too, so it can wait."""
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
        quiet = QUIET_PAUSES * self._pause() + self._dialer.patience
        until = min(max(self._came_up_at, self._sent_at) + quiet, self._sent_at + MAX_QUIET * quiet)
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
        self._ctx.send(Peers(linked=[link.peer]), [link.id])

    def sample(self, link: PeerLink) -> list[PeerRecord]:
        """Return records of some linked peers, drawn at random, for a member that proved itself and finds no place.

        They are few, since the frame that tells them comes before `go` and is small.
        """
        records = [self._book.records[peer] for peer in sorted(self._by_peer) if peer in self._book.records]
        sample, size = list[PeerRecord](), 0
        for record in sorted(records, key=lambda _: self._ctx.random()):
            size += record.size + 1
            if record.e and record.id != link.peer and size <= MAX_SAMPLE_BYTES:
                sample.append(record)
        return sample

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
                self._linked_since.update(link.untold)
        if not behind:
            self._changes.forget_gone()
        if self._linked_since:
            self._schedule()

    def _send_to(self, link: PeerLink) -> None:
        """Send one link the changes since the last frame to it.

        The record of a linked peer goes to an end that does not say that it is linked with it, too; to others a newer
        record is no news, of which n x n frames came in a mesh. Records wait for a frame that tells few, unless that
        end knows nobody else: what it says meanwhile makes most of them needless.
        """
        touched, self._touched = self._touched, set()
        for peer in sorted(touched):
            link_now = self._by_peer.get(peer)
            self._changes.put(peer, None if link_now is None else bool(link_now.carrier))
        news = self._changes.since(link.sent_change)
        news.pop(link.peer, None)
        link.sent_change = self._changes.last
        linked = sorted(peer for peer, carried in news.items() if carried is not None)
        gone = sorted(news.keys() - set(linked))
        link.untold |= dict.fromkeys(linked)
        records = list[PeerRecord]()
        if link.has_told_peers and (not link.linked or len(linked) < FEW_LINKS):
            lacking = link.untold.keys() - link.linked.keys() - {link.peer}
            lacking &= self._by_peer.keys() & self._book.records.keys()
            records = [self._book.records[peer] for peer in sorted(lacking)]
            link.untold.clear()
        own = self._own
        own_at = 0 if own is None else own.at
        if not (news or records) and link.sent_own == own_at:
            return
        if own is not None and link.sent_own != own_at:
            records.insert(0, own)
        can = [FILES, *[CARRY] * (self._ctx.settings.max_circuits > 0)] if link.sent_own is None else []
        link.sent_own = own_at
        if own is not None and own_at > self._told_at:  # the next one must be newer, also if the clock is set back
            self._told_at = own_at
            self._ctx.change.records[own.id] = own
        most = self._ctx.settings.page_items
        of_page = min(most, MAX_RECORDS)
        pages = max(1, -(-len(records) // of_page), -(-len(linked) // most), -(-len(gone) // most))
        for page in range(pages):
            part = slice(page * most, (page + 1) * most)
            told = records[page * of_page : (page + 1) * of_page]
            named = linked[part]
            by_others = [peer for peer in named if news[peer]]
            seen = link.sees if can and not page else ""
            self._ctx.send(Peers(told, named, by_others, gone[part], [] if page else can, seen), [link.id])

    # Receiving

    def on_peers(self, link: PeerLink, frame: Peers) -> None:
        if frame.can:
            link.takes_files = FILES in frame.can
            link.carries = CARRY in frame.can
            link.seen = frame.seen if self._is_shareable(frame.seen, near=False) else ""
        for peer in frame.linked:  # in a large mesh each link tells of nearly all peers
            if peer == self._ctx.me:
                self._duplicates.on_claimed(link.peer)
            elif len(link.linked) < MAX_LINKED:
                current = self._by_peer.get(peer)
                link.linked.setdefault(peer if current is None else current.peer)  # the id is shared by all tables
                link.carried.pop(peer, None)
        link.carried.update((peer, None) for peer in frame.carried if peer in link.linked)
        for record in frame.records:  # also of whom it is not linked with: the signature proves where they are
            is_taken = self._take(record, link)
            if record.id in link.linked:
                link.linked[record.id] = None if is_taken else record
        for peer in frame.gone:
            link.linked.pop(peer, None)
            link.carried.pop(peer, None)
            if peer in self._by_peer:
                link.untold[peer] = None
                self._on_news()
        link.has_told_peers = True
        if not link.linked and not link.full:
            self._send_to(link)
        self.look_soon()

    def look_soon(self, wait: float = LOOK_AFTER) -> None:
        """Look who only others reach: a link came up or ended, here or at a linked peer."""
        due_at = self._ctx.now.mono + wait + self._dialer.patience
        if self._look_timer is not None and self._look_timer.at > due_at:
            self._look_timer.cancel()
            self._look_timer = None
        if self._look_timer is None:
            self._look_timer = self._ctx.after(due_at - self._ctx.now.mono, self._look)

    def _look(self) -> None:
        """Find the peers that only others reach. They are linked through one of these, and reported where none can."""
        self._look_timer = None
        now = self._ctx.now.mono
        linked = set[PeerId]().union(*(link.linked.keys() for link in self._up.values())) - self._by_peer.keys()
        found = {peer for peer in linked if not self._dialer.is_barred(peer)}
        reached = self._circuits.reached(found & self._book.records.keys())
        self._dialer.on_reached(reached, reached if self._may_be_dialled else frozenset())
        self._reached_since = {peer: self._reached_since.get(peer, now) for peer in found}
        shown = found & self._fresh.keys() - self._dialer.no_place.keys()
        for peer in self._reported.keys() - shown:
            del self._reported[peer]
            self._listener.report_unreachable(peer, "")
        waits = {peer: self._reached_since[peer] + UNREACHABLE_AFTER - now for peer in found}
        late = {peer for peer, wait in waits.items() if wait <= SLACK}
        for peer in sorted(shown & late):
            self._report_unreachable(peer)
        # Else it is linked with some only, and so are all.
        has_places = 2 * len(self._up) < self._ctx.settings.max_links
        for peer in late if has_places else ():
            if self._reached_since[peer] > self._signed_at and self._listener.stays(peer):
                waits[peer] = self._signed_at + SIGNED_EVERY - now
                if waits[peer] <= SLACK:
                    self._signed_at = now
                    self._renew_record()
        if due := [wait for wait in waits.values() if wait > SLACK]:
            self.look_soon(min(due))

    def _report_unreachable(self, peer: PeerId) -> None:
        by = [link.peer for link in self._up.values() if peer in link.linked]
        if self._reported.get(peer) not in by:
            self._reported[peer] = by[0]
            self._listener.report_unreachable(peer, by[0])

    @property
    def _may_be_dialled(self) -> bool:
        """Return whether others may dial this peer, as far as its addresses say."""
        near = any(is_loopback(link.host) for link in self._up.values())
        return any(near or not is_loopback(split_endpoint(endpoint)[0]) for endpoint in self._at)

    def on_members_changed(self, users: AbstractSet[UserId]) -> None:
        """Take the records of those of these users, or of those for whom they answer, who are admitted now."""
        for link in self._up.values():
            waiting = [
                record for record in link.linked.values()
                if record is not None and not users.isdisjoint((record.id, record.guest and record.guest.member))
            ]  # fmt: skip
            for record in waiting:
                if self._take(record, link):
                    link.linked[record.id] = None

    def on_told_instead(self, link: PeerLink, records: Sequence[PeerRecord]) -> None:
        """Take the peers that a member tells instead of linking, for which it has no place.

        A newcomer has heard of no other member yet, so it takes those of whom nobody said anything.
        """
        for record in records:
            self._take(record, link, may_be_new=True)

    def _take(self, record: PeerRecord, link: PeerLink, *, may_be_new: bool = False) -> bool:
        """Take a record that came on a link, if it counts. Return False if it waits for its member.

        Args:
            may_be_new: Take it also if nobody said anything of its member.
        """
        known, member = self._book.records.get(record.id), member_of(record)
        is_new = known is None or known.at < record.at
        is_told_again = known == record and (record.id == link.peer or record.id not in self._by_peer)
        if record.id == self._ctx.me or not (is_new or is_told_again):
            return True
        is_in = self._admission.admits_peer(record.id, member)
        if not is_in and (not may_be_new or self._admission.is_heard_of(member)):
            return False
        if is_new and not is_signed(self._network, record):
            self._ctx.count("record_refused")
            return True
        if is_new:
            remember(self._fresh, record.id, self._ctx.now.mono, CACHE_SIZE)
        self._admission.note(record.id, member)
        near = is_loopback(link.host)
        usable = [
            endpoint
            for endpoint in record.e
            if self._is_shareable(endpoint, near) and self.is_within_reach(endpoint, link.host)
        ]
        learn = self._dialer.on_learned if known is None else self._dialer.on_moved
        for address in self._book.take(record, usable):
            learn(address)
        if is_new and record.id in self._by_peer:
            for other in self._up.values():
                other.untold[record.id] = None
            self._on_linked(record.id)
        return True

    def _is_shareable(self, endpoint: str, near: bool) -> bool:
        return is_shareable(endpoint, from_loopback=near, settings=self._ctx.settings)

    def is_within_reach(self, endpoint: str, teller: str) -> bool:
        """Return whether an endpoint means the same machine here as at a teller with this address.

        A private address that comes from the Internet most likely means a machine of another network, or is meant to
        have this peer dial its neighbours.
        """
        host = split_endpoint(endpoint)[0]
        if not is_private(host) or is_private(teller) or is_loopback(teller):
            return True
        if not is_address(teller) and teller != CARRIED:
            return True
        return any(is_in_one_network(host, own) for own in self._near)


class PeerChanges:
    """Change log of the linked peers, and of who is carried; the last change is last.

    A link that has got all changes up to one gets those after it. The state of each link is not compared: in a forming
    mesh of n peers that would be n x n x n steps.

    Attributes:
        last: The number of the last change; 0 before the first.
    """

    def __init__(self) -> None:
        self.last: int = 0
        self._known: dict[PeerId, tuple[int, bool | None]] = {}  # (change, None: not linked any more)

    def put(self, peer: PeerId, carried: bool | None) -> None:
        """Store of a linked peer whether others carry its link; None when it is not linked."""
        known = self._known.get(peer, (0, None))[1]
        if known != carried:
            self.last += 1
            self._known.pop(peer, None)  # so that it moves to the end
            self._known[peer] = self.last, carried

    def since(self, change: int) -> dict[PeerId, bool | None]:
        """Return what changed after this change. After none (0), peers that are gone are left out."""
        news: dict[PeerId, bool | None] = {}
        for peer, (number, carried) in reversed(self._known.items()):
            if number <= change:
                break
            if change or carried is not None:
                news[peer] = carried
        return news

    def forget_gone(self) -> None:
        """Forget peers that are gone, once all links have got that change."""
        self._known = {peer: known for peer, known in self._known.items() if known[1] is not None}
