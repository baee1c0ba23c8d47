"""What somebody sees is read: messages of the conversation in front while somebody looks, the others at the moment one
comes back or goes there.

Who looks is read_tracking.py's to say. It is one mark on the message shown last: it stands for all that came before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from p2pchat import Conversation, Deleted, Edited, HostedUser, Message, P2PChatError, Reaction, TCPPeer
from p2pchat.commands.read_tracking import Attention

TOGETHER = 0.02  # seconds: what comes within so long is one mark
LOOKED_BACK = 20  # messages that are shown of the past; the one that came last of them is what was seen


class Seen:
    """One chat's eyes.

    Args:
        current: Returns where one is; raises P2PChatError while that is not known.
        shows_past: The last messages of where one goes are shown there, also those of earlier runs.
    """

    def __init__(
        self, peer: TCPPeer | HostedUser, attention: Attention, current: Callable[[], Conversation], *, shows_past: bool
    ) -> None:
        self._peer = peer
        self._attention = attention
        self._current = current
        self._shows_past = shows_past
        self._unread: dict[str, Message | Edited | Deleted | Reaction] = {}  # the one shown last, by conversation id
        self._soon: asyncio.TimerHandle | None = None
        self._looked_back: set[str] = set()  # conversations whose past was shown in this run
        self._looking: set[asyncio.Task[None]] = set()
        attention.looking.append(self.look)

    def shown(self, event: object) -> None:
        """Take an event that was shown just now, or counted."""
        if not isinstance(event, Message) and (not isinstance(event, (Edited, Deleted, Reaction)) or event.by.is_me):
            return
        self._unread[event.conversation.id] = event
        if self._soon is None and self._attention.sees(event.conversation.id):
            self._soon = asyncio.get_running_loop().call_later(TOGETHER, self.look)

    def look(self) -> None:
        """Somebody looks at the conversation of the moment: what was shown there is read."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if not self._attention.in_use:
            return
        try:
            here = self._current()
            if self._shows_past and here.id not in self._looked_back:
                self._looked_back.add(here.id)
                self._look_back(here)
            newest = self._unread.pop(here.id, None)
            if newest is not None:
                newest.mark_read()
        except P2PChatError:  # an open network that has met nobody yet, or a peer that is closed
            return

    def _look_back(self, here: Conversation) -> None:
        task = asyncio.ensure_future(self._read_past(here))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _read_past(self, here: Conversation) -> None:
        """Mark what earlier runs have left unread, or was read elsewhere."""
        try:
            posts = await here.history(limit=LOOKED_BACK)
            came = [post for post in posts if isinstance(post, Message)]
            if came and self._attention.sees(here.id):
                max(came, key=lambda post: post.place).mark_read()
        except P2PChatError:  # closed meanwhile
            return
