"""Pace of dials to hearsay: few of those that fail in all, and rarely to one host or network.

At most two dials a second may fail. One host is dialled once in 30 s, one network once in 5 s (config.py). The look-up
of a name counts as a dial that fails, unless the name means an address that may be dialled. On loopback there is no
pace: only peers of this machine are believed about it. An answer by the right key gives everything back, so an
honest mesh forms at once.

A host is silent on the word of one peer or network if dials there have failed for ten minutes on that word, and none
has succeeded. Then it is dialled once an hour on that word, whatever it says.

dialer.py decides which addresses have this pace.
"""

from __future__ import annotations

from collections.abc import Container

from p2pchat.core.limits_by_origin import TokenBucket, address_line
from p2pchat.core.mesh.addressbook import is_loopback, split_endpoint
from p2pchat.core.node_context import NodeContext

MAX_SILENT = 1024  # hosts with failures remembered: those that are dialled twice a second in eight minutes; a guess


class HearsayPace:
    """Times of dials to hearsay."""

    def __init__(self, ctx: NodeContext) -> None:
        self._ctx = ctx
        settings = ctx.settings
        self._bucket = TokenBucket(settings.told_dials_a_second, settings.max_told_dials, ctx.now.mono)
        self._ready_at: dict[str, float] = {}  # by host and network
        # By whose word and host: how many dials failed, when the first, when the last. The newest are last.
        self._failed: dict[tuple[str, str], tuple[int, float, float]] = {}

    def wait(self, source: str, endpoint: str, linked_networks: Container[str], waiting: int) -> float:
        """Return the seconds until this endpoint may be dialled, 0 for now. More than one wait if many do.

        Args:
            source: On whose word it is dialled.
            linked_networks: Those with a link there: a mesh on a local network needs no pause between its hosts.
            waiting: The number of all such addresses; they spread over the time that their dials take.
        """
        if is_loopback(split_endpoint(endpoint)[0]):
            return 0.0
        settings, now = self._ctx.settings, self._ctx.now.mono
        network, host = network_and_host(endpoint)
        ready_at = self._ready_at.get(host, now)
        if network not in linked_networks:
            ready_at = max(ready_at, self._ready_at.get(network, now))
        if self.is_silent(source, endpoint):
            ready_at = max(ready_at, self._failed[source, host][2] + settings.told_rest)
        if ready_at > now:
            return ready_at - now
        wait = self._bucket.wait(now)
        return wait and wait + self._ctx.random() * waiting / settings.told_dials_a_second

    def on_dial(self, endpoint: str) -> None:
        """Note a dial that wait() allowed."""
        if is_loopback(split_endpoint(endpoint)[0]):
            return
        settings, now = self._ctx.settings, self._ctx.now.mono
        network, host = network_and_host(endpoint)
        self._bucket.tokens -= 1
        self._ready_at = {node: at for node, at in self._ready_at.items() if at > now}
        if host:
            self._ready_at[network] = now + settings.told_network_pause
            self._ready_at[host] = now + settings.told_host_pause

    def on_resolved(self) -> None:
        """Note that a name means an address that may be dialled: the dial counts, and not the look-up too."""
        self._bucket.tokens += 1

    def on_answered(self, source: str, endpoint: str) -> None:
        """Note that the right key answered there."""
        self._bucket.tokens += 1
        for node in network_and_host(endpoint):
            self._ready_at.pop(node, None)
        self._failed.pop((source, network_and_host(endpoint)[1]), None)

    def on_failed(self, source: str, endpoint: str) -> None:
        """Note that a dial failed there. What was noted last so long ago that it holds nothing back is forgotten."""
        host, now = network_and_host(endpoint)[1], self._ctx.now.mono
        if not host or is_loopback(split_endpoint(endpoint)[0]):
            return
        count, since, _ = self._failed.pop((source, host), (0, now, now))
        self._failed[source, host] = count + 1, since, now
        rest = self._ctx.settings.told_rest
        while len(self._failed) > MAX_SILENT or next(iter(self._failed.values()))[2] + 2 * rest < now:
            del self._failed[next(iter(self._failed))]

    def is_silent(self, source: str, endpoint: str) -> bool:
        """Return whether nobody has answered at this host for so long, on this word, that it is dialled rarely."""
        settings = self._ctx.settings
        count, since, last = self._failed.get((source, network_and_host(endpoint)[1]), (0, 0.0, 0.0))
        return count >= settings.told_tries and last - since >= settings.told_kept


def network_and_host(endpoint: str) -> tuple[str, str]:
    """Return the network and the address of an endpoint; "" and "" for a name."""
    line = address_line(split_endpoint(endpoint)[0], "")
    return (line[0], line[-1]) if len(line) > 1 else ("", "")
