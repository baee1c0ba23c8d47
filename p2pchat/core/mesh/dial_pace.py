"""Pace of dials to what no key has answered at yet: few of those that fail, and rarely to one host or network.

At most two dials a second may fail. One host is dialled once in 30 s, one network without a link there once in 5 s, and
a host where three dials failed on the word of one member once an hour on that word (settings.py). The look-up of a name
counts as a dial that fails, unless the name means an address that may be dialled. On loopback only the number counts.
An answer by the right key gives everything back, so an honest mesh forms at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pchat.core.members.user_members import UserMembers
from p2pchat.core.mesh.addressbook import is_address, is_loopback, network_and_host, split_endpoint
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.node_context import NodeContext
from p2pchat.core.token_bucket import TokenBucket
from p2pchat.protocol import PeerId

TOLD_A_SECOND = 2.0  # dials that fail; a guess, as the next three
TOLD_AT_ONCE = 8
TOLD_TRIES = 3  # of one host that fail on the word of one member, before Settings.told_rest
NETWORK_PART = 1 / 6  # of Settings.told_host_pause, between two dials to one /24 or /48
MAX_SILENT = 1024  # hosts with failures remembered: those that are dialled twice a second in eight minutes; a guess


class DialPace:
    """Times of dials.

    Args:
        by_peer: The links that are up. A mesh on a local network needs no pause between its hosts.
        members: Says on whose word a peer is dialled.
    """

    def __init__(self, ctx: NodeContext, by_peer: Mapping[PeerId, PeerLink], members: UserMembers) -> None:
        self._ctx = ctx
        self._by_peer = by_peer
        self._members = members
        self._bucket = TokenBucket(TOLD_A_SECOND, TOLD_AT_ONCE, ctx.now.mono)
        self._ready_at: dict[str, float] = {}  # by host and network
        self._failed: dict[tuple[str, str], tuple[int, float]] = {}  # by member and host: dials, when the last failed

    @property
    def has_token(self) -> bool:
        """True if one more dial may fail now."""
        return not self._bucket.wait(self._ctx.now.mono)

    def wait(self, peer: PeerId, endpoint: str) -> float:
        """Return the seconds until this endpoint of a peer may be dialled, 0 for now."""
        settings, now = self._ctx.settings, self._ctx.now.mono
        ready_at = now
        for node in _network_and_host(endpoint):
            if node in self._ready_at and all(node != network_and_host(link.host)[0] for link in self._by_peer.values()):
                ready_at = max(ready_at, self._ready_at[node])
            count, last = self._failed.get((self._members.share(peer), node), (0, now))
            if count >= TOLD_TRIES:
                ready_at = max(ready_at, last + settings.told_rest)
        return ready_at - now if ready_at > now else self._bucket.wait(now)

    def on_dial(self, endpoint: str) -> None:
        """Note a dial that wait() allowed."""
        pause, now = self._ctx.settings.told_host_pause, self._ctx.now.mono
        self._bucket.tokens -= 1
        self._ready_at = {node: at for node, at in self._ready_at.items() if at > now}
        pauses = zip(_network_and_host(endpoint), (pause * NETWORK_PART, pause), strict=False)
        self._ready_at |= {node: now + pause for node, pause in pauses}

    def on_resolved(self) -> None:
        """Note that a name means an address that may be dialled: the dial counts, and not the look-up too."""
        self._bucket.tokens += 1

    def on_answered(self, peer: PeerId, endpoint: str) -> None:
        """Note that the right key answered there."""
        self._bucket.tokens += 1
        for node in _network_and_host(endpoint):
            self._ready_at.pop(node, None)
            self._failed.pop((self._members.share(peer), node), None)

    def on_failed(self, peer: PeerId, endpoint: str) -> None:
        """Note that a dial failed there."""
        for host in _network_and_host(endpoint)[1:]:
            member = self._members.share(peer)
            count, _ = self._failed.pop((member, host), (0, 0.0))
            self._failed[member, host] = count + 1, self._ctx.now.mono
            if len(self._failed) > MAX_SILENT:
                del self._failed[next(iter(self._failed))]


def _network_and_host(endpoint: str) -> tuple[str, ...]:
    """Return the network and the host of an endpoint; () on loopback, and for a name, which may mean any."""
    host = split_endpoint(endpoint)[0]
    return network_and_host(host) if is_address(host) and not is_loopback(host) else ()
