"""Which users can be reached, and what they say of themselves right now. Nothing of it is stored; the latest word wins.

Each peer tells in `here` whom it hosts, with a certificate for every user whose key is not its own. A user is here
from the first link whose peer hosts it, and has left when the last one is gone: at once after a goodbye, after a grace
when a connection broke, for a quick reconnect is no departure. When one link takes another's place (`replaced`), what
the former told holds until the new one has told all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from p2pchat.core.context import Context, Timer
from p2pchat.core.effects import PresenceChanged, Send, UserJoined, UserLeft
from p2pchat.core.hosted import HostedUser
from p2pchat.core.mesh.hosting import Certificates, is_due, is_expired, make_cert
from p2pchat.core.mesh.link import Link
from p2pchat.errors import ProtocolError
from p2pchat.protocol import Here, Hosted, PeerId, UserId

STATUSES = ("online", "idle", "offline", "unknown")  # the best first: of several words the first one counts
UNKNOWN = ("unknown", "", 0)
MAX_TEXT_CHARACTERS = 512  # what a `here` may carry
CERTS_CHECKED_EVERY = 3600.0  # seconds: as often as their tolerance
Users = AbstractSet[UserId]
Status = tuple[str, str, int]  # status, text, since in UTC microseconds, 0 when not told


@dataclass(slots=True, eq=False)
class Told:
    """What one link told: the users hosted there, and whether that was all."""

    link: Link
    users: dict[UserId, Hosted] = field(default_factory=dict)
    complete: bool = False
    stale: set[UserId] = field(default_factory=set)  # own users whose news this link, not draining, has to get yet


class Presence:
    """Who is here, by what the links tell; and what the others are told of the users hosted here."""

    def __init__(self, ctx: Context, users: Iterable[HostedUser]) -> None:
        self._ctx = ctx
        self._own: dict[UserId, HostedUser] = {user.id: user for user in users}
        self._own_status: dict[UserId, Status] = {}
        self._told: dict[int, Told] = {}
        self._hosts: dict[UserId, set[int]] = {}
        self._inherited: dict[PeerId, set[UserId]] = {}  # of replaced links, until the new one has told all
        self._here: set[UserId] = set()  # joined and not left; those in their grace too
        self._leaving: dict[UserId, Timer] = {}
        self._shown: dict[UserId, Status] = {}  # as last told to programs
        self._certificates = Certificates()
        self._checking = False

    # ---- what others may read

    def hosts(self, user: UserId) -> AbstractSet[int]:
        """Return the links whose peers host this user; a live view."""
        return self._hosts.get(user, frozenset())

    def users_of(self, link_id: int) -> Users:
        """Return whom the peer of a link hosts, as far as it told: a live view, empty for a link that is not up."""
        told = self._told.get(link_id)
        return told.users.keys() if told else frozenset()

    def complete(self, link_id: int) -> bool:
        """Whether that link has told all users once."""
        return link_id in self._told and self._told[link_id].complete

    def online(self) -> set[UserId]:
        """Return the users elsewhere that are here, in their grace too, and do not say that they are offline."""
        return {user for user in self._here if self._shown.get(user, UNKNOWN)[0] != "offline"}

    def status(self, user: UserId) -> Status:
        """Return (status, text, since): the best any peer hosting the user tells; unknown when nobody ever did."""
        return self._shown.get(user) or (self._status_of(user) if user in self._own else UNKNOWN)

    # ---- telling

    def link_up(self, link: Link) -> None:
        """A link is up: tell it everybody hosted here."""
        self._told[link.id] = Told(link)
        self._renew()
        for frame in self._pages(list(self._own)):
            self._ctx.emit(Send(frame, [link.id]))
        if not self._checking:
            self._checking = True
            self._ctx.after(CERTS_CHECKED_EVERY, self._check_certs)

    def drained(self, link_id: int) -> None:
        """A link that was full takes frames again: tell it what it missed."""
        told = self._told.get(link_id)
        if told is not None and told.stale:
            stale, told.stale = sorted(told.stale), set()
            gone = [user for user in stale if user not in self._own]
            self._send([user for user in stale if user in self._own], gone, [link_id])

    def set(self, user: UserId, status: str, text: str = "") -> None:
        """A user hosted here is online, idle or offline from now on; its text is cut at 512 characters."""
        if user not in self._own:
            return
        text = text[:MAX_TEXT_CHARACTERS]
        if self._own_word(user)[:2] == (status, text):
            return
        self._own_status[user] = (status, text, self._ctx.now.utc)
        self._tell([user], [])
        self._show(user)

    def renamed(self, user: UserId, name: str) -> None:
        """A user hosted here has another name."""
        self._own[user].name = name
        self._tell([user], [])

    def host(self, user: HostedUser) -> None:
        """Speak for one more user from now on."""
        self._own[user.id] = user
        self._renew()
        self._tell([user.id], [])

    def release(self, user: UserId) -> None:
        """Speak for this user no more."""
        if self._own.pop(user, None) is not None:
            self._own_status.pop(user, None)
            self._tell([], [user])

    def _tell(self, users: list[UserId], gone: list[UserId]) -> None:
        """Tell all links that drain; the others when they do."""
        for told in self._told.values():
            if told.link.full:
                told.stale.update(users, gone)
        self._send(users, gone, [id for id, told in self._told.items() if not told.link.full])

    def _send(self, users: list[UserId], gone: list[UserId], links: list[int]) -> None:
        if not links:
            return
        for frame in self._pages(users, gone) if users else self._gone_pages(gone):
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
        own = self._own[user]
        status, text, since = self._own_word(user)
        cert = None if user == self._ctx.me else own.cert
        return Hosted(id=user, name=own.name, status=status, text=text or None, since=since or None, cert=cert)

    def _own_word(self, user: UserId) -> Status:
        return self._own_status.get(user, ("online", "", 0))

    # ---- certificates

    def _renew(self) -> list[UserId]:
        """Make the certificates that are due; return whose those are."""
        now_ms = self._ctx.now.utc // 1000
        due = [user for user in self._own.values() if user.id != self._ctx.me and is_due(user.cert, now_ms)]
        for user in due:
            user.cert = make_cert(user.id, user.sign, self._ctx.me, now_ms)
        return [user.id for user in due]

    def _check_certs(self) -> None:
        """Renew our users' certificates in time; whose are not renewed elsewhere are hosted there no more."""
        renewed = self._renew()
        if renewed:
            self._tell(renewed, [])
        now_ms = self._ctx.now.utc // 1000
        for told in list(self._told.values()):
            expired = {id for id, hosted in told.users.items() if hosted.cert and is_expired(hosted.cert, now_ms)}
            self._no_longer(told, expired, "left")
        self._ctx.after(CERTS_CHECKED_EVERY, self._check_certs)

    # ---- hearing

    def here(self, link: Link, frame: Here) -> None:
        """Take what a peer tells of its users.

        Raises:
            ProtocolError: host for a user it does not host, limit for more users than a peer may host. Nothing of the
                frame counts then.
        """
        told = self._told.get(link.id)
        if told is None:
            return
        self._check(told, frame)
        for hosted in frame.users:
            told.users[hosted.id] = hosted
            self._hosts.setdefault(hosted.id, set()).add(link.id)
            self._arrive(hosted.id)
        self._no_longer(told, told.users.keys() & set(frame.gone), "left")
        if not frame.more and not told.complete:
            told.complete = True
            self._settle(self._inherited.pop(link.peer, set()), "left")

    def _check(self, told: Told, frame: Here) -> None:
        now_ms = self._ctx.now.utc // 1000
        for hosted in frame.users:
            fault = self._certificates.fault(hosted.id, told.link.peer, hosted.cert, now_ms)
            if fault:
                raise ProtocolError(f"here: {fault}", "host")
        if len(told.users.keys() | {hosted.id for hosted in frame.users}) > self._ctx.settings.max_hosted_users:
            raise ProtocolError(f"here: more than {self._ctx.settings.max_hosted_users} users", "limit")

    def link_down(self, link: Link, reason: str) -> None:
        """A link is gone: left, lost, timeout, or replaced by a newer one to the same peer."""
        told = self._told.pop(link.id, None)
        if told is None:
            return
        users = set(told.users)
        for user in users:
            self._unhost(user, link.id)
        if reason == "replaced":
            self._inherited.setdefault(link.peer, set()).update(users)
        elif not any(other.link.peer == link.peer for other in self._told.values()):
            users |= self._inherited.pop(link.peer, set())
            self._settle(users, reason)
        else:
            self._settle(users, reason)

    def _no_longer(self, told: Told, users: Users, reason: str) -> None:
        for user in list(users):
            del told.users[user]
            self._unhost(user, told.link.id)
        self._settle(users, reason)

    def _unhost(self, user: UserId, link_id: int) -> None:
        hosts = self._hosts[user]
        hosts.discard(link_id)
        if not hosts:
            del self._hosts[user]

    # ---- joined and left

    def _arrive(self, user: UserId) -> None:
        timer = self._leaving.pop(user, None)
        if timer is not None:
            timer.cancel()
        if user not in self._here and user not in self._own:
            self._here.add(user)
            self._ctx.emit(UserJoined(user))
        self._show(user)

    def _settle(self, users: Iterable[UserId], reason: str) -> None:
        """These users are on one link less: see who has left."""
        for user in sorted(users):
            if user in self._hosts or user in self._own or self._is_awaited(user):
                self._show(user)
            elif user not in self._here or user in self._leaving:
                continue
            elif reason == "left":
                self._leave(user, reason)
            else:
                self._leave_later(user, reason)

    def _is_awaited(self, user: UserId) -> bool:
        return any(user in users for users in self._inherited.values())

    def _leave_later(self, user: UserId, reason: str) -> None:
        self._leaving[user] = self._ctx.after(self._ctx.settings.left_grace, lambda: self._leave(user, reason))

    def _leave(self, user: UserId, reason: str) -> None:
        self._leaving.pop(user, None)
        self._here.discard(user)
        self._ctx.emit(UserLeft(user, reason))
        self._change(user, ("offline", "", self._ctx.now.utc))

    def _status_of(self, user: UserId) -> Status:
        """Return the best word on a user, the newest of equal ones."""
        words = [_word(self._told[link].users[user]) for link in self._hosts.get(user, ())]
        if user in self._own:
            words.append(self._own_word(user))
        return min(words, key=lambda word: (STATUSES.index(word[0]), -word[2]), default=UNKNOWN)

    def _show(self, user: UserId) -> None:
        """Tell programs when a user's status is another; while a link is being replaced, the former word holds."""
        if user in self._hosts or user in self._own:
            self._change(user, self._status_of(user))

    def _change(self, user: UserId, status: Status) -> None:
        if self._shown.get(user) != status:
            self._shown[user] = status
            self._ctx.emit(PresenceChanged(user, *status))


def _word(hosted: Hosted) -> Status:
    status = hosted.status if hosted.status in STATUSES else "unknown"
    return (status, hosted.text or "", hosted.since or 0)
