"""Reading for links what they lack: a page at a time for each, and none for a link that has no room for it.

What was read stands in memory until the link has taken it, and a far end may want 64 logs at once and read nothing.
So the pages of one link are read one after the other, in the order they were asked for, and the next only while what
the link has not taken yet is below its limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from p2pchat.core.effects import Fetch


class Fetching:
    """Pages to be read for links.

    Args:
        read: Begins to read a page; answered() is told when the core has had it.
        has_room: Says whether a link takes another page.
    """

    def __init__(self, read: Callable[[Fetch], None], has_room: Callable[[int], bool]) -> None:
        self._read = read
        self._has_room = has_room
        self._waiting: dict[int, deque[Fetch]] = {}  # by link; none of these is empty
        self._reading: set[int] = set()

    def ask(self, effect: Fetch) -> None:
        """Read a page as soon as it is this one's turn."""
        self._waiting.setdefault(effect.link, deque()).append(effect)
        self._next(effect.link)

    def answered(self, link: int) -> None:
        """The page of this link is in the core's hands, or nobody waits for it any more."""
        self._reading.discard(link)
        self._next(link)

    def go_on(self) -> None:
        """Links may have more room than before."""
        for link in list(self._waiting):
            self._next(link)

    def gone(self, link: int) -> list[Fetch]:
        """A link has ended: return what is not going to be read for it."""
        return list(self._waiting.pop(link, ()))

    def _next(self, link: int) -> None:
        waiting = self._waiting.get(link)
        if waiting is None or link in self._reading or not self._has_room(link):
            return
        effect = waiting.popleft()
        if not waiting:
            del self._waiting[link]
        self._reading.add(link)
        self._read(effect)
