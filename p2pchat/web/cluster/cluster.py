"""A gateway as a member of a cluster: what it tells and takes, whom it hosts for others, and all accounts as contacts.

The engine passes records on (engine_store.py); what counts is decided by the directory. A name is claimed in the engine
before its user is hosted. Everything else is stored here first, and written to the engine when it is there: what it
lacks is owed, whoever changed it.

A user is hosted at its home and its standby, where its messages come by themselves, as to every host of a user, and at
every gateway where it is in use.

Every account is a contact of every gateway. Otherwise accounts of another gateway would be unknown users, who have few
places for what nobody answered (core/sync/known_conversations.py), while two accounts of one gateway need none.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date
from itertools import islice
from time import monotonic, time_ns

from p2pchat import DeliveryTimeout, P2PChatError, PeerClosed, TCPPeer, UnknownName
from p2pchat.bounded import remember
from p2pchat.program_log import ProgramLog
from p2pchat.threads import ends_within
from p2pchat.web.account_record import RELEASED, RENAMED, AccountRecord, claimed_record
from p2pchat.web.accounts import Account, Accounts
from p2pchat.web.cluster.account_directory import AccountDirectory
from p2pchat.web.cluster.cluster_key import ClusterKey
from p2pchat.web.cluster.engine_store import ClusterAway, EngineStore, OtherRevision, StoreOptions
from p2pchat.web.cluster.living_gateways import REMEMBERED, ClusterTimes, LivingGateways, UserVisits, hosts_of
from p2pchat.web.cluster.nats_client import cancel
from p2pchat.web.error_responses import WebError

ALIVE = "alive"  # the kind of the message that a gateway lives, for the cluster's key
MAX_TRIES = 16  # of one claim, each lost to another gateway
MAX_ABANDONED = 1000  # claims of which it is not known whether the engine has them
REPAIRS_AT_ONCE = 64  # records on their way to the engine
REPAIR_PAUSE = 0.2  # seconds before a record is written once more: somebody undoes it, or writes it too; a guess
HOSTED_AT_ONCE = 64  # users; those who come together are compared with other gateways together
CONTACTS_AT_ONCE = 64  # users; those who come together are stored together; a guess
LOOKS = 10  # for users to let go, in the time after which they are
TRY_AGAIN_AFTER = 10.0  # seconds until a user is hosted, or a change taken over, that could not be

_log = ProgramLog("p2pchat.web.cluster")


class Cluster:
    """The part of one gateway in a cluster; its Accounts have it as `shared`.

    Attributes:
        on_state: Called with "" when the engine is there, else with the reason why it is not.
        store: The engine.
        key: The key of the cluster.
        directory: All accounts.
        living: The gateways that live.
        gateway_id: The id of this gateway in the cluster, that of its peer; "" before it has joined.
    """

    def __init__(
        self, key: ClusterKey, options: StoreOptions, times: ClusterTimes | None = None,
    ) -> None:  # fmt: skip
        self.times: ClusterTimes = times or ClusterTimes()
        self.directory: AccountDirectory = AccountDirectory(key)
        self.store: EngineStore = EngineStore(options)
        self.on_state: Callable[[str], None] = lambda reason: None
        self.key: ClusterKey = key
        self.living: LivingGateways
        self._visits = UserVisits(self.times)
        self._peer: TCPPeer
        self._accounts: Accounts
        self.gateway_id: str = ""
        self._reported_up: bool | None = None
        self._abandoned: dict[str, None] = {}  # users of claims without an answer
        self._changed: deque[AccountRecord] = deque()  # not yet taken over by the accounts
        self._untaken: list[AccountRecord] = []  # failed: for example, another user here gives up the name first
        self._to_place: dict[str, None] = {}  # whose hosts are to be found
        self._placed_for: frozenset[str] = frozenset()
        self._retry_at = self._let_go_at = 0.0
        self._in_use: set[str] = set()
        self._wake_taking = asyncio.Event()
        self._wake_writing = asyncio.Event()
        self._wake_beat = asyncio.Event()
        self._is_leaving = False
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, peer: TCPPeer, accounts: Accounts) -> None:
        """Join the cluster with the accounts of a gateway. Raises StorageError, PeerClosed."""
        self._peer, self._accounts, self.gateway_id = peer, accounts, peer.me.id
        self.living = LivingGateways(self.gateway_id, self.times)
        await accounts.load()
        for record in accounts.records():
            self.directory.remember(record)
        await self._add_contacts(accounts.records())
        accounts.shared = self
        accounts.on_use = lambda account: self._in_use.add(account.key)
        store = self.store
        store.on_up, store.on_down = self._on_up, self._on_down
        store.on_loading, store.on_loaded = self.directory.begin_load, self._on_loaded
        store.on_value, store.on_message = lambda *entry: self._note(self.directory.on_entry(*entry)), self._on_message
        store.start()
        work = {"taking": self._take_all(), "writing": self._write_all(), "beats": self._beat(), "hosts": self._place()}
        self._tasks = {name: asyncio.create_task(one, name=f"p2pchat web cluster {name}") for name, one in work.items()}

    async def aclose(self) -> None:
        """Leave the cluster: the others take its sessions at once, and soon its users."""
        tasks, self._tasks = self._tasks, {}
        if not tasks:
            return
        self._is_leaving = True
        self._wake_beat.set()
        await asyncio.wait([tasks["beats"]])
        await cancel(tasks.values())
        await self.store.aclose()

    def gauges(self) -> list[tuple[str, str, float]]:
        """Return what is measured of the cluster: name, meaning, value."""
        living = len(self.living.all) if self.gateway_id else 0
        return [
            ("up", "1 while the engine of the cluster is connected, else 0", float(self.store.is_up)),
            ("gateways", "Gateways that live", float(living)),
            ("owed", "Accounts that the engine has to get yet", float(len(self.directory.owed))),
        ]

    async def is_copied(self, account: Account, id: str, within: float) -> bool:
        """Return whether a message is on the disk of another living gateway too: the writer's home or standby.

        Wait so many seconds for that. Raises WebError, P2PChatError.
        """
        others = [gateway for gateway in hosts_of(account.key, self.living.all) if gateway != self.gateway_id]
        if not others:
            return False
        try:
            await (await account.user.receipt(id)).stored_by(*others, timeout=within)
        except (DeliveryTimeout, PeerClosed):  # it is written, whatever becomes of this gateway
            return False
        return True

    # ---- what accounts ask (SharedNames)

    async def look(self, name: str) -> AccountRecord | None:
        place = self.directory.place_of(name)
        if self.directory.at(place) is None:
            with suppress(ClusterAway):
                data, number = await self.store.read(place)
                self._note(self.directory.on_entry(place, data, number, asked=True))
        return self.directory.at(place)

    def require(self) -> None:
        if not self.store.is_up:
            raise ClusterAway

    async def claim(self, mine: AccountRecord, today: date, kept_days: int) -> AccountRecord:
        place, is_written = self.directory.place_of(mine.name), False
        expected = self.directory.revision(place)
        for _ in range(MAX_TRIES):
            there = self.directory.at(place)
            if is_written and there is not None and there.user == mine.user:
                return there
            record = claimed_record(there, mine, today, kept_days)
            self.require()
            try:
                is_written = True
                number = await self.store.write(place, self.directory.seal(place, record), expected)
            except OtherRevision:
                data, expected = await self.store.read(place)
                self._note(self.directory.on_entry(place, data, expected, asked=True))
            except ClusterAway:
                if self._accounts.of(mine.user) is None:
                    self._abandon(mine.user)
                raise
            else:
                self._note(self.directory.on_written(place, record, number))
                return record
        raise ClusterAway

    def announce(self, record: AccountRecord) -> None:
        self._note(self.directory.remember(record))

    def _abandon(self, user: str) -> None:
        """Release the name of a claim without an answer, should the engine have it: nobody has its token."""
        remember(self._abandoned, user, None, MAX_ABANDONED)

    # ---- what the engine tells

    def _on_up(self) -> None:
        self.living.on_connected(monotonic())
        self._report("")
        self._wake_writing.set()
        self._wake_beat.set()  # others are to know of it before they meet its claims

    def _on_down(self, reason: str) -> None:
        self.living.on_disconnected()
        self._report(reason)

    def _report(self, reason: str) -> None:
        if self._reported_up != (not reason):
            self._reported_up = not reason
            self.on_state(reason)

    def _on_loaded(self) -> None:
        self.directory.on_loaded()
        self._wake_writing.set()

    def _note(self, record: AccountRecord | None) -> None:
        """Have a record taken over that counts now, and the engine get what it lacks."""
        if self.directory.owed:
            self._wake_writing.set()
        if record is None:
            return
        if record.user in self._abandoned and not record.is_former and self._accounts.of(record.user) is None:
            del self._abandoned[record.user]
            self.announce(record.former(RELEASED, record.used))
            return
        for old in self.directory.superseded(record.user):
            self.announce(old.former(RENAMED, old.used))
        self._changed.append(record)
        self._to_place[self.directory.place_of(record.name)] = None
        self._wake_taking.set()

    def _on_message(self, data: bytes) -> None:
        with suppress(ValueError, KeyError, TypeError):  # nobody with the key wrote it
            said = json.loads(self.key.open(ALIVE, ALIVE, data))
            number = int(said["number"])
            if time_ns() - number <= REMEMBERED * 1e9:
                gateway, leaves = str(said["gateway"]), bool(said["leaves"])
                self.living.on_beat(gateway, number, monotonic(), leaves=leaves)

    # ---- work

    async def _take_all(self) -> None:
        """Take over what other gateways changed, one record after the other."""
        accepted: set[str] = set()  # users of changes that are not taken over yet
        while True:
            self._wake_taking.clear()
            while self._changed:
                record = self._changed[0]
                try:
                    if record.user not in accepted:
                        first = list(islice(self._changed, CONTACTS_AT_ONCE))
                        await self._add_contacts(first)
                        accepted = {one.user for one in first}
                    await self._accounts.take(self.directory.find(record.name) or record)
                except (P2PChatError, WebError) as error:
                    _log.warning("an account of the cluster could not be taken over: %s", error)
                    self._untaken.append(record)
                    self._accounts.end_sessions_of_ended(record.user)
                    self._retry_at = monotonic() + TRY_AGAIN_AFTER
                self._changed.popleft()
            accepted.clear()
            await self._wake_taking.wait()

    async def _add_contacts(self, records: Iterable[AccountRecord]) -> None:
        """Make the users of these records contacts of this gateway: limits for others do not count for them."""
        users = [self._peer.directory.user(record.user) for record in records if not record.is_former]
        for first in range(0, len(users), CONTACTS_AT_ONCE):
            await asyncio.gather(*map(self._peer.add_contact, users[first : first + CONTACTS_AT_ONCE]))

    async def _write_all(self) -> None:
        """Write to the engine what it lacks."""
        before: set[str] = set()
        while True:
            self._wake_writing.clear()
            while self.directory.owed and self.store.is_up:
                owed = list(self.directory.owed)[:REPAIRS_AT_ONCE]
                if not before.isdisjoint(owed):
                    await asyncio.sleep(REPAIR_PAUSE)
                await asyncio.gather(*map(self._write, owed))
                before = set(owed)
            await self._wake_writing.wait()

    async def _write(self, place: str) -> None:
        """Write one record, in place of what the engine says it holds: a number that was heard may be invented."""
        sealed, expected = self.directory.sealed(place)
        for _ in range(MAX_TRIES):
            record = self.directory.at(place)
            assert record is not None  # it would not be owed
            try:
                number = await self.store.write(place, sealed, expected)
            except OtherRevision:
                try:
                    data, expected = await self.store.read(place)
                except ClusterAway:
                    return
                self._note(self.directory.on_entry(place, data, expected, asked=True))
                if place not in self.directory.owed:
                    return
                sealed, _ = self.directory.sealed(place)
            except ClusterAway:
                return  # it stays owed
            else:
                self._note(self.directory.on_written(place, record, number))
                return

    async def _beat(self) -> None:
        """Say again and again that this gateway lives, and at the end that it leaves.

        A beat after that last word would bring it back, and nats-py loses its connection over a pong that nobody
        waits for any more: so the last word follows the beat that is under way, which is not cancelled.
        """
        while not self._is_leaving:
            self._wake_beat.clear()
            await self.store.send(self._alive(leaves=False))
            await ends_within(self.times.beat_every, self._wake_beat.wait())
        await self.store.send(self._alive(leaves=True))

    def _alive(self, *, leaves: bool) -> bytes:
        said = {"gateway": self.gateway_id, "number": time_ns(), "leaves": leaves}
        return self.key.seal(ALIVE, ALIVE, json.dumps(said).encode())

    async def _place(self) -> None:
        """Host the users of which this gateway is home or standby, and let others go."""
        while True:
            await asyncio.sleep(self.times.beat_every)
            now = monotonic()
            self.living.tick(now)
            if self.living.is_settled(now):
                await self._host_own(now)
                if now >= self._let_go_at:
                    self._let_go_at = now + self.times.unhost_after / LOOKS
                    await self._let_go(now)

    async def _host_own(self, now: float) -> None:
        living, places = self.living.all, list(self._to_place)
        if living != self._placed_for or now >= self._retry_at > 0:
            places, self._placed_for, self._retry_at = self.directory.places(), living, 0.0
            self._changed.extend(self._untaken)
            self._untaken.clear()
            self._wake_taking.set()
        self._to_place.clear()
        mine: list[AccountRecord] = []
        for count, place in enumerate(places):
            if count % 100 == 0:
                await asyncio.sleep(0)  # ten thousand users take a while
            record = self.directory.at(place)
            if record is None or record.is_former or self._accounts.of(record.user) is not None:
                continue
            if self.gateway_id in hosts_of(record.user, living):
                mine.append(record)
        for first in range(0, len(mine), HOSTED_AT_ONCE):
            for error in await asyncio.gather(*map(self._host, mine[first : first + HOSTED_AT_ONCE])):
                if error is not None:
                    _log.warning("a user of the cluster could not be hosted: %s", error)
                    self._retry_at = now + TRY_AGAIN_AFTER

    async def _host(self, record: AccountRecord) -> P2PChatError | WebError | None:
        try:
            await self._accounts.adopt(record)
        except (P2PChatError, WebError) as error:
            return error
        return None

    async def _let_go(self, now: float) -> None:
        used, self._in_use = self._in_use, set()
        accounts = self._accounts.list()
        self._visits.keep({account.key for account in accounts})
        for count, account in enumerate(accounts):
            if count % 100 == 0:
                await asyncio.sleep(0)
            if self.gateway_id in (hosts := hosts_of(account.key, self.living.all)):
                continue
            in_use = bool(account.sessions) or account.key in used
            if self._visits.may_leave(account.key, now, in_use=in_use) and await self._is_hosted_at(account, hosts):
                with suppress(P2PChatError):  # then it is let go later
                    await self._accounts.leave(account)

    async def _is_hosted_at(self, account: Account, gateways: Iterable[str]) -> bool:
        """Return whether all these gateways are linked and host the user: its messages are there, or on their way."""
        try:
            known = await self._peer.whois(account.user.me)
        except (P2PChatError, UnknownName):
            return False
        return set(gateways) <= {host.id for host in known.hosts if host.linked}
