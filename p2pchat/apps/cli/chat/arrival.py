"""Whom one has come to: after `--invite` one line about the network joined, once it is known who is there.

Links come up and people are told one after the other; what comes within a moment belongs together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from p2pchat import Link, TCPPeer, parse_invite
from p2pchat.commands.errors import tell
from p2pchat.commands.format import shown_name
from p2pchat.safe_text import safe_line

MOMENT = 0.5  # seconds without news: a guess at what people wait for gladly
AT_MOST = 3.0  # seconds after the first link, in a network where somebody always comes


class Arrival:
    """One start that goes to others.

    Args:
        invite: Its text; "" when none was given.
        calls: Whether others are called at all.
    Attributes:
        under_way: From the first link to somebody we called until it is known who is there: who is found then was there
            before, and does not come.
        over: Nothing more will be told.
    """

    def __init__(self, invite: str, *, calls: bool, tell: Callable[[str], None] = tell) -> None:
        self._inviter = parse_invite(invite).peer_id if invite else ""
        self._tell = tell
        self._at = ""  # where the first link was
        self._peer: TCPPeer | None = None
        self._later: asyncio.TimerHandle | None = None
        self._latest = 0.0
        self.under_way = False
        self.over = not calls

    def begin(self, peer: TCPPeer) -> None:
        """This peer has started."""
        self._peer = peer

    def noticed(self, event: Any) -> None:
        """Take any event of the peer."""
        is_ours = isinstance(event, Link) and event.state == "up" and event.endpoint
        if self.over or not (self.under_way or is_ours):
            return
        loop = asyncio.get_running_loop()
        if not self.under_way:
            self.under_way, self._at, self._latest = True, event.endpoint, loop.time() + AT_MOST
        if self._later is not None:
            self._later.cancel()
        self._later = loop.call_at(min(loop.time() + MOMENT, self._latest), self._arrived)

    def close(self) -> None:
        """Tell nothing any more."""
        self.under_way, self.over = False, True
        if self._later is not None:
            self._later.cancel()

    def _arrived(self) -> None:
        self.under_way, self.over = False, True
        if not self._inviter or self._peer is None:
            return
        users = self._peer.users()
        whose = next((f" of {shown_name(user.label)}" for user in users if user.key == self._inviter), "")
        here = sum(user.is_me or user.status in ("online", "idle") for user in users)
        now = "all here now" if here == len(users) else f"{here} of them here now"
        self._tell(f"-- joined the network{whose} at {safe_line(self._at)}: {len(users)} people, {now}")
