"""Address book: the known endpoints of each peer.

Endpoints come from the record that a peer signed (peer_exchange.py), from users here, and from discovery, whose word is
not stored. An address is *verified* once that peer's key answered there. Peers that are neither linked nor chosen by
somebody here share the book by members; when it is full the fullest member gives way. dialer.py decides when an address
is dialled.
Changes worth storing go to ctx.change. Host names are not resolved here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence

from p2pchat.addresses import network_and_host, split_endpoint
from p2pchat.core.durable_changes import Address, Change, Stored
from p2pchat.core.inputs import Forget
from p2pchat.core.members.member_directory import MemberDirectory, MemberShares
from p2pchat.core.node_context import NodeContext
from p2pchat.protocol import PeerId, PeerRecord

HOUR = 3600.0
REVERIFY_AFTER = 24 * 3600 * 1_000_000  # microseconds: an address that keeps working is stored once a day
# Hours in which dials failed, since it last answered. They are counted while this peer runs: a machine may be off for
# weeks, a clock may be set, and then the first dial fails because its network is not up yet.
FORGOTTEN_AFTER = 7 * 24


class AddressBook:
    """All known addresses. `addresses(peer)` returns them in the order in which they became known.

    Args:
        contacts: The peers that somebody here chose. They need no place.
        linked: The peers that are linked.
        members: Says at whom a peer counts: its member, or itself.

    Attributes:
        records: The newest record of each peer, this one's too.
    """

    def __init__(
        self,
        ctx: NodeContext,
        stored: Iterable[Address],
        records: Iterable[PeerRecord],
        contacts: Container[PeerId],
        linked: Container[PeerId],
        members: MemberDirectory,
    ) -> None:
        self._ctx = ctx
        self._contacts = contacts
        self._linked = linked
        self._members = members
        self._book: dict[PeerId, dict[str, Address]] = {}
        self._counted_at: dict[tuple[PeerId, str], float] = {}  # of what fails: when an hour was counted, monotonic
        self.records: dict[PeerId, PeerRecord] = {record.id: record for record in records}
        self._shares: MemberShares[PeerId] = MemberShares(ctx.settings.max_addresses)
        self._hosts: Counter[str] = Counter()  # of addresses that are verified or were named by a user
        for address in stored:
            self._put(address)

    def start(self) -> None:
        """Count the peers that share the book."""
        for peer in {**self._book, **self.records}:
            if peer != self._ctx.me:
                self.on_unlinked(peer)

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._book

    def __iter__(self) -> Iterator[PeerId]:
        return iter(self._book)

    def __len__(self) -> int:
        return len(self._book)

    def addresses(self, peer: PeerId) -> list[Address]:
        return list(self._book.get(peer, {}).values())

    def get(self, peer: PeerId, endpoint: str) -> Address | None:
        return self._book.get(peer, {}).get(endpoint)

    def worth(self, peer: PeerId) -> tuple[bool, bool, int]:
        """Return a sort key of peers: one that answered last, and still did then, is worth most."""
        return max(map(_worth, self._book[peer].values()))

    def knows_host(self, host: str) -> bool:
        """Return whether some peer answered at this host, or its /64, or a user named it for a peer."""
        return network_and_host(host)[1] in self._hosts

    def is_chosen(self, peer: PeerId) -> bool:
        """Return whether somebody here chose this peer (contacts.py)."""
        return peer in self._contacts

    def owner(self, endpoint: str) -> PeerId:
        """Return the peer that last answered at this endpoint, "" for none."""
        verified = [
            (book[endpoint].verified_at, peer)
            for peer, book in self._book.items()
            if endpoint in book and book[endpoint].verified_at
        ]
        return max(verified)[1] if verified else ""

    # Changes

    def take(self, record: PeerRecord, endpoints: Sequence[str]) -> list[Address]:
        """Store a record that was checked in place of an older one, and those of its endpoints that may be dialled.

        What is known stays if nothing in the record may be dialled: the peer may be offline for a moment. The address
        that is worth most stays too.

        Returns:
            The addresses that are news: new ones, and those that failed before the peer signed this record.
        """
        peer, is_new = record.id, self.records.get(record.id) != record
        if not self._has_share(peer):
            return []
        if is_new:
            self.records[peer] = record
            self._ctx.change.records[peer] = record
            for address in self.addresses(peer) if endpoints else ():
                if self.is_sighted(address):
                    self._forget_address(address)
        best = max(self.addresses(peer), key=_worth, default=None)
        is_apart = best is not None and best.endpoint not in endpoints
        news = []
        for endpoint in endpoints[: self._ctx.settings.max_endpoints_a_peer - is_apart]:
            known = self.get(peer, endpoint)
            if known is None:
                self._make_room(peer)
                news.append(self._keep(Address(peer, endpoint, told=True)))
            elif is_new and (known.failed or known.told):
                news.append(self._keep(known.replace(failed=0)))
        return news

    def free_share(self, peer: PeerId) -> None:
        """A link to this peer is up, whose place bounds what it says meanwhile, or somebody here chose it."""
        self._shares.remove(peer)

    def on_unlinked(self, peer: PeerId) -> None:
        """No link to this peer is up. It takes its share, or is forgotten."""
        if not self._has_share(peer):
            self._forget_peer(peer)

    def sight(self, peer: PeerId, endpoint: str) -> Address | None:
        """Take an address at which discovery sees a peer announced. Return it if it is news."""
        known = self.get(peer, endpoint)
        if known is not None:
            return self._keep(known.replace(failed=0)) if known.failed else None
        if not self._has_share(peer):
            return None
        self._make_room(peer)
        return self._keep(Address(peer, endpoint, told=True))

    def is_sighted(self, address: Address) -> bool:
        """Return whether only discovery has seen this address."""
        record = self.records.get(address.peer)
        return address.told and (record is None or address.endpoint not in record.e)

    def add(self, peer: PeerId, endpoint: str) -> None:
        """Store an endpoint that a user named with this peer's id."""
        self.free_share(peer)
        if self.get(peer, endpoint) is None:
            self._make_room(peer)
            self._keep(Address(peer, endpoint))

    def on_verified(self, peer: PeerId, endpoint: str) -> None:
        """Note that this peer's key answered there."""
        now = self._ctx.now.utc
        known = self.get(peer, endpoint)
        if known is None:
            self._make_room(peer)
        elif known.verified_at and not known.failed and abs(now - known.verified_at) < REVERIFY_AFTER:
            return
        self._counted_at.pop((peer, endpoint), None)
        self._keep(Address(peer, endpoint, verified_at=max(now, 1)))

    def on_failed(self, peer: PeerId, endpoint: str) -> None:
        """Note that a dial there failed. If dials failed for long it is forgotten, unless it is the peer's best one."""
        known, now = self.get(peer, endpoint), self._ctx.now.mono
        if known is None:
            return
        counted_at = self._counted_at.setdefault((peer, endpoint), now)
        if known.failed and now - counted_at < HOUR:
            return
        self._counted_at[peer, endpoint] = now
        if known.failed < FORGOTTEN_AFTER:
            self._keep(known.replace(failed=known.failed + 1))
        elif known is not max(self.addresses(peer), key=_worth):
            self.forget(peer, endpoint)

    def on_other_answered(self, peer: PeerId, endpoint: str) -> None:
        """Forget an endpoint where another peer answered, unless no other one is known: an address may come back."""
        if len(self._book.get(peer, ())) > 1:
            self.forget(peer, endpoint)

    def forget(self, peer: PeerId, endpoint: str) -> None:
        known = self.get(peer, endpoint)
        if known is None:
            return
        self._forget_address(known)
        if peer not in self._book:
            self._forget_record(peer)

    def without(self, forgets: Iterable[Forget]) -> Change:
        """Return what stores that these addresses are forgotten."""
        change = Change()
        for one in forgets:
            for peer in [one.peer] if one.peer else self:
                gone = [each.endpoint for each in self.addresses(peer) if one.endpoint in ("", each.endpoint)]
                change.forgotten += [(peer, endpoint) for endpoint in gone]
                if gone and len(gone) == len(self._book[peer]):
                    change.records[peer] = None
        return change

    def save_again(self, stored: Stored) -> None:
        """Store all in place of what is stored, since commits failed."""
        change = self._ctx.change
        change.forgotten = [(one.peer, one.endpoint) for one in stored.addresses]
        for peer in self:
            change.addresses += [one for one in self.addresses(peer) if not self.is_sighted(one)]
        change.records = {**dict.fromkeys(one.id for one in stored.records), **self.records}

    # Internals

    def _forget_peer(self, peer: PeerId) -> None:
        for address in self.addresses(peer):
            self._forget_address(address)
        self._forget_record(peer)

    def _forget_record(self, peer: PeerId) -> None:
        self._shares.remove(peer)
        if self.records.pop(peer, None) is not None:
            self._ctx.change.records[peer] = None

    def _forget_address(self, address: Address) -> None:
        peer, endpoint = address.peer, address.endpoint
        self._counted_at.pop((peer, endpoint), None)
        del self._book[peer][endpoint]
        self._count(address, -1)
        if not self._book[peer]:
            del self._book[peer]
        changed = self._ctx.change.addresses
        changed[:] = [address for address in changed if (address.peer, address.endpoint) != (peer, endpoint)]
        self._ctx.change.forgotten.append((peer, endpoint))

    def _keep(self, address: Address) -> Address:
        self._put(address)
        if not self.is_sighted(address):
            change = self._ctx.change
            change.forgotten[:] = [gone for gone in change.forgotten if gone != (address.peer, address.endpoint)]
            change.addresses.append(address)
        return address

    def _put(self, address: Address) -> None:
        book = self._book.setdefault(address.peer, {})
        former = book.get(address.endpoint)
        if former is not None:
            self._count(former, -1)
        book[address.endpoint] = address
        self._count(address, +1)

    def _count(self, address: Address, by: int) -> None:
        if not address.told:
            host = network_and_host(split_endpoint(address.endpoint)[0])[1]
            self._hosts[host] += by
            if not self._hosts[host]:
                del self._hosts[host]

    def _has_share(self, peer: PeerId) -> bool:
        """Return whether there is room for a peer, after the newest of the fullest member was forgotten if need be."""
        if peer in self._contacts or peer in self._linked or any(map(_is_typed, self.addresses(peer))):
            return True
        return self._shares.take(peer, self._members.share(peer), self._forget_peer)

    def _make_room(self, peer: PeerId) -> None:
        """Forget an address of this peer if it has as many as it may: never the best one, first none of its record."""
        known, record = self.addresses(peer), self.records.get(peer)
        if len(known) >= self._ctx.settings.max_endpoints_a_peer:
            told, best = () if record is None else record.e, max(known, key=_worth)
            self._forget_address(min(known, key=lambda one: (one is best, one.endpoint in told, *_worth(one))))


def _is_typed(address: Address) -> bool:
    """Return whether a user named this address, and no key has answered there yet."""
    return not address.told and not address.verified_at


def _worth(address: Address) -> tuple[bool, bool, int]:
    """Return a sort key: verified or typed before others, working before failing, then by the last answer."""
    return (bool(address.verified_at) or _is_typed(address), not address.failed, address.verified_at)
