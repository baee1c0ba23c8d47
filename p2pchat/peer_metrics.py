"""Metrics of one peer for Prometheus, which its gateway serves among its own, and its health check.

No label holds a name, an address or a text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import monotonic

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from p2pchat import P2PChatError, PeerClosed, TCPPeer
from p2pchat.threads import stop_tasks


def peer_metrics(peer: TCPPeer, health: HealthCheck) -> Iterator[Metric]:
    """Yield the metrics of a peer; nothing but storage once it is closed."""
    yield GaugeMetricFamily("p2pchat_storage_works", "Whether the last round trip succeeded", value=float(health.ok))
    yield GaugeMetricFamily("p2pchat_storage_seconds", "Duration of the last round trip", value=health.seconds)
    try:
        here, links, counted = len(peer.here()), len(peer.links()), peer.counted
    except PeerClosed:
        return
    yield GaugeMetricFamily("p2pchat_peer_links", "Linked peers", links)
    yield GaugeMetricFamily("p2pchat_peer_users_here", "Users online or idle in the mesh", here)
    family = CounterMetricFamily("p2pchat_peer_counted", "Counters of the core and of connections", labels=["what"])
    for what, count in sorted(counted.items()):
        family.add_metric([what], count)
    yield family


HEALTHY_FOR = 5.0  # seconds after a successful round trip; a guess


class HealthCheck:
    """Health of a peer: whether a round trip through core and storage succeeded in the last seconds.

    A round trip is made on request, and shared by all requests meanwhile.

    Args:
        every: Seconds between two round trips.
    Attributes:
        seconds: Duration of the last round trip; 0.0 before the first.
    """

    def __init__(self, peer: TCPPeer, every: float = 2.0) -> None:
        self._peer = peer
        self._every = every
        self._probe: asyncio.Task[None] | None = None
        self._succeeded_at = float("-inf")
        self._probed_at = float("-inf")
        self._reason = "core and storage have not answered yet"
        self.seconds: float = 0.0
        self._succeeded: bool | None = None  # the last round trip; None before it has ended

    @property
    def ok(self) -> bool:
        """True if the last round trip succeeded, and not too long ago."""
        return self._succeeded is True and monotonic() - self._succeeded_at <= HEALTHY_FOR

    async def check(self) -> str:
        """Return why it is unhealthy; "" if it is healthy."""
        now = monotonic()
        if self._probe is None and now - self._probed_at >= self._every:
            self._probed_at = now
            self._probe = asyncio.create_task(self._round_trip(now), name="p2pchat health")
        if self._probe is not None:
            patience = self._every if self._succeeded is not None else HEALTHY_FOR  # a slow start is no alarm
            await asyncio.wait([self._probe], timeout=patience)
        return "" if self.ok else self._reason

    async def _round_trip(self, since: float) -> None:
        self._reason = "storage does not answer"
        try:
            await self._peer.round_trip()
        except P2PChatError as error:
            self._succeeded, self._reason = False, str(error)
        else:
            self._succeeded, self._succeeded_at = True, monotonic()
            self.seconds = self._succeeded_at - since
            self._reason = "core and storage have not answered for too long"
        finally:
            self._probe = None

    async def aclose(self) -> None:
        """Cancel a round trip under way."""
        if self._probe is not None:
            await stop_tasks([self._probe])
