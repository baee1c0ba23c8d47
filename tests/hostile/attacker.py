"""A malicious member: real sockets, real TLS, a proven identity, and arbitrary frames.

It uses the frames and keys of p2pchat but not its core, so it can send frames that no honest peer would send.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from secrets import token_bytes, token_hex
from time import time_ns
from typing import TypeVar

from p2pchat import protocol as wire
from p2pchat.core.groups.group_fact import CREATE, FACT, fact_body, group_id, run_of
from p2pchat.core.log import (
    Entry,
    LogId,
    RawEntry,
    encode_entry,
    encode_header,
    extend_chain,
    first_chain,
    head_message,
)
from p2pchat.core.members.statement import room_id
from p2pchat.core.mesh.handshake import ClientSide, make_cert
from p2pchat.core.mesh.peer_exchange import make_record
from p2pchat.core.node_context import NetworkCredentials as CoreNetwork
from p2pchat.core.sync.known_conversations import dm_id, dm_naming
from p2pchat.identity.identity import Identity
from p2pchat.identity.network import Network
from p2pchat.identity.tls_pipe import client_context, peer_key
from tests.deadlines import WAIT

ROOM = wire.Naming(room=True)
NOW = 1_760_000_000_000_000  # UTC microseconds, in the past
F = TypeVar("F", bound=wire.Frame)


def invented_identity(name: str) -> Identity:
    """Return the identity of an invented user, the same for the same name."""
    return Identity.from_seed(sha256(name.encode()).digest())


class LogWriter:
    """Writes one log as its author's peer would; the author may be invented, and nobody need answer for it."""

    def __init__(
        self, author: Identity, conversation: str, run: str = "", before: Iterable[wire.Mark] = (),
        by: wire.GuestCertificate | None = None,
    ) -> None:  # fmt: skip
        self.author = author
        self.log = LogId(conversation, author.peer_id, run or token_hex(8))
        self.header = encode_header(self.log, tuple(before), by)
        self.seq = 0
        self.chain = first_chain(self.header)

    def say(self, *texts: str, c: int = NOW) -> wire.Entries:
        """Return a signed batch of these texts."""
        entries = [Entry("text", c + n, c + self.seq + n, b=text) for n, text in enumerate(texts, 1)]
        return self.write(*map(encode_entry, entries))

    def write(self, *raws: RawEntry) -> wire.Entries:
        """Return a signed batch of these entries, unchanged."""
        first, prev = self.seq + 1, self.chain
        self.seq += len(raws)
        self.chain = extend_chain(prev, raws)
        head = self.author.sign(head_message(self.log, self.seq, self.chain))
        header = self.header if first == 1 else ""
        return wire.Entries(*self.log, first, prev.hex(), list(raws), head.hex(), header)

    @property
    def mark(self) -> wire.Mark:
        return wire.Mark(self.log.run, self.seq, self.chain.hex())


class Attacker:
    """One connection to a peer.

    Attributes:
        name, identity: The name and key of the member.
        host: Where it connects to.
        frames: The frames received so far.
        room: The room of the network.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        host: str = "127.0.0.1",
        *,
        source: str = "",
        identity: Identity | None = None,
    ) -> None:
        self.name = name
        self.host, self._source = host, source
        self.identity = identity or invented_identity(name)
        self.network = network
        self.room = room_id(network.id)
        self.frames: list[wire.AnyFrame] = []
        self.over = False
        self._decoder = wire.Decoder(max_frame_bytes=wire.MAX_FRAME_BYTES)
        self._news = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._listening: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        return self.identity.peer_id

    def record(self, peer: Identity, *endpoints: str) -> wire.PeerRecord:
        """Return a record of a peer for which the attacker's member answers, if its key is here."""
        return make_record(
            self.network.id, peer.peer_id, peer.sign, time_ns() // 1000, endpoints, self.network.guest(peer.peer_id)
        )

    async def connect(self, port: int, context: ssl.SSLContext | None = None) -> str:
        """Connect and set up TLS; return the peer's id."""
        self._reader, self.writer = await asyncio.open_connection(
            self.host, port, ssl=context or client_context(), local_addr=(self._source, 0) if self._source else None
        )
        self._listening = asyncio.create_task(self._listen())
        self.server = peer_key(self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        return self.server

    async def introduce_itself(self, port: int) -> None:
        """Prove identity and the network's key. What the peer shows is in its `welcome`."""
        server = await self.connect(port)
        side = ClientSide(
            self.id, self.identity.sign, CoreNetwork(self.network.id, self.network.key), server=server, pin="",
            nonce=token_bytes(32),
        )  # fmt: skip
        offer = await self.next(wire.Hello)
        hello = side.on_frame(offer)
        assert hello is not None
        self.say(hello)
        self.transcript = side.transcript
        await self.next(wire.Welcome)

    async def join(self, port: int, *, introduce: bool = True) -> None:
        """Become a linked peer with a valid handshake; then announce users if `introduce` is true."""
        await self.introduce_itself(port)
        self.say(wire.Show(self.shown()))
        await self.next(wire.Admit)
        if self.id < self.server:
            self.say(wire.Go(token_hex(8), 1))
            self._decoder.takes_pieces = True
        else:
            await self.next(wire.Go)
        if introduce:
            self.say(wire.Peers(), wire.Here([wire.Hosted(self.id, self.name, "online")]), wire.Digest(sum="0" * 64))
            await self.next(wire.Digest)

    def shown(self) -> wire.Membership:
        """Return what shows that the member whose key is in the network, here the founder, answers for this key."""
        return wire.Membership(self.network.founder or None, self.network.guest(self.id))

    def pen(self, author: Identity, conversation: str, run: str = "", before: Iterable[wire.Mark] = ()) -> LogWriter:
        """Return the writer of a log of a user for whom this member answers."""
        return LogWriter(author, conversation, run, before, self.network.guest(author.peer_id))

    async def _listen(self) -> None:
        try:
            while data := await self._reader.read(65536):
                self.frames += self._decoder.feed(data)
                self._news.set()
                await self._may_read.wait()
        except (OSError, ssl.SSLError):
            pass
        self.over = True
        self._news.set()

    def read_nothing(self) -> None:
        """Stop reading; further bytes fill the buffers of the system."""
        self._may_read.clear()
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the received frames holds."""
        async with asyncio.timeout(WAIT):
            while not condition():
                assert not self.over, f"the peer has closed the connection: {self.frames[-1:]}"
                self._news.clear()
                await self._news.wait()

    async def next(self, kind: type[F], after: int = 0) -> F:
        """Wait for the first frame of this kind after the first `after` frames, and return it."""
        found: list[F] = []

        def there() -> bool:
            found[:] = [frame for frame in self.frames[after:] if isinstance(frame, kind)]
            return bool(found)

        await self.until(there)
        return found[0]

    def say(self, *what: wire.Frame | bytes) -> None:
        """Send these frames in one write."""
        self.writer.write(b"".join(one if isinstance(one, bytes) else wire.encode(one) for one in what))

    async def flood(self, what: Iterable[wire.Frame | bytes]) -> int:
        """Send all items as fast as possible, until the connection ends; return the number of sent items."""
        said = 0
        for one in what:
            if self.over:
                break
            self.say(one)
            said += 1
            if said % 64 == 0:
                try:
                    await self.writer.drain()
                except (OSError, ssl.SSLError):
                    break
        return said

    async def wait_closed(self, within: float = WAIT) -> str:
        """Wait until the peer closes the connection; return the code of its bye, "" without one."""
        async with asyncio.timeout(within):
            while not self.over:
                self._news.clear()
                await self._news.wait()
        last = self.frames[-1] if self.frames else None
        return last.code if isinstance(last, wire.Bye) else ""

    def marks(self, user: str) -> list[wire.Mark]:
        """Return the newest marks that the peer has sent of a user in the room."""
        told = [frame.marks[self.room][user] for frame in self.frames
                if isinstance(frame, wire.Have) and user in frame.marks.get(self.room, {})]  # fmt: skip
        return told[-1] if told else []

    def is_full(self, user: str) -> bool:
        """Return whether the peer has sent `full` for a user in the room."""
        return any(isinstance(frame, wire.Have) and user in frame.full.get(self.room, []) for frame in self.frames)

    async def disconnect(self) -> None:
        """Disconnect without a goodbye."""
        self._may_read.set()
        if self._listening is not None:
            self.writer.transport.abort()
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)


def appearing(eve: Attacker, users: Sequence[Identity]) -> Iterator[wire.Here]:
    """Yield frames in which these users appear as hosted by the attacker's peer."""
    now = time_ns() // 1_000_000
    for start in range(0, len(users), 100):
        yield wire.Here(
            [
                wire.Hosted(
                    user.peer_id,
                    f"u{n}",
                    "online",
                    cert=make_cert(eve.network.id, user.peer_id, user.sign, eve.id, now),
                )
                for n, user in enumerate(users[start : start + 100], start)
            ]
        )


def letter_of(eve: Attacker, user: Identity) -> wire.Entries:
    """Return what a user writes to the attacked peer's user."""
    frame = eve.pen(user, dm_id(eve.room, user.peer_id, eve.server)).say("buy")
    frame.names = [dm_naming(user.peer_id, eve.server)]
    return frame


def group_of(eve: Attacker, owner: Identity, name: str) -> wire.Entries:
    """Return the fact that makes a group with the attacked peer's user."""
    return made_group(eve, owner, [owner.peer_id, eve.server], name)[1]


def made_group(
    eve: Attacker, owner: Identity, members: list[str], name: str, salt: str = "00" * 16
) -> tuple[str, wire.Entries]:
    """Return the id of a group, and the fact that makes it."""
    body = fact_body(CREATE, members, name=name, salt=salt)
    raw = encode_entry(Entry(FACT, NOW, NOW, b=body))
    group = group_id(eve.room, owner.peer_id, raw)
    frame = said_fact(eve, owner, group, body)
    frame.names = [wire.Naming(group=(group, owner.peer_id, frame.r))]
    return group, frame


def said_fact(
    eve: Attacker, by: Identity, group: str, body: object, clock: int = NOW, before: Sequence[wire.Mark] = ()
) -> wire.Entries:
    """Return a fact of a group."""
    raw, guest = encode_entry(Entry(FACT, clock, clock, b=body)), eve.network.guest(by.peer_id)
    run = run_of(group, by.peer_id, tuple(before), guest, raw)
    return LogWriter(by, group, run, before, guest).write(raw)
