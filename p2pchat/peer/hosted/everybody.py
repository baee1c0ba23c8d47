"""What concerns any user of a gateway, read once for all of them, and with each event for whom it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from p2pchat.core.log import LogId
from p2pchat.messaging.access import Audience, Everyone, audience_of
from p2pchat.messaging.events import Event, Risen
from p2pchat.messaging.messages import Post
from p2pchat.messaging.subscription import AnyEvent, Reader
from p2pchat.peer.messages.conversation import Desk
from p2pchat.peer.messages.ledger import Rise
from p2pchat.peer.messages.mending import Deleted, Edited, Reaction
from p2pchat.peer.reading.source import Source
from p2pchat.protocol import UserId

if TYPE_CHECKING:
    from p2pchat.core.node import Node

Users = tuple[UserId, ...] | None


@dataclass(frozen=True, slots=True)
class Addressed(Event):
    """A live event, and whom it concerned when it happened."""

    told: Event
    users: Users


class EverybodyReader(Reader):
    """The cursor behind Everybody."""

    def __init__(
        self, source: Source, desk: Desk, types: tuple[type, ...], sight: Everyone, node: Callable[[], Node | None]
    ) -> None:
        self._everyone = sight
        self._node = node
        super().__init__(source, desk, types, None, "now", sight)

    def tell(self, subject: Hashable, event: Event, audience: Audience = None) -> None:
        if not self.closed and self._wants(type(event)):
            self._push(subject, Addressed(event, self._everyone.users_of(audience)))

    def tell_rise(self, rise: Rise) -> None:
        """Take receipts; of a message to the room, which a thousand of one gateway get, only that all have it."""
        if rise.having < rise.of and audience_of(self._node(), rise.log.conversation) is None:
            return
        super().tell_rise(rise)

    async def next_addressed(self) -> tuple[AnyEvent, Users]:
        """Return the next event and whom it concerns."""
        event: AnyEvent = await self.next()
        if isinstance(event, Addressed):
            return event.told, event.users
        if isinstance(event, Risen):
            return event, (event.log.user,)
        assert isinstance(event, Post | Edited | Deleted | Reaction)
        return event, self._users_of(event.log)

    def _users_of(self, log: LogId) -> Users:
        audience = audience_of(self._node(), log.conversation)
        return self._everyone.users_of(None if audience is None else {*audience, log.user})


class Everybody(AsyncIterator[tuple[AnyEvent, Users]]):
    """An iterator over `(event, users)`: see TCPPeer.everybody."""

    def __init__(self, reader: EverybodyReader) -> None:
        self._reader = reader

    def __aiter__(self) -> Everybody:
        return self

    async def __anext__(self) -> tuple[AnyEvent, Users]:
        return await self._reader.next_addressed()

    def close(self) -> None:
        """Read no more."""
        self._reader.close()

    async def aclose(self) -> None:
        """As close."""
        self._reader.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._reader.close()
