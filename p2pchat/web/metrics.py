"""The numbers of one gateway, for Prometheus: a registry of its own, so that several live in one process.

What happens often is counted in plain integers where it happens and read when somebody asks. Labels are words of
ours, never names, addresses or texts, so that there are only so many.
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
from p2pchat.web.accounts import Accounts
from p2pchat.web.errors import Problem, problem_of
from p2pchat.web.hub import Hub
from p2pchat.web.settings import WebSettings

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Metrics:
    """What is counted; `kind` is how somebody came: rest, chat, socketio, lines."""

    def __init__(self, peer: TCPPeer, accounts: Accounts, hub: Hub, health: HealthCheck) -> None:
        self.registry = registry = CollectorRegistry()
        self._came = Counter("p2pchat_web_messages_in", "Messages accepted from users", ["kind"], registry=registry)
        self._accepted = Histogram(
            "p2pchat_web_accept_seconds", "From a message's coming in to its being on disk", ["kind"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._refused = Counter("p2pchat_web_refused", "What was refused, by its code", ["code"], registry=registry)
        self._requests = Histogram(
            "p2pchat_web_request_seconds", "HTTP requests", ["method", "route", "status"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        registry.register(_GaugeCollector(peer, accounts, hub, health))

    @contextmanager
    def accepting(self, kind: str) -> Iterator[None]:
        """A message of a user is written inside: counted with how long that took, unless it fails."""
        since = monotonic()
        yield
        self._came.labels(kind).inc()
        self._accepted.labels(kind).observe(monotonic() - since)

    def refuse(self, code: str) -> None:
        """Something was refused; `code` as the caller is told it."""
        self._refused.labels(code).inc()

    def problem(self, error: Exception) -> Problem:
        """Return what a caller is told of an error, and count it. Raises it again when it is none of ours."""
        problem = problem_of(error)
        self.refuse(problem.code)
        return problem

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is the pattern of its path, not the path."""
        method = method if method in _METHODS else "other"  # anybody may make up one
        self._requests.labels(method, route, f"{status // 100}xx").observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """Return everything in the text format, and the media type of that."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class _GaugeCollector(Collector):
    """What is so at this moment."""

    def __init__(
        self, peer: TCPPeer, accounts: Accounts, hub: Hub, health: HealthCheck, clock: Callable[[], float] = monotonic
    ) -> None:
        self._peer = peer
        self._accounts = accounts
        self._hub = hub
        self._health = health
        self._clock = clock
        self._since = clock()

    def collect(self) -> Iterator[Metric]:
        yield _gauge("p2pchat_web_up_seconds", "Since this gateway began", self._clock() - self._since)
        accounts = self._accounts.list()
        users = GaugeMetricFamily("p2pchat_web_users", "Accounts", labels=["state"])
        reserved = sum(account.reserved for account in accounts)
        users.add_metric(["registered"], len(accounts) - reserved)
        users.add_metric(["reserved"], reserved)
        yield users
        sessions = GaugeMetricFamily("p2pchat_web_sessions", "Open sessions", labels=["kind"])
        for kind, count in sorted(self._hub.open_by_kind().items()):
            sessions.add_metric([kind], count)
        yield sessions
        yield CounterMetricFamily("p2pchat_web_told", "Events handed to sessions", value=self._hub.told())
        ended = CounterMetricFamily("p2pchat_web_sessions_ended", "Sessions ended by the gateway", labels=["why"])
        for why, count in sorted(self._hub.ended_by_reason().items()):
            ended.add_metric([why], count)
        yield ended
        yield _gauge("p2pchat_storage_works", "Whether the last round trip came back", float(self._health.ok))
        yield _gauge("p2pchat_storage_seconds", "How long the last round trip took", self._health.seconds)
        yield from self._of_peer()

    def _of_peer(self) -> Iterator[Metric]:
        try:
            peer = self._peer
            here, links, counted = len(peer.here()), len(peer.links()), peer.counted
        except PeerClosed:
            return
        yield _gauge("p2pchat_peer_links", "Peers linked with", links)
        yield _gauge("p2pchat_peer_users_here", "Users online or idle in the mesh", here)
        family = CounterMetricFamily("p2pchat_peer_counted", "What the core counted", labels=["what"])
        for what, count in sorted(counted.items()):
            family.add_metric([what], count)
        yield family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


# ---- health
#
# Whether a gateway works, and whether it takes callers.
#
# Working means that a round trip through core and storage came back in the last seconds. It is tried when somebody
# asks, not more often than every other second, and by all who ask together.


class HealthCheck:
    """What is known of one peer's health, and whether its gateway takes callers.

    Attributes:
        seconds: How long the last round trip took; 0.0 before the first.
        ok: Whether it came back.
    """

    def __init__(self, peer: TCPPeer, settings: WebSettings, clock: Callable[[], float] = monotonic) -> None:
        self._peer = peer
        self._settings = settings
        self._clock = clock
        self._tried: asyncio.Task[None] | None = None
        self._worked_at = float("-inf")
        self._asked_at = float("-inf")
        self._reason = "nothing has come back from core and storage yet"
        self.seconds = 0.0
        self.ok = False

    async def look(self) -> str:
        """Return why this gateway does not work; "" when it does."""
        now = self._clock()
        if self._tried is None and now - self._asked_at >= self._settings.health_every:
            self._asked_at = now
            self._tried = asyncio.create_task(self._try(now), name="p2pchat web health")
        if self._tried is not None:
            await asyncio.wait([self._tried], timeout=self._settings.health_every)
        if self._clock() - self._worked_at <= self._settings.health_within and self.ok:
            return ""
        return self._reason

    async def _try(self, since: float) -> None:
        self._reason = "storage does not answer"
        try:
            await self._peer.round_trip()
        except P2PChatError as error:
            self.ok, self._reason = False, str(error)
        else:
            self.ok, self._worked_at = True, self._clock()
            self.seconds = self._worked_at - since
            self._reason = "nothing has come back from core and storage for too long"
        finally:
            self._tried = None

    async def aclose(self) -> None:
        """Ask no more."""
        if self._tried is not None:
            self._tried.cancel()
            await asyncio.gather(self._tried, return_exceptions=True)
