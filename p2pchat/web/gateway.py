"""Gateway: what all parts of one web application share: the peer, its accounts, the hub, limits and rates."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from p2pchat import Conversation, TCPPeer
from p2pchat.web.accounts import Account, Accounts
from p2pchat.web.hub import AuditLog, Hub
from p2pchat.web.idempotency import IdempotencyCache
from p2pchat.web.metrics import HealthCheck, Metrics
from p2pchat.web.rate_limit import RateLimits
from p2pchat.web.settings import WebSettings


class Gateway:
    """One gateway; `app.state.gateway` of what create_app returns."""

    def __init__(self, peer: TCPPeer, settings: WebSettings) -> None:
        self.peer = peer
        self.settings = settings
        self.audit_log = AuditLog()
        self.accounts = Accounts(peer, settings)
        self.hub = Hub(peer, settings, self.audit_log)
        self.accounts.changed = self._changed
        self.limits = RateLimits(settings)
        self.idempotency = IdempotencyCache()
        self.health = HealthCheck(peer, settings)
        self.metrics = Metrics(peer, self.accounts, self.hub, self.health)
        self.hub.renamed = self.accounts.renamed
        self.begun = False

    async def begin(self) -> None:
        """Read what is kept of accounts, and begin to tell sessions. Done by itself when the first caller comes.

        Raises:
            StorageError, PeerClosed: It can not be read now.
        """
        await self.accounts.load()
        self.hub.begin()
        self.begun = True

    def _changed(self, account: Account, change: str) -> None:
        """An account was registered, reserved, given a token or revoked."""
        self.audit_log.tell("account", change=change, user=account.name, user_id=account.id)
        if change in ("token", "revoked"):  # what was opened with the former token ends with it
            self.hub.end_all_of(account, "revoked")

    def audit_pending(self, talk: Conversation, id: str) -> None:
        """Tell whoever operates this of a direct message that waits: whom it is for has nothing open here."""
        other = None if talk.user is None else self.accounts.of(talk.user.key)
        if other is not None and not self.hub.sessions_of(other):
            self.audit_log.tell("waiting", user=other.name, user_id=other.id, id=id)

    def audit_handed_over(self, account: Account, kind: str, count: int) -> None:
        """Tell whoever operates this how much of what waited an account was handed."""
        if count:
            self.audit_log.tell("handed", kind=kind, user=account.name, user_id=account.id, count=count)

    async def aclose(self) -> None:
        """End all sessions; the peer goes on. To be called before the server stops, so that clients come back soon."""
        await self.hub.aclose()
        await self.health.aclose()


def gateway_of(connection: HTTPConnection) -> Gateway:
    """Return the gateway that a request or WebSocket came to; also as a dependency."""
    gateway: Gateway = connection.app.state.gateway
    return gateway
