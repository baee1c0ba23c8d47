"""What the calls of one user stand on, whoever's they are: a peer's own user, or one that the peer hosts beside.

UserPart names it; TCPPeer gives it of itself (lifecycle.py), HostedUser of the peer behind it (hosted_user.py). Being,
Places and Messaging, which are made of it, are the user's part of both: no call is written twice.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from p2pchat.core.records import Change

if TYPE_CHECKING:
    from p2pchat.core.node import Node
    from p2pchat.messaging.access import Sight
    from p2pchat.messaging.dispatcher import Herald
    from p2pchat.messaging.users import People
    from p2pchat.peer.groups.groupbook import GroupBook
    from p2pchat.peer.messages.ledger import Ledger
    from p2pchat.peer.reading.feed import Feed
    from p2pchat.peer.reading.indexing import Indexing
    from p2pchat.resources import Options
    from p2pchat.runtime.driver import Owner


class UserPart:
    """What is there for one user.

    Attributes:
        people: Who is who, as this user sees it; `people.me` is the user.
    """

    __slots__ = ()

    people: People
    _feed: Feed
    _groups: GroupBook
    _herald: Herald
    _ledger: Ledger
    _options: Options
    _sight: Sight

    @property
    def _running(self) -> Owner:
        """What does things; PeerClosed while it does not run."""
        raise NotImplementedError

    @property
    def _begun(self) -> Owner:
        """The same for what is only looked at: also while it closes, and after."""
        raise NotImplementedError

    @property
    def _core(self) -> Node | None:
        """The core; None before there is one."""
        raise NotImplementedError

    @property
    def _is_closed(self) -> bool:
        raise NotImplementedError

    @property
    def _index(self) -> Indexing | None:
        """What finds words far back; None where everything is looked through."""
        raise NotImplementedError

    def _started(self) -> object:
        """Raise PeerClosed before it is known who the user is."""
        raise NotImplementedError

    @property
    def _names_lock(self) -> asyncio.Lock:
        """Held while it is settled which users this peer has, and what they are called."""
        raise NotImplementedError

    def _check_name(self, name: str) -> None:
        """Raise P2PChatError when another user of this peer is called so, or nearly so."""
        raise NotImplementedError

    def _called(self, name: str, about: str | None) -> Change:
        """The user takes this name and tells this of itself (None: what it told before); return what keeps that."""
        raise NotImplementedError

    @property
    def _ignored_in(self) -> str:
        """Under which name it is kept whom the user ignores."""
        raise NotImplementedError

    def _consumer(self, name: str) -> str:
        """Return under which name the place of a consumer of this user is kept."""
        raise NotImplementedError

    @property
    def _first_place(self) -> int:
        """Where a consumer that was never asked for begins: everything up to there came before."""
        raise NotImplementedError

    @property
    def _came_at(self) -> int:
        """The newest place when this user came to the peer: what was there already is nobody's news."""
        raise NotImplementedError
