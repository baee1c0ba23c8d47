"""Limits by origin: how places and rates are divided among unknown parties, whatever names a party takes.

Anybody with one invite can make any number of keys and users. So limits count where those come from: each unknown party
has a *line* of nodes, from a large part of the Internet down to one peer, and what it takes is counted at every node of
its line. A *branch* is a node with everything below it. One party may hold a bounded share of each node; and where
places are few, a newcomer from a light branch takes the place of the newest one of the fullest branch. Rates are
counted with token buckets, for one thing or at every node of a line.

Nothing here depends on what the nodes are. Today they are networks and addresses (`address_line`). Known parties
(contacts.py) have limits of their own and are in no branch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Generic, TypeVar

from p2pchat.protocol import PeerId

Line = tuple[str, ...]  # nodes, the largest first; never empty
Item = TypeVar("Item", bound=Hashable)

RELAY_HOST = "relay"  # of a link through an engine; the last label of the host in a relayed endpoint (addressbook.py)
LINES_CACHED = 4096  # lines of peers: some hundred links, told addresses and recent strangers


@lru_cache(LINES_CACHED)
def address_line(host: str, peer: PeerId) -> Line:
    """Return the line of a peer at an address: its network (IPv4 /24, IPv6 /48), its address (IPv6 /64), the peer.

    Peers on loopback, and hosts that are no IP addresses, share no network: their line is the host and the peer. On
    loopback it is the peer alone, since all programs of one machine have one address. All relayed peers share one node:
    an engine tells no address of its clients, and any member makes as many keys as it likes. Who invited a peer could
    be the nodes between, once that is proved. An empty `peer` adds no node.
    """
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        host = RELAY_HOST if host.endswith(f".{RELAY_HOST}") else host
        return tuple(filter(None, (host, peer))) or ("",)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return (peer or "loopback",)
    if isinstance(ip, IPv6Address):
        nodes = [str(ip_network((ip, length), strict=False)) for length in (48, 64)]
    else:
        nodes = [str(ip_network((ip, 24), strict=False)), str(ip)]
    return tuple(filter(None, (*nodes, peer)))


class OriginShares(Generic[Item]):
    """Amounts that unknown parties take of one thing: links, names, conversations, bytes.

    Args:
        most: What all of them may take together.
        each: What may be taken below one node; None for no such limit.

    Attributes:
        taken: What is taken below each node, by its line; `taken[()]` is what all take together.
    """

    def __init__(self, most: int, each: int | None = None) -> None:
        self.taken: Counter[Line] = Counter()
        self._most = most
        self._each = most if each is None else each
        self._items: dict[Item, tuple[Line, int]] = {}  # line and amount
        self._children: dict[Line, dict[Line, None]] = {}
        self._items_at: dict[Line, dict[Item, None]] = {}  # the oldest first

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, the oldest first."""
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def amount(self, item: Item) -> int:
        """Return what an item takes, 0 if it is not here."""
        return self._items[item][1] if item in self._items else 0

    def line(self, item: Item) -> Line:
        """Return the line in which an item is counted, () if it is not here."""
        return self._items[item][0] if item in self._items else ()

    def has_room(self, line: Line, amount: int = 1, each: int | None = None) -> bool:
        """Return whether there is room for so much more, in all and at every node of this line.

        Args:
            each: What may be taken below each node of this line, if that is not what may be taken below others.
        """
        if self.taken[()] + amount > self._most:
            return False
        each = self._each if each is None else each
        return all(self.taken[line[:depth]] + amount <= each for depth in range(1, len(line) + 1))

    def left(self, line: Line) -> int:
        """Return how much room there is below each node of a line."""
        return min(self._each - self.taken[line[:depth]] for depth in range(1, len(line) + 1))

    def add(self, item: Item, line: Line, amount: int = 1) -> None:
        """Count an item, or more of it; it stays in its first line. The limits are not checked here."""
        line, former = self._items.get(item, (line, 0))
        self._items[item] = line, former + amount
        self._items_at.setdefault(line, {})[item] = None
        for depth in range(len(line) + 1):
            self.taken[line[:depth]] += amount
            if depth:
                self._children.setdefault(line[: depth - 1], {})[line[:depth]] = None

    def remove(self, item: Item) -> None:
        """Give back what an item takes. An item that is not here takes nothing."""
        if item not in self._items:
            return
        line, amount = self._items.pop(item)
        del self._items_at[line][item]
        if not self._items_at[line]:
            del self._items_at[line]
        for depth in range(len(line), -1, -1):
            branch = line[:depth]
            self.taken[branch] -= amount
            if depth and branch not in self._items_at and branch not in self._children:
                del self.taken[branch]
                siblings = self._children[line[: depth - 1]]
                del siblings[branch]
                if not siblings:
                    del self._children[line[: depth - 1]]

    def reduce(self, item: Item, amount: int) -> None:
        """Give back a part of what an item takes, or all of it. The item keeps its age."""
        if amount < self.amount(item):
            self.add(item, self.line(item), -amount)
        else:
            self.remove(item)

    def make_room(self, line: Line, evict: Callable[[Item], None]) -> bool:
        """Return whether there is room for one more, after others gave way if need be.

        Nobody gives way to a newcomer whose own node is full while there is room in all.

        Args:
            evict: Called with each item that gives way; it must give back one place of that item or more.
        """
        while not self.has_room(line):
            item = self.giving_way(line) if self.taken[()] >= self._most else None
            if item is None:
                return False
            evict(item)
        return True

    def giving_way(self, line: Line) -> Item | None:
        """Return the item whose place a newcomer with this line takes; None when the newcomer must be refused.

        It is the newest item of the fullest branch: from the top, at each step the child that takes most, of equal ones
        the newest. Where its line and the newcomer's part, the newcomer's branch must stay the lighter one. So nobody
        comes back by the same rule. A newcomer that is counted in no branch has the line (), and is never refused while
        anything is here.
        """
        branch: Line = ()
        while children := self._children.get(branch):
            branch = max(reversed(children), key=self.taken.__getitem__)
        if branch and not line:
            return next(reversed(self._items_at[branch]))
        for depth, (own, other) in enumerate(zip(line, branch, strict=False), start=1):
            if own != other:
                if self.taken[line[:depth]] + 1 < self.taken[branch[:depth]]:
                    return next(reversed(self._items_at[branch]))
                break
        return None


class TokenBucket:
    """A rate with bursts: tokens come steadily, up to a number, and whatever has the rate takes them.

    Args:
        a_second: Tokens that come in a second.
        burst: The most that it holds. It begins full.
        now: Seconds on a monotonic clock, as in all methods.

    Attributes:
        burst: The most that it holds.
        tokens: What it held at the last call; below zero after a charge of more than that.
    """

    __slots__ = ("_a_second", "_at", "burst", "tokens")

    def __init__(self, a_second: float, burst: float, now: float) -> None:
        self.burst: float = burst
        self.tokens: float = burst
        self._a_second = a_second
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token if there is one, and return whether there was."""
        self._fill(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def charge(self, count: int, now: float) -> float:
        """Take tokens for something done already. Return the seconds until none is missing, 0 if none is."""
        self._fill(now)
        self.tokens -= count
        return self._until(0)

    def wait(self, now: float) -> float:
        """Return the seconds until there is a token, 0 if there is one."""
        self._fill(now)
        return self._until(1)

    def is_full(self, now: float) -> bool:
        """Return whether it says no more than a new one."""
        self._fill(now)
        return self.tokens >= self.burst

    def _fill(self, now: float) -> None:
        self.tokens = min(self.tokens + (now - self._at) * self._a_second, self.burst)
        self._at = now

    def _until(self, tokens: int) -> float:
        return (tokens - self.tokens) / self._a_second if self.tokens < tokens else 0.0


class RateLimit:
    """The rate at which unknown parties may do one thing, counted at every node of their lines.

    Args:
        a_second: For one node, in the long run.
        burst: So many at once.
    """

    def __init__(self, a_second: int, burst: int) -> None:
        self._a_second = a_second
        self._burst = burst
        self._buckets: dict[Line, TokenBucket] = {}
        self._drop_above = LINES_CACHED

    def charge(self, line: Line, count: int, now: float) -> float:
        """Count what a party did; return the seconds for which it must do no more, 0 if it may go on."""
        wait = 0.0
        for depth in range(1, len(line) + 1):
            wait = max(wait, self._bucket(line[:depth], now).charge(count, now))
        self._drop_full(now)
        return wait

    def take(self, line: Line, now: float) -> bool:
        """Count one more if the party may do it now, and return whether it may."""
        buckets = [self._bucket(line[:depth], now) for depth in range(1, len(line) + 1)]
        self._drop_full(now)
        return all(bucket.wait(now) == 0 for bucket in buckets) and all(bucket.take(now) for bucket in buckets)

    def _bucket(self, node: Line, now: float) -> TokenBucket:
        bucket = self._buckets.get(node)
        if bucket is None:
            bucket = self._buckets[node] = TokenBucket(self._a_second, self._burst, now)
        return bucket

    def _drop_full(self, now: float) -> None:
        if len(self._buckets) > self._drop_above:
            self._buckets = {node: bucket for node, bucket in self._buckets.items() if not bucket.is_full(now)}
            self._drop_above = max(LINES_CACHED, 2 * len(self._buckets))  # else each call might look at all of them
