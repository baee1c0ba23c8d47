"""Gateway: what all parts of one web application share: the peer, its accounts, the hub, limits and rates."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from p2pchat import TCPPeer
from p2pchat.apps.web.accounts import Account, Accounts
from p2pchat.apps.web.health import Health
from p2pchat.apps.web.hub import Hub
from p2pchat.apps.web.journal import Journal
from p2pchat.apps.web.metrics import Metrics
from p2pchat.apps.web.once import Once
from p2pchat.apps.web.rates import Rates
from p2pchat.apps.web.settings import WebSettings


class Gateway:
    """One gateway; `app.state.gateway` of what create_app returns."""

    def __init__(self, peer: TCPPeer, settings: WebSettings) -> None:
        self.peer = peer
        self.settings = settings
        self.journal = Journal()
        self.accounts = Accounts(peer, settings)
        self.hub = Hub(peer, settings, self.journal)
        self.accounts.changed = self._changed
        self.rates = Rates(settings)
        self.once = Once()
        self.health = Health(peer, settings)
        self.metrics = Metrics(self)
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
        self.journal.tell("account", change=change, user=account.name, user_id=account.id)
        if change in ("token", "revoked"):  # what was opened with the former token ends with it
            self.hub.end_all_of(account, "revoked")

    async def aclose(self) -> None:
        """End all sessions; the peer goes on. To be called before the server stops, so that clients come back soon."""
        await self.hub.aclose()
        await self.health.aclose()


def gateway_of(connection: HTTPConnection) -> Gateway:
    """Return the gateway that a request or WebSocket came to; also as a dependency."""
    gateway: Gateway = connection.app.state.gateway
    return gateway
