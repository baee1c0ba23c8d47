"""Fetching what others have: one want per conversation and user, from one link whose mark is ahead.

What a comparison shows to be missing is wanted at once; what a mark merely announces only when it has not come by
itself within a second (its writer pushes). Ten seconds without progress, and the next link is asked. A want ends
with the `have` that carries its number, and with nothing else.

Source: docs/protocol.md, "Pull".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from p2pchat.core.context import Timer
from p2pchat.core.effects import Counted
from p2pchat.core.sides import Key, Shelf, Side
from p2pchat.protocol import Mark, Want


@dataclass(slots=True)
class Pursuit:
    """Something to fetch: everything of one user in one conversation that is known to be missing."""

    key: Key
    source: int | None = None  # the link asked
    n: int = 0  # the number of that want
    progress_at: float = 0.0  # monotonic
    tried: set[int] = field(default_factory=set)  # links that did not help lately
    asked_before: bool = False
    timer: Timer | None = None


class Pull:
    """What is being fetched, and from whom."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._ctx = shelf.ctx
        self._pursuits: dict[Key, Pursuit] = {}

    def consider(self, key: Key, *, urgent: bool) -> None:
        """A far end is ahead of what is held here."""
        pursuit = self._pursuits.get(key)
        if pursuit is None:
            pursuit = self._pursuits[key] = Pursuit(key)
            if urgent:
                self._ask(pursuit)
            else:
                self._wake(pursuit, self._ctx.settings.want_after)
        elif urgent and pursuit.source is None:
            self._ask(pursuit)

    def progress(self, key: Key, link: int) -> None:
        """Entries of what is pursued came."""
        pursuit = self._pursuits.get(key)
        if pursuit is not None and pursuit.source == link:
            pursuit.progress_at = self._ctx.now.mono

    def ended(self, side: Side, n: int) -> None:
        """The far end says it gave all it has for want n."""
        key = side.wants.pop(n, None)
        pursuit = self._pursuits.get(key) if key else None
        if pursuit is None or pursuit.source != side.link.id or pursuit.n != n:
            return
        pursuit.source = None
        pursuit.tried.add(side.link.id)
        others = [each for each in self._ahead(pursuit.key) if each.link.id not in pursuit.tried]
        if others:
            self._ask(pursuit)
        else:
            self._wake(pursuit, self._ctx.settings.want_after)

    def link_gone(self, side: Side) -> None:
        """Wants at a link die with it."""
        for key in list(side.wants.values()):
            pursuit = self._pursuits.get(key)
            if pursuit is not None and pursuit.source == side.link.id:
                pursuit.source = None
                self._ask(pursuit)

    def _ahead(self, key: Key) -> list[Side]:
        return [side for side in self._shelf.sides.values() if self._is_ahead(side, key)]

    def _is_ahead(self, side: Side, key: Key) -> bool:
        marks = side.ahead.get(key)
        if not marks:
            return False
        conversation = self._shelf.conversations.by_id[key[0]]
        for run, mark in list(marks.items()):
            log = conversation.log(key[1], run)
            if log is not None and (log.forked or log.seq >= mark.seq):
                del marks[run]
        if not marks:
            del side.ahead[key]
        return bool(marks)

    def _wake(self, pursuit: Pursuit, seconds: float) -> None:
        if pursuit.timer is not None:
            pursuit.timer.cancel()
        pursuit.timer = self._shelf.after(seconds, partial(self._woke, pursuit))

    def _woke(self, pursuit: Pursuit) -> None:
        if self._pursuits.get(pursuit.key) is not pursuit:
            return
        if pursuit.source is None:
            pursuit.tried.clear()
            self._ask(pursuit)
            return
        left = pursuit.progress_at + self._ctx.settings.want_progress_timeout - self._ctx.now.mono
        if left > 0:
            self._wake(pursuit, left)
            return
        side = self._shelf.sides.get(pursuit.source)
        if side is not None:
            side.wants.pop(pursuit.n, None)
        pursuit.tried.add(pursuit.source)
        pursuit.source = None
        self._ask(pursuit)

    def _ask(self, pursuit: Pursuit) -> None:
        """Choose a link that is ahead and want from it; nothing more to pursue when none is."""
        ahead = self._ahead(pursuit.key)
        if not ahead:
            if pursuit.timer is not None:
                pursuit.timer.cancel()
            del self._pursuits[pursuit.key]
            return
        free = [side for side in ahead if side.link.id not in pursuit.tried]
        free = [side for side in free if len(side.wants) < self._ctx.settings.max_wants]
        if not free:
            self._wake(pursuit, self._ctx.settings.want_after)
            return
        hosts = self._shelf.presence.hosts(pursuit.key[1])
        side = min(free, key=lambda each: (each.link.id not in hosts, len(each.wants), each.link.id))
        self._want(pursuit, side)

    def _want(self, pursuit: Pursuit, side: Side) -> None:
        if pursuit.asked_before:
            self._ctx.emit(Counted("want_source_changed"))
        pursuit.asked_before = True
        pursuit.source, pursuit.n = side.link.id, side.next_want
        pursuit.progress_at = self._ctx.now.mono
        side.wants[side.next_want] = pursuit.key
        side.next_want += 1
        self._wake(pursuit, self._ctx.settings.want_progress_timeout)
        conversation, user = pursuit.key
        writer = self._shelf.conversations.by_id[conversation].writers.get(user)
        if writer is not None and writer.builds:
            self._shelf.lookups.older(conversation, user, partial(self._send, pursuit.key, side, pursuit.n))
        else:
            self._send(pursuit.key, side, pursuit.n, [])

    def _send(self, key: Key, side: Side, n: int, older: list[Mark]) -> None:
        if self._shelf.sides.get(side.link.id) is not side or n not in side.wants:
            return
        writer = self._shelf.conversations.by_id[key[0]].writers.get(key[1])
        tips = [log.tail_mark for log in writer.tail_tips()] if writer else []
        want = Want(n, key[0], key[1], tips, older[: self._ctx.settings.max_older])
        self._shelf.send(want, side, key[0])
