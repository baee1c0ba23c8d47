"""A peer that knows many users: a group of 256, thousands of users, addresses and conversations.

Two peers are created in sync. Half of their conversations are groups of both, the other half direct conversations with
users who have left. Every known user has written to the room. Then one peer starts while the other runs, links with it
through a relay that counts bytes, and executes typed commands.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.results import Row, Setting, middle, shown
from benchmarks.workers import Channel, Worker, resident_kib

USERS, ADDRESSES, CONVERSATIONS, MEMBERS = 5_000, 4_000, 10_000, 256
RUN = "0123456789abcdef"  # the run in which each user wrote
TIMES = 9  # repetitions of a command; the median counts
IN_STEP_FOR = 0.2  # seconds without a byte, after the comparison, that make a link quiet

Timing = tuple[float, float]  # elapsed seconds, and CPU seconds of this process


class _Writer(NamedTuple):
    """A user who writes into both profiles."""

    id: str
    sign: Callable[[bytes], bytes]


class _Crowd:
    """The data that both profiles share: users who have left, and groups of the two peers.

    Their entries have the same times in both profiles; otherwise they would be forks.
    """

    def __init__(self, room: str, ada: _Writer, bob: str, users: int, groups: int, members: int) -> None:
        self.room = room
        self.at = time.time_ns() // 1000
        self.users = [_somebody() for _ in range(users)]
        self.groups = [self._group(ada, f"group {number}", [bob]) for number in range(groups - 1)]
        self.groups.append(self._group(ada, "crowd", [bob, *(user.id for user in self.users[: members - 3])]))

    def _group(self, owner: _Writer, name: str, others: list[str]) -> Any:
        from p2pchat.core.groups.group_fact import CREATE, SALT_BYTES, fact_body, group_id, run_of
        from p2pchat.core.log import Entry, encode_entry
        from p2pchat.protocol import Naming

        body = fact_body(CREATE, [owner.id, *others], name=name, salt=secrets.token_hex(SALT_BYTES))
        entry = Entry("group", self.at, self.at, b=body)
        raw = encode_entry(entry)
        id = group_id(self.room, owner.id, raw)
        run = run_of(id, owner.id, (), None, raw)
        return _written(owner, id, Naming(group=(id, owner.id, run)), entry, run)


def _somebody() -> _Writer:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return _Writer(key.public_key().public_bytes_raw().hex(), key.sign)


async def make(
    channel: Channel, ada: str, bob: str, users: int, addresses: int, conversations: int, members: int
) -> None:
    """Run as a worker: create both profiles with all their data."""
    from p2pchat import TCPPeer
    from p2pchat.core.members.statement import room_id
    from p2pchat.identity.profile import Profile

    async with TCPPeer(data=ada, name="ada") as one, TCPPeer(0, one.endpoint, data=bob, name="bob") as other:
        for peer in (other, one):
            await (await peer.broadcast("here I am")).delivered()
    with Profile.open(data=ada) as own, Profile.open(data=bob) as others:
        owner = _Writer(own.identity.peer_id, own.identity.sign)
        room = room_id(own.network.id)
        crowd = _Crowd(room, owner, others.identity.peer_id, users, conversations // 2, members)
        for profile in (own, others):
            _fill(profile, crowd, addresses, conversations // 2)
    channel.send(made=True)


def _fill(profile: Any, crowd: _Crowd, addresses: int, letters: int) -> None:
    """Fill a profile: room messages of these users, direct messages to its user, groups, addresses."""
    from p2pchat.core.durable_changes import Address, Change, KnownUser
    from p2pchat.core.log import Entry
    from p2pchat.core.members.statement import room_id
    from p2pchat.core.sync.known_conversations import dm_id, dm_naming
    from p2pchat.protocol import Naming
    from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
    from p2pchat.storage.sql_storage import SqlStorage

    me, room, at = profile.identity.peer_id, room_id(profile.network.id), crowd.at
    changes: list[Change] = []
    for number, user in enumerate(crowd.users):
        name = f"user {number}"
        changes.append(_written(user, room, Naming(room=True), Entry("profile", at, at, b={"name": name})))
        changes[-1].users.append(KnownUser(user.id, name, at))
    for user in crowd.users[:letters]:
        letter = Entry("text", at, at, b="good morning")
        changes.append(_written(user, dm_id(room, me, user.id), dm_naming(me, user.id), letter))
    changes += crowd.groups
    known = [
        Address(user.id, f"127.{1 + number // 65_000}.{number // 250 % 250}.{number % 250 + 1}:9", verified_at=1)
        for number, user in enumerate(crowd.users[:addresses])
    ]
    storage = SqlStorage(sqlite_url(profile.database))
    place = storage.load([me]).next_place
    storage.commit([*(_shown(change, place + i) for i, change in enumerate(changes)), Change(addresses=known)])
    storage.close()


def _written(writer: _Writer, conversation: str, naming: Any, entry: Any, run: str = RUN) -> Any:
    """Return a change that stores one entry in its own log."""
    from p2pchat.core.durable_changes import Change, KnownConversation, NewLog
    from p2pchat.core.log import (
        Batch,
        LogId,
        encode_entry,
        encode_header,
        extend_chain,
        first_chain,
        head_message,
        size_bytes,
    )

    log = LogId(conversation, writer.id, run)
    header = encode_header(log, (), None)
    raws, prev = [encode_entry(entry)], first_chain(header)
    chain = extend_chain(prev, raws)
    head = writer.sign(head_message(log, 1, chain))
    batch = Batch(log, 1, raws, [entry], prev, chain, head, size_bytes(raws), header)
    known = KnownConversation(conversation, naming)
    return Change(batches=[batch], logs=[NewLog(log, (), True)], conversations=[known])


def _shown(change: Any, place: int) -> Any:
    """Return the change with a place for its entry in the history of a profile."""
    from p2pchat.core.durable_changes import Stretch

    batch = change.batches[0]
    change.stretches[:] = [Stretch(place, batch.log, 1, 1, batch.entries[0].at, False, False)]
    return change


async def hold(channel: Channel, data: str) -> None:
    """Run as a worker: the other peer, which is already running."""
    from p2pchat import TCPPeer

    async with TCPPeer(data=data) as peer:
        channel.send(endpoint=peer.endpoint)
        await channel.closed()


class _Relay:
    """A relay that forwards everything and counts the bytes."""

    def __init__(self, to: str) -> None:
        host, _, port = to.rpartition(":")
        self._to = host, int(port)
        self.bytes = 0
        self.last = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def listen(self) -> str:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(*self._to)
        self._tasks += [
            asyncio.create_task(self._pass(reader, there[1])),
            asyncio.create_task(self._pass(there[0], writer)),
        ]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                self.bytes += len(data)
                self.last = time.perf_counter()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # one end has closed, and the relay closes too
        writer.close()


async def use(channel: Channel, data: str, endpoint: str) -> None:
    """Run as a worker: start the peer, link with the other one, and run the commands."""
    async with started_and_linked(data, endpoint) as (peer, found):
        crowd = peer.group("crowd")
        found |= {"users": len(peer.users()), "conversations": len(peer.conversations())}
        found["adding"] = await _middle_of(lambda: _add_and_remove(crowd))
        for name in ("who", "list"):
            found[name] = await _middle_of(_command(peer, f"/{name}"))
        channel.send(members=len(crowd.members) + 1, **found)


@asynccontextmanager
async def started_and_linked(data: str, endpoint: str) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
    """Start a peer, and link it with another through a relay that counts.

    Yields:
        The peer; `started` and `linked` (as Took); `bytes` of the link until it was quiet; and by how many KiB this
        process grew with the start.
    """
    from p2pchat import TCPPeer

    relay = _Relay(endpoint)
    through = await relay.listen()
    begun, before = _now(), resident_kib()
    async with TCPPeer(data=data) as peer:
        found: dict[str, Any] = {"started": _since(begun), "grown": resident_kib() - before}
        begun = _now()
        await peer.connect(through)
        await _quiet(peer, relay)
        found |= {"linked": (relay.last - begun[0], time.process_time() - begun[1]), "bytes": relay.bytes}
        yield peer, found


def _now() -> Timing:
    return time.perf_counter(), time.process_time()


def _since(begun: Timing) -> Timing:
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


async def _quiet(peer: Any, relay: _Relay) -> None:
    """Wait until everything is compared and no more bytes pass."""
    while True:
        remotes = peer._driver.node.replicator.context.remotes.values()
        compared = any(remote.comparison.all_compared for remote in remotes)
        if compared and relay.last and time.perf_counter() - relay.last > IN_STEP_FOR:
            return
        await asyncio.sleep(0.005)


async def _middle_of(measure: Callable[[], Awaitable[Timing]]) -> Timing:
    took = [await measure() for _ in range(TIMES)]
    return middle([wall for wall, _ in took]), middle([processor for _, processor in took])


async def _add_and_remove(group: Any) -> Timing:
    """Return the time to add and remove a member."""
    from p2pchat.core.names import base32

    user = base32("ab" * 32)
    begun = _now()
    await group.add(user)
    took = _since(begun)
    await group.remove(user)
    return took


def _command(peer: Any, line: str) -> Callable[[], Awaitable[Timing]]:
    """Return a function that runs a typed command and measures until its answer is written."""
    from p2pchat.commands.display import Display
    from p2pchat.commands.session import Session

    show = Display(NullOutput(), None, as_json=False, echo=False)
    session = Session(peer, show, interactive=False, as_json=False)

    async def give() -> Timing:
        begun = _now()
        await session.execute([line.encode()])
        return _since(begun)

    return give


class NullOutput:
    """Output that discards its lines."""

    async def write(self, text: str) -> None:
        pass


def run(setting: Setting) -> list[Row]:
    """Measure one crowded peer."""
    home = setting.directory / "crowded"
    home.mkdir()
    ada, bob = str(Path(home, "ada")), str(Path(home, "bob"))
    share = setting.crowd / USERS
    sizes = {
        "users": setting.crowd, "addresses": int(ADDRESSES * share), "conversations": int(CONVERSATIONS * share),
        "members": min(MEMBERS, setting.crowd),
    }  # fmt: skip
    with Worker("crowded.make", home=home, ada=ada, bob=bob, **sizes) as making:
        making.get()
    with Worker("crowded.hold", home=home, data=bob) as other:
        endpoint = other.get()["endpoint"]
        with Worker("crowded.use", home=home, data=ada, endpoint=endpoint) as using:
            found = using.get()
    known = f"{found['users']:,} users, {sizes['addresses']:,} addresses, {found['conversations']:,} conversations"
    return [
        _row("start of a peer that knows many, until ready", found["started"], "s", "under 1 s", known),
        _row("two such peers in step link up and compare", found["linked"], "s", "under 1 s", "until no byte passes"),
        Row("bytes of that, both ways, TLS included", found["bytes"] / 1024, "KiB", "under 64 KiB"),
        _row(f"a member is added to a group of {found['members']}", found["adding"], "ms", "under 50 ms"),
        _row("/who there", found["who"], "ms", "under 50 ms"),
        _row("/list there", found["list"], "ms", "under 50 ms"),
    ]


def _row(work: str, took: Timing, unit: str, goal: str, note: str = "") -> Row:
    """Return the row of a time. The CPU share is noted; the rest is waiting for other processes or the disk."""
    wall, processor = (seconds * (1000 if unit == "ms" else 1) for seconds in took)
    return Row(work, wall, unit, goal, f"processor {shown(processor)} {unit}", note)
