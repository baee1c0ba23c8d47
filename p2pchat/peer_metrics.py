"""Metrics of one peer for Prometheus, its health check, and the address where a peer without a gateway serves them.

The names are those of a gateway, which serves these metrics among its own. No label holds a name, an address or a text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import monotonic
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from p2pchat import P2PChatError, PeerClosed, TCPPeer
from p2pchat.threads import in_thread, stop_tasks

ANSWERED_WITHIN = 5.0  # seconds for the event loop to answer; Prometheus waits for 10


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


# ---- without a gateway


class MetricsServer(Collector):
    """Serves the metrics of a peer at /metrics, from a thread of prometheus_client's.

    Raises:
        P2PChatError: The address cannot be listened at.
    """

    def __init__(self, peer: TCPPeer, host: str, port: int) -> None:
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._health = HealthCheck(peer)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise P2PChatError(f"metrics cannot be served at {host}:{port}: {error.strerror}") from None
        self.port: int = self._server.server_port

    def describe(self) -> list[Any]:
        """Return nothing: the peer is asked when metrics are requested, not before."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; called in the thread, the peer is asked in its own."""
        yield from asyncio.run_coroutine_threadsafe(self._read(), self._loop).result(ANSWERED_WITHIN)

    async def _read(self) -> list[Metric]:
        await self._health.check()
        return list(peer_metrics(self._peer, self._health))

    async def aclose(self) -> None:
        """Stop serving."""
        await in_thread(self._server.shutdown)
        self._server.server_close()
        await self._health.aclose()
