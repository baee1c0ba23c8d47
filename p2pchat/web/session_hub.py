"""The hub: one reader of all events of the peer, which delivers each to the sessions it concerns.

A session is one open connection of one account: a WebSocket, a Socket.IO client, a page. Its `deliver` callback runs on
the event loop and must not wait. It queues what it cannot send at once, and raises QueueFull when its queue is full:
then that session alone ends, and its client reconnects and asks for what it missed.

An account is online while it has sessions. In a crowd, presence goes only to users with a common conversation,
because everyone's presence for everyone is n x n deliveries. Receipts that an account hears in no session are put aside
for its next one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TypeVar

from p2pchat import (
    Delivered,
    DurableEvent,
    Events,
    FileReceipt,
    HostedUser,
    Joined,
    Left,
    PeerClosed,
    Presence,
    Read,
    StorageError,
    TCPPeer,
    User,
)
from p2pchat.bounded import Counts
from p2pchat.program_log import ProgramLog
from p2pchat.threads import spawn, stop_tasks
from p2pchat.web.accounts import Account
from p2pchat.web.error_responses import Forbidden, WebError
from p2pchat.web.web_settings import WebSettings

T = TypeVar("T")
Kind = Literal["chat", "socketio", "lines"]
Ending = Literal[
    "slow", "full", "stopping", "revoked", "deleted", "expelled", "signed_out", "failed"
]  # reasons for which the hub ends a session
CLOSE_CODES: dict[Ending, int] = {  # RFC 6455, IANA
    "slow": 1013, "full": 1013, "stopping": 1012, "revoked": 1008, "deleted": 1008, "expelled": 1008,
    "signed_out": 1008, "failed": 1011,
}  # fmt: skip
CROWD = 100  # sessions up to which everyone hears everyone's presence
_log = ProgramLog("p2pchat.web")


class QueueFull(Exception):
    """A session has no room for more and is to be ended."""


class Envelope:
    """One event and its receivers: keys (hex) of hosted users, or None for all."""

    def __init__(self, event: Any, users: tuple[str, ...] | None) -> None:
        self.event: Any = event
        self.users: tuple[str, ...] | None = users
        self._encoded: dict[Hashable, Any] = {}

    def for_user(self, user: HostedUser) -> Any:
        """Return the event as this user sees it: its own message as Sent."""
        return user.post(self.event)

    def encoded(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the result of `make`, which is called once for each key and shared by all receivers."""
        try:
            made: T = self._encoded[key]
        except KeyError:
            made = self._encoded[key] = make()
        return made


Deliver = Callable[[Envelope], None]


@dataclass(eq=False)
class HubSession:
    """One open connection of an account, as the hub knows it.

    Attributes:
        place: The hub delivers all messages after this place to it.
    """

    hub: SessionHub
    account: Account
    deliver: Deliver
    kind: Kind
    on_end: Callable[[Ending], None]
    wants: tuple[type, ...] | None
    network: str
    place: int
    active: bool = True

    def set_active(self, active: bool) -> None:
        """Set whether the user is looking at this connection; the account's presence follows."""
        if self.active != active:
            self.active = active
            self.hub.refresh_presence(self.account)


class SessionHub:
    """All sessions of a gateway.

    Args:
        record: AuditLog.record.
    Attributes:
        open_by_kind: The number of open sessions of each kind.
        stopping: The gateway or its peer is stopping: sessions end and no new ones open.
        deliveries: Events delivered, counted once for each session.
        ended: Sessions that the hub has ended, by reason.
        observers: Callbacks by event class, called for each such event whether or not a session receives it.
        on_close: Called with the account of a session that has ended.
        on_delivered: Called with the key of the user who caused an event, and how many sessions got it.
        check: Raises WebError for an account that is not served, because it was expelled from the network.
        network_of: Return what counts as the network of an account that opens a session.
    """

    def __init__(self, peer: TCPPeer, settings: WebSettings, record: Callable[..., None]) -> None:
        self._peer = peer
        self._settings = settings
        self._record = record
        self._sessions: dict[str, tuple[HubSession, ...]] = {}  # by user key; never empty
        self._statuses: dict[str, tuple[str, str]] = {}  # the presence announced last, with its text, by user key
        self._away: dict[str, str] = {}  # what users who said that they are away gave as text, by user key
        self._events: Events[tuple[Any, tuple[str, ...] | None]]
        self._reader: asyncio.Task[None] | None = None
        self.stopping: bool = False
        self.open_by_kind: Counter[Kind] = Counter()
        self._in_network: Counter[str] = Counts()  # sessions, by network
        self._all: dict[HubSession, None] = {}  # sessions that want all events, oldest first
        self._wanting: dict[type, dict[HubSession, None]] = {}  # the others, by event class
        self.deliveries: int = 0
        self.ended: Counter[str] = Counter()
        self.observers: dict[type, Callable[[Envelope], object]] = {}
        self.on_close: Callable[[Account], None] = lambda account: None
        self.on_delivered: Callable[[str, int], None] = lambda key, count: None
        self.check: Callable[[Account], None] = lambda account: None
        self.network_of: Callable[[Account], str] = lambda account: account.key

    @property
    def count(self) -> int:
        """The number of open sessions."""
        return self.open_by_kind.total()

    @property
    def is_crowd(self) -> bool:
        """True if there are too many sessions for each to hear the presence of all others."""
        return self.count > CROWD

    def start(self) -> None:
        """Start reading events, if not started; needs a running loop. Raises PeerClosed."""
        if self._reader is None and not self.stopping:
            self._events = self._peer.hosting.everybody()
            self._reader = asyncio.create_task(self._read(), name="p2pchat web hub")
            self._reader.add_done_callback(self._on_reader_done)

    async def aclose(self) -> None:
        """End all sessions and stop reading."""
        self._end_all("stopping")
        if self._reader is not None:
            await stop_tasks([self._reader])

    # ---- sessions

    def open(
        self,
        account: Account,
        deliver: Deliver,
        kind: Kind,
        on_end: Callable[[Ending], None] = lambda reason: None,
        *,
        wants: tuple[type, ...] | None = None,
        active: bool = True,
    ) -> HubSession:
        """Add a session and start delivering events that concern its account.

        Args:
            on_end: Called once if the hub ends the session, which is closed by then.
            wants: Event classes to deliver, none a subclass of another; None for all. When a thousand sessions come at
                once, those that want presence hear of all users they have to do with.
            active: The user is looking at the connection.
        Raises:
            WebError: Too many sessions, of this account or in all; the account was revoked, deleted or expelled; the
                gateway is stopping.
        """
        self.start()
        if self.stopping:
            raise WebError(503, "stopping", "this gateway is stopping: try again", {"Retry-After": "2"})
        match account.state:  # between signing in and this call
            case "revoked":
                raise Forbidden("this account was revoked: ask the operator for another", "revoked")
            case "deleted":
                raise Forbidden("this account was deleted", "deleted")
        self.check(account)
        if account.is_leaving:  # it has moved to other gateways of the cluster; the next call brings it back
            raise WebError(503, "cluster", "this account was just moved: try again", {"Retry-After": "1"})
        sessions = self._sessions.get(account.key, ())
        network, is_full = self.network_of(account), len(sessions) >= self._settings.max_sessions_of_account
        if is_full or (self.count >= self._settings.max_sessions and not self._make_room(account, network)):
            raise WebError(503, "full", "there are too many sessions: close one, or try again", {"Retry-After": "30"})
        session = HubSession(self, account, deliver, kind, on_end, wants, network, self._events.place, active)
        self._sessions[account.key] = (*sessions, session)
        self._in_network[network] += 1
        for subscribers in self._subscriptions(session):
            subscribers[session] = None
        self.open_by_kind[kind] += 1
        account.sessions += 1
        self.refresh_presence(account)
        self._record("session", account, state="open", kind=kind)
        return session

    def _make_room(self, account: Account, mine: str) -> bool:
        """End a session for one of this account in its network, and return whether one gave way.

        It is the newest of the account with most of the network with most, if these keep more than the newcomer gets.
        So one party with many accounts leaves room for others.
        """
        taken = self._in_network
        fullest = max(taken, key=taken.__getitem__)
        if mine != fullest and taken[mine] + 1 >= taken[fullest]:
            return False
        held = Counter(key for key, all in self._sessions.items() for one in all if one.network == fullest)
        most = max(held, key=held.__getitem__)
        if mine == fullest and held[account.key] + 1 >= held[most]:
            return False
        self.end(next(one for one in reversed(self._sessions[most]) if one.network == fullest), "full")
        return True

    def close(self, session: HubSession, why: str = "left") -> bool:
        """Remove a session whose client has left; return whether it was open."""
        account, kind = session.account, session.kind
        sessions = self._sessions.get(account.key, ())
        if session not in sessions:
            return False
        left = tuple(one for one in sessions if one is not session)
        if left:
            self._sessions[account.key] = left
        else:
            del self._sessions[account.key]
        for subscribers in self._subscriptions(session):
            subscribers.pop(session, None)
        self.open_by_kind[kind] -= 1
        self._in_network[session.network] -= 1
        account.sessions -= 1
        self.refresh_presence(account)
        self.on_close(account)
        self._record("session", account, state="closed", kind=kind, why=why)
        return True

    def _subscriptions(self, session: HubSession) -> list[dict[HubSession, None]]:
        """Return the tables a session is listed in for events that concern everyone."""
        if session.wants is None:
            return [self._all]
        return [self._wanting.setdefault(kind, {}) for kind in session.wants]

    def end(self, session: HubSession, why: Ending) -> None:
        """Close a session and call its on_end; does nothing if it is closed."""
        if self.close(session, why):
            self.ended[why] += 1
            session.on_end(why)

    def forget(self, account: Account) -> None:
        """End every session of an account that was deleted, and forget its presence."""
        self.end_sessions_of(account, "deleted")
        self._statuses.pop(account.key, None)
        self._away.pop(account.key, None)

    def end_sessions_of(self, account: Account, why: Ending) -> None:
        """End every session of an account."""
        for session in self._sessions.get(account.key, ()):
            self.end(session, why)

    def _end_all(self, why: Ending) -> None:
        self.stopping = True
        for sessions in list(self._sessions.values()):
            for session in sessions:
                self.end(session, why)

    def sessions_of(self, account: Account) -> list[HubSession]:
        """Return the open sessions of an account."""
        return list(self._sessions.get(account.key, ()))

    def hears(self, account: Account, kind: type) -> bool:
        """Return whether an open session of an account wants events of this class."""
        return any(one.wants is None or issubclass(kind, one.wants) for one in self._sessions.get(account.key, ()))

    # ---- presence

    def set_away(self, account: Account, text: str | None) -> None:
        """Show an account as away whenever it has sessions, as now, until None. Raises ValueError for the text."""
        if text is None:
            self._away.pop(account.key, None)
            self.refresh_presence(account)
        else:
            account.user.set_presence("idle", text)
            self._away[account.key] = text
            self._statuses[account.key] = ("idle", text)

    def refresh_presence(self, account: Account) -> None:
        """Announce the presence of an account if it is another than before."""
        sessions = self._sessions.get(account.key, ())
        away = self._away.get(account.key)
        active = away is None and any(session.active for session in sessions)
        presence = ("online", "") if active else ("idle", away or "") if sessions else ("offline", "")
        if self._statuses.get(account.key, ("offline", "")) == presence:
            return
        self._statuses[account.key] = presence
        try:
            account.user.set_presence(*presence)
        except PeerClosed:
            pass  # the peer has announced that all its users are offline

    # ---- delivery

    async def _read(self) -> None:
        async for event, users in self._events:
            self.deliver(Envelope(event, self._receivers(event, users)))

    def _receivers(self, event: Any, users: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Return the receivers of an event; in a crowd, presence goes to acquaintances only."""
        if users is not None or not self.is_crowd or not isinstance(event, Presence | Joined | Left):
            return users
        try:
            friends = self._peer.hosting.acquainted(event.user)
        except PeerClosed:
            return ()
        return (event.user.key, *(user.key for user in friends))

    def _on_reader_done(self, reader: asyncio.Task[None]) -> None:
        """End all sessions, since no event will come."""
        self._events.close()
        why: Ending = "stopping"
        if not reader.cancelled() and (error := reader.exception()) is not None:
            _log.error("the hub ended with an unexpected error", exc_info=error)
            why = "failed"
        self._end_all(why)

    def deliver(self, envelope: Envelope) -> None:
        """Deliver an event to every session it concerns."""
        event = envelope.event
        sessions = [one for one in self._sessions_for(envelope) if one.account.user.is_shown(event)]
        for kind, observer in self.observers.items():
            if isinstance(event, kind):
                observer(envelope)
        failed: list[tuple[HubSession, Ending]] = []
        for session in sessions:
            try:
                # Where the account blocks somebody, fewer people count in a message.
                session.deliver(Envelope(event, envelope.users) if session.account.user.directory.blocked else envelope)
            except QueueFull:
                failed.append((session, "slow"))
            except Exception:  # a defect in one interface ends that session only
                _log.exception("a %s session ended with an unexpected error", session.kind)
                failed.append((session, "failed"))
        self.deliveries += len(sessions)
        if sessions:
            self.on_delivered(_cause_of(event), len(sessions))
        for session, why in failed:
            self.end(session, why)

    def _sessions_for(self, envelope: Envelope) -> list[HubSession]:
        kind, by_user = type(envelope.event), self._sessions
        if envelope.users is None:
            wanting = (those for wanted, those in self._wanting.items() if issubclass(kind, wanted))
            return [*self._all, *chain.from_iterable(wanting)]
        return [
            session
            for key in envelope.users
            for session in by_user.get(key, ())
            if session.wants is None or issubclass(kind, session.wants)
        ]


class KeptReceipts:
    """Receipts of direct and group messages that no session of their writer hears, put aside for its next one.

    Those of the room are not kept. Of what users of this gateway take and read, the peer has kept the receipt with the
    step itself; this is for others.

    Args:
        account_of: Returns the account of a user key, None for none.
    """

    def __init__(self, hub: SessionHub, account_of: Callable[[str], Account | None]) -> None:
        self._hub = hub
        self._account_of = account_of
        self._keeping: set[asyncio.Task[None]] = set()
        hub.observers.update({Delivered: self._on_receipt, Read: self._on_receipt})

    def _on_receipt(self, envelope: Envelope) -> None:
        event: Delivered | Read = envelope.event
        account, step = self._account_of(event.log.user), (event.event, event.log.conversation)
        if account is None or step in account.unheard or event.count < event.of:
            return
        if account.user.conversation(event.log.conversation).kind == "room" or self._hub.hears(account, type(event)):
            return
        account.unheard.add(step)
        spawn(self._keeping, self._keep(account, event), "p2pchat web receipt")

    async def _keep(self, account: Account, event: Delivered | Read) -> None:
        with suppress(StorageError, PeerClosed):  # then the client has to ask for it
            await account.user.keep_receipt(event)

    async def wait_kept(self) -> None:
        """Return when the receipts that nobody heard so far are kept: later ones are heard by whoever waits for it."""
        if self._keeping:
            await asyncio.wait(self._keeping)


def _cause_of(event: Any) -> str:
    """Return the key of the user who caused an event; "" for none. Receipts are caused by who wrote the message."""
    if isinstance(event, DurableEvent | Delivered | Read | FileReceipt):
        return event.log.user
    user = getattr(event, "by", None) or getattr(event, "user", None)
    return user.key if isinstance(user, User) else ""
