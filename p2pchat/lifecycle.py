"""Start and stop of a peer.

Starting opens identity, network and database (peer_resources.py), listens, loads what is stored, and then makes the
core and its driver. Until there is a core, what connections report is kept. Stopping stores what was written, says
goodbye to every peer, gives every iterator its last event, and releases files and locks. A start that fails or is
cancelled ends the same way.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from socket import gethostname
from typing import TYPE_CHECKING

from p2pchat.addresses import LOOPBACK, join_endpoint, normal_endpoint
from p2pchat.core.durable_changes import META_ABOUT, META_NAME, Change, Stored, StoredUser
from p2pchat.core.effects import OwnStateChanged, PresenceChanged, UserNamed, WarningIssued
from p2pchat.core.inputs import Connect, Input, ListeningAt, PeerSighted
from p2pchat.core.log import message_id
from p2pchat.core.names import MAX_NAME_CHARACTERS, base32, validate_name
from p2pchat.core.node import Node
from p2pchat.core.node_context import HostedIdentity, NetworkCredentials, Now
from p2pchat.core.own_state import BLOCKED, DEVICE, IGNORED, id_in
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.errors import P2PChatError, PeerClosed, StorageError
from p2pchat.identity.invite_text import INVITES_KEY
from p2pchat.identity.network import MAX_ENDPOINTS
from p2pchat.identity.own_addresses import endpoints_of, own_addresses
from p2pchat.messaging.access_policy import AccessPolicy, has_others
from p2pchat.messaging.conversations import GroupDirectory
from p2pchat.messaging.event_dispatcher import EventDispatcher
from p2pchat.messaging.events import EPOCH, Hidden, Stopped, aware, now_micros
from p2pchat.messaging.hosted_user import HostedUserRegistry
from p2pchat.messaging.receipts import ReceiptTracker
from p2pchat.messaging.search_indexer import SearchIndexer
from p2pchat.messaging.subscription import EventFeed
from p2pchat.messaging.users import UserDirectory, UserFacts
from p2pchat.peer_resources import PeerArguments, PeerResources, learn_of_login, login_name, open_resources
from p2pchat.program_log import ProgramLog
from p2pchat.protocol import ConversationId, UserId
from p2pchat.runtime.connection_manager import ConnectionManager, TCPTransport, Transport
from p2pchat.runtime.driver import Driver
from p2pchat.runtime.garbage_collection import gc_paused
from p2pchat.settings import Settings
from p2pchat.threads import DISK_TIMEOUT, ends_within, in_thread

_log = ProgramLog("p2pchat.peer")

if TYPE_CHECKING:
    from p2pchat.discovery import Discovery
    from p2pchat.trace import Trace

MAX_LISTED = 3  # endpoints in an error
ADDRESSES_CHECKED_EVERY = 1.0  # seconds between looks at this machine's addresses while no link changes; a guess
ADDRESSES_SETTLE = 1.0  # seconds between two of them at least; a guess
META_GIVEN = "name_given"  # in meta: the name that a start gave last
NOT_STARTED = "the peer has not been started: use it inside `async with`, or after start()"


class Lifecycle:
    """Starts and stops one peer, and holds what its users share.

    Attributes:
        people, access, groups, tracker: Those of the peer's own user; hosted users have their own views of them.
        name: The name of the own user.
        driver: Runs the core; None before there is one.
        resources: Identity, network and storage; None before they are open.
        network: The network, also one learnt from the first peer met; None before start().
        host, port: Where it listens.
        listening_at: When this run began; everything it receives it receives later.
        closed: It was closed, or is being closed.
        is_offline: It neither listens nor dials, to work on a profile that is not running; set before start().
        names_deadline: Until when calls wait for names that are not known yet, on the clock of the loop.
        indexer: The search index; None before the start.
    """

    def __init__(self, options: PeerArguments, endpoints: list[str]) -> None:
        options.check()
        self.options = options
        self.settings: Settings = options.settings
        self.advertise: list[str] = [] if options.advertise is None else [normal_endpoint(options.advertise)]
        self.name: str = ""
        self.host: str = options.host
        self.port: int = 0
        self.listening_at: datetime = EPOCH
        self.newest_own: str | None = None  # see Listening
        self.resources: PeerResources | None = None
        self.driver: Driver | None = None
        self.indexer: SearchIndexer | None = None
        self.closed: bool = False
        self.is_offline: bool = False
        self.names_deadline: float = 0.0
        self.directory: UserDirectory = UserDirectory("", UserFacts())
        self.tracker: ReceiptTracker = ReceiptTracker()
        self.feed: EventFeed = EventFeed(self.tracker)
        self.hosted: HostedUserRegistry = HostedUserRegistry(self)
        self.access: AccessPolicy = AccessPolicy(
            self.conversations, lambda: self.directory.me, lambda: not self.hosted.any_ever
        )
        self.groups: GroupDirectory = GroupDirectory(lambda: {} if self.driver is None else self.driver.node.groups)
        self.dispatcher: EventDispatcher = EventDispatcher(
            self.directory, self.tracker, self.groups, self.conversations, self.feed
        )
        self._endpoints = endpoints
        self._open_resources = lambda: open_resources(options, founds=not self.is_offline)
        self._transport: Transport = TCPTransport(options.listener)
        self._clock: Callable[[], Now] | None = None
        self._starting = False  # start() was called
        self._closing: asyncio.Task[None] | None = None
        self._discovery: Discovery | None = None
        self._watching: asyncio.Task[None] | None = None
        self._trace: Trace | None = None

    # ---- state

    @property
    def started_driver(self) -> Driver:
        """The driver, also while the peer closes and after it; raises PeerClosed before there is one."""
        if self.driver is None:
            raise PeerClosed(NOT_STARTED)
        return self.driver

    def require_running(self) -> Driver:
        """Return the driver; raise PeerClosed before start() and after aclose().

        Raises RuntimeError in another event loop: what was done there could not be answered, and would be done again.
        """
        if self.closed or self.driver is None:
            raise self.closed_error()
        if asyncio._get_running_loop() not in (None, self.driver.loop):
            raise RuntimeError("this peer runs in another event loop: call it there, or use p2pchat.sync")
        return self.driver

    def closed_error(self) -> PeerClosed:
        """Return the error of a call that needs a running peer."""
        return PeerClosed("the peer was closed: make a new TCPPeer to go on" if self.closed else NOT_STARTED)

    @property
    def node(self) -> Node | None:
        """The core, also after the peer was closed; None before there is one."""
        return None if self.driver is None else self.driver.node

    def conversations(self) -> Mapping[ConversationId, ConversationState]:
        """Return the conversations in the core, by id; {} before there is one."""
        return {} if self.driver is None else self.driver.node.replicator.conversations

    def require_resources(self) -> PeerResources:
        """Return what was opened; raise PeerClosed before the own user is known."""
        if self.resources is None or not self.directory.me:
            raise PeerClosed(NOT_STARTED)
        return self.resources

    @property
    def told_endpoints(self) -> list[str]:
        """The endpoints that were chosen to tell others; [] for all addresses of this machine."""
        if self.advertise:
            return self.advertise
        if self.host in ("0.0.0.0", "::", "") or not self.options.listen:
            return []
        return [join_endpoint(self.host, self.port or self.options.port)]

    @property
    def is_kept(self) -> bool:
        """True if the keys of its users outlive this run."""
        return not (self.options.temporary or self.options.is_in_memory)

    @property
    def has_blocks(self) -> bool:
        """True if a user of this peer blocks somebody."""
        return self.driver is not None and bool(self.driver.node.blocks.starts)

    def blocks(self, by: UserId, user: UserId) -> bool:
        """Return whether a user of this peer blocks another one."""
        return self.driver is not None and user in self.driver.node.blocks.of(by)

    @property
    def name_timeout(self) -> float:
        """Seconds for which calls wait now for a name that is not known; see LocalUser.name_timeout."""
        node = self.running_node
        if node is None or self.is_offline:
            return 0.0
        links = node.links
        expected = links.by_peer or links.book or links.dialer.seeking or self._discovery
        return max(0.0, self.names_deadline - asyncio.get_running_loop().time()) if expected else 0.0

    @property
    def unanswered(self) -> str:
        """Which endpoints do not answer, as the end of an error; "" for none.

        These are of those that the start named, and without any link of all that are known.
        """
        node, states = self.running_node, self.dispatcher.endpoints
        pins = [] if self.resources is None else [endpoint for endpoint, _ in self.resources.pins]
        known = states if node is not None and not node.links.by_peer else ()
        wrong = {"trying": "does not answer", "refused": "refuses this peer"}
        named = dict.fromkeys([*self._endpoints, *pins, *known])
        texts = [f"{one} {wrong[state]}" for one in named if (state := states.get(one, "trying")) in wrong]
        more = f" and {len(texts) - MAX_LISTED} more" if len(texts) > MAX_LISTED else ""
        return f"; {', '.join(texts[:MAX_LISTED])}{more}" if texts else ""

    # ---- for p2pchat.testing and tests

    @property
    def running_node(self) -> Node | None:
        """The core while the peer runs, to be inspected and never called; else None."""
        return None if self.closed else self.node

    @property
    def idle(self) -> bool:
        """True if nothing is on its way to the disk or into the core."""
        return self.driver is None or self.closed or self.driver.idle

    def run_in(
        self, opened: Callable[[], PeerResources], transport: Transport, clock: Callable[[], Now] | None = None
    ) -> None:
        """Use these resources, connections and clock instead of this machine's; call it before start()."""
        self._open_resources, self._transport, self._clock = opened, transport, clock

    # ---- start

    async def start(self, timeout: float | None) -> None:
        """Start the peer; see TCPPeer.start."""
        if self._starting or self.closed:
            raise PeerClosed("a peer can be started only once: make a new TCPPeer")
        self._starting = True
        opening = asyncio.ensure_future(in_thread(self._open_resources))
        try:
            self.resources = resources = await asyncio.shield(opening)
            await self._begin(resources)
            named = [*self._endpoints, *(endpoint for endpoint, _ in resources.pins)]
            await self._wait_for_endpoints(named, self.settings.start_timeout if timeout is None else timeout)
            self.names_deadline = asyncio.get_running_loop().time() + self.settings.start_timeout
        except BaseException:  # cancelled as well, perhaps twice: a peer that has not started leaves nothing open
            self._closing = asyncio.ensure_future(self._abort_start(opening, self._closing))
            await asyncio.shield(self._closing)
            raise

    async def _abort_start(self, opening: asyncio.Future[PeerResources], closing: asyncio.Task[None] | None) -> None:
        """Close what start() opened. Its thread cannot be cancelled: wait for it, and close what it opens."""
        self.closed = True
        if closing is not None:
            await asyncio.wait([closing])  # aclose() was called meanwhile
        await asyncio.wait([opening])
        resources = None if opening.exception() else opening.result()  # start() has raised the exception
        closed = True
        try:
            await self._stop_watching()
            if self.driver is not None:
                closed = await self.driver.kill()
            elif resources is not None:
                await in_thread(resources.storage.close)
        finally:
            await self._release(resources, closed, None)

    async def _begin(self, resources: PeerResources) -> None:
        """Listen first, since the port may be taken; then load storage, then make the core."""
        early: list[Input] = []  # what connections report before there is a driver
        self._trace = self._open_trace(resources)
        connections = ConnectionManager(
            self._transport,
            self.settings,
            server_context=resources.server_context,
            client_context=resources.client_context,
            put=early.append,
            trace=self._trace,
        )
        if self.options.listen and not self.is_offline:
            self.host, self.port = await connections.listen(self.options.host, self.options.port)
        self.listening_at = aware(now_micros())
        try:
            _log.info("peer %s listens on %s:%s", base32(resources.identity.peer_id)[:8], self.host, self.port)
            stored, hosted, lost = await in_thread(_load, resources, is_offline=self.is_offline)
            self.newest_own = _newest_own(stored, resources.user.peer_id, self.settings.recent_places)
            if self.is_offline:
                stored.addresses.clear()
            with gc_paused():
                self._load_own_user(resources, stored)
                driver = self._make_driver(resources, connections, stored, self.hosted.load(hosted, stored))
            self.driver = driver
            self.dispatcher.follow(driver.node)
            self.hosted.any_ever = bool(hosted) or has_others(self.conversations(), resources.user.peer_id)
            self.tracker.open(driver, lambda: self.unanswered)
            self.groups.load()
            self.feed.open(driver)
            driver.start()
            if lost:
                self.dispatcher.dispatch(WarningIssued("log_damaged", f"{lost}; check the disk, then delete that copy"))
            self.indexer = SearchIndexer(resources.storage, self.settings, resources.directory)
        except BaseException:  # also when cancelled: no link outlives a failed start
            await connections.cut_all()
            raise
        connections.put = driver.put
        for input in early:
            driver.put(input)
        with suppress(StorageError):  # then a search says it
            await self.indexer.check_deleted()  # a killed process may have left words of what it deleted
        if self._trace is not None:
            self._trace.report_to(lambda text: self.dispatcher.dispatch(WarningIssued("trace", text)))
        if self.is_offline:
            return
        told = await self._addresses()
        driver.put(told)
        self._watching = asyncio.create_task(self._watch_addresses(driver, told))
        for endpoint, pin in [*((endpoint, "") for endpoint in self._endpoints), *resources.pins]:
            driver.put(Connect(endpoint, pin))
        await self._store_name(stored)
        await self._note_machine()
        self._start_discovery()

    async def _addresses(self) -> ListeningAt:
        """Return every endpoint at which this peer can be reached now, and the addresses of this machine."""
        direct, near = self.told_endpoints, await in_thread(own_addresses)
        if self.options.listen and not direct:
            own = endpoints_of(near, self.host, self.port)
            direct = [*own[: MAX_ENDPOINTS - 1], join_endpoint(LOOPBACK, self.port)]
        return ListeningAt((*direct,), (*near,))

    async def _watch_addresses(self, driver: Driver, told: ListeningAt) -> None:
        """End links and tell others when this machine has other addresses: it came into another network."""
        links = self.dispatcher.links_changed
        while True:
            await asyncio.sleep(ADDRESSES_SETTLE)
            await ends_within(ADDRESSES_CHECKED_EVERY, links.wait())
            links.clear()
            driver.connections.end_strayed()
            if not self.told_endpoints and (now := await self._addresses()) != told:
                told = now
                driver.put(told)

    def _open_trace(self, resources: PeerResources) -> Trace | None:
        options, clock = self.options, self._clock
        if options.trace is None:
            return None
        from p2pchat.trace import Trace

        return Trace(
            options.trace,
            texts=options.trace_texts,
            limit_bytes=self.settings.trace_limit_bytes,
            peer=resources.identity.peer_id,
            clock=now_micros if clock is None else lambda: clock().utc,
        )

    def _load_own_user(self, resources: PeerResources, stored: Stored) -> None:
        me = resources.user.peer_id
        self.directory.load(me, stored)
        self.dispatcher.load(stored)
        former = stored.meta.get(META_NAME) or self.directory.name(me)
        self.name = former or login_name(self.port)
        new = self._new_name(stored)
        if new:
            self.name = validate_name(new)
        self.directory.learn([(me, self.name)])
        self.directory.set_about(me, stored.meta.get(META_ABOUT, self.directory.user(me).about))
        self.feed.load(stored)

    def _make_driver(
        self, resources: PeerResources, connections: ConnectionManager, stored: Stored, hosted: list[HostedIdentity]
    ) -> Driver:
        me, settings, machine = resources.user.peer_id, self.settings, None
        if resources.directory is None:
            settings = replace(settings, auto_fetch_bytes=0)  # memory is for what a program sends, or asks for
        about, guest = self.directory.user(me).about, resources.network.guest(me)
        own = HostedIdentity(me, self.name, resources.user.sign, guest=guest, about=about, is_kept=self.is_kept)
        if resources.own is not None:
            peer = resources.identity.peer_id
            machine = HostedIdentity(peer, "", resources.identity.sign, guest=resources.network.guest(peer))
        node = Node(
            settings=settings,
            peer=resources.identity.peer_id,
            users=[own, *hosted],
            machine=machine,
            network=_credentials(resources),
            draw=secrets.token_bytes,
            stored=stored,
        )
        return Driver(
            node=node,
            storage=resources.storage,
            connections=connections,
            directory=resources.directory,
            settings=self.settings,
            recent=self.feed.recent,
            tell={**self.dispatcher.handlers, OwnStateChanged: self._on_own_state, UserNamed: self._on_named},
            on_failed=self._on_failed,
            clock=self._clock,
        )

    def _on_named(self, effect: UserNamed) -> None:
        """Take a name, also that of the own user from another machine of it."""
        self.dispatcher.handlers[UserNamed](effect)
        if effect.user == self.directory.me:
            self.name = effect.name

    def _on_own_state(self, effect: OwnStateChanged) -> None:
        """Hide whom a user ignores or blocks now, perhaps by another machine, or show them again."""
        me, id, what = effect.user, id_in(effect.key), effect.key.partition(":")[0]
        hosted = self.hosted.by_id.get(me)
        if not id or what not in (IGNORED, BLOCKED) or (hosted is None and me != self.directory.me):
            return
        directory = self.directory if hosted is None else hosted.directory
        chosen = directory.ignored if what == IGNORED else directory.blocked
        (chosen.add if effect.text else chosen.discard)(id)
        user = directory.user(id)
        told = Hidden(user=user, ignored=user.ignored, blocked=user.blocked)
        self.dispatcher.emit(("hidden", me, id), lambda viewer: told, (me,))
        if hosted is not None and what == BLOCKED:  # of whom the own user blocks the core says that they are away
            for one, other in ((me, id), (id, me)):
                self.dispatcher.on_presence(PresenceChanged(other, *self.directory.facts.status(one, other)), one)

    def _new_name(self, stored: Stored) -> str:
        """Return the name that this start gives, or "". A service gives the same at each start: later choices count."""
        name = self.options.name or ""
        if name == stored.meta.get(META_GIVEN):
            return ""
        return name

    async def _store_name(self, stored: Stored) -> None:
        """Store a name that was chosen, so that later starts need not repeat it. Warn if it replaces another one."""
        new = self._new_name(stored)
        if not new:
            return
        former = stored.meta.get(META_NAME, self.name)
        await self.require_running().disk.write(Change(meta={META_NAME: self.name, META_GIVEN: new}))
        if former != self.name:
            text = f"{former} is called {self.name} from now on: programs with one port, or one directory, are one user"
            self.dispatcher.dispatch(WarningIssued("renamed", text, self.directory.me))

    async def _note_machine(self) -> None:
        """Say once what this machine is called, where its person has others."""
        driver = self.require_running()
        key, node = f"{DEVICE}:{driver.node.peer}", driver.node
        if node.peer != node.user and not node.own.get(node.user, key):
            text = f"{now_micros()} {gethostname()[:MAX_NAME_CHARACTERS]}"
            with suppress(P2PChatError):  # the next start says it
                await driver.requests.choose(node.user, {key: text})

    async def _wait_for_endpoints(self, endpoints: Sequence[str], timeout: float) -> None:
        """Wait until each endpoint has failed once, or is linked and has announced its users."""

        def answered() -> bool:
            node = self.require_running().node
            complete = all(link.has_listed_users for link in node.links.up.values())
            return complete and all(endpoint in self.dispatcher.endpoints for endpoint in endpoints)

        await ends_within(timeout, self.require_running().wait_until(answered))
        # Those that have not answered are still dialled; events report the outcome.

    def _start_discovery(self) -> None:
        """Search the local network for members, if that is wanted."""
        resources, driver = self.resources, self.driver
        if not self.options.discover or self._discovery or self.closed or resources is None or driver is None:
            return
        from p2pchat.discovery import Discovery

        self._discovery = Discovery(
            resources.identity.peer_id,
            bytes.fromhex(resources.network.key),
            host=self.host,
            port=self.port,
            advertise=self.advertise[0] if self.advertise else None,
            on_sighted=lambda peer, at: driver.put(PeerSighted(peer, at)),
            warn=lambda text: self.dispatcher.dispatch(WarningIssued("discovery", text)),
        )

    # ---- stop

    async def aclose(self, reason: str) -> None:
        """Close the peer; see TCPPeer.aclose."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close(reason, asyncio.current_task()))
        await asyncio.shield(self._closing)

    def _on_failed(self) -> None:
        """Close after a defect, as aclose() does: every call that waits fails, and every iterator of events ends."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close("failed", None))

    async def kill(self) -> None:
        """End at once, like a crash: everything not on disk is lost, and no peer is notified."""
        await self._close("killed", None, kill=True)

    async def _close(self, reason: str, closer: asyncio.Task[object] | None, *, kill: bool = False) -> None:
        was_closed, driver = self.closed, self.driver
        self.closed = True
        if was_closed or driver is None:
            self.dispatcher.close(None)
            return
        stopping_watch = asyncio.ensure_future(self._stop_watching())
        closed = True
        try:
            closed = await (driver.kill() if kill else self._leave(driver, closer))
        finally:
            await stopping_watch
            await self._release(self.resources, closed, None if kill else Stopped(reason=reason))
            _log.info("the peer at port %s stopped: %s", self.port, reason)

    async def _leave(self, driver: Driver, closer: asyncio.Task[object] | None) -> bool:
        await driver.stop()
        await self.dispatcher.drain(closer)
        return await driver.close()

    async def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        if self._discovery is not None:
            await self._discovery.aclose()

    async def _release(self, resources: PeerResources | None, storage_closed: bool, last: Stopped | None) -> None:
        """End what is left, after the last word to every peer; locks of a busy storage as soon as it is closed."""
        if self._trace is not None:
            self._trace.close()
        if self.options.listener is not None:
            self.options.listener.close()  # start() may have ended before it listened there
        self.dispatcher.close(last)
        if self.indexer is not None:
            await self.indexer.aclose()
        if resources is not None and storage_closed:
            await ends_within(DISK_TIMEOUT, in_thread(resources.close))
        elif resources is not None and self.driver is not None:
            self.driver.disk.when_closed(resources.close)


def _newest_own(stored: Stored, me: UserId, recent_places: int) -> str | None:
    """Return the id of the user's newest entry; "" for none, None if it is older than what was read."""
    own = next((message_id(log, seq) for log, seq in reversed(stored.recent) if log.user == me), None)
    return "" if own is None and stored.next_place <= recent_places else own


def _load(resources: PeerResources, *, is_offline: bool) -> tuple[Stored, list[StoredUser], str]:
    """Return what is stored, the users that are hosted, and what was lost. A new profile learns of its login first."""
    storage = resources.storage
    with gc_paused():
        hosted = storage.hosted()
        users = [resources.user.peer_id, *(user.id for user in hosted)]
        stored = storage.load(users)
        if not (stored.addresses or stored.statements or is_offline) and learn_of_login(resources):
            stored = storage.load(users)
    return stored, hosted, storage.lost()


def _credentials(resources: PeerResources) -> NetworkCredentials:
    network = resources.network
    credentials = NetworkCredentials(network.id, network.key, network.founder, is_named=bool(network.name))
    if network.member is not None and not network.name:
        credentials.member, credentials.sign = network.member.peer_id, network.member.sign
        credentials.invites_key = resources.identity.derive(INVITES_KEY)
        credentials.invitation = network.invitation
    return credentials
