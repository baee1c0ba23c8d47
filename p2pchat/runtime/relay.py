"""Links through an engine: pipes over pairs of NATS subjects, beside sockets and beneath everything else.

A peer behind a router can dial and cannot be dialled. With an engine (relay_engine.py) it is at the endpoint
`ID.relay:1`: it listens at one subject, which names its id. A dial opens two more subjects, one for each direction,
whose names are random and told to nobody else. Over them go the bytes that a socket would carry: TLS 1.3 from end to
end, with the key pinned, then frames. So the engine sees who has a link with whom, when, and how much goes over it, and
no more.

The engine promises neither delivery nor order, so pieces are numbered by the bytes before them. A piece that is
missing, repeated or out of order breaks the pipe; the core dials again and compares marks, as after any broken link.
Each end takes at most a window of bytes that it has not passed on. Every piece names the subject of its sender: the
engine answers at once when nobody listens at the other one, and pieces from elsewhere do not count.

Whoever may publish on the engine can dial every peer that it knows the id of, and cannot be told from others there. So
the piece that opens a pipe of a keyed network has a proof of the network's key: who lacks it takes no place. Nothing
that the engine says about the far end is believed. All these connections count as strangers from one address
(strangers.py), until they have proved themselves.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import logging
import re
import secrets
from collections import Counter, deque
from collections.abc import Callable

from p2pchat.client import STREAM_LIMIT_BYTES, Streams
from p2pchat.core.mesh.addressbook import RELAY_PORT, relay_peer
from p2pchat.core.names import base32
from p2pchat.core.shares import RELAY_HOST
from p2pchat.protocol import PeerId
from p2pchat.runtime.connections import Transport
from p2pchat.runtime.relay_engine import Engine, EngineAway, EngineOptions
from p2pchat.server import Server

WINDOW_BYTES = 1 << 20  # on their way, or received and not passed on; what one link buffers (buffer_limit_bytes)
TAKEN_EVERY_BYTES = WINDOW_BYTES // 4  # passed on; then the far end is told
PIECE_BYTES = 128 << 10  # of one piece; NATS takes 1 MiB unless its operator lowered that. A guess
JOINED_BYTES = 4096  # received pieces are joined up to this while nobody reads: one of two bytes takes 60 of memory
HEAD_BYTES = 9  # of a piece: its kind and its number
VERSION = b"1"  # of this protocol, in an open

OPEN, DATA, TAKEN, END, BREAK = b"O", b"D", b"T", b"E", b"B"
PROOF_TAG = b"p2pchat/relay/1\0"
_NUMBERED = (DATA, TAKEN, END)
_PIPE_SUBJECT = re.compile(r"p2pchat\.pipe\.([a-z2-7]{52})\.[0-9a-f]{16}\.[0-9a-f]{32}")

_log = logging.getLogger("p2pchat.relay")


class BufferedTransport(asyncio.Transport):
    """Base of transports that are no sockets: their streams, what is unsent, pauses and the end.

    A subclass passes on what is unsent in `_push`, now or soon, and calls `_passed_on` once less waits; it goes on
    reading in `_read_later`.

    Attributes:
        protocol: Who gets the bytes.
        unsent_bytes: The bytes that were written and not passed on.
    """

    def __init__(self, extra: dict[str, object], piece_bytes: int) -> None:
        super().__init__(extra)
        self._loop = asyncio.get_running_loop()
        self._piece_bytes = piece_bytes  # of a full piece of what is unsent
        self._unsent: deque[bytes] = deque()
        self.unsent_bytes: int = 0
        self._ends = False  # nothing more is written
        self.protocol: asyncio.Protocol | asyncio.BufferedProtocol
        self._reading = True
        self._closing = False
        self._lost = False
        self._high, self._low = 64 * 1024, 16 * 1024
        self._writing_paused = False

    def _take_unsent(self) -> bytes:
        """Remove and return the first piece of what is unsent."""
        data = self._unsent.popleft()
        self.unsent_bytes -= len(data)
        return data

    def streams(self) -> Streams:
        """Return a reader and a writer over this transport; call this first."""
        reader = asyncio.StreamReader(limit=STREAM_LIMIT_BYTES, loop=self._loop)
        protocol = self.protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        protocol.connection_made(self)
        return reader, asyncio.StreamWriter(self, protocol, reader, self._loop)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._ends or self._lost or not data:
            return
        view = memoryview(data)
        for at in range(0, len(view), self._piece_bytes):
            self._unsent.append(bytes(view[at : at + self._piece_bytes]))
        self.unsent_bytes += len(view)
        self._push()
        if self.get_write_buffer_size() > self._high and not self._writing_paused:
            self._writing_paused = True
            self.protocol.pause_writing()

    def write_eof(self) -> None:
        self._ends = True
        self._push()

    def close(self) -> None:
        if not self._closing:
            self._closing = self._ends = True
            self._push()

    def lose(self, error: Exception | None) -> None:
        """End the connection here. The protocol is notified once."""
        if self._lost:
            return
        self._lost = self._closing = self._ends = True
        self._unsent.clear()
        self.unsent_bytes = 0
        self._on_lost(error)
        self.protocol.connection_lost(error)

    def _on_lost(self, error: Exception | None) -> None:
        """Give up what a subclass holds."""

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        self.protocol = protocol

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._read_later()

    def is_reading(self) -> bool:
        return self._reading

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    def _passed_on(self) -> None:
        """Let the protocol go on once little enough waits."""
        if self._writing_paused and self.get_write_buffer_size() <= self._low and not self._lost:
            self._writing_paused = False
            self.protocol.resume_writing()

    def _push(self) -> None:
        raise NotImplementedError

    def _read_later(self) -> None:
        raise NotImplementedError


class Pipe(BufferedTransport):
    """One end of a pipe: the transport under a StreamReader and a StreamWriter.

    Attributes:
        own: The subject at which this end listens.
        far: That of the other end; "" until it has answered.
        opened: Done when the other end has answered.
    """

    def __init__(self, relay: RelayTransport, own: str, far: str) -> None:
        super().__init__(
            {"peername": (RELAY_HOST, RELAY_PORT), "sockname": (RELAY_HOST, RELAY_PORT)}, relay.piece_bytes
        )
        self._relay = relay
        self.own: str = own
        self.far: str = far
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self._sent_bytes = 0  # ever published
        self._taken_bytes = 0  # of them, passed on by the far end
        self._unread: deque[bytes | bytearray] = deque()
        self._unread_bytes = 0
        self._got_bytes = 0  # ever received
        self._told_bytes = 0  # of them, told as taken
        self._ended = False  # END was sent
        self._far_ended = False  # END was received
        self._read_handle: asyncio.Handle | None = None

    def abort(self) -> None:
        if not self._closing or not self._ended:
            self._say(BREAK)
        self._closing = self._ends = True
        self._loop.call_soon(self.lose, None)

    # Sending

    def say_open(self) -> None:
        """Tell the end that dialled that this one takes the connection, unless it was refused."""
        if not self._closing:
            self._say(OPEN, VERSION)

    def probe(self) -> None:
        """Learn whether the other end is still there: the engine, or its process without this pipe, says no at once.

        A peer that comes back dials again, and this no arrives before its handshake. So the new link does not replace
        one that is up, as a second process with the same key does. Opens without a word after them cause none.
        """
        if self._got_bytes:
            self._say(TAKEN, self._told_bytes.to_bytes(8, "big"))

    def _say(self, kind: bytes, data: bytes = b"") -> None:
        if self.far and not self._lost:
            self._relay.publish(self.far, kind + data, self.own)

    def _push(self) -> None:
        """Publish what the window takes."""
        while self._unsent and self._sent_bytes + len(self._unsent[0]) - self._taken_bytes <= WINDOW_BYTES:
            data = self._take_unsent()
            self._say(DATA, self._sent_bytes.to_bytes(8, "big") + data)
            self._sent_bytes += len(data)
        self._passed_on()
        if self._ends and not self._unsent and not self._ended:
            self._ended = True
            self._say(END, self._sent_bytes.to_bytes(8, "big"))
        if self._closing and self._ended:
            self._loop.call_soon(self.lose, None)

    # Receiving

    def on_piece(self, kind: bytes, data: bytes) -> None:
        """Take one piece from the far end, or break the pipe for it."""
        if self._lost:
            return
        if kind == BREAK:
            self.lose(ConnectionResetError(errno.ECONNRESET, "connection reset by peer"))
            return
        number = int.from_bytes(data[:8], "big")
        if kind not in _NUMBERED or len(data) < 8 or (kind == DATA) != (len(data) > 8):
            self.fault("malformed")
        elif kind == TAKEN:
            if not self._taken_bytes <= number <= self._sent_bytes:
                self.fault("window")
            else:
                self._taken_bytes = number
                self._push()
        elif number != self._got_bytes or self._far_ended:
            self.fault("missing" if number > self._got_bytes else "repeated")
        elif kind == END:
            self._far_ended = True
            self._read_later()
        elif self._unread_bytes + len(data) - 8 > WINDOW_BYTES:
            self.fault("window")
        else:
            self._got_bytes += len(data) - 8
            self._unread_bytes += len(data) - 8
            self._keep(data[8:])
            self._read()

    def _keep(self, data: bytes) -> None:
        """Keep what was received. Small pieces are joined, or a window of them would take 30 times its bytes."""
        last = self._unread[-1] if self._unread else b""
        if isinstance(last, bytearray) and len(last) + len(data) <= JOINED_BYTES:
            last += data
        else:
            self._unread.append(bytearray(data) if len(data) < JOINED_BYTES else data)

    def fault(self, what: str) -> None:
        """Break the pipe: the engine, or whoever else may publish there, did what it must not."""
        self._relay.counted[f"relay_{what}"] += 1
        _log.info("a relayed link breaks: %s", what)
        self._say(BREAK)
        self.lose(ConnectionResetError(errno.ECONNRESET, f"relay: {what}"))

    def _read_later(self) -> None:
        if self._read_handle is None and not self._lost:
            self._read_handle = self._loop.call_soon(self._read)

    def _read(self) -> None:
        """Pass on what was received, while the protocol reads."""
        self._read_handle = None
        while self._unread and self._reading and not self._lost:
            data = self._unread.popleft()
            self._unread_bytes -= len(data)
            hand_over(bytes(data), self.protocol)
        read_bytes = self._got_bytes - self._unread_bytes
        if read_bytes - self._told_bytes >= TAKEN_EVERY_BYTES:
            self._told_bytes = read_bytes
            self._say(TAKEN, read_bytes.to_bytes(8, "big"))
        if self._far_ended and not self._unread and not self._lost:
            if not self.protocol.eof_received():
                self.close()

    def _on_lost(self, error: Exception | None) -> None:
        self._unread.clear()
        self._unread_bytes = 0
        self._relay.forget(self)
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionAbortedError(errno.ECONNABORTED, "aborted"))
            self.opened.exception()  # whoever dialled may have given up


class RelayTransport:
    """The transport (connections.py) of a peer with an engine: relayed endpoints through it, all others as before.

    Args:
        me: The id of this peer.
        secret: 32 bytes derived from its identity, for the engine.
        network_key: K, which whoever dials must know; None if the network is open.
        sockets: Takes everything else.
        listens: Whether sockets listen.
        on_state: Called when the engine comes (with the URL of the server, and "") and when it is away (with the
            reason).

    Attributes:
        engine: The connection to the engine; its owner starts it.
        piece_bytes: The size of a full piece.
        counted: How often pipes broke, by fault, and what came for no pipe.
    """

    def __init__(
        self,
        me: PeerId,
        options: EngineOptions,
        secret: bytes,
        network_key: bytes | None,
        sockets: Transport,
        *,
        listens: bool,
        ping_after: float,
        on_state: Callable[[str, str], None],
    ) -> None:
        self._me = me
        self._id = base32(me).lower()
        self._network_key = network_key
        self._sockets = sockets
        self._listens = listens
        self._on_state = on_state
        self._server: Server | None = None
        self._pipes: dict[str, Pipe] = {}  # by own subject
        self.piece_bytes: int = PIECE_BYTES
        self.counted: Counter[str] = Counter()
        self._at = _at(self._id)
        # The run: pieces for an earlier process, or for another one with the same key, are not for this one.
        self._own_pipes = f"p2pchat.pipe.{self._id}.{secrets.token_hex(8)}"
        self.engine: Engine = Engine(
            options,
            secret,
            (self._at, f"{self._own_pipes}.*"),
            ping_after=ping_after,
            on_message=self._on_message,
            on_state=self._on_engine,
        )

    async def listen(self, server: Server, host: str, port: int) -> tuple[str, int]:
        """Listen on sockets, if wanted, and on the engine while that is there."""
        if self._listens:
            host, port = await self._sockets.listen(server, host, port)
        else:
            port = 0
        self._server = server
        return host, port

    async def dial(self, host: str, port: int, *, timeout: float) -> Streams:
        """Connect over sockets, or through the engine for a relayed endpoint."""
        peer = relay_peer(host)
        if not peer:
            return await self._sockets.dial(host, port, timeout=timeout)
        if not self.engine.server:
            raise EngineAway
        pipe, streams = self._make("")
        self.publish(_at(base32(peer).lower()), open_piece(self._network_key, peer, pipe.own), pipe.own)
        try:
            async with asyncio.timeout(timeout):
                await pipe.opened
        except BaseException:  # also when cancelled
            pipe.abort()
            raise
        return streams

    async def resolve(self, host: str, port: int, *, timeout: float) -> list[tuple[str, str]]:
        return await self._sockets.resolve(host, port, timeout=timeout)

    async def aclose(self) -> None:
        """Break what is left and disconnect."""
        for pipe in [*self._pipes.values()]:
            pipe.abort()
        await self.engine.aclose()

    def publish(self, subject: str, data: bytes, reply: str) -> None:
        """Send a piece."""
        self.engine.publish(subject, data, reply)

    def forget(self, pipe: Pipe) -> None:
        """Remove a pipe that ended."""
        self._pipes.pop(pipe.own, None)

    def _make(self, far: str) -> tuple[Pipe, Streams]:
        own = f"{self._own_pipes}.{secrets.token_hex(16)}"
        pipe = self._pipes[own] = Pipe(self, own, far)
        return pipe, pipe.streams()

    def _on_engine(self, server: str, reason: str) -> None:
        if reason:
            for pipe in [*self._pipes.values()]:
                pipe.lose(ConnectionResetError(errno.ECONNRESET, "the engine went away"))
        else:
            self.piece_bytes = max(1, min(PIECE_BYTES, self.engine.max_payload_bytes - HEAD_BYTES))
        self._on_state(server, reason)

    def _on_message(self, subject: str, reply: str, data: bytes, nobody: bool) -> None:
        if subject == self._at:
            self._on_open(reply, data)
            return
        pipe = self._pipes.get(subject)
        if nobody:
            if pipe is not None:
                pipe.lose(ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens there"))
        elif pipe is None:
            self._on_stray(subject, reply, data)
        elif data[:1] == OPEN:
            self._on_answer(pipe, reply, data)
        elif reply == pipe.far:
            pipe.on_piece(data[:1], data[1:])
        else:
            self.counted["relay_stray"] += 1

    def _on_open(self, reply: str, data: bytes) -> None:
        """A member dials this peer, or says so: who it is, the handshake proves."""
        far = _PIPE_SUBJECT.fullmatch(reply)
        if data[:2] != OPEN + VERSION or far is None or self._server is None:
            self.counted["relay_malformed"] += 1
            return
        if not hmac.compare_digest(data, open_piece(self._network_key, self._me, reply)):
            self.counted["relay_unproven"] += 1
            self.publish(reply, BREAK, "")
            return
        prefix = reply[: far.end(1) + 1]
        for former in [pipe for pipe in self._pipes.values() if pipe.far.startswith(prefix)]:
            former.probe()
        pipe, streams = self._make(reply)
        pipe.opened.set_result(None)
        self._server.on_connection(*streams)
        pipe.say_open()

    def _on_answer(self, pipe: Pipe, reply: str, data: bytes) -> None:
        """The peer that was dialled takes the connection. A second answer is of another process with its key."""
        if data != OPEN + VERSION or not _PIPE_SUBJECT.fullmatch(reply):
            self.counted["relay_malformed"] += 1
        elif not pipe.far:
            pipe.far = reply
            pipe.opened.set_result(None)
        elif reply != pipe.far:
            self.publish(reply, BREAK, pipe.own)

    def _on_stray(self, subject: str, reply: str, data: bytes) -> None:
        """A piece came for a pipe that is gone. Its sender learns that at once, as with a socket."""
        self.counted["relay_stray"] += 1
        if data[:1] in (OPEN, DATA, TAKEN) and _PIPE_SUBJECT.fullmatch(reply):
            self.publish(reply, BREAK, subject)


def _at(label: str) -> str:
    """Return the subject at which a peer listens."""
    return f"p2pchat.at.{label}"


def open_piece(network_key: bytes | None, to: PeerId, reply: str) -> bytes:
    """Return the piece that dials a peer: in a keyed network with a proof of its key, for this peer and this pipe."""
    if network_key is None:
        return OPEN + VERSION
    return OPEN + VERSION + hmac.digest(network_key, PROOF_TAG + bytes.fromhex(to) + reply.encode(), "sha256")


def hand_over(data: bytes, protocol: asyncio.Protocol | asyncio.BufferedProtocol) -> None:
    """Deliver bytes to a protocol as transports do."""
    if isinstance(protocol, asyncio.Protocol):
        protocol.data_received(data)
        return
    left = memoryview(data)
    while left:
        buffer = memoryview(protocol.get_buffer(len(left)))
        count = min(len(left), len(buffer))
        buffer[:count] = left[:count]
        protocol.buffer_updated(count)
        left = left[count:]
