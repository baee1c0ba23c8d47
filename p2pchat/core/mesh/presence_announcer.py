"""Announcements of the users hosted here, as `here`: their identity, certificate and status.

A new link gets all users. Later changes go out at once, or half a second after the frames before, all changes of that
time together. A link that does not drain gets the latest status when it does. So a user that changes its status all the
time costs two frames a second. A new user is announced together with others too, but before any other frame names it,
which would be a fault. The end of hosting is announced at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from p2pchat.core.effects import Send
from p2pchat.core.mesh.handshake import is_due, make_cert
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.node_context import HostedIdentity, KeySet, NodeContext, Timer
from p2pchat.protocol import MAX_STATUS_CHARACTERS, Here, Hosted, UserId

TOLD_AFTER = 0.5  # seconds within which changes are sent together; the promise is one second
Status = tuple[str, str, int]  # status, text, since in UTC microseconds or 0


@dataclass(slots=True, eq=False)
class _LinkNews:
    """A link, and the own users whose changes it has not got yet."""

    link: PeerLink
    stale: KeySet[UserId] = field(default_factory=dict)
    gone: KeySet[UserId] = field(default_factory=dict)  # no longer hosted, or hosted again by now


class PresenceAnnouncer:
    """Announces the users hosted here to all links."""

    def __init__(self, ctx: NodeContext, users: Iterable[HostedIdentity]) -> None:
        self._ctx = ctx
        self.own: dict[UserId, HostedIdentity] = {user.id: user for user in users}
        self._statuses: dict[UserId, Status] = {}
        self._news: dict[int, _LinkNews] = {}
        self._sent_at = float("-inf")  # when all links last got a frame, monotonic
        self._timer: Timer | None = None
        self.has_new_users: bool = False  # a new user was not announced yet

    def start(self) -> None:
        """Give all users their initial status. Since when is said of a status that somebody has set."""
        for user in self.own.values():
            self._statuses[user.id] = (user.status, "", 0)

    def status(self, user: UserId) -> Status:
        """Return the status of a user hosted here."""
        return self._statuses.get(user, ("online", "", 0))

    # Links

    def link_up(self, link: PeerLink) -> None:
        """Tell a new link about all users hosted here."""
        self.renew()  # first: a link would take those for all users
        self._news[link.id] = _LinkNews(link)
        for frame in self._pages(list(self.own), []):
            self._ctx.emit(Send(frame, [link.id]))

    def link_down(self, link_id: int) -> None:
        self._news.pop(link_id, None)

    def drained(self, link_id: int) -> None:
        """Tell a link that was full what it missed."""
        end = self._news.get(link_id)
        if end is not None:
            self._send_to([end])

    # Changes

    def set(self, user: UserId, status: str, text: str) -> bool:
        """Set a user's status, with a text cut at 512 characters. Return whether it is another one."""
        text = text[:MAX_STATUS_CHARACTERS]
        former = self.status(user)
        if user not in self.own or (former[:2] == (status, text) and former[2]):
            return False
        self._statuses[user] = (status, text, self._ctx.now.utc)
        self._on_changed([user])
        return True

    def renamed(self, user: UserId, name: str) -> None:
        """Announce a user's new name, if it is hosted here."""
        self.own[user].name = name
        self._on_changed([user])

    def host(self, user: HostedIdentity) -> None:
        self.own[user.id] = user
        self._statuses[user.id] = (user.status, "", self._ctx.now.utc)
        if user.id != self._ctx.me:
            user.cert = make_cert(user.id, user.sign, self._ctx.me, self._ctx.now.utc // 1000)
        self.has_new_users = True
        self._on_changed([user.id])

    def introduce(self) -> None:
        """Announce new users now: something else is about to be said about them, which would be a fault before that."""
        if self.has_new_users:
            self._send_to_all()

    def release(self, user: UserId) -> None:
        if self.own.pop(user, None) is not None:
            self._statuses.pop(user, None)
            for end in self._news.values():
                end.gone[user] = None
            self._on_changed([user], at_once=True)

    def renew(self) -> None:
        """Make the certificates that are due, and send them to links that had the former ones."""
        now_ms = self._ctx.now.utc // 1000
        due = [user for user in self.own.values() if user.id != self._ctx.me and is_due(user.cert, now_ms)]
        renewed = [user.id for user in due if user.cert is not None]
        for user in due:
            user.cert = make_cert(user.id, user.sign, self._ctx.me, now_ms)
        if renewed:
            self._on_changed(renewed)

    # Sending

    def _on_changed(self, users: Iterable[UserId], *, at_once: bool = False) -> None:
        stale = dict.fromkeys(users)
        for end in self._news.values():
            end.stale.update(stale)
        due = self._sent_at + TOLD_AFTER
        if at_once or self._ctx.now.mono >= due:
            self._send_to_all()
        elif self._timer is None:
            self._timer = self._ctx.after(due - self._ctx.now.mono, self._send_to_all)

    def _send_to_all(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sent_at = self._ctx.now.mono
        self.has_new_users = False
        self._send_to(self._news.values())

    def _send_to(self, ends: Iterable[_LinkNews]) -> None:
        """Send links that drain what they have not got. Links that lack the same get the same frames."""
        lacking: dict[tuple[frozenset[UserId], frozenset[UserId]], list[int]] = {}
        for end in ends:
            if end.stale and not end.link.full:
                lacking.setdefault((frozenset(end.stale), frozenset(end.gone)), []).append(end.link.id)
                end.stale.clear()
                end.gone.clear()
        for (stale, gone), links in lacking.items():
            for frame in self._pages(sorted(stale & self.own.keys()), sorted(gone)):
                self._ctx.emit(Send(frame, links))

    def _pages(self, users: list[UserId], gone: list[UserId]) -> Iterator[Here]:
        """Yield one frame or more; all but the last have `more`."""
        settings = self._ctx.settings
        for start in range(0, len(gone), settings.page_items):
            end = start + settings.page_items
            yield Here(users=[], gone=gone[start:end], more=bool(users) or end < len(gone))
        page: list[Hosted] = []
        size = 0
        for user in users:
            hosted = self._hosted(user)
            cost = 400 + 6 * (len(hosted.name) + len(hosted.text or ""))  # bytes of JSON, with escapes
            if page and (len(page) >= settings.page_items or size + cost > settings.max_frame_bytes // 2):
                yield Here(users=page, more=True)
                page, size = [], 0
            page.append(hosted)
            size += cost
        if page or not gone:
            yield Here(users=page)

    def _hosted(self, user: UserId) -> Hosted:
        own = self.own[user]
        status, text, since = self.status(user)
        cert = None if user == self._ctx.me else own.cert
        return Hosted(id=user, name=own.name, status=status, text=text or None, since=since or None, cert=cert)
