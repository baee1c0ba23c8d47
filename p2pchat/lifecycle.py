"""The life of a peer: how its parts come together, and how it ends, whatever happens in between.

Start: identity, network, database (resources.py); listen, for the port may be taken; load what is stored; then the
core with its owner. Until there is a core, what connections tell waits. End: what was said is stored, everyone gets
a goodbye, readers get their last event, files and locks are let go; a start that fails or is cancelled ends the same.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from p2pchat import __version__
from p2pchat.core.context import HostedIdentity as CoreUser
from p2pchat.core.context import NetworkCredentials as CoreNetwork
from p2pchat.core.context import Now
from p2pchat.core.effects import WarningIssued
from p2pchat.core.inputs import Connect, Forget, Input, ListeningAt, PeerSighted, QuotaLifted, UserRenamed
from p2pchat.core.mesh.addressbook import join_endpoint
from p2pchat.core.node import Node
from p2pchat.core.records import META_ABOUT, META_NAME, META_TRIED, Change, Stored, StoredUser
from p2pchat.errors import InviteError, P2PChatError, PeerClosed, StorageError, UnknownName
from p2pchat.identity.addresses import own_endpoints
from p2pchat.identity.names import base32, validate_name
from p2pchat.identity.network import LOOPBACK, MAX_ENDPOINTS, Network, encode_invite, normal, normal_endpoint
from p2pchat.messaging import events as ev
from p2pchat.messaging.access import AccessPolicy, audience_of, has_others
from p2pchat.messaging.dispatcher import EventDispatcher, Feed
from p2pchat.messaging.groups import GroupDirectory
from p2pchat.messaging.receipts import ReceiptTracker
from p2pchat.messaging.search import SearchIndexer, open_indexer
from p2pchat.messaging.timestamps import EPOCH, aware, now_micros
from p2pchat.messaging.users import FULL_ID_CHARACTERS, Status, User, UserDirectory, load_ignored, somebody
from p2pchat.protocol import PeerId, UserId
from p2pchat.resources import Options, PeerResources, login_name, open_resources
from p2pchat.runtime.connections import ConnectionManager, TCPTransport, Transport
from p2pchat.runtime.driver import Driver
from p2pchat.runtime.gc_tuning import gc_paused

if TYPE_CHECKING:
    from p2pchat.discovery import Discovery
    from p2pchat.messaging.hosted_user import HostedUser

__all__ = ["Forgotten", "plan_forget"]


class Life:
    """What TCPPeer is below its public calls.

    Attributes:
        people: Who is who.
    """

    def __init__(self, options: Options, endpoints: list[str]) -> None:
        options.check()
        self._options = options
        self._endpoints = endpoints
        self._advertise = [] if options.advertise is None else [normal_endpoint(options.advertise)]
        self._open_resources: Callable[[], PeerResources] = lambda: open_resources(
            self._options, has_endpoints=bool(self._endpoints)
        )
        self._transport: Transport = TCPTransport()
        self._clock: Callable[[], Now] | None = None
        self._home: PeerResources | None = None
        self._driver: Driver | None = None
        self._early: list[Input] = []  # what connections tell before there is a core
        self._network: Network | None = None
        self._name = ""
        self._port = 0
        self._host = options.host
        self._listening_at = EPOCH  # when this run began: all it receives it receives later
        self._starting = False  # start() was called
        self._alone = False  # it neither listens nor dials
        self._closed = False
        self._closing: asyncio.Task[None] | None = None
        self.people = UserDirectory("", self._status)
        self._tracker = ReceiptTracker(self.people)
        self._feed = Feed(self._tracker)
        self._access = AccessPolicy(lambda: self._core, lambda: self.people.me, lambda: self._had_guests)
        book = GroupDirectory(lambda: {} if self._driver is None else self._driver.node.groups)
        self._groups = book.seen_by(self._access.knows)
        self._dispatcher = EventDispatcher(
            self.people, self._tracker, self._groups, self._learn_network, lambda key: audience_of(self._core, key)
        )
        self._hosted: dict[UserId, HostedUser] = {}
        self._hosted_names: dict[str, HostedUser] = {}  # by how each looks
        self._had_guests = False  # others are hosted, or were: not all that is stored is the own user's
        self._hosting_lock = asyncio.Lock()
        self._joining: asyncio.Task[None] | None = None  # writes the network down
        self._discovery: Discovery | None = None
        self._search_indexer: SearchIndexer | None = None

    async def start(self) -> None:
        """Listen, and link with the endpoints.

        Returns when it listens and each endpoint has linked and told who is there, or failed once; after 3 s
        (Settings.start_timeout) at most. An endpoint that does not answer is an event and is tried again, for ever.
        Raises:
            PortInUse, DataLocked, InviteError, StorageError, P2PChatError: It cannot run; says what to do.
            PeerClosed: It was started or closed before.
        """
        if self._starting or self._closed:
            raise PeerClosed("a peer starts once: make a new TCPPeer")
        self._starting = True
        opening = asyncio.ensure_future(asyncio.to_thread(self._open_resources))
        try:
            self._home = home = await asyncio.shield(opening)
            await self._begin(home)
            await self._wait_for_endpoints([*self._endpoints, *(endpoint for endpoint, _ in home.pins)])
        except BaseException:  # cancelled as well, perhaps twice: nothing of a peer that has not started stays open
            self._closing = asyncio.ensure_future(self._give_up(opening, self._closing))
            await asyncio.shield(self._closing)
            raise

    async def _give_up(self, opening: asyncio.Future[PeerResources], closing: asyncio.Task[None] | None) -> None:
        """End what start() began; the thread that opens goes on, and what it opens has to be closed."""
        self._closed = True
        if closing is not None:
            await asyncio.wait([closing])  # aclose() came in between
        await asyncio.wait([opening])
        home = None if opening.exception() else opening.result()  # start() has raised the error
        closed = True
        try:
            await self._hide()
            if self._driver is not None:
                closed = await self._driver.kill()
            elif home is not None:
                await asyncio.to_thread(home.storage.close)
        finally:
            self._dispatcher.close(None)
            await self._let_go(home, closed)

    async def _begin(self, home: PeerResources) -> None:
        """Bring everything up: listen first, for the port may be taken; then storage, then the core."""
        settings = self._options.settings
        connections = ConnectionManager(
            self._transport,
            settings,
            server_context=home.server_context,
            client_context=home.client_context,
            put=self._put,
        )
        if not self._alone:
            self._host, self._port = await connections.listen(self._options.host, self._options.port)
        self._listening_at = aware(now_micros())
        try:
            stored, kept = await asyncio.to_thread(_load, home)
            if self._alone:
                stored.addresses.clear()
            with gc_paused():
                self._remember(home, stored)
                driver = self._make_driver(home, connections, stored, self._hosted_again(kept, stored))
            self._driver = driver
            self._had_guests = bool(kept) or has_others(driver.node, home.identity.peer_id)
            self._tracker.share(driver.node.hosted.keys())
            self._groups.load()
            self._feed.open(driver, list(self._dispatcher.readers))
            driver.start()
            self._search_indexer = open_indexer(home.storage, settings, home.directory)
            if self._search_indexer is not None:
                self._search_indexer.keep_up(lambda: driver.idle)
        except BaseException:
            await connections.cut_all()
            raise
        for input in self._early:
            driver.put(input)
        self._early.clear()
        if self._alone:
            return
        driver.put(ListeningAt(self._port, tuple(self._told_endpoints())))
        for endpoint in self._endpoints:
            driver.put(Connect(endpoint))
        for endpoint, pin in home.pins:
            driver.put(Connect(endpoint, pin))
        await self._keep_name(stored)
        self._tell_name(driver, home.identity.peer_id, stored)
        self._discover()

    def _discover(self) -> None:
        """Look for members on the local network, if that is wanted, as soon as it is known of which network."""
        home, network = self._home, self._network
        if not self._options.discover or self._discovery or self._closed or not home or not network or not network.id:
            return
        from p2pchat.discovery import Discovery, discovery_key

        self._discovery = Discovery(
            home.identity.peer_id,
            discovery_key(network.id, network.key),
            host=self._host,
            port=self._port,
            advertise=self._advertise[0] if self._advertise else None,
            sighted=lambda peer, at: self._put(PeerSighted(peer, at)),
            warn=lambda text: self._dispatcher.dispatch(WarningIssued("discovery", text)),
        )

    def _remember(self, home: PeerResources, stored: Stored) -> None:
        """Take over what is known before the core starts."""
        me = home.identity.peer_id
        self._network = home.network
        self.people.me = me
        self.people.learn((user.id, user.name) for user in stored.users)
        load_ignored(self.people, stored.meta)
        former = stored.meta.get(META_NAME) or self.people.name(me)
        self._name = validate_name(self._options.name) if self._options.name else former or login_name(self._port)
        self.people.learn([(me, self._name)])
        for user in stored.users:
            self.people.tell_about(user.id, user.about)
        self.people.tell_about(me, stored.meta.get(META_ABOUT, self.people.user(me).about))
        self._feed.load(stored, self._dispatcher.is_reading_messages)

    def _hosted_again(self, kept: list[StoredUser], stored: Stored) -> list[CoreUser]:
        """Take in the users that storage keeps, and return them as the core speaks for them."""
        raise NotImplementedError

    def _make_driver(
        self, home: PeerResources, connections: ConnectionManager, stored: Stored, hosted: list[CoreUser]
    ) -> Driver:
        from p2pchat.core.node import Node

        me = home.identity.peer_id
        node = Node(
            settings=self._options.settings,
            peer=me,
            sign=home.identity.sign,
            users=[CoreUser(me, self._name, home.identity.sign, about=self.people.user(me).about), *hosted],
            network=CoreNetwork(home.network.id, home.network.key),
            draw=secrets.token_bytes,
            stored=stored,
        )
        return Driver(
            node=node,
            storage=home.storage,
            connections=connections,
            settings=self._options.settings,
            directory=home.directory,
            recent=self._feed.recent,
            tell=self._dispatcher.dispatch,
            clock=self._clock,
        )

    async def _keep_name(self, stored: Stored) -> None:
        """Remember a name that was chosen, so that later starts need not repeat it."""
        if self._options.name and stored.meta.get(META_NAME) != self._name:
            await self._running.disk.write(Change(meta={META_NAME: self._name}))

    def _tell_name(self, driver: Driver, me: UserId, stored: Stored) -> None:
        """Write another name than the last into the room: there it outweighs whatever is told otherwise."""
        if any(user.id == me and user.named_c and user.name != self._name for user in stored.users):
            driver.put(UserRenamed(me, self._name))

    async def _wait_for_endpoints(self, endpoints: Sequence[str]) -> None:
        """Wait until each has failed once, or is linked and has told who is there."""

        def answered() -> bool:
            node = self._running.node
            all_told = all(node.presence.complete(link) for link in node.links.up)
            return all_told and all(endpoint in self._dispatcher.endpoints for endpoint in endpoints)

        try:
            await self._dispatcher.wait_until(answered, self._options.settings.start_timeout)
        except TimeoutError:
            pass  # it goes on being tried; events say how it went

    # For p2pchat.testing and our own tests

    @property
    def _node(self) -> Node | None:
        """The core, to be looked at and never touched, while the peer runs; else None."""
        return None if self._driver is None or self._closed else self._driver.node

    @property
    def _idle(self) -> bool:
        """Whether nothing is on its way to the disk or into the core."""
        return self._driver is None or self._closed or self._driver.idle

    @property
    def _reading_paused(self) -> bool:
        """Whether nothing is read from the links because storage is behind."""
        return self._driver is not None and self._driver.paused

    def _run_in(
        self, open_resources: Callable[[], PeerResources], transport: Transport, clock: Callable[[], Now] | None = None
    ) -> None:
        """Run somewhere else than on this machine's disk and sockets; before start()."""
        self._open_resources, self._transport, self._clock = open_resources, transport, clock

    def _stay_offline(self) -> None:
        """Listen nowhere and dial nobody, to work on a profile while nobody else does; before start()."""
        self._alone = True

    async def _kill(self) -> None:
        """End at once, as a crash would: what is not on disk is lost, nobody is told."""
        await self._close("killed", None, kill=True)

    async def aclose(self, reason: str = "closed") -> None:
        """Leave in good order: what was said is stored, every peer gets a goodbye, nothing stays open.

        Calling it again does nothing but wait for the first. `reason` is what the event `stopped` says. Readers keep
        their places: what was acknowledged by asking for the next event does not come again at the next start. What
        another task is handling has 0.5 s to be acknowledged so; what the caller itself is handling comes again,
        unless `await events.ack()` was called before.
        """
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close(reason, asyncio.current_task()))
        await asyncio.shield(self._closing)

    async def _close(self, reason: str, closer: asyncio.Task[object] | None, *, kill: bool = False) -> None:
        was, driver = self._closed, self._driver
        self._closed = True
        if was or driver is None:
            self._dispatcher.close(None)
            return
        hiding = asyncio.ensure_future(self._hide())
        closed = True
        try:
            closed = await (driver.kill() if kill else self._leave(driver, closer))
        finally:
            await hiding
            self._dispatcher.close(None if kill else ev.Stopped(reason=reason))
            await self._let_go(self._home, closed)

    async def _hide(self) -> None:
        if self._discovery is not None:
            await self._discovery.aclose()

    async def _let_go(self, home: PeerResources | None, closed: bool) -> None:
        """Let files and locks go; those of a storage that is not closed yet as soon as it is."""
        if self._search_indexer is not None:
            await self._search_indexer.aclose()
        if self._joining is not None:
            await self._joining
        if home is not None and closed:
            await asyncio.to_thread(home.close)
        elif home is not None and self._driver is not None:
            self._driver.disk.when_closed(home.close)

    async def _leave(self, driver: Driver, closer: asyncio.Task[object] | None) -> bool:
        self._feed.recommit_offsets(self._dispatcher.consumers())
        await driver.stop()
        await self._dispatcher.drain(closer)
        await self._dispatcher.complete_receipts()
        return await driver.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def _running(self) -> Driver:
        """What does things, while it runs."""
        if self._closed:
            raise PeerClosed("the peer was closed: make a new TCPPeer to go on")
        return self._started_driver

    @property
    def _started_driver(self) -> Driver:
        """The same for what is only looked at: events are still being handled while the peer closes, and after."""
        if self._driver is None:
            raise PeerClosed("the peer has not been started: use it inside `async with`, or after start()")
        return self._driver

    @property
    def _core(self) -> Node | None:
        """The core, once there is one."""
        return None if self._driver is None else self._driver.node

    @property
    def _is_closed(self) -> bool:
        return self._closed

    @property
    def _index(self) -> SearchIndexer | None:
        return self._search_indexer

    def _started(self) -> PeerResources:
        if self._home is None or not self.people.me:
            raise PeerClosed("the peer has not been started: use it inside `async with`, or after start()")
        return self._home

    def _told_endpoints(self) -> list[str]:
        """Return the endpoints to tell others; [] for all addresses of this machine: they see where it comes from."""
        if self._advertise:
            return self._advertise
        if self._host in ("0.0.0.0", "::", ""):
            return []
        return [join_endpoint(self._host, self._port or self._options.port)]

    def _put(self, input: Input) -> None:
        if self._driver is None:
            self._early.append(input)
        else:
            self._driver.put(input)

    def _status(self, user: str) -> Status:
        if self._driver is None:
            return "unknown", "", 0
        status, text, since = self._driver.node.presence.status(user)
        return status, text or "", since or 0

    def _learn_network(self) -> None:
        """An open network's first peer has told its id: remember it."""
        home, driver = self._home, self._driver
        if home is None or driver is None or home.network.id or not driver.node.network.id:
            return
        home.network = self._network = Network(driver.node.network.id, None)
        self._joining = asyncio.ensure_future(self._write_down(home))
        self._discover()

    async def _write_down(self, home: PeerResources) -> None:
        try:
            await asyncio.to_thread(home.join, home.network)
        except P2PChatError as error:
            text = f"the network joined could not be written down, the next start has to be told again: {error}"
            self._dispatcher.dispatch(WarningIssued("network", text))


def _load(home: PeerResources) -> tuple[Stored, list[StoredUser]]:
    with gc_paused():
        hosted = home.storage.hosted()
        return home.storage.load([home.identity.peer_id, *(user.id for user in hosted)]), hosted


# ---- standing
#
# Where a peer stands among others: where it is, whom it is linked with and how others get to it.
#
# Of its users nothing: who they are is local_user.py, what they write local_user.py.


STATUSES = ("online", "idle", "offline")


class Standing(Life):
    """What TCPPeer is and does as a peer, whoever is its user."""

    # ------------------------------------------------------------------ who and where

    @property
    def port(self) -> int:
        """The port it listens on; the one asked for until it does."""
        return self._port or self._options.port

    @property
    def address(self) -> str:
        """The address it listens on."""
        return self._host

    @property
    def endpoint(self) -> str:
        """Where others on this machine or network find it: "host:port"."""
        return self._told_endpoints()[0] if self._told_endpoints() else join_endpoint(LOOPBACK, self.port)

    @property
    def invite(self) -> str:
        """One line that admits others to this network and says where this peer is. Whoever has it can invite.

        When it listens on all addresses, it is at every one by which this machine may be reached now.
        """
        home = self._started()
        network = self._network or home.network
        if not network.id:
            raise InviteError("this open network is known when the first peer has been met")
        places = self._told_endpoints() or own_endpoints(self._host, self._port)[:MAX_ENDPOINTS] or [self.endpoint]
        return encode_invite(home.identity.peer_id, network, places)

    @property
    def data(self) -> Path | None:
        """The data directory; None when everything is in memory."""
        return self._started().directory

    @property
    def is_open(self) -> bool:
        """Whether the network has no key."""
        return self._started().network.is_open

    @property
    def listening(self) -> ev.Listening:
        """The first event of this run."""
        home = self._started()
        return ev.Listening(
            at=self._listening_at,
            version=__version__,
            host=self._host,
            port=self._port,
            peer_id=base32(home.identity.peer_id),
            user=self.people.user(self.people.me),
            data="" if home.directory is None else str(home.directory),
            network="open" if home.network.is_open else "keyed",
        )

    @property
    def counted(self) -> dict[str, int]:
        """What the core counted in this run, for tests and diagnostics."""
        return dict(self._started_driver.counted)

    def links(self) -> list[str]:
        """Return the peer ids (base32) of the peers linked with now."""
        return [] if self._closed else [base32(peer) for peer in self._started_driver.node.links.by_peer]

    async def round_trip(self) -> None:
        """Go once through the core and onto the disk and back: returns when both have done their part.

        Raises:
            StorageError: Nothing would be accepted now, and why. PeerClosed: Not running.
            P2PChatError: The core has failed.
        """
        driver = self._running
        if driver.broken is not None:
            raise P2PChatError("p2pchat has failed inside: restart it")
        if not driver.node.accepts_writes:
            raise StorageError("the disk is nearly full" if driver.node.storage_works else "storage does not work")
        await driver.settle()
        await driver.disk.write(Change(meta={META_TRIED: str(now_micros())}))

    # ------------------------------------------------------------------ doing

    async def connect(self, endpoint: str | int, *, timeout: float | None = None) -> bool:
        """Link with a peer; tried for ever. Returns whether it was linked at the first attempt.

        Args:
            timeout: Seconds to wait for that attempt; None is Settings.start_timeout.
        Raises:
            ValueError: That is no endpoint.
        """
        driver, there = self._running, normal(endpoint)
        states, wait = self._dispatcher.endpoints, timeout or self._options.settings.start_timeout
        states.pop(there, None)
        driver.put(Connect(there))
        try:
            await self._dispatcher.wait_until(lambda: there in states, wait)
        except TimeoutError:
            return False
        return states.get(there) == "up"

    async def forget(self, who: User | str | int) -> Forgotten:
        """Forget where a peer is: it is dialled no more, now or after a restart, until it is named or told of again.

        A link that is up stays until it ends.

        Args:
            who: A user, a name as typed (see find), a peer id (base32), or an endpoint: also one that `connect` was
                asked for and where nobody has answered.
        Raises:
            UnknownName, AmbiguousName: Nobody is called so, or nothing is known of that endpoint.
            ValueError: That is this peer itself, or no endpoint. StorageError: It could not be stored.
        """
        driver = self._running
        forgotten, inputs = plan_forget(driver.node, self.people, who)
        for input in inputs:
            driver.put(input)
        await driver.settle()
        for endpoint in forgotten.endpoints:
            self._dispatcher.endpoints.pop(endpoint, None)
        return forgotten

    async def allow(self, who: User | str) -> User:
        """Store whatever this user writes, however much, from now on and for good; what was refused comes.

        There is a limit to what is stored of one user (Settings.user_quota_bytes); a Warned with code "quota" comes
        before it is reached, one with code "full" when something was refused.

        Args:
            who: A user, or a name as typed (see find), or a full id, known or not. Returned is that user.
        Raises:
            UnknownName, AmbiguousName: Nobody is called so, or several. StorageError: It could not be stored.
        """
        driver, user = self._running, somebody(self.people, who)
        driver.put(QuotaLifted(user.key))
        await driver.settle()
        return user


# ---- forgetting
#
# Forgetting where a peer is: what a typed word means there, and what was forgotten.
#
# It ends dialling, nothing else: a link that is up stays up, and whoever is linked with that peer may tell of it again.


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What `forget` did.

    Attributes:
        endpoints: Not dialled any more; () when none was known (a peer that only ever dialled here).
        linked: A link to that peer is up: it stays until it ends.
    """

    endpoints: tuple[str, ...]
    linked: bool


def plan_forget(node: Node, people: UserDirectory, who: User | str | int) -> tuple[Forgotten, list[Forget]]:
    """Return what will be forgotten, and the inputs that do it.

    Raises:
        UnknownName: No peer and no user is called so, or nobody knows that endpoint.
        ValueError: That is this peer itself.
    """
    text = who if isinstance(who, str) else str(who)
    if not isinstance(who, User) and (isinstance(who, int) or ":" in text or text.strip().isdecimal()):
        return _endpoint(node, normal(who))
    peers = _peers(node, people, who)
    endpoints = dict.fromkeys(endpoint for peer in peers for endpoint in node.links.endpoints(peer))
    linked = any(peer in node.links.by_peer for peer in peers)
    return Forgotten(tuple(endpoints), linked), [Forget(peer) for peer in peers]


def _endpoint(node: Node, endpoint: str) -> tuple[Forgotten, list[Forget]]:
    if not node.links.is_dialled(endpoint):
        raise UnknownName(endpoint, text=f"{endpoint} is not dialled, and no peer is known there")
    linked = any(endpoint in node.links.endpoints(peer) for peer in node.links.by_peer)
    return Forgotten((endpoint,), linked), [Forget(endpoint=endpoint)]


def _peers(node: Node, people: UserDirectory, who: User | str) -> list[PeerId]:
    """Return the peers meant: the one with this id, or those that host this user and the user's own."""
    known = {*node.links.book, *node.links.by_peer}
    if isinstance(who, str) and len(who.strip()) == FULL_ID_CHARACTERS:
        named = [peer for peer in known if base32(peer) == who.strip().upper()]
        if named:
            return named
    user = who if isinstance(who, User) else people.find(who)
    if user.key == node.peer:
        raise ValueError("that is this peer itself: it does not dial itself")
    hosting = {node.links.up[link].peer for link in node.presence.hosts(user.key) if link in node.links.up}
    return sorted({user.key, *hosting})
