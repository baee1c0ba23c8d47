"""The hub: one reader of everything that happens, which gives each event to the sessions it concerns.

A session is one open connection of one account: a WebSocket, a Socket.IO client, a page. Its `sink` is called on the
loop and must not wait; what it cannot pass on at once it keeps in a bounded queue of its own, and says Slow when that
is full. Then that session ends, alone, and whoever is behind it comes back and asks for what it missed.

Who is online follows from the sessions: nobody has to tell. In a crowd each is told of those it has to do with only:
everybody of everybody, that is n x n.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from p2pchat import HostedUser, Joined, Left, PeerClosed, Presence, Renamed, TCPPeer
from p2pchat.web.accounts import Account
from p2pchat.web.errors import Forbidden, WebError
from p2pchat.web.settings import WebSettings

__all__ = ["CLOSE_CODES", "Ending", "Hub", "Kind", "HubSession", "Sink", "QueueFull", "Envelope"]


T = TypeVar("T")
Kind = Literal["chat", "socketio", "lines"]
Ending = Literal["slow", "stopping", "revoked", "failed"]  # why the hub ended a session
CLOSE_CODES: dict[Ending, int] = {
    "slow": 1013,
    "stopping": 1012,
    "revoked": 1008,
    "failed": 1011,
}  # RFC 6455 and its registry
CROWD = 100  # sessions, up to which everybody is told of everybody's coming, going and presence
_log = logging.getLogger("p2pchat.web")
Sink = Callable[["Envelope"], None]
Wants = frozenset[type] | None  # classes of events a session is told of; None: all


class QueueFull(Exception):
    """A sink has no room for more: its session is ended."""


class Envelope:
    """One event on its way to the sessions it concerns. `users` are keys (hex) of hosted users, None for all."""

    __slots__ = ("_encoded", "event", "users")

    def __init__(self, event: Any, users: tuple[str, ...] | None) -> None:
        self.event = event
        self.users = users
        self._encoded: dict[Hashable, Any] = {}

    def for_user(self, user: HostedUser) -> Any:
        """Return the event as this user sees it: a message of its own as Sent."""
        return user.post(self.event)

    def encoded(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` makes, made once for each key: the same bytes for all who read the same."""
        try:
            made: T = self._encoded[key]
        except KeyError:
            made = self._encoded[key] = make()
        return made


class HubSession:
    """One open connection of an account."""

    __slots__ = ("account", "active", "ended", "hub", "kind", "sink", "wants")

    def __init__(
        self, hub: Hub, account: Account, sink: Sink, kind: Kind, ended: Callable[[Ending], None], wants: Wants
    ) -> None:
        self.hub = hub
        self.account = account
        self.sink = sink
        self.kind = kind
        self.ended = ended
        self.wants = wants
        self.active = True

    def set_active(self, active: bool) -> None:
        """Say whether somebody looks: what the account's presence follows."""
        if self.active != active:
            self.active = active
            self.hub.look_at(self.account)


class Hub:
    """All sessions of a gateway."""

    def __init__(self, peer: TCPPeer, settings: WebSettings, audit_log: AuditLog | None = None) -> None:
        self._peer = peer
        self._settings = settings
        self._journal = audit_log or AuditLog()
        self._sessions: dict[str, tuple[HubSession, ...]] = {}  # by user key; never empty
        self._statuses: dict[str, str] = {}  # what was told last
        self._reader: asyncio.Task[None] | None = None
        self._stopping = False
        self.count = 0  # open sessions
        self._all: dict[HubSession, None] = {}  # those that want everything, in the order they came
        self._wanting: dict[type, dict[HubSession, None]] = {}  # the others, by what they want
        self._told = 0
        self._ended: dict[str, int] = {}
        self.watching: dict[type, Callable[[Envelope], None]] = {}  # told of these events whoever hears of them
        self.renamed: Callable[[str], None] = lambda key: None  # told the key of whoever is called otherwise now

    @property
    def stopping(self) -> bool:
        """Whether sessions are ended and no more are opened: this gateway stops, or its peer did."""
        return self._stopping

    @property
    def is_crowd(self) -> bool:
        """Whether there are so many sessions that not everybody hears of everybody's presence."""
        return self.count > CROWD

    def begin(self) -> None:
        """Start reading; needs a running loop. Nothing happens when it has begun. Raises PeerClosed."""
        if self._reader is None and not self._stopping:
            self._reader = asyncio.create_task(self._read(self._peer.everybody()), name="p2pchat web hub")
            self._reader.add_done_callback(self._reader_ended)

    def open(
        self,
        account: Account,
        sink: Sink,
        kind: Kind,
        ended: Callable[[Ending], None] = lambda why: None,
        *,
        wants: Iterable[type] | None = None,
    ) -> HubSession:
        """Add a session; from now on its sink is called with whatever concerns its account.

        Args:
            ended: Called once when the hub ends the session by itself; it is closed already.
            wants: Only these classes of events, each as it is and no base of it; None: all. Of a thousand sessions
                that come at once each is told of the presence of all it has to do with, if it wants that.
        Raises:
            WebError: There are too many, of this account or in all; it was revoked; or the gateway stops.
        """
        self.begin()
        if self._stopping:
            raise WebError(503, "stopping", "this gateway is stopping: try again", {"Retry-After": "2"})
        if account.state == "revoked":  # after it had signed in, and before it came here
            raise Forbidden("this account was revoked", "revoked")
        sessions = self._sessions.get(account.key, ())
        if self.count >= self._settings.max_sessions or len(sessions) >= self._settings.max_sessions_of_account:
            raise WebError(503, "full", "there are too many sessions already", {"Retry-After": "30"})
        session = HubSession(self, account, sink, kind, ended, None if wants is None else frozenset(wants))
        self._sessions[account.key] = (*sessions, session)
        for hearing in self._hearing(session):
            hearing[session] = None
        self.count += 1
        account.sessions += 1
        self.look_at(account)
        self._journal.tell("session", state="open", kind=kind, user=account.name, user_id=account.id)
        return session

    def close(self, session: HubSession, why: str = "left") -> bool:
        """Take a session away, whose other end has left; returns whether it was there."""
        account, kind = session.account, session.kind
        sessions = self._sessions.get(account.key, ())
        there = session in sessions
        if there:
            left = tuple(one for one in sessions if one is not session)
            if left:
                self._sessions[account.key] = left
            else:
                del self._sessions[account.key]
            for hearing in self._hearing(session):
                hearing.pop(session, None)
            self.count -= 1
            account.sessions -= 1
            self.look_at(account)
            self._journal.tell("session", state="closed", kind=kind, user=account.name, user_id=account.id, why=why)
        return there

    def _hearing(self, session: HubSession) -> list[dict[HubSession, None]]:
        """Return where a session stands for what concerns everybody."""
        if session.wants is None:
            return [self._all]
        return [self._wanting.setdefault(kind, {}) for kind in session.wants]

    def end(self, session: HubSession, why: Ending) -> None:
        """Close a session by ourselves, and tell it why; nothing happens when it is gone."""
        if self.close(session, why):
            self._ended[why] = self._ended.get(why, 0) + 1
            session.ended(why)

    def end_all_of(self, account: Account, why: Ending) -> None:
        """End every session of an account."""
        for session in self._sessions.get(account.key, ()):
            self.end(session, why)

    def sessions_of(self, account: Account) -> list[HubSession]:
        """Return the open sessions of an account."""
        return list(self._sessions.get(account.key, ()))

    def say(self, account: Account, status: str, text: str) -> None:
        """Have an account be as somebody said on one of its sessions, until what its sessions tell is another status.

        Raises:
            ValueError: Others could not be told the text.
        """
        account.user.set_presence(status, text)
        self._statuses[account.key] = status

    def look_at(self, account: Account) -> None:
        """Tell others how an account is, when that has changed."""
        sessions = self._sessions.get(account.key, ())
        active = any(session.active for session in sessions)
        status = "online" if active else "idle" if sessions else "offline"
        if self._statuses.get(account.key, "offline") == status:
            return
        self._statuses[account.key] = status
        try:
            account.user.set_presence(status)
        except PeerClosed:
            pass  # it has said goodbye for all of its users

    async def _read(self, everybody: AsyncIterator[tuple[Any, tuple[str, ...] | None]]) -> None:
        async for event, users in everybody:
            if isinstance(event, Renamed):
                self.renamed(event.user.key)
            self.tell(Envelope(event, self._whom(event, users)))

    def _whom(self, event: Any, users: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Return whom an event is told: somebody's presence in a crowd only those who have to do with that user."""
        if users is not None or not self.is_crowd or not isinstance(event, Presence | Joined | Left):
            return users
        try:
            friends = self._peer.acquainted(event.user)
        except PeerClosed:
            return ()
        return (event.user.key, *(user.key for user in friends))

    def _reader_ended(self, reader: asyncio.Task[None]) -> None:
        """Nothing is told any more: sessions must not wait for it."""
        why: Ending = "stopping"
        if not reader.cancelled() and (error := reader.exception()) is not None:
            _log.error("the hub ended with an error that is not its own", exc_info=error)
            why = "failed"
        self._end_all(why)

    def tell(self, told: Envelope) -> None:
        """Give an event to every session it concerns."""
        watch, sessions = self.watching.get(type(told.event)), self._concerned(told)
        if watch is not None:
            watch(told)
        failed: list[tuple[HubSession, Ending]] = []
        for session in sessions:
            try:
                session.sink(told)
            except QueueFull:
                failed.append((session, "slow"))
            except Exception:  # a defect of one way of talking is its session's end, and nobody else's
                _log.exception("a %s session ended with an error that is not its own", session.kind)
                failed.append((session, "failed"))
        self._told += len(sessions)
        for session, why in failed:
            self.end(session, why)

    def _concerned(self, told: Envelope) -> list[HubSession]:
        kind, by_user = type(told.event), self._sessions
        if told.users is None:
            return [*self._all, *self._wanting.get(kind, ())]
        return [
            session
            for key in told.users
            for session in by_user.get(key, ())
            if session.wants is None or kind in session.wants
        ]

    # Numbers

    def open_by_kind(self) -> dict[str, int]:
        """Return how many sessions are open."""
        return Counter(session.kind for sessions in self._sessions.values() for session in sessions)

    def told(self) -> int:
        """Return how many times a session was told something."""
        return self._told

    def ended_by_reason(self) -> dict[str, int]:
        """Return how many sessions the hub has ended, by why."""
        return dict(self._ended)

    def _end_all(self, why: Ending) -> None:
        self._stopping = True
        for sessions in list(self._sessions.values()):
            for session in sessions:
                self.end(session, why)

    async def aclose(self) -> None:
        """End all sessions and read no more."""
        self._end_all("stopping")
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)


# ---- flag
#
# Flag: asyncio.Event for what there are thousands of. An Event has a queue of its own, 760 bytes, also while nobody
# waits for it; a socket has four.


class LightEvent:
    """Up or down, and somebody may wait until it is up."""

    __slots__ = ("_up", "_waiting")

    def __init__(self, *, up: bool = False) -> None:
        self._up = up
        self._waiting: list[asyncio.Future[None]] | None = None

    def is_set(self) -> bool:
        return self._up

    def set(self) -> None:
        """Put it up: who waits goes on."""
        self._up = True
        waiting, self._waiting = self._waiting, None
        for future in waiting or ():
            if not future.done():
                future.set_result(None)

    def clear(self) -> None:
        self._up = False

    async def wait(self) -> None:
        """Return when it is up; also when it is down again by then."""
        if self._up:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = [*(one for one in self._waiting or () if not one.done()), future]
        await future


# ---- journal
#
# What a gateway tells whoever operates it: one object a line, about calls, sessions and accounts.
#
# Never a token, a text, or anything else that somebody wrote: a request is told by the pattern of its path, without its
# query. Names are told; without them nobody could be helped.


Write = Callable[[dict[str, Any]], None]


class AuditLog:
    """Where lines go; to nobody until `write` is set. It is called on the loop and must not wait."""

    def __init__(self) -> None:
        self.write: Write | None = None

    def tell(self, event: str, **fields: Any) -> None:
        """Write one line."""
        if self.write is not None:
            at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            self.write({"event": event, "at": at, **fields})
