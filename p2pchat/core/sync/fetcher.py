"""Missing entries: one want per conversation and user, sent to one link whose mark is ahead.

A difference found by a comparison is wanted at once, and so is what a mark announces of a writer without a link here.
Otherwise what a mark announces is wanted only if it has not arrived within a second, since its writer pushes it. A link
that gives nearly nothing for ten seconds is given up for the next: peers of the writer come first, then contacts, and
links that were given up last. Links that nobody carries come before others.
A want ends only with the `have` that carries its number; until then it counts as open, even if it was given up here. A
peer that is ahead but gives nothing gets fewer and fewer wants. What known users wrote is wanted first, since unknown
ones may have thousands of logs. No entries of a writer whose quota is full are wanted (quota.py).

Source: docs/protocol.md, "Pull".
"""

from __future__ import annotations

from functools import partial

from p2pchat.core.durable_changes import Collected, DiskLevel
from p2pchat.core.log import LogId, WriterKey
from p2pchat.core.node_context import Timer
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import Entries, Mark, Want

MAX_DOUBLINGS = 5  # of the time between fruitless wants: 32 s, so that healing never waits for more than a minute
PROGRESS = 64  # entries, or KiB of them: who gives fewer within the time for progress makes none. A guess: a slow modem


class FetchRequest(Collected):
    """The fetch of one user's missing entries in one conversation."""

    key: WriterKey
    source: int | None = None  # the link asked
    n: int = 0  # number of that want
    progress_at: float = 0.0  # monotonic
    gained: int = 0  # entries and KiB since then
    heard_at: float = 0.0  # when the last entry came, or the want was sent (monotonic)
    tried: set[int] = set()  # links that did not help lately
    fruitless: int = 0  # rounds in which no link helped
    timer: Timer | None = None


class Fetcher:
    """Decides what is fetched, and from which link.

    Attributes:
        requests: The fetches under way.
    """

    def __init__(self, sync: SyncContext) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self.requests: dict[WriterKey, FetchRequest] = {}
        # By link: keys that wait for one of its wants to end, those of known users and the others.
        self._queue: dict[int, tuple[dict[WriterKey, None], dict[WriterKey, None]]] = {}

    def request(self, key: WriterKey, *, urgent: bool) -> None:
        """Fetch the entries of a writer of which a remote is ahead."""
        if self._sync.quota.disk is DiskLevel.NOTHING:
            return
        is_pushed = key[1] in self._sync.hosted or self._pushes(key)
        urgent = urgent or not is_pushed
        request = self.requests.get(key)
        if request is None:
            request = self.requests[key] = FetchRequest(key)
            if urgent:
                self._ask(request)
            else:
                self._set_timer(request, self._ctx.settings.want_after)
        elif urgent and request.source is None and not request.fruitless:
            self._ask(request)

    def _pushes(self, key: WriterKey) -> bool:
        """Return whether a peer of a writer sends what it writes by itself."""
        conversation = self._sync.conversations[key[0]]
        links = self._sync.presence.hosts.get(key[1], ())
        hosts = [self._sync.remotes[link] for link in links if link in self._sync.remotes]
        return any(not self._sync.comes_by_carrier(remote, conversation, key) for remote in hosts)

    def on_early(self, remote: RemoteState, log: LogId, frame: Entries) -> None:
        """Fetch what lies before a batch that was dropped because it came early."""
        self._ctx.count("early_batch_dropped")
        wants = remote.wants
        if frame.n in wants.by_number:
            wants.incomplete = {frame.n, *(wants.incomplete & wants.by_number.keys())}
        mark = Mark(log.run, frame.first + len(frame.e) - 1, "")  # of a chain that nobody vouched for
        ahead = remote.ahead.get(log.key, {})
        if log.run in ahead or remote.set_ahead(log.key, {**ahead, log.run: mark}):
            self.request(log.key, urgent=False)

    def on_progress(self, key: WriterKey, link: int, count: int, size: int) -> None:
        """Note that so many entries of a writer, of so many bytes, came by a link while they are being fetched."""
        request = self.requests[key]
        if request.source is None:
            # The late answer of a want that was given up is taken, instead of asking that link again.
            wants = self._sync.remotes[link].wants.by_number
            if late := [n for n, wanted in wants.items() if wanted == key]:
                request.source, request.n = link, late[-1]
                self._set_timer(request, self._ctx.settings.want_progress_timeout)
        if request.source == link:
            request.fruitless = 0
            request.heard_at = self._sync.remotes[link].wants.given_at = self._ctx.now.mono
            request.gained += max(count, size // 1024)
            if request.gained >= PROGRESS:
                request.progress_at, request.gained = self._ctx.now.mono, 0

    def on_want_ended(self, remote: RemoteState, n: int) -> None:
        """End want n: the remote has given all it has."""
        key = remote.wants.by_number.pop(n, None)
        request = self.requests.get(key) if key else None
        if key in remote.dropped:
            remote.dropped[key] = {*remote.ahead.get(key, {}).values()}
        if request is not None and request.source == remote.id and request.n == n:
            request.source = None
            request.tried.add(remote.id)
            self._ask(request)
        self._start_queued(remote)

    def give_up(self) -> None:
        """Fetch nothing of what was asked for, since nothing can be stored. Everything is compared again."""
        self.requests.clear()
        self._queue.clear()

    def on_link_down(self, remote: RemoteState) -> None:
        """End the wants at a link."""
        known, others = self._queue.pop(remote.id, ({}, {}))
        for key in dict.fromkeys((*remote.wants.by_number.values(), *known, *others)):
            request = self.requests.get(key)
            if request is not None and request.source in (remote.id, None):
                request.source = None
                self._ask(request)

    def _start_queued(self, remote: RemoteState) -> None:
        """Start requests that waited for a want at this link to end."""
        known, others = self._queue.get(remote.id, ({}, {}))
        while (queue := known or others) and len(remote.wants.by_number) < self._ctx.settings.max_wants:
            key = next(iter(queue))
            del queue[key]
            request = self.requests.get(key)
            if request is not None and request.source is None:
                self._ask(request)

    def _remotes_ahead(self, key: WriterKey) -> list[RemoteState]:
        return [remote for remote in self._sync.remotes.values() if self._is_ahead(remote, key)]

    def _is_ahead(self, remote: RemoteState, key: WriterKey) -> bool:
        marks = remote.ahead.get(key)
        if not marks:
            return False
        conversation = self._sync.conversations.get(key[0])
        if conversation is None or not self._sync.quota.check(key):
            remote.set_ahead(key, {})
            return False
        held = conversation.held(key[1], marks.values())
        left = {mark.run: mark for mark, log in held if conversation.lacks(key[1], mark, log)}
        if len(left) < len(marks):
            remote.set_ahead(key, left)
        is_news = not remote.dropped.get(key, set()).issuperset(left.values())
        if conversation.has_facts or not is_news:
            return is_news
        # It is not asked for a talk whose group it knows better. Nor for a conversation it no longer shares because its
        # users or ours changed; it would not answer.
        group = conversation.group
        knows_better = group is not None and any(ahead[0] == group.id for ahead in remote.ahead)
        return self._sync.shares(remote, conversation) and not knows_better

    def _set_timer(self, request: FetchRequest, seconds: float) -> None:
        if request.timer is not None:
            request.timer.cancel()
        request.timer = self._sync.after(seconds, partial(self._on_timer, request))

    def _on_timer(self, request: FetchRequest) -> None:
        if self.requests.get(request.key) is not request:
            return
        if request.source is None:
            request.tried.clear()
            self._ask(request)
            return
        timeout = self._ctx.settings.want_progress_timeout
        tried = {*request.tried, request.source}
        has_other = any(remote.id not in tried for remote in self._remotes_ahead(request.key))
        since = request.progress_at if has_other else request.heard_at
        left = since + timeout - self._ctx.now.mono
        if left > 0:
            self._set_timer(request, left)
            return
        request.tried.add(request.source)
        if request.source in self._sync.remotes:
            self._sync.remotes[request.source].wants.failed += 1
        request.source = None
        self._ask(request)

    def _ask(self, request: FetchRequest) -> None:
        """Choose a link that is ahead and send it a want. The request ends when no link is."""
        ahead = self._remotes_ahead(request.key)
        if not ahead:
            if request.timer is not None:
                request.timer.cancel()
            del self.requests[request.key]
            return
        fresh = [remote for remote in ahead if remote.id not in request.tried]
        if not fresh:
            wait = self._ctx.settings.want_after * 2.0 ** min(request.fruitless, MAX_DOUBLINGS)
            request.fruitless += 1
            self._set_timer(request, wait)
            return
        most, key = self._ctx.settings.max_wants, request.key
        free = [one for one in fresh if len(one.wants.by_number) < most or key in one.wants.by_number.values()]
        if not free:
            for remote in fresh:
                known, others = self._queue.setdefault(remote.id, ({}, {}))
                (known if self._sync.inbox.is_known(key[1]) else others)[key] = None
            self._set_timer(request, self._ctx.settings.want_progress_timeout)  # or when one of their wants ends
            return
        self._open_want(request, min(free, key=partial(self._rank, key)))

    def _rank(self, key: WriterKey, remote: RemoteState) -> tuple[int | bool, ...]:
        """Return by what the link to ask is chosen: the least."""
        wants, link = remote.wants, remote.link
        is_host = link.id in self._sync.presence.hosts.get(key[1], ())
        return bool(link.carrier), not is_host, wants.failed, not link.known, len(wants.by_number), link.id

    def _open_want(self, request: FetchRequest, remote: RemoteState) -> None:
        request.source, request.n = remote.id, remote.wants.next
        request.progress_at = request.heard_at = self._ctx.now.mono
        request.gained = 0
        if remote.wants.asked_at <= remote.wants.given_at:
            remote.wants.asked_at = self._ctx.now.mono
        by_number = remote.wants.by_number
        for former in [each for each, wanted in by_number.items() if wanted == request.key]:
            del by_number[former]  # the remote replaces it with the new one
        by_number[request.n] = request.key
        remote.wants.next += 1
        self._set_timer(request, self._ctx.settings.want_progress_timeout)
        settings, (id, user) = self._ctx.settings, request.key
        conversation = self._sync.conversations[id]
        writer = conversation.writers.get(user)
        tips = [log.tail_mark for log in writer.tail_tips()] if writer else []
        older = conversation.older_marks(user, settings.max_older)
        self._sync.send(Want(request.n, id, user, tips[: settings.max_tips], older), remote, id)
