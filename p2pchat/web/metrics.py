"""Metrics of one gateway for Prometheus.

Each gateway has a registry of its own, so that several can live in one process. Frequent events are counted in plain
integers and read when metrics are requested. Labels are words of this program, never names, addresses or texts, so that
their number is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from p2pchat import TCPPeer
from p2pchat.peer_metrics import HealthCheck, peer_metrics
from p2pchat.web.accounts import Accounts
from p2pchat.web.cluster.cluster import Cluster
from p2pchat.web.error_responses import WebError, problem_of
from p2pchat.web.session_hub import SessionHub

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Metrics(Collector):
    """The metrics; `kind` is the interface: rest, chat, socketio, lines."""

    def __init__(
        self, peer: TCPPeer, accounts: Accounts, hub: SessionHub, health: HealthCheck, cluster: Cluster | None = None
    ) -> None:
        self._cluster = cluster
        self._peer = peer
        self._accounts = accounts
        self._hub = hub
        self._health = health
        self._since = monotonic()
        self._registry = registry = CollectorRegistry()
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
        registry.register(self)

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
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges, which are read when metrics are requested."""
        yield GaugeMetricFamily("p2pchat_web_up_seconds", "Since this gateway started", monotonic() - self._since)
        yield GaugeMetricFamily("p2pchat_web_users", "Accounts", len(self._accounts.list()))
        sessions = GaugeMetricFamily("p2pchat_web_sessions", "Open sessions", labels=["kind"])
        for kind, count in sorted((+self._hub.open_by_kind).items()):
            sessions.add_metric([kind], count)
        yield sessions
        yield CounterMetricFamily("p2pchat_web_told", "Events delivered to sessions", value=self._hub.deliveries)
        ended = CounterMetricFamily("p2pchat_web_sessions_ended", "Sessions ended by the gateway", labels=["why"])
        for why, count in sorted(self._hub.ended.items()):
            ended.add_metric([why], count)
        yield ended
        if self._cluster is not None:
            for name, meaning, value in self._cluster.gauges():
                yield GaugeMetricFamily(f"p2pchat_web_cluster_{name}", meaning, value)
        yield from peer_metrics(self._peer, self._health)
