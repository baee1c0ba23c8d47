"""What the others are told of the users hosted here: who they are, and what they say of themselves.

A link that comes up is told everybody. Later it is told who changed, and never more often than needed: the first
change at once, what changes within the next half second together. A link that does not drain is told when it does, and
then only the latest word, so that whoever flaps costs nobody more than two frames a second. Who is hosted anew is told
together too, but before anything else is said about that user, for that is a fault until then; who is hosted no longer
is told at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from p2pchat.core.context import Context, Timer
from p2pchat.core.effects import Send
from p2pchat.core.hosted import HostedUser
from p2pchat.core.keyset import KeySet
from p2pchat.core.mesh.hosting import is_due, make_cert
from p2pchat.core.mesh.link import Link
from p2pchat.protocol import MAX_STATUS_CHARACTERS, Here, Hosted, UserId

Status = tuple[str, str, int]  # status, text, since in UTC microseconds, 0 when not told


@dataclass(slots=True, eq=False)
class _End:
    """A link, and the own users whose news it has to get yet."""

    link: Link
    stale: KeySet[UserId] = field(default_factory=dict)
    gone: KeySet[UserId] = field(default_factory=dict)  # hosted no more since it was told; perhaps again by now


class Announcing:
    """Tells the links about the users hosted here."""

    def __init__(self, ctx: Context, users: Iterable[HostedUser]) -> None:
        self._ctx = ctx
        self.own: dict[UserId, HostedUser] = {user.id: user for user in users}
        self._words: dict[UserId, Status] = {}
        self._ends: dict[int, _End] = {}
        self._told_at = float("-inf")  # monotonic
        self._later: Timer | None = None
        self._fresh = False  # somebody is hosted anew and not told of

    def start(self) -> None:
        """Everybody here is as they begin, since now."""
        for user in self.own.values():
            self._words[user.id] = (user.status, "", self._ctx.now.utc)

    def word(self, user: UserId) -> Status:
        """Return what a user hosted here says of itself."""
        return self._words.get(user, ("online", "", 0))

    # ---- links

    def link_up(self, link: Link) -> None:
        """A link is up: tell it everybody hosted here."""
        self.renew()  # first: whoever is told only that would take it for all
        self._ends[link.id] = _End(link)
        for frame in self._pages(list(self.own)):
            self._ctx.emit(Send(frame, [link.id]))

    def link_down(self, link_id: int) -> None:
        """It is told nothing any more."""
        self._ends.pop(link_id, None)

    def drained(self, link_id: int) -> None:
        """A link that was full takes frames again: tell it what it missed."""
        end = self._ends.get(link_id)
        if end is not None:
            self._tell([end])

    # ---- changes

    def set(self, user: UserId, status: str, text: str) -> bool:
        """A user says something else of itself, with a text cut at 512 characters; False when that is nothing new."""
        text = text[:MAX_STATUS_CHARACTERS]
        if user not in self.own or self.word(user)[:2] == (status, text):
            return False
        self._words[user] = (status, text, self._ctx.now.utc)
        self._changed([user])
        return True

    def renamed(self, user: UserId, name: str) -> None:
        """A user has another name, if it is hosted here."""
        self.own[user].name = name
        self._changed([user])

    def host(self, user: HostedUser) -> None:
        """Speak for one more user from now on."""
        self.own[user.id] = user
        self._words[user.id] = (user.status, "", self._ctx.now.utc)
        if user.id != self._ctx.me:
            user.cert = make_cert(user.id, user.sign, self._ctx.me, self._ctx.now.utc // 1000)
        self._fresh = True
        self._changed([user.id])

    def introduce(self) -> None:
        """Something will be said about users hosted here: who is hosted anew is told before, or that were a fault."""
        if self._fresh:
            self._tell_all()

    def release(self, user: UserId) -> None:
        """Speak for this user no more."""
        if self.own.pop(user, None) is not None:
            self._words.pop(user, None)
            for end in self._ends.values():
                end.gone[user] = None
            self._changed([user], at_once=True)

    def renew(self) -> None:
        """Make the certificates that are due, and tell those who had the former ones."""
        now_ms = self._ctx.now.utc // 1000
        due = [user for user in self.own.values() if user.id != self._ctx.me and is_due(user.cert, now_ms)]
        renewed = [user.id for user in due if user.cert is not None]
        for user in due:
            user.cert = make_cert(user.id, user.sign, self._ctx.me, now_ms)
        if renewed:
            self._changed(renewed)

    # ---- telling

    def _changed(self, users: Iterable[UserId], *, at_once: bool = False) -> None:
        stale = dict.fromkeys(users)
        for end in self._ends.values():
            end.stale.update(stale)
        due = self._told_at + self._ctx.settings.presence_told_after
        if at_once or self._ctx.now.mono >= due:
            self._tell_all()
        elif self._later is None:
            self._later = self._ctx.after(due - self._ctx.now.mono, self._tell_all)

    def _tell_all(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._told_at = self._ctx.now.mono
        self._fresh = False
        self._tell(self._ends.values())

    def _tell(self, ends: Iterable[_End]) -> None:
        """Tell those that drain what they have not heard; who lacks the same gets the same frames."""
        lacking: dict[tuple[frozenset[UserId], frozenset[UserId]], list[int]] = {}
        for end in ends:
            if end.stale and not end.link.full:
                lacking.setdefault((frozenset(end.stale), frozenset(end.gone)), []).append(end.link.id)
                end.stale.clear()
                end.gone.clear()
        for (stale, gone), links in lacking.items():
            users = sorted(stale & self.own.keys())
            for frame in self._pages(users, sorted(gone)) if users else self._gone_pages(sorted(gone)):
                self._ctx.emit(Send(frame, links))

    def _pages(self, users: list[UserId], gone: list[UserId] | None = None) -> Iterator[Here]:
        """Yield at least one frame; all but the last have `more`."""
        settings = self._ctx.settings
        yield from self._gone_pages(gone or [], more=True)
        page: list[Hosted] = []
        size = 0
        for user in users:
            hosted = self._hosted(user)
            cost = 400 + 6 * (len(hosted.name) + len(hosted.text or ""))  # bytes of JSON, escapes included
            if page and (len(page) >= settings.page_items or size + cost > settings.max_frame_bytes // 2):
                yield Here(users=page, more=True)
                page, size = [], 0
            page.append(hosted)
            size += cost
        yield Here(users=page)

    def _gone_pages(self, gone: list[UserId], *, more: bool = False) -> Iterator[Here]:
        most = self._ctx.settings.page_items
        for start in range(0, len(gone), most):
            yield Here(users=[], gone=gone[start : start + most], more=more or start + most < len(gone))

    def _hosted(self, user: UserId) -> Hosted:
        own = self.own[user]
        status, text, since = self.word(user)
        cert = None if user == self._ctx.me else own.cert
        return Hosted(id=user, name=own.name, status=status, text=text or None, since=since or None, cert=cert)
