"""Whether a gateway works, and whether it takes callers.

Working means that a round trip through core and storage came back in the last seconds. It is tried when somebody
asks, not more often than every other second, and by all who ask together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from p2pchat import P2PChatError, TCPPeer
from p2pchat.web.settings import WebSettings


class Health:
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
