"""Fetching what others have: one want per conversation and user, from one link whose mark is ahead.

What a comparison shows to be missing is wanted at once; what a mark merely announces only when it has not come by
itself within a second (its writer pushes). Ten seconds without progress, and the next link is asked. A want ends
with the `have` that carries its number, and with nothing else: until then it counts as open, also one given up here.
Who is ahead and yet gives nothing is asked more and more rarely. Nobody is asked for a writer who is full (quota.py).

Source: docs/protocol.md, "Pull".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from p2pchat.core.context import Timer
from p2pchat.core.effects import Counted
from p2pchat.core.log import LogId
from p2pchat.core.sync.log_index import ConversationState
from p2pchat.core.sync.progress import Key, RemoteState, SyncContext
from p2pchat.protocol import Entries, Mark, Want

MAX_DOUBLINGS = 5  # of the time between fruitless wants: 32 s, so that healing never waits for more than a minute


@dataclass(slots=True)
class FetchRequest:
    """Something to fetch: everything of one user in one conversation that is known to be missing."""

    key: Key
    source: int | None = None  # the link asked
    n: int = 0  # the number of that want
    sent: bool = True  # it left; before that storage is asked what is held
    progress_at: float = 0.0  # monotonic
    tried: set[int] = field(default_factory=set)  # links that did not help lately
    fruitless: int = 0  # rounds in which nobody helped
    asked_before: bool = False
    timer: Timer | None = None


class Fetcher:
    """What is being fetched, and from whom."""

    def __init__(self, shelf: SyncContext) -> None:
        self._shelf = shelf
        self._ctx = shelf.ctx
        self._rests = False
        self._pursuits: dict[Key, FetchRequest] = {}
        self._queue: dict[int, dict[Key, None]] = {}  # by link: what waits for one of its wants to end

    def consider(self, key: Key, *, urgent: bool) -> None:
        """A far end is ahead of what is held here."""
        if self._rests:
            return
        pursuit = self._pursuits.get(key)
        if pursuit is None:
            pursuit = self._pursuits[key] = FetchRequest(key)
            if urgent:
                self._ask(pursuit)
            else:
                self._wake(pursuit, self._ctx.settings.want_after)
        elif urgent and pursuit.source is None and not pursuit.fruitless:
            self._ask(pursuit)

    def left_gap(self, side: RemoteState, log: LogId, frame: Entries) -> None:
        """A batch that leaves a gap was dropped: its sender is ahead, so what lies between is wanted like the rest."""
        self._ctx.emit(Counted("gap_batch_dropped"))
        mark = Mark(log.run, frame.first + len(frame.e) - 1, "")  # of a chain that nobody vouched for
        known = side.ahead.get(log.key, {}).get(log.run)
        if known is not None or side.add_ahead(log.key, mark):
            self.consider(log.key, urgent=False)

    def progress(self, key: Key, link: int) -> None:
        """Entries of what is pursued came."""
        pursuit = self._pursuits.get(key)
        if pursuit is None:
            return
        if pursuit.source is None or not pursuit.sent:
            self._take_up(pursuit, link)
        if pursuit.source == link:
            pursuit.progress_at = self._ctx.now.mono
            pursuit.fruitless = 0

    def _take_up(self, pursuit: FetchRequest, link: int) -> None:
        """A want that was given up is answered after all: whoever is answering is not asked again."""
        side = self._shelf.sides.get(link)
        late = [n for n, key in side.wants.items() if key == pursuit.key] if side else []
        late = [n for n in late if pursuit.sent or (link, n) != (pursuit.source, pursuit.n)]
        if late:
            pursuit.source, pursuit.n, pursuit.sent = link, late[-1], True
            self._wake(pursuit, self._ctx.settings.want_progress_timeout)

    def ended(self, side: RemoteState, n: int) -> None:
        """The far end says it gave all it has for want n."""
        key = side.wants.pop(n, None)
        pursuit = self._pursuits.get(key) if key else None
        if pursuit is not None and pursuit.source == side.link.id and pursuit.n == n:
            pursuit.source = None
            pursuit.tried.add(side.link.id)
            self._ask(pursuit)
        self._next(side)

    def rest(self, on: bool) -> None:
        """Ask for nothing while nothing can be kept; what others have is compared anew afterwards."""
        self._rests = on
        for pursuit in self._pursuits.values():
            if pursuit.timer is not None:
                pursuit.timer.cancel()
        self._pursuits.clear()
        self._queue.clear()

    def link_gone(self, side: RemoteState) -> None:
        """Wants at a link die with it."""
        waiting = self._queue.pop(side.link.id, {})
        for key in dict.fromkeys((*side.wants.values(), *waiting)):
            pursuit = self._pursuits.get(key)
            if pursuit is not None and pursuit.source in (side.link.id, None):
                pursuit.source = None
                self._ask(pursuit)

    def _next(self, side: RemoteState) -> None:
        """A want at this link has ended: another may begin."""
        queue = self._queue.get(side.link.id, {})
        while queue and len(side.wants) < self._ctx.settings.max_wants:
            key = next(iter(queue))
            del queue[key]
            pursuit = self._pursuits.get(key)
            if pursuit is not None and pursuit.source is None:
                self._ask(pursuit)

    def _ahead(self, key: Key) -> list[RemoteState]:
        return [side for side in self._shelf.sides.values() if self._is_ahead(side, key)]

    def _is_ahead(self, side: RemoteState, key: Key) -> bool:
        marks = side.ahead.get(key)
        if not marks:
            return False
        if self._shelf.quota.refuses(side.link.peer, key):
            side.set_ahead(key, {})
            return False
        conversation = self._shelf.conversations.by_id.get(key[0])
        left = {}
        for run, mark in marks.items() if conversation is not None else ():
            if conversation is not None and conversation.lacks(key[1], mark):
                left[run] = mark
        if len(left) < len(marks):
            side.set_ahead(key, left)
        return bool(left) and (conversation is None or self._may_ask(side, conversation))

    def _may_ask(self, side: RemoteState, conversation: ConversationState) -> bool:
        """Say whether anything is wanted there: nothing of a talk whose group it knows better.

        Nor of what is shared with it no more, since the users hosted here or there are others: it would not give that.
        """
        if conversation.is_open:
            return True
        group = conversation.group
        knows_better = group is not None and any(key[0] == group.id for key in side.ahead)
        return self._shelf.shares(side, conversation) and not knows_better

    def _wake(self, pursuit: FetchRequest, seconds: float) -> None:
        if pursuit.timer is not None:
            pursuit.timer.cancel()
        pursuit.timer = self._shelf.after(seconds, partial(self._woke, pursuit))

    def _woke(self, pursuit: FetchRequest) -> None:
        if self._pursuits.get(pursuit.key) is not pursuit:
            return
        if pursuit.source is None:
            pursuit.tried.clear()
            self._ask(pursuit)
            return
        timeout = self._ctx.settings.want_progress_timeout
        left = pursuit.progress_at + timeout - self._ctx.now.mono if pursuit.sent else timeout
        if left > 0:
            self._wake(pursuit, left)
            return
        pursuit.tried.add(pursuit.source)
        pursuit.source = None
        self._ask(pursuit)

    def _ask(self, pursuit: FetchRequest) -> None:
        """Choose a link that is ahead and want from it; nothing more to pursue when none is."""
        ahead = self._ahead(pursuit.key)
        if not ahead:
            if pursuit.timer is not None:
                pursuit.timer.cancel()
            del self._pursuits[pursuit.key]
            return
        fresh = [side for side in ahead if side.link.id not in pursuit.tried]
        if not fresh:
            wait = self._ctx.settings.want_after * 2.0 ** min(pursuit.fruitless, MAX_DOUBLINGS)
            pursuit.fruitless += 1
            self._wake(pursuit, wait)
            return
        free = [side for side in fresh if self._has_room(side, pursuit.key)]
        if not free:
            for side in fresh:
                self._queue.setdefault(side.link.id, {})[pursuit.key] = None
            self._wake(pursuit, self._ctx.settings.want_progress_timeout)  # or when one of their wants ends
            return
        hosts = self._shelf.presence.hosts(pursuit.key[1])
        side = min(free, key=lambda each: (each.link.id not in hosts, len(each.wants), each.link.id))
        self._want(pursuit, side)

    def _has_room(self, side: RemoteState, key: Key) -> bool:
        return len(side.wants) < self._ctx.settings.max_wants or key in side.wants.values()

    def _want(self, pursuit: FetchRequest, side: RemoteState) -> None:
        if pursuit.asked_before:
            self._ctx.emit(Counted("want_source_changed"))
        pursuit.asked_before = True
        pursuit.source, pursuit.n, pursuit.sent = side.link.id, side.next_want, False
        pursuit.progress_at = self._ctx.now.mono
        side.wants[side.next_want] = pursuit.key
        side.next_want += 1
        self._wake(pursuit, self._ctx.settings.want_progress_timeout)
        conversation, user = pursuit.key
        if self._shelf.conversations.by_id[conversation].may_be_only_stored(user):
            self._shelf.lookups.older(conversation, user, partial(self._send, pursuit.key, side, pursuit.n))
        else:
            self._send(pursuit.key, side, pursuit.n, [])

    def _send(self, key: Key, side: RemoteState, n: int, older: list[Mark]) -> None:
        if not self._shelf.is_up(side) or n not in side.wants:
            return
        pursuit, conversation = self._pursuits.get(key), self._shelf.conversations.by_id.get(key[0])
        if pursuit is None or conversation is None or (pursuit.source, pursuit.n) != (side.link.id, n):
            del side.wants[n]  # while storage was asked, what was given up went on after all, or all of it came
            self._next(side)
            return
        pursuit.sent = True
        pursuit.progress_at = self._ctx.now.mono  # the time storage took is not the far end's
        for former in [each for each, wanted in side.wants.items() if wanted == key and each != n]:
            del side.wants[former]  # the far end drops it for the new one
        writer = conversation.writers.get(key[1])
        tips = [log.tail_mark for log in writer.tail_tips()] if writer else []
        want = Want(n, key[0], key[1], tips[: self._ctx.settings.max_tips], older[: self._ctx.settings.max_older])
        self._shelf.send(want, side, key[0])
