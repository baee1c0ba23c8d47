"""What an account missed: behind the message a client names, or else its direct and group messages nobody took yet.

Both are read from what is stored, in the order it was shown here, while the hub goes on telling what happens; what it
tells meanwhile is neither lost nor told twice. How far an account has taken its messages is kept as the place of one
consumer, so that nothing waits in a queue of its own and a crash loses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from p2pchat import HostedUser, Message, PeerClosed, Sent

TAKEN = "web"  # the consumer whose place says what an account has taken, on whatever way
QUEUED = ("dm", "group")  # what waits for who is away; the room is there to be read
PAGE = 200  # messages read at once
SURE_AFTER = 45.0  # seconds a socket lives on after a frame: by then a broken one was noticed (uvicorn: pings, 20 + 20)

Post = Message | Sent


class CatchUp:
    """One session from its beginning until it hears live what happens.

    Args:
        user: Whose it is.
        give: Passes a message on.
        ready: Waits until more may be given.
    """

    __slots__ = ("_all", "_first", "_give", "_live", "_queued", "_ready", "_told", "_user")

    def __init__(self, user: HostedUser, give: Callable[[Post], None], ready: Callable[[], Awaitable[None]]) -> None:
        self._user = user
        self._give = give
        self._ready = ready
        self._live = False
        self._first: Post | None = None  # told live before we were
        self._told = False  # something was told live since we last asked
        self._all = 0  # up to this place everything was given
        self._queued = 0  # up to this place everything of QUEUED was

    @property
    def is_live(self) -> bool:
        """Whether everything that was there is given."""
        return self._live

    def takes(self, post: Post) -> bool:
        """Whether a message told live is to be passed on now; otherwise it was given, or will be.

        While it is not live the post has to be the user's own view of it.
        """
        if self._live:
            return not self._was_given(post)
        self._told = True
        self._first = self._first or post
        return False

    def _was_given(self, post: Post) -> bool:
        return post.place <= self._all or (post.place <= self._queued and post.conversation.kind in QUEUED)

    async def since(self, last: Post) -> int:
        """Give everything behind this message, then be live; returns how many that were."""
        return await self._go_on(last)

    async def waiting(self) -> int:
        """Give what waits for the account, then what was told meanwhile, then be live; returns how many waited."""
        count, last = 0, None
        while page := await self._user.released(last, consumer=TAKEN, kinds=QUEUED, limit=PAGE):
            for last in page:
                self._queued = last.place
                if isinstance(last, Message):
                    self._give(last)
                    count += 1
            await self._ready()
        if self._first is None:
            self._live = True
        else:
            if not self._was_given(self._first):
                self._give(self._first)
            await self._go_on(self._first)
        return count

    async def _go_on(self, last: Post) -> int:
        count = 0
        while not self._live:
            self._told = False
            page = await self._user.released(last, limit=PAGE)
            for post in page:
                if not self._was_given(post):
                    self._give(post)
                    count += 1
                last = post
            self._all = last.place
            await self._ready()
            self._live = not (page or self._told)  # nothing was released while we asked, nor is told from now on unseen
        return count


class DeliveryCursor:
    """How far an account has taken what waits in its queue, as one of its sessions knows.

    What was sent counts as taken when the client says so, when it closes in good order, or when its socket has lived
    on for so long that a broken one would have been noticed. Otherwise it comes again.
    """

    __slots__ = ("_given", "_timer", "_user")

    def __init__(self, user: HostedUser) -> None:
        self._user = user
        self._given: deque[tuple[float, Post]] | None = None  # made when it is needed: one alone has 760 bytes
        self._timer: asyncio.TimerHandle | None = None

    def gave(self, post: Post) -> None:
        """This was sent."""
        if post.conversation.kind in QUEUED:
            loop = asyncio.get_running_loop()
            if self._given is None:
                self._given = deque()
            self._given.append((loop.time(), post))
            if self._timer is None:
                self._timer = loop.call_later(SURE_AFTER, self._grow_sure)

    def _grow_sure(self) -> None:
        loop, last = asyncio.get_running_loop(), None
        self._timer = None
        while self._given and self._given[0][0] <= loop.time() - SURE_AFTER:
            last = self._given.popleft()[1]
        self._hand_on(last)
        if self._given:
            self._timer = loop.call_at(self._given[0][0] + SURE_AFTER, self._grow_sure)

    def close(self, *, in_good_order: bool) -> None:
        """The socket is gone; in good order: the client got what was sent."""
        if self._timer is not None:
            self._timer.cancel()
        if in_good_order and self._given:
            self._hand_on(self._given[-1][1])
        self._given = None

    def _hand_on(self, post: Post | None) -> None:
        if post is not None:
            try:
                self._user.hand_on(post, TAKEN)
            except PeerClosed:
                pass  # it comes again
