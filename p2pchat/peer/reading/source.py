"""What readers are fed from, as they see it: feed.py is it for a running peer, tests have one of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from p2pchat.core.log import Ref
from p2pchat.messaging.events import Risen
from p2pchat.protocol import ConversationId
from p2pchat.runtime.recent import Recent
from p2pchat.storage.base import Shown


class Source(Protocol):
    """What feeds a reader."""

    recent: Recent

    async def places(self, after: int, limit: int) -> list[Shown]:
        """Read released entries from storage; PeerClosed when that is over."""

    async def entries(self, named: Sequence[tuple[ConversationId, Ref]]) -> list[Shown | None]:
        """Read released entries by what names them, with what became of them; PeerClosed when that is over."""

    @property
    def start(self) -> int:
        """The newest place of earlier runs."""

    async def written(self, group: ConversationId) -> list[Shown]:
        """Read everything released of one conversation; PeerClosed when that is over."""

    async def complete(self, events: Sequence[Risen]) -> list[Risen | None]:
        """Return what to tell of receipts; None for those of no message."""

    def hand_on(self, consumer: str, place: int) -> None:
        """A consumer has taken everything up to there; saved soon."""

    async def hand_on_now(self, consumer: str, place: int) -> None:
        """The same; returns when it is on disk."""
