"""Which users can be reached, and what they say of themselves right now. Nothing of it is stored; the latest word wins.

Each peer tells in `here` whom it hosts, with a certificate for every user whose key is not its own. A user is here
from the first link whose peer hosts it, and has left when the last one is gone: at once after a goodbye, after a grace
when a connection broke, for a quick reconnect is no departure. A gateway's user is here while any says that it is not
offline: who has no browser open has left. When one link takes another's place (`replaced`), what
the former told holds until the new one has told all. What the others are told of the users hosted here is decided in
presence.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from p2pchat.core.context import Context, HostedIdentity, KeySet, Timer
from p2pchat.core.effects import PresenceChanged, Send, UserJoined, UserLeft
from p2pchat.core.mesh.handshake import Certificates, is_due, is_expired, make_cert
from p2pchat.core.mesh.link import PeerLink
from p2pchat.errors import ProtocolError
from p2pchat.protocol import MAX_STATUS_CHARACTERS, Here, Hosted, PeerId, UserId

STATUSES = ("online", "idle", "offline", "unknown")  # the best first: of several words the first one counts
UNKNOWN = ("unknown", "", 0)
CERTS_CHECKED_EVERY = 3600.0  # seconds: as often as their tolerance
Users = AbstractSet[UserId]


@dataclass(slots=True, eq=False)
class AnnouncedUsers:
    """What one link told: the users hosted there, and whether that was all."""

    link: PeerLink
    users: dict[UserId, Hosted] = field(default_factory=dict)
    complete: bool = False


class PresenceTracker:
    """Who is here, by what the links tell; and what the others are told of the users hosted here."""

    def __init__(self, ctx: Context, users: Iterable[HostedIdentity]) -> None:
        self._ctx = ctx
        self._announcing = PresenceAnnouncer(ctx, users)
        self._own = self._announcing.own
        self._told: dict[int, AnnouncedUsers] = {}
        self._hosts: dict[UserId, set[int]] = {}
        self._inherited: dict[PeerId, set[UserId]] = {}  # of replaced links, until the new one has told all
        self._here: set[UserId] = set()  # joined and not left; those in their grace too
        self._leaving: dict[UserId, Timer] = {}
        self._shown: dict[UserId, Status] = {}  # as last told to programs
        self._certificates = Certificates()
        self._checking = False
        self._counted: tuple[tuple[UserId, ...], tuple[UserId, ...]] | None = None  # until anything changes

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

    def counted(self, writer: UserId) -> tuple[tuple[UserId, ...], tuple[UserId, ...]]:
        """Return whom a message to everybody waits for, and who of them is hosted here.

        Where several users are hosted it is one pair for all who write, the writer with them: of thousands there is one
        list until somebody comes or goes.
        """
        if self._counted is None:
            here = [] if len(self._own) == 1 else [user for user in self._own if self.status(user)[0] != "offline"]
            everybody = tuple(sorted(self.online().union(here)))
            self._counted = everybody, tuple(sorted(here))
        return ((), ()) if self._counted[0] == (writer,) else self._counted

    def status(self, user: UserId) -> Status:
        """Return (status, text, since): the best any peer hosting the user tells; unknown when nobody ever did."""
        return self._shown.get(user) or (self._status_of(user) if user in self._own else UNKNOWN)

    # ---- telling

    def start(self) -> None:
        """The users hosted here are online from now on."""
        self._announcing.start()

    def link_up(self, link: PeerLink) -> None:
        """A link is up: tell it everybody hosted here."""
        self._told[link.id] = AnnouncedUsers(link)
        self._announcing.link_up(link)
        if not self._checking:
            self._checking = True
            self._ctx.after(CERTS_CHECKED_EVERY, self._check_certs)

    def drained(self, link_id: int) -> None:
        """A link that was full takes frames again: tell it what it missed."""
        self._announcing.drained(link_id)

    def set(self, user: UserId, status: str, text: str = "") -> None:
        """A user hosted here is online, idle or offline from now on; its text is cut at 512 characters."""
        was = self.status(user)[0]
        if self._announcing.set(user, status, text):
            now = self._status_of(user)[0]
            if len(self._own) > 1 and (was == "offline") != (now == "offline"):  # else there is nobody here to tell
                self._ctx.emit(UserLeft(user, "left") if now == "offline" else UserJoined(user))
            self._show(user)

    def renamed(self, user: UserId, name: str) -> None:
        """A user hosted here has another name."""
        self._announcing.renamed(user, name)

    def host(self, user: HostedIdentity) -> None:
        """Speak for one more user from now on."""
        self._counted = None
        was_here = user.id in self._here
        self._here.discard(user.id)
        timer = self._leaving.pop(user.id, None)
        if timer is not None:
            timer.cancel()
        self._announcing.host(user)
        if was_here and self._status_of(user.id)[0] == "offline":  # in its grace elsewhere, and not back here yet
            self._ctx.emit(UserLeft(user.id, "left"))
        if user.id in self._shown:
            self._show(user.id)

    def introduce(self) -> None:
        """Something will be said about users hosted here: who they are is told before."""
        self._announcing.introduce()

    def release(self, user: UserId) -> None:
        """Speak for this user no more."""
        self._counted = None
        was = self.status(user)[0]
        self._announcing.release(user)
        if user in self._hosts:
            if was != "offline":
                self._here.add(user)
            self._see(user)
        elif was != "offline":
            self._ctx.emit(UserLeft(user, "left"))
            self._change(user, ("offline", "", self._ctx.now.utc))

    # ---- certificates

    def _check_certs(self) -> None:
        """Renew our users' certificates in time; whose are not renewed elsewhere are hosted there no more."""
        self._announcing.renew()
        now_ms = self._ctx.now.utc // 1000
        for told in list(self._told.values()):
            expired = {id for id, hosted in told.users.items() if hosted.cert and is_expired(hosted.cert, now_ms)}
            self._no_longer(told, expired, "left")
        self._ctx.after(CERTS_CHECKED_EVERY, self._check_certs)

    # ---- hearing

    def here(self, link: PeerLink, frame: Here) -> None:
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

    def _check(self, told: AnnouncedUsers, frame: Here) -> None:
        now_ms = self._ctx.now.utc // 1000
        for hosted in frame.users:
            fault = self._certificates.fault(hosted.id, told.link.peer, hosted.cert, now_ms)
            if fault:
                raise ProtocolError(f"here: {fault}", "host")
        more = {hosted.id for hosted in frame.users if hosted.id not in told.users}
        if len(told.users) + len(more) > self._ctx.settings.max_hosted_users:
            raise ProtocolError(f"here: more than {self._ctx.settings.max_hosted_users} users", "limit")

    def link_down(self, link: PeerLink, reason: str) -> None:
        """A link is gone: left, lost, timeout, or replaced by a newer one to the same peer."""
        self._announcing.link_down(link.id)
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

    def _no_longer(self, told: AnnouncedUsers, users: Users, reason: str) -> None:
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
        self._see(user)

    def _see(self, user: UserId) -> None:
        """Something else is told of a user whom a link hosts: see whether that is here now, and tell it."""
        if user not in self._own:
            is_here = self._is_at_home(user) or self._status_of(user)[0] != "offline"
            if is_here and user not in self._here:
                self._counted = None
                self._here.add(user)
                self._ctx.emit(UserJoined(user))
            elif not is_here and user in self._here:
                self._counted = None
                self._here.discard(user)
                self._ctx.emit(UserLeft(user, "left"))
        self._show(user)

    def _is_at_home(self, user: UserId) -> bool:
        """Whether a link to the user's own peer is up; a gateway's user is there only as long as somebody looks."""
        return any(self._told[link].link.peer == user for link in self._hosts.get(user, ()))

    def _settle(self, users: Iterable[UserId], reason: str) -> None:
        """These users are on one link less: see who has left."""
        for user in sorted(users):
            if user in self._hosts and not self._is_awaited(user):
                self._see(user)
            elif user in self._hosts or user in self._own or self._is_awaited(user):
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
        self._counted = None
        self._here.discard(user)
        self._ctx.emit(UserLeft(user, reason))
        self._change(user, ("offline", "", self._ctx.now.utc))

    def _status_of(self, user: UserId) -> Status:
        """Return the best word on a user, the newest of equal ones."""
        words = [_word(self._told[link].users[user]) for link in self._hosts.get(user, ())]
        if user in self._own:
            words.append(self._announcing.word(user))
        return min(words, key=lambda word: (STATUSES.index(word[0]), -word[2]), default=UNKNOWN)

    def _show(self, user: UserId) -> None:
        """Tell programs when a user's status is another; while a link is being replaced, the former word holds."""
        if user in self._hosts or user in self._own:
            self._change(user, self._status_of(user))

    def _change(self, user: UserId, status: Status) -> None:
        if self._shown.get(user) != status:
            self._counted = None
            self._shown[user] = status
            self._ctx.emit(PresenceChanged(user, *status))


def _word(hosted: Hosted) -> Status:
    status = hosted.status if hosted.status in STATUSES else "unknown"
    return (status, hosted.text or "", hosted.since or 0)


# ---- announcing
#
# What the others are told of the users hosted here: who they are, and what they say of themselves.
#
# A link that comes up is told everybody. Later it is told who changed, and never more often than needed: the first
# change at once, what changes within the next half second together. A link that does not drain is told when it does,
# and then only the latest word, so that whoever flaps costs nobody more than two frames a second. Who is hosted anew is
# told together too, but before anything else is said about that user, for that is a fault until then; who is hosted no
# longer is told at once.


Status = tuple[str, str, int]  # status, text, since in UTC microseconds, 0 when not told


@dataclass(slots=True, eq=False)
class _End:
    """A link, and the own users whose news it has to get yet."""

    link: PeerLink
    stale: KeySet[UserId] = field(default_factory=dict)
    gone: KeySet[UserId] = field(default_factory=dict)  # hosted no more since it was told; perhaps again by now


class PresenceAnnouncer:
    """Tells the links about the users hosted here."""

    def __init__(self, ctx: Context, users: Iterable[HostedIdentity]) -> None:
        self._ctx = ctx
        self.own: dict[UserId, HostedIdentity] = {user.id: user for user in users}
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

    def link_up(self, link: PeerLink) -> None:
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

    def host(self, user: HostedIdentity) -> None:
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
