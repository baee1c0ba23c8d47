"""Links through an engine: pipes over pairs of NATS subjects, beside sockets and beneath everything else.

A peer behind a router can dial and cannot be dialled. With an engine (nats_client.py) it is at the endpoint
`ID.relay:1`: it listens at one subject, which names its id. A dial opens two more subjects, one for each direction,
whose names are random and told to nobody else. Over them go the bytes that a socket would carry: TLS 1.3 from end to
end, with the key pinned, then frames. So the engine sees who has a link with whom, when, and how much goes over it, and
no more.

The engine promises neither delivery nor order, so pieces are numbered by the bytes before them. A piece that is
missing, repeated or out of order breaks the pipe; the core dials again and compares marks, as after any broken link.
Each end takes at most a window of bytes that it has not passed on. Every piece names the subject of its sender: the
engine answers at once when nobody listens at the other one, and pieces from elsewhere do not count.

Whoever may publish on the engine can dial every peer that it knows the id of, and nothing that the engine says about
who does so is believed. So a dial proves itself before it takes a place (stranger_limiter.py), the cheap things
first:

    dialler -> peer      O   a MAC with the network's key: who lacks that costs one hash
    peer -> dialler      C   a challenge, which the peer need not remember: an old dial, or one to another peer, is none
    dialler -> peer      P   the challenge, and a MAC with the key of this pair of peers: the dialler has its id
    peer -> dialler      O   from the peer's end of the pipe

The key of a pair is what the keys of both identities agree on (Identity.agree). A signature would do, but to check one
takes 400 us where a MAC takes 10: whoever claims to be a contact, without its key, would use up what may be spent on
that contact. The keys of pairs with peers that were linked here are kept. Those with unknown peers are computed for
each dial, at a bounded rate. A peer without a free place says nothing, and the dialler asks again.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hmac
import re
import secrets
from collections import Counter, deque
from collections.abc import Callable

from p2pchat.client import Streams
from p2pchat.core.mesh.addressbook import RELAY_HOST, RELAY_PORT, relay_peer
from p2pchat.core.names import base32
from p2pchat.core.token_bucket import TokenBucket, TokenBuckets
from p2pchat.nats_client import Engine, EngineAway, EngineOptions
from p2pchat.program_log import ProgramLog
from p2pchat.protocol import PeerId
from p2pchat.runtime.buffered_transport import BufferedTransport, hand_over
from p2pchat.runtime.connection_manager import Transport
from p2pchat.runtime.stranger_limiter import RELAYED_A_SECOND
from p2pchat.server import Server

WINDOW_BYTES = 1 << 20  # on their way, or received and not passed on; what one link buffers (buffer_limit_bytes)
TAKEN_EVERY_BYTES = WINDOW_BYTES // 4  # passed on; then the far end is told
# Pieces. MACs of so many take 10 ms, and proofs of unknown peers, an X25519 each, 20 ms: so a flood stops nothing else
# for long, and none is too old when it is handled.
MAX_UNREAD_DIALS = 128
MAX_UNREAD_PIECES = 1 << 19  # what nats-py has; the bytes of them are bounded, too
PIECE_BYTES = 128 << 10  # of one piece; NATS takes 1 MiB unless its operator lowered that. A guess
JOINED_BYTES = 4096  # received pieces are joined up to this while nobody reads: one of two bytes takes 60 of memory
HEAD_BYTES = 9  # of a piece: its kind and its number
VERSION = b"2"  # of this protocol, in an open. Version 1, which no release had, did not prove who dials
ASK_AGAIN_AFTER = 0.5  # seconds until a dial without an answer asks once more; a guess
CHALLENGE_SECONDS = 10.0  # a challenge is good for one to two times that: as long as a handshake may take
CHALLENGE_BYTES = 16
MAX_ANSWERS = 1024  # to dials and strays that wait to be published, 300 KiB; a guess
CHECKS_A_SECOND = 500  # keys of pairs with unknown peers; 5 to 10 % of a core
MAX_PAIR_KEYS = 16384  # kept; more than peers that anybody has met, 4 MiB

OPEN, CHALLENGE, PROOF, DATA, TAKEN, END, BREAK = b"O", b"C", b"P", b"D", b"T", b"E", b"B"
OPEN_TAG = b"p2pchat/relay/2 open\0"
PAIR_TAG = b"p2pchat/relay/2 pair\0"
_NUMBERED = (DATA, TAKEN, END)
_PIPE_SUBJECT = re.compile(r"p2pchat\.pipe\.([a-z2-7]{52})\.[0-9a-f]{16}\.[0-9a-f]{32}")

_log = ProgramLog("p2pchat.relay")


class Pipe(BufferedTransport):
    """One end of a pipe: the transport under a StreamReader and a StreamWriter.

    Args:
        dialler: At the end that was dialled, who dialled, as stranger_limiter.py takes it; else None.

    Attributes:
        target: At the end that dials, the peer that is dialled; "" at the other one.
        asked: An open was sent, and no challenge has come since.
        own: The subject at which this end listens.
        far: That of the other end; "" until it has answered.
        opened: Done when the other end has answered.
    """

    def __init__(
        self,
        relay: RelayTransport,
        own: str,
        *,
        target: PeerId = "",
        dialler: tuple[PeerId, bool] | None = None,
    ) -> None:
        ends = {"peername": (RELAY_HOST, RELAY_PORT), "sockname": (RELAY_HOST, RELAY_PORT)}
        super().__init__({**ends, "dialler": dialler}, relay.piece_bytes)
        self._relay = relay
        self.own: str = own
        self.far: str = ""
        self.target: PeerId = target
        self.asked: bool = False
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

    def say_open(self, far: str) -> None:
        """Tell the end that dialled that this one takes the connection."""
        self.far = far
        self.opened.set_result(None)
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
            self._relay.engine.publish(self.far, kind + data, self.own)

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
        self._say(BREAK)
        self.lose(ConnectionResetError(errno.ECONNRESET, f"relay: {what}"))
        _log.info("a relayed link breaks: %s", what)

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
    """The transport (connection_manager.py) of a peer with an engine: relayed endpoints through it, others as before.

    Args:
        me: The id of this peer.
        secret: 32 bytes derived from its identity, for the engine.
        agree: Returns what the identity and another one agree on (Identity.agree).
        network_key: K, which whoever dials must know.
        sockets: Takes everything else.
        listens: Whether sockets listen.
        on_state: Called when the engine comes (with the URL of the server, and "") and when it is away (with the
            reason).

    Attributes:
        engine: The connection to the engine; its owner starts it.
        piece_bytes: The size of a full piece.
        counted: How often pipes broke, by fault, what came for no pipe, dials that found no place, and what nats-py
            dropped because too much waited.
        is_known: Returns whether a peer is a contact or belongs to a member; replaced once there is a node.
    """

    def __init__(
        self,
        me: PeerId,
        options: EngineOptions,
        secret: bytes,
        agree: Callable[[PeerId], bytes],
        network_key: bytes,
        sockets: Transport,
        *,
        listens: bool,
        ping_after: float,
        on_state: Callable[[str, str], None],
    ) -> None:
        self._me = me
        self._agree = agree
        self._network_key = network_key
        self._sockets = sockets
        self._listens = listens
        self._on_state = on_state
        self._server: Server | None = None
        self._pipes: dict[str, Pipe] = {}  # by own subject
        self.piece_bytes: int = PIECE_BYTES
        self.counted: Counter[str] = Counter()
        self.is_known: Callable[[PeerId], bool] = lambda peer: False
        self._pair_keys: dict[PeerId, bytes] = {}  # of peers that are not unknown
        self._checks = TokenBucket(CHECKS_A_SECOND, CHECKS_A_SECOND, 0.0)
        self._dials = TokenBuckets()  # proven ones, by peer
        self._challenge_key = secrets.token_bytes(32)
        self._accepted: tuple[int, set[str], set[str]] = (0, set(), set())  # a period; who dialled in it, and before
        self._at = _at(me)
        # The run: pieces for an earlier process, or for another one with the same key, are not for this one.
        self._own_pipes = f"p2pchat.pipe.{base32(me).lower()}.{secrets.token_hex(8)}"
        self.engine: Engine = Engine(
            options,
            secret,
            {self._at: MAX_UNREAD_DIALS, f"{self._own_pipes}.*": MAX_UNREAD_PIECES},
            ping_after=ping_after,
            on_message=self._on_message,
            on_state=self._on_engine,
            on_dropped=lambda: self.counted.update(["relay_dropped"]),
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
        pipe, streams = self._make(target=peer)
        opening = open_piece(self._network_key, peer, pipe.own)
        try:
            async with asyncio.timeout(timeout):
                while not pipe.opened.done():
                    pipe.asked = True
                    self.engine.publish(_at(peer), opening, pipe.own)
                    await asyncio.wait([pipe.opened], timeout=ASK_AGAIN_AFTER)
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

    def forget(self, pipe: Pipe) -> None:
        """Remove a pipe that ended."""
        self._pipes.pop(pipe.own, None)

    def _make(self, *, target: PeerId = "", dialler: tuple[PeerId, bool] | None = None) -> tuple[Pipe, Streams]:
        own = f"{self._own_pipes}.{secrets.token_hex(16)}"
        pipe = self._pipes[own] = Pipe(self, own, target=target, dialler=dialler)
        return pipe, pipe.streams()

    def _on_engine(self, server: str, reason: str) -> None:
        if reason:
            for pipe in [*self._pipes.values()]:
                pipe.lose(ConnectionResetError(errno.ECONNRESET, "the engine went away"))
        else:
            self.piece_bytes = min(PIECE_BYTES, self.engine.max_payload_bytes - HEAD_BYTES)
        self._on_state(server, reason)

    def _on_message(self, subject: str, reply: str, data: bytes, nobody: bool) -> None:
        if subject == self._at:
            self._on_dial(reply, data)
            return
        pipe = self._pipes.get(subject)
        if nobody:
            if pipe is not None:
                pipe.lose(ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens there"))
        elif pipe is None:
            # The sender of a piece for a pipe that is gone learns that at once, as with a socket.
            self.counted["relay_stray"] += 1
            if data[:1] in (OPEN, DATA, TAKEN) and _PIPE_SUBJECT.fullmatch(reply):
                self._answer(reply, BREAK, subject)
        elif data[:1] == OPEN:
            self._on_answer(pipe, reply, data)
        elif data[:1] == CHALLENGE:
            self._on_challenge(pipe, data[1:])
        elif reply == pipe.far:
            pipe.on_piece(data[:1], data[1:])
        else:
            self.counted["relay_stray"] += 1

    def _on_dial(self, reply: str, data: bytes) -> None:
        """Take a piece of somebody that dials this peer, or says so."""
        far = _PIPE_SUBJECT.fullmatch(reply)
        if far is None or self._server is None:
            self.counted["relay_malformed"] += 1
        elif data[:2] == OPEN + VERSION:
            self._on_open(reply, data)
        elif data[:1] == PROOF and len(data) == 1 + CHALLENGE_BYTES + 32:
            self._on_proof(far, data[1 : 1 + CHALLENGE_BYTES], data[1 + CHALLENGE_BYTES :])
        else:
            self.counted["relay_malformed"] += 1
            if data[:1] == OPEN:  # of another version: it learns at once that this one does not understand it
                self._answer(reply, BREAK)

    def _answer(self, reply: str, piece: bytes, own: str = "") -> None:
        """Answer somebody who dials, or is at no pipe, unless the engine takes less than comes: then they ask again."""
        if self.engine.waiting < MAX_ANSWERS:
            self.engine.publish(reply, piece, own)
        else:
            self.counted["relay_unanswered"] += 1

    def _on_open(self, reply: str, data: bytes) -> None:
        """Give a challenge to somebody with the network's key, who may be a member."""
        if hmac.compare_digest(data, open_piece(self._network_key, self._me, reply)):
            self._answer(reply, CHALLENGE + self._challenge(reply, self._period()))
        else:
            self.counted["relay_unproven"] += 1
            self._answer(reply, BREAK)

    def _on_proof(self, far: re.Match[str], challenge: bytes, proof: bytes) -> None:
        """Take a connection if the dialler has its id, once for each pipe, and if there is a place for it.

        Without a place there is no answer: the dialler asks again, and then there may be one.
        """
        reply, period = far[0], self._period()
        dialler = base64.b32decode(far[1].upper() + "====").hex()
        if not any(hmac.compare_digest(challenge, self._challenge(reply, one)) for one in (period, period - 1)):
            self.counted["relay_stale"] += 1
            return
        is_known = self.is_known(dialler)
        key = self._pair_key(dialler, is_known=is_known)
        if key is None:
            self.counted["relay_unchecked"] += 1
            return
        if not hmac.compare_digest(proof, dial_proof(key, self._me, challenge, reply)):
            self.counted["relay_unproven"] += 1
            self._answer(reply, BREAK)
            return
        accepted, former = self._accepted_in(period)
        if reply in accepted or reply in former:
            self.counted["relay_stray"] += 1
            return
        # Places have the same rate. This one comes before what a dial costs here and at its former pipes.
        if not self._dials.take(dialler, self._loop_time(), RELAYED_A_SECOND):
            self.counted["relay_refused"] += 1
            return
        for pipe in [pipe for pipe in self._pipes.values() if pipe.far.startswith(reply[: far.end(1) + 1])]:
            pipe.probe()
        pipe, streams = self._make(dialler=(dialler, is_known))
        assert self._server is not None
        self._server.on_connection(*streams)
        if pipe.is_closing():
            self.counted["relay_refused"] += 1
            return
        accepted.add(reply)
        pipe.say_open(reply)

    def _pair_key(self, peer: PeerId, *, is_known: bool) -> bytes | None:
        """Return the key of the pair of this peer and another one; None if there is none, or it costs too much now."""
        key = self._pair_keys.get(peer)
        if key is None:
            if not is_known and not self._checks.take(self._loop_time()):
                return None
            key = self._new_pair_key(peer)
            if key is not None and is_known:
                if len(self._pair_keys) >= MAX_PAIR_KEYS:
                    self._pair_keys.clear()
                self._pair_keys[peer] = key
        return key

    def _new_pair_key(self, peer: PeerId) -> bytes | None:
        try:
            return pair_key(self._network_key, self._agree(peer))
        except ValueError:  # no key
            return None

    def _loop_time(self) -> float:
        return asyncio.get_running_loop().time()

    def _period(self) -> int:
        return int(self._loop_time() / CHALLENGE_SECONDS)

    def _challenge(self, reply: str, period: int) -> bytes:
        text = period.to_bytes(8, "big") + reply.encode()
        return hmac.digest(self._challenge_key, text, "sha256")[:CHALLENGE_BYTES]

    def _accepted_in(self, period: int) -> tuple[set[str], set[str]]:
        """Return the pipes that were accepted in this period and in the one before: their challenges are still good."""
        at, now, former = self._accepted
        if at != period:
            now, former = set(), now if at == period - 1 else set()
            self._accepted = period, now, former
        return now, former

    def _on_challenge(self, pipe: Pipe, challenge: bytes) -> None:
        """Prove that this peer has its id to the one it dials: once for each open, whatever comes."""
        if not pipe.asked or pipe.far or len(challenge) != CHALLENGE_BYTES:
            self.counted["relay_stray"] += 1
            return
        pipe.asked = False
        key = self._new_pair_key(pipe.target)
        if key is not None:
            proof = dial_proof(key, pipe.target, challenge, pipe.own)
            self.engine.publish(_at(pipe.target), PROOF + challenge + proof, pipe.own)

    def _on_answer(self, pipe: Pipe, reply: str, data: bytes) -> None:
        """The peer that was dialled takes the connection. A second answer is of another process with its key."""
        if data != OPEN + VERSION or not _PIPE_SUBJECT.fullmatch(reply):
            self.counted["relay_malformed"] += 1
        elif not pipe.far:
            pipe.far = reply
            pipe.opened.set_result(None)
        elif reply != pipe.far:
            self._answer(reply, BREAK, pipe.own)


def _at(peer: PeerId) -> str:
    """Return the subject at which a peer listens."""
    return f"p2pchat.at.{base32(peer).lower()}"


def open_piece(network_key: bytes, to: PeerId, reply: str) -> bytes:
    """Return the piece that dials a peer, with a proof of the network's key for this peer and this pipe."""
    return OPEN + VERSION + hmac.digest(network_key, OPEN_TAG + bytes.fromhex(to) + reply.encode(), "sha256")


def pair_key(network_key: bytes, agreed: bytes) -> bytes:
    """Return the key of a pair of peers: what their identities agree on, for this use and in this network."""
    return hmac.digest(network_key, PAIR_TAG + agreed, "sha256")


def dial_proof(key: bytes, to: PeerId, challenge: bytes, reply: str) -> bytes:
    """Return the proof that the dialler has its id, which `reply` names. `key` is that of the pair."""
    return hmac.digest(key, bytes.fromhex(to) + challenge + reply.encode(), "sha256")
