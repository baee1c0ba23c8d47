"""Address book: the known endpoints of each peer, and endpoints as text ("host:port", "[v6]:port").

An address is *verified* once that peer's key answered there. Addresses learned from other peers are unverified until
then, and bounded: per peer they belong to, and in the number of peers. Those that only somebody's word supports are
*hearsay*: what third peers tell, and what an unknown peer tells of itself about other hosts than the one its link comes
from. Hearsay may name anybody, so it is bounded in all and along lines of its tellers (core/limits_by_origin.py), never
stored, and dialled slowly. What a peer says of its own host is a *claim* once it is gone, unless it answered there or
is a contact: anybody can make keys that say so, come once and leave. Claims are stored, since a mesh that restarts may
need them, and share half of the book. dialer.py decides when an address is dialled. Changes worth storing go to
ctx.change. Host names are not resolved here.

A peer that an engine makes reachable (runtime/relay.py) is at `ID.relay:1` too, with its id in base32: a *relayed*
endpoint. It names its peer, so it counts for that peer only, whoever tells it.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from p2pchat.config import Settings
from p2pchat.core.durable_changes import Address
from p2pchat.core.limits_by_origin import RELAY_HOST, Line, OriginShares, address_line
from p2pchat.core.names import base32
from p2pchat.core.node_context import NodeContext
from p2pchat.protocol import PeerId

REVERIFY_AFTER = 24 * 3600 * 1_000_000  # microseconds: an address that keeps working is stored once a day
# RFC 1918, RFC 6598 (carriers and VPNs), RFC 3927; RFC 4193 and RFC 4291 for IPv6
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10")
PRIVATE_NETWORKS = [ip_network(each) for each in PRIVATE]
RELAY_PORT = 1  # in all relayed endpoints: endpoints have one
_ID_CHARACTERS = 52  # of an id in base32
CACHE_SIZE = 4096  # endpoints; while a mesh forms, each peer checks the same few addresses once for every other one


class AddressBook:
    """All known addresses. `addresses(peer)` returns them in the order in which they became known.

    Args:
        contacts: The peers that somebody here chose. They make no claims, and are the last to be forgotten.

    Attributes:
        touched: Peers whose entries changed. PeerExchange, which sends the changes, empties it.
        hearsay: The addresses that are hearsay, as (peer, endpoint).
        claims: The addresses that are claims, as (peer, endpoint), by their own lines.
        elsewhere: The addresses, as (peer, endpoint), that a contact says of itself at another host than its link came
            from, and where it has not answered yet.
    """

    def __init__(self, ctx: NodeContext, stored: Iterable[Address], contacts: Container[PeerId] = ()) -> None:
        self._ctx = ctx
        self._contacts = contacts
        self._linked: set[PeerId] = set()
        self._book: dict[PeerId, dict[str, Address]] = {}
        self.touched: set[PeerId] = set()
        settings = ctx.settings
        self.hearsay: OriginShares[tuple[PeerId, str]] = OriginShares(settings.max_told, settings.max_told_unverified)
        self.claims: OriginShares[tuple[PeerId, str]] = OriginShares(settings.max_addresses // 2)
        self.elsewhere: set[tuple[PeerId, str]] = set()
        self._hosts: Counter[str] = Counter()  # of addresses that are verified or were named by a user
        for address in stored:
            if address.verified_at or address.teller in ("", address.peer):
                self._put(address)
                self._count_claim(address)
                if not address.verified_at and address.teller and address.peer in contacts:
                    self.elsewhere.add((address.peer, address.endpoint))
            else:  # of an earlier version, which stored hearsay
                ctx.change.forgotten.append((address.peer, address.endpoint))

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
        return address_line(host, "")[-1] in self._hosts

    def is_chosen(self, peer: PeerId) -> bool:
        """Return whether somebody here chose this peer (contacts.py)."""
        return peer in self._contacts

    def has_met(self, peer: PeerId) -> bool:
        """Return whether this peer was linked here: its key answered somewhere, or it told where it is."""
        return any(address.verified_at or address.teller == peer for address in self.addresses(peer))

    def owner(self, endpoint: str) -> PeerId:
        """Return the peer that last answered at this endpoint, "" for none."""
        verified = [
            (book[endpoint].verified_at, peer)
            for peer, book in self._book.items()
            if endpoint in book and book[endpoint].verified_at
        ]
        return max(verified)[1] if verified else ""

    # Changes

    def on_linked(self, peer: PeerId) -> None:
        """A link to this peer is up. The places for links bound what it says meanwhile."""
        self._linked.add(peer)
        for address in self.addresses(peer):
            self.claims.remove((peer, address.endpoint))

    def on_unlinked(self, peer: PeerId) -> None:
        """No link to this peer is up any more. What is a claim now takes its share, or is forgotten."""
        self._linked.discard(peer)
        for address in self.addresses(peer):
            self._count_claim(address)

    def learn(self, peer: PeerId, endpoint: str, teller: PeerId, line: Line | None = None) -> bool:
        """Store an endpoint that `teller` says is this peer's, if there is room. Return whether it is news.

        The caller has checked the form. Two tellers count for more than others: the peer itself, and this node, which
        saw the peer announced. Their address replaces the least useful one, since the peer may use a new port every
        day. It also clears failures at a known address: the peer is back, and other peers need its address. An
        address from a third peer only is not shared, so it is new again when the peer itself sends it.

        Args:
            line: Where the teller is, if this is hearsay. None: the peer itself is at this host, or is a contact.
        """
        is_there = teller in (peer, self._ctx.me)
        if line is None and teller != peer:
            line = (teller,)
        known = self.get(peer, endpoint)
        if known is not None:
            own_word = teller == peer and not known.verified_at
            is_news = known.failing_since or (own_word and known.teller != teller)
            is_seen = line is None and (peer, endpoint) in self.hearsay
            if not is_there or not (is_news or is_seen):
                return False
            if is_seen:
                self.hearsay.remove((peer, endpoint))
            now = known.replace(failing_since=0, teller=teller if own_word else known.teller)
            self._keep(now)
            return True
        if is_there and (line is None or peer in self._book):
            self._make_room(peer)
        if not self._has_room(peer) or (line is not None and not self.hearsay.make_room(line, self._evict)):
            return False
        if line is not None:
            self.hearsay.add((peer, endpoint), line)
        self._keep(Address(peer, endpoint, teller=teller))
        return True

    def note_place(self, peer: PeerId, endpoint: str, *, is_seen: bool) -> None:
        """Note whether the link of a peer that says it is at this endpoint comes from that host."""
        address, item = self.get(peer, endpoint), (peer, endpoint)
        if is_seen:
            self.elsewhere.discard(item)
        elif address is not None and address.teller == peer and item not in self.hearsay:
            self.elsewhere.add(item)

    def add(self, peer: PeerId, endpoint: str) -> None:
        """Store an endpoint that a user named with this peer's id, in place of others if the book is full."""
        if self.get(peer, endpoint) is None:
            self._make_room(peer)
            self._keep(Address(peer, endpoint))

    def on_verified(self, peer: PeerId, endpoint: str) -> None:
        """Note that this peer's key answered there."""
        now = self._ctx.now.utc
        known = self.get(peer, endpoint)
        if known is None:
            self._make_room(peer)
        elif known.verified_at and not known.failing_since and now - known.verified_at < REVERIFY_AFTER:
            return
        self.hearsay.remove((peer, endpoint))
        self.claims.remove((peer, endpoint))
        self.elsewhere.discard((peer, endpoint))
        self._keep(Address(peer, endpoint, verified_at=max(now, 1)))

    def on_failed(self, peer: PeerId, endpoint: str) -> bool:
        """Note that a dial there failed. Return whether it failed for so long that it is forgotten now."""
        known = self.get(peer, endpoint)
        if known is None:
            return False
        now = max(self._ctx.now.utc, 1)
        if not known.failing_since:
            self._keep(known.replace(failing_since=now))
        elif now - known.failing_since > self._ctx.settings.address_forgotten_after * 1_000_000:
            self.forget(peer, endpoint)
            return True
        return False

    def forget(self, peer: PeerId, endpoint: str) -> None:
        known = self._book.get(peer, {}).pop(endpoint, None)
        if known is None:
            return
        self.touched.add(peer)
        self._count(known, -1)
        if not self._book[peer]:
            del self._book[peer]
        self.claims.remove((peer, endpoint))
        self.elsewhere.discard((peer, endpoint))
        if (peer, endpoint) in self.hearsay:
            self.hearsay.remove((peer, endpoint))
            return
        changed = self._ctx.change.addresses
        changed[:] = [address for address in changed if (address.peer, address.endpoint) != (peer, endpoint)]
        self._ctx.change.forgotten.append((peer, endpoint))

    # Internals

    def _keep(self, address: Address) -> None:
        self._put(address)
        self.touched.add(address.peer)
        if (address.peer, address.endpoint) in self.hearsay:
            return
        change = self._ctx.change
        change.forgotten[:] = [gone for gone in change.forgotten if gone != (address.peer, address.endpoint)]
        change.addresses.append(address)

    def _put(self, address: Address) -> None:
        book = self._book.setdefault(address.peer, {})
        former = book.get(address.endpoint)
        if former is not None:
            self._count(former, -1)
        book[address.endpoint] = address
        self._count(address, +1)

    def _count(self, address: Address, by: int) -> None:
        if address.verified_at or not address.teller:
            host = address_line(split_endpoint(address.endpoint)[0], "")[-1]
            self._hosts[host] += by
            if not self._hosts[host]:
                del self._hosts[host]

    def _evict(self, item: tuple[PeerId, str]) -> None:
        self.forget(*item)

    def _count_claim(self, address: Address) -> None:
        """Count an address of a peer that is not linked, if it is a claim. Without room, the newest of the fullest
        branch is forgotten, or this one."""
        peer, item = address.peer, (address.peer, address.endpoint)
        if address.verified_at or address.teller != peer or item in self.hearsay or peer in self._contacts:
            return
        line = address_line(split_endpoint(address.endpoint)[0], peer)
        if self.claims.make_room(line, self._evict):
            self.claims.add(item, line)
        else:
            self.forget(*item)

    def _has_room(self, peer: PeerId) -> bool:
        settings = self._ctx.settings
        if peer in self._book:
            return len(self._book[peer]) < settings.max_endpoints_a_peer
        return len(self._book) < settings.max_addresses

    def _make_room(self, peer: PeerId) -> None:
        """Without room, forget the least useful address of this peer, or all addresses of another one.

        That is the newest claimant of the fullest branch, and without claims the least useful peer, contacts last.
        """
        if self._has_room(peer):
            return
        if peer in self._book:
            worst = min(self.addresses(peer), key=_worth)
            self.forget(peer, worst.endpoint)
            return
        claim = self.claims.giving_way(())
        least = claim[0] if claim is not None else min(self._book, key=self._rank)
        for address in self.addresses(least):
            self.forget(least, address.endpoint)

    def _rank(self, peer: PeerId) -> tuple[bool, bool, tuple[bool, bool, int]]:
        """Return a sort key: peers somebody here chose, answered or not, are forgotten last; linked ones before."""
        is_chosen = peer in self._contacts or any(map(_is_typed, self._book[peer].values()))
        return is_chosen, peer in self._linked, self.worth(peer)


def _is_typed(address: Address) -> bool:
    """Return whether a user named this address, and no key has answered there yet."""
    return not address.teller and not address.verified_at


def _worth(address: Address) -> tuple[bool, bool, int]:
    """Return a sort key: verified or typed before others, working before failing, then by the last answer."""
    return (bool(address.verified_at) or _is_typed(address), not address.failing_since, address.verified_at)


@lru_cache(CACHE_SIZE)
def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Return host and port, an IPv6 host without its brackets.

    Raises:
        ValueError: Not "host:port" or "[v6]:port", or no such port; the text is for people.
    """
    host, colon, port = endpoint.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not isinstance(_address(host), IPv6Address):
            raise ValueError(f"{endpoint!r}: between brackets stands an IPv6 address")
    elif not colon or not host or ":" in host:
        raise ValueError(f"{endpoint!r} is not HOST:PORT; an IPv6 address stands in brackets")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError(f"{endpoint!r}: a port is a number from 1 to 65535")
    if not all(character.isalnum() or character in "-._:%" for character in host):
        raise ValueError(f"{endpoint!r} has a host that is neither a name nor an address")
    return host, int(port)


@lru_cache(CACHE_SIZE)
def join_endpoint(host: str, port: int) -> str:
    """Return the endpoint of a host as connections report it. A mapped IPv4 address becomes a plain one."""
    address = _address(host)
    if address is not None:
        host = str(_unmapped(address))
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def relay_endpoint(peer: PeerId) -> str:
    """Return the endpoint of a peer that an engine makes reachable."""
    return f"{base32(peer).lower()}.{RELAY_HOST}:{RELAY_PORT}"


@lru_cache(CACHE_SIZE)
def relay_peer(host: str) -> PeerId:
    """Return the peer in the host of a relayed endpoint; "" for any other host."""
    label, _, rest = host.lower().partition(".")
    if rest != RELAY_HOST or len(label) != _ID_CHARACTERS:
        return ""
    try:
        peer = base64.b32decode(label.upper() + "====").hex()
    except ValueError:
        return ""
    return peer if base32(peer).lower() == label else ""  # not equal: bits are set beyond the 32 bytes


def is_relayed(endpoint: str) -> bool:
    """Return whether an endpoint is a relayed one."""
    return bool(relay_peer(endpoint.rpartition(":")[0]))


@lru_cache(CACHE_SIZE)
def is_loopback(host: str) -> bool:
    """Return whether a host, an address or a name, is this machine, judged by its form."""
    address = _address(host)
    if address is not None:
        return _unmapped(address).is_loopback
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


@lru_cache(CACHE_SIZE)
def is_private(host: str) -> bool:
    """Return whether a host is an address of a private range, which means different machines in different networks."""
    address = _address(host.partition("%")[0])
    return address is not None and any(_unmapped(address) in network for network in PRIVATE_NETWORKS)


def is_in_one_network(host: str, other: str) -> bool:
    """Return whether two addresses may be of one local network: an IPv4 /16, an IPv6 /64."""
    one, two = _address(host), _address(other)
    if one is None or two is None:
        return False
    one, two = _unmapped(one), _unmapped(two)
    return two in ip_network((one, 16 if isinstance(one, IPv4Address) else 64), strict=False)


def may_name_mean(host: str, own: str) -> bool:
    """Return whether a name that other peers told may mean this address, towards which this machine has the address
    `own`.

    It never means this machine, and a machine in a private range only where this one is in that range too. So nobody
    has a peer dial its neighbours' networks, and a mesh with names of its own works in any network.
    """
    if not _is_for(join_endpoint(host, 1), False):
        return False
    one, two = _address(host.partition("%")[0]), _address(own.partition("%")[0])
    if one is None or not is_private(host):
        return one is not None
    return two is not None and any(_unmapped(one) in each and _unmapped(two) in each for each in PRIVATE_NETWORKS)


def is_shareable(endpoint: str, *, from_loopback: bool, settings: Settings) -> bool:
    """Return whether an endpoint learned from another peer may be stored, dialled and shared.

    Multicast, broadcast, unspecified and link-local addresses never are; loopback only with a peer on loopback.
    """
    if len(endpoint.encode()) > settings.max_endpoint_bytes:
        return False
    return _is_for(endpoint, from_loopback)


@lru_cache(CACHE_SIZE)
def _is_for(endpoint: str, from_loopback: bool) -> bool:
    """Judge the form of an endpoint. Only short endpoints come here and are cached."""
    try:
        host, _ = split_endpoint(endpoint)
    except ValueError:
        return False
    if is_loopback(host):
        return from_loopback
    address = _address(host)
    if address is None:
        last = host.rstrip(".").rpartition(".")[
            2
        ]  # "127.1" and "0x7f000001" are no names: resolvers take both for addresses
        return not (last.isdecimal() or last.lower().startswith("0x"))
    address = _unmapped(address)
    return not (address.is_multicast or address.is_unspecified or address.is_link_local or address.is_reserved)


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, not a name."""
    return _address(host.partition("%")[0]) is not None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
