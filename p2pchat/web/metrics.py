"""Metrics of one gateway for Prometheus, and its health check.

Each gateway has a registry of its own, so that several can live in one process. Frequent events are counted in plain
integers and read when metrics are requested. Labels are words of this program, never names, addresses or texts, so that
their number is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from p2pchat import P2PChatError, PeerClosed, TCPPeer
from p2pchat.web import WebSettings
from p2pchat.web.accounts import Accounts
from p2pchat.web.errors import WebError, problem_of
from p2pchat.web.hub import Hub

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Metrics:
    """The metrics; `kind` is the interface: rest, chat, socketio, lines."""

    def __init__(self, peer: TCPPeer, accounts: Accounts, hub: Hub, health: HealthCheck) -> None:
        registry = CollectorRegistry()
        self.registry: CollectorRegistry = registry
        self._messages = Counter("p2pchat_web_messages_in", "Messages accepted from users", ["kind"], registry=registry)
        self._accepted = Histogram(
            "p2pchat_web_accept_seconds", "From receiving a message to having it on disk", ["kind"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._refused = Counter("p2pchat_web_refused", "Refused requests, by code", ["code"], registry=registry)
        self._requests = Histogram(
            "p2pchat_web_request_seconds", "HTTP requests", ["method", "route", "status"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        registry.register(_GaugeCollector(peer, accounts, hub, health))

    @contextmanager
    def accepting(self, kind: str) -> Iterator[None]:
        """Count and time the message written in the body, unless it fails."""
        since = monotonic()
        yield
        self._messages.labels(kind).inc()
        self._accepted.labels(kind).observe(monotonic() - since)

    def problem(self, error: Exception) -> WebError:
        """Return an error as the caller gets it, and count it. Raises an unexpected error again."""
        problem = problem_of(error)
        self._refused.labels(problem.code).inc()
        return problem

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count and time an answer; `route` is the pattern of its path, not the path."""
        method = method if method in _METHODS else "other"  # callers can invent methods
        self._requests.labels(method, route, f"{status // 100}xx").observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """Return all metrics in the text format, and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class _GaugeCollector(Collector):
    """Gauges, read when metrics are requested."""

    def __init__(self, peer: TCPPeer, accounts: Accounts, hub: Hub, health: HealthCheck) -> None:
        self._peer = peer
        self._accounts = accounts
        self._hub = hub
        self._health = health
        self._since = monotonic()

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("p2pchat_web_up_seconds", "Since this gateway started", monotonic() - self._since)
        accounts = self._accounts.list()
        users = GaugeMetricFamily("p2pchat_web_users", "Accounts", labels=["state"])
        reserved = sum(account.reserved for account in accounts)
        users.add_metric(["registered"], len(accounts) - reserved)
        users.add_metric(["reserved"], reserved)
        yield users
        sessions = GaugeMetricFamily("p2pchat_web_sessions", "Open sessions", labels=["kind"])
        for kind, count in sorted((+self._hub.open_by_kind).items()):
            sessions.add_metric([kind], count)
        yield sessions
        yield CounterMetricFamily("p2pchat_web_told", "Events delivered to sessions", value=self._hub.deliveries)
        ended = CounterMetricFamily("p2pchat_web_sessions_ended", "Sessions ended by the gateway", labels=["why"])
        for why, count in sorted(self._hub.ended.items()):
            ended.add_metric([why], count)
        yield ended
        yield GaugeMetricFamily(
            "p2pchat_storage_works", "Whether the last round trip succeeded", value=float(self._health.ok)
        )
        yield GaugeMetricFamily(
            "p2pchat_storage_seconds", "Duration of the last round trip", value=self._health.seconds
        )
        yield from self._peer_metrics()

    def _peer_metrics(self) -> Iterator[Metric]:
        try:
            peer = self._peer
            here, links, counted = len(peer.here()), len(peer.links()), peer.counted
        except PeerClosed:
            return
        yield GaugeMetricFamily("p2pchat_peer_links", "Linked peers", links)
        yield GaugeMetricFamily("p2pchat_peer_users_here", "Users online or idle in the mesh", here)
        family = CounterMetricFamily("p2pchat_peer_counted", "Counters of the core", labels=["what"])
        for what, count in sorted(counted.items()):
            family.add_metric([what], count)
        yield family


class HealthCheck:
    """Health of a gateway: whether a round trip through core and storage succeeded in the last seconds.

    A round trip is made on request, at most every `health_every` seconds, and shared by all requests meanwhile.

    Attributes:
        seconds: Duration of the last round trip; 0.0 before the first.
        ok: Whether it succeeded.
    """

    def __init__(self, peer: TCPPeer, settings: WebSettings, clock: Callable[[], float] = monotonic) -> None:
        self._peer = peer
        self._settings = settings
        self._clock = clock
        self._probe: asyncio.Task[None] | None = None
        self._succeeded_at = float("-inf")
        self._probed_at = float("-inf")
        self._reason = "core and storage have not answered yet"
        self.seconds: float = 0.0
        self.ok: bool = False

    async def check(self) -> str:
        """Return why this gateway is unhealthy; "" if it is healthy."""
        now = self._clock()
        if self._probe is None and now - self._probed_at >= self._settings.health_every:
            self._probed_at = now
            self._probe = asyncio.create_task(self._round_trip(now), name="p2pchat web health")
        if self._probe is not None:
            await asyncio.wait([self._probe], timeout=self._settings.health_every)
        if self._clock() - self._succeeded_at <= self._settings.health_within and self.ok:
            return ""
        return self._reason

    async def _round_trip(self, since: float) -> None:
        self._reason = "storage does not answer"
        try:
            await self._peer.round_trip()
        except P2PChatError as error:
            self.ok, self._reason = False, str(error)
        else:
            self.ok, self._succeeded_at = True, self._clock()
            self.seconds = self._succeeded_at - since
            self._reason = "core and storage have not answered for too long"
        finally:
            self._probe = None

    async def aclose(self) -> None:
        """Cancel a round trip under way."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)
