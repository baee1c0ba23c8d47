"""Client: one link, dialled or accepted, from its TLS handshake to its end.

It moves bytes and cuts them into frames; what a frame means, who the far end is allowed to be and when to give up on
it are decided in core/. It begins with the two plain asyncio streams of a socket, or of anything else whose transport
can write, close, abort, change its protocol, tell its buffer's size and keep limits on it; TLS runs over them in
identity/tls.py. When TLS stands the Client is the transport's protocol itself: a task that reads the stream would be
one more turn of the loop for each read, and a dozen objects for each link.

In: everything one read brought (up to 256 KiB, in one buffer for all links of a thread) is decrypted and decoded at
once and handed on as one list. Out: everything sent within one turn of the event loop, or until `flush`, becomes one
TLS write. Nothing here waits for the far end: `send` always takes the bytes and `full` says when to stop, because the
buffer of the link is above its limit.

A started link ends once, with one word to on_down:
    closed    the far end said, inside TLS, that it has written its last byte
    lost      the connection broke, or ended without that word
    timeout   the system gave up on it (ETIMEDOUT)
    slow      it neither took bytes nor sent a frame for Settings.stuck_after
    local     close() or abort() was called here
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from itertools import chain, zip_longest
from typing import cast

from p2pchat.config import Settings
from p2pchat.errors import HandshakeError
from p2pchat.identity.tls import TlsPipe, peer_key
from p2pchat.protocol import AnyFrame, Decoder, PeerId

# A StreamReader, which is read while TLS begins, stops its socket above twice its limit. One read of the socket brings
# 256 KiB at most, so it holds less than 512 KiB.
STREAM_LIMIT_BYTES = 128 * 1024
READ_BYTES = 256 * 1024  # of a socket at once
STREAM_BYTES = 4 * STREAM_LIMIT_BYTES  # so a read of that much empties the stream, whatever it holds
WRITE_NOW_BYTES = 256 * 1024  # so much waiting for the end of the turn is written at once: it bounds the joined copy
LOW_BUFFER_PART = 4  # drained is a quarter of the limit: room for a few batches before it is full again
LOOKS_A_WAIT = 6  # how often a stuck link is looked at within stuck_after: it is noticed a sixth late at most
WINDOWS_TIMEOUT = 121  # ERROR_SEM_TIMEOUT: how an overlapped read says ETIMEDOUT there, and Python no TimeoutError


class _Shared(threading.local):
    """One buffer of ciphertext a thread: what is read into it is decrypted before anything else happens."""

    def __init__(self) -> None:
        self.cipher = memoryview(bytearray(READ_BYTES))


_shared = _Shared()

# asyncio reads for a Protocol into 256 KiB made for each read, and given back: three calls of the system, 14 us. Loops
# of Windows may fill a buffer long after they asked for it, while another link's read is in it.
if sys.platform == "win32":
    _Reads = asyncio.Protocol
else:
    _Reads = asyncio.BufferedProtocol


class Client(_Reads):
    """One link. Make it, await handshake(), then start(); use it in the event loop it was made in.

    The methods of a protocol are for the transport alone.
    """

    __slots__ = (
        *("link_id", "_reader", "_writer", "_transport", "_loop", "_settings", "_server_side", "_tls", "_decoder"),
        *("_on_frames", "_on_fault", "_on_down", "_on_full", "_on_drained"),
        *("_started", "_reads", "_first_plain", "_fault_told", "_heard_at"),
        *("_waiting", "_waiting_bytes", "_turn_end", "_written_bytes", "_full"),
        *("_look", "_taken_bytes", "_taken_at", "_closing", "_ended", "_over"),
    )

    def __init__(
        self,
        link_id: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        tls_context: ssl.SSLContext,
        server_side: bool,
        settings: Settings,
        on_frames: Callable[[int, list[AnyFrame]], None],
        on_fault: Callable[[int, str, str], None],
        on_down: Callable[[int, str], None],
        on_full: Callable[[int], None],
        on_drained: Callable[[int], None],
    ) -> None:
        """Take over a connected pair of streams.

        Args:
            link_id: The number that every callback gets back.
            on_frames: The frames of one read, in order; [] when bytes came but no whole frame (also a sign of life).
            on_fault: The code and text of the `bye` that the far end has earned; nothing is decoded any more.
            on_down: Told once after start(), as the last: the reason.
            on_full: The buffer has gone above its limit; told from within send() or at the end of a turn.
            on_drained: It has come down to a quarter; only after on_full.
        """
        self.link_id = link_id
        self._reader, self._writer = reader, writer
        self._transport = cast(asyncio.Transport, writer.transport)  # it reads too; typeshed knows no better
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._server_side = server_side
        self._tls = TlsPipe(tls_context, server_side=server_side)
        self._decoder = Decoder(settings)
        self._on_frames, self._on_fault, self._on_down = on_frames, on_fault, on_down
        self._on_full, self._on_drained = on_full, on_drained
        self._started = False
        self._reads = True  # False while reading is paused
        self._first_plain = b""  # came before start()
        self._fault_told = False
        self._heard_at = self._loop.time()
        self._waiting: list[bytes] = []  # for the end of this turn
        self._waiting_bytes = 0
        self._turn_end: asyncio.Handle | None = None
        self._written_bytes = 0  # ever handed to the transport
        self._full = False
        self._look: asyncio.TimerHandle | None = None
        self._taken_bytes = 0  # of _written_bytes, what the system had taken at the last look
        self._taken_at = 0.0
        self._closing = False
        self._ended = ""  # the reason
        self._over: asyncio.Future[None] | None = None  # there while close() waits for the end
        limit = settings.buffer_limit_bytes
        self._transport.set_write_buffer_limits(high=limit, low=limit // LOW_BUFFER_PART)
        _tune(writer.get_extra_info("socket"))

    def __repr__(self) -> str:
        side = "accepted" if self._server_side else "dialled"
        state = self._ended or ("closing" if self._closing else "up" if self._tls.handshaken else "handshake")
        return f"<Client {self.link_id} {side} {state}>"

    # The handshake

    async def handshake(self, timeout: float) -> PeerId:
        """Do the TLS handshake; return the server's key on the dialling side, "" on the accepting one.

        Raises:
            HandshakeError: The far end does not speak TLS 1.3, or its key is of another kind.
            TimeoutError: Not done within `timeout` seconds.
            OSError: The connection broke, or abort() was called.
            Whatever it raises, the connection is closed and on_down is not called.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._shake_hands()
            return "" if self._server_side else peer_key(self._tls.certificate())
        except BaseException as error:
            # close() lets an alert out that says what was wrong; everybody else deserves no more time.
            self._end("local" if isinstance(error, HandshakeError) else "lost")
            raise

    async def _shake_hands(self) -> None:
        if not self._server_side:
            self._tls.begin()
        while not self._tls.handshaken:
            self._write(self._tls.outgoing())
            ciphertext = await self._reader.read(STREAM_BYTES)
            if not ciphertext:
                raise ConnectionResetError("the far end closed the connection within the TLS handshake")
            try:
                self._first_plain = self._tls.receive(ciphertext)
            finally:
                self._write(self._tls.outgoing())
        self._heard_at = self._loop.time()
        self._take_over()

    def _take_over(self) -> None:
        """From here on the transport talks to this object; the stream is empty, for nothing was awaited since."""
        self._transport.pause_reading()  # uvloop asks how to read only when reading begins
        self._transport.set_protocol(self)
        self._transport.resume_reading()
        if self._tls.closed_by_peer:
            self._end("closed")
        elif self._reader.at_eof() or self._reader.exception() is not None:
            self._end("lost")

    # Reading

    def start(self) -> None:
        """Begin to hand on what is read; from now on the callbacks come, with what came before from within."""
        self._started, had_ended = True, bool(self._ended)
        plaintext, self._first_plain = self._first_plain, b""
        if plaintext:
            self._take(plaintext)
        if had_ended:
            self._loop.call_soon(self._on_down, self.link_id, self._ended)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _shared.cipher

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(_shared.cipher[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        if self._ended:
            return
        try:
            plaintext = self._tls.receive(data)
        except OSError:
            self._end("lost")
            return
        if not self._closing:
            self._write(self._tls.outgoing())  # almost always nothing; a key update wants an answer
        if self._started:
            self._take(plaintext)
        else:
            self._first_plain += plaintext
        if self._tls.closed_by_peer:
            self._end("closed")

    def eof_received(self) -> None:
        self._end("lost")  # without close_notify: whatever cut it, it was not the far end's wish

    def connection_lost(self, exc: Exception | None) -> None:
        gave_up = isinstance(exc, TimeoutError) or getattr(exc, "winerror", 0) == WINDOWS_TIMEOUT
        self._end("timeout" if gave_up else "lost")  # ETIMEDOUT: the system lost its patience first

    def _take(self, plaintext: bytes) -> None:
        if self._closing or self._fault_told:
            return  # read on and forget: closing a socket with unread bytes would destroy the bye under way
        frames = self._decoder.feed(plaintext) if plaintext else []
        if frames:
            self._heard_at = self._loop.time()
        self._on_frames(self.link_id, frames)
        fault = self._decoder.fault
        if fault is not None:
            self._fault_told = True
            self._on_fault(self.link_id, fault.code, str(fault))

    def pause_reading(self) -> None:
        """Read no more, so that the far end is stopped by TCP; at most one read under way still comes."""
        if self._reads and not self._closing and not self._ended:
            self._reads = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on; does nothing when reading was not paused."""
        if not self._reads:
            self._reads = True
            self._transport.resume_reading()
        self._heard_at = self._loop.time()  # while nothing was read, nothing could be heard

    def raise_limit(self) -> None:
        """Allow frames of the full size: this link has its `go`."""
        self._decoder.max_frame_bytes = self._settings.max_frame_bytes

    # Writing

    @property
    def full(self) -> bool:
        """Whether the buffer is above its limit, and has not drained since."""
        return self._full

    @property
    def buffered(self) -> int:
        """How many bytes the system has not taken yet."""
        return self._waiting_bytes + self._transport.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        """Write whole encoded frames at flush() or the end of this turn. Dropped when the link is closing."""
        if self._closing or self._ended:
            return
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= WRITE_NOW_BYTES:
            self.flush()
        elif self._turn_end is None:
            self._turn_end = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what was sent now: whoever knows that nothing more comes in this turn need not wait for its end."""
        if self._turn_end is not None:
            self._turn_end.cancel()
            self._turn_end = None
        if not self._waiting or self._ended:
            return
        data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._encrypt(data)

    def write(self, data: bytes) -> None:
        """Write whole encoded frames now, behind what was sent before. Dropped when the link is closing."""
        if self._waiting:
            self.send(data)
            self.flush()
        elif not (self._closing or self._ended):
            self._encrypt(data)

    def _encrypt(self, data: bytes) -> None:
        try:
            self._tls.send(data)
        except ConnectionError:
            self._end("lost")
            return
        self._write(self._tls.outgoing())

    def _write(self, ciphertext: bytes) -> None:
        if not ciphertext or self._transport.is_closing():
            return
        self._transport.write(ciphertext)
        self._written_bytes += len(ciphertext)
        buffered = self._transport.get_write_buffer_size()
        if buffered and self._look is None:
            self._taken_bytes, self._taken_at = self._written_bytes - buffered, self._loop.time()
            self._look_later()

    def pause_writing(self) -> None:
        if not self._full and not self._closing:
            self._full = True
            self._on_full(self.link_id)

    def resume_writing(self) -> None:
        if self._full:
            self._full = False
            if not self._closing:
                self._on_drained(self.link_id)

    # Links that do not drain

    def _look_later(self) -> None:
        self._look = self._loop.call_later(self._settings.stuck_after / LOOKS_A_WAIT, self._look_whether_stuck)

    def _look_whether_stuck(self) -> None:
        self._look = None
        buffered = self._transport.get_write_buffer_size()
        if not buffered or self._ended:
            return
        now, taken = self._loop.time(), self._written_bytes - buffered
        if taken > self._taken_bytes:
            self._taken_bytes, self._taken_at = taken, now
        if not self._reads:
            self._heard_at = now  # we do not read: it may well be talking
        if now - max(self._taken_at, self._heard_at) >= self._settings.stuck_after:
            self._end("slow")
        else:
            self._look_later()

    # The end

    async def close(self, bye: bytes | None = None, drain_timeout: float = 1.0) -> None:
        """End the link in order: what was sent, `bye` and close_notify go out first, within `drain_timeout` seconds.

        It then waits, in the same time, until the far end has closed too, so that nothing it still sends makes the
        system throw away what is under way to it. Never raises; calling it again does nothing.
        """
        if self._ended or self._closing:
            return
        if bye is not None:
            self.send(bye)
        self.flush()
        self._closing = True
        self._tls.close()
        self._write(self._tls.outgoing())
        self.resume_reading()
        try:
            async with asyncio.timeout(drain_timeout):
                await self._see_off()
        except (TimeoutError, OSError):
            pass
        finally:
            self._end("local")

    async def _see_off(self) -> None:
        if self._transport.can_write_eof():
            self._transport.write_eof()  # after everything written before
        self._over = self._loop.create_future()
        await self._over

    def abort(self) -> None:
        """End the link at once; nothing unsent is sent. on_down comes in a later turn of the loop."""
        if not self._ended:
            self._closing = True
            self._end("local", later=True)

    def _end(self, reason: str, *, later: bool = False) -> None:
        if self._ended:
            return
        self._ended = "local" if self._closing else reason
        for handle in (self._turn_end, self._look):
            if handle is not None:
                handle.cancel()
        self._turn_end = self._look = None
        self._waiting.clear()
        self._close_streams(self._ended, at_once=later)
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        if not self._started:
            return
        if later:
            self._loop.call_soon(self._on_down, self.link_id, self._ended)
        else:
            self._on_down(self.link_id, self._ended)

    def _close_streams(self, reason: str, *, at_once: bool) -> None:
        """Close, letting out what the transport still has, if there is any hope that somebody takes it."""
        if reason == "closed":
            self._tls.close()
            self._write(self._tls.outgoing())
        if at_once or reason in ("slow", "timeout") or self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()


def _tune(sock: socket.socket | None) -> None:
    """Send small frames at once.

    TCP_USER_TIMEOUT is left alone: Linux counts a closed window as silence too, so a stopped peer would be cut off
    although it lives; a dead one is noticed by the ping.
    """
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass  # the connection is gone already: reading will tell


# ---- dialing
#
# Dialling: from a host and a port to two plain streams, or to an error and nothing left open.
#
# The addresses of a name race each other (RFC 8305): each begins a moment after the one before it, or once that has
# failed, and the first connection wins. asyncio has such a race (happy_eyeballs_delay), which loses sockets when it is
# cancelled: CPython 3.11's asyncio/staggered.py hands the connection on as the result of a task, after which nobody
# looks any more, and wait_for in it may swallow the cancellation. So here a connection is in one place from the moment
# it is there, and whoever is cancelled closes what is in it.


CONNECT_STAGGER = 0.25  # seconds before the next address of a host is tried too (RFC 8305)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(host: str, port: int, *, timeout: float) -> Streams:
    """Connect, without TLS yet; Client takes it from here.

    Raises:
        OSError: Nobody there, no such host, no way. Of several addresses: why the most telling one failed.
        TimeoutError: No answer within `timeout` seconds (an OSError too).
    """
    async with asyncio.timeout(timeout):
        if _is_address(host):
            return await _connect(host, port)
        return await _Race(port).run(await _addresses(host, port))


async def _connect(address: str, port: int) -> Streams:
    return await asyncio.open_connection(address, port, limit=STREAM_LIMIT_BYTES)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def _addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a name, best first, IPv6 and IPv4 in turn: one of the two may lead nowhere."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    families: dict[int, list[str]] = {}
    for family, _, _, _, where in found:
        scope = where[3] if len(where) == 4 else 0  # of a link-local address: which network card
        families.setdefault(family, []).append(f"{where[0]}%{scope}" if scope else str(where[0]))
    in_turn = chain.from_iterable(zip_longest(*families.values()))
    return list(dict.fromkeys(address for address in in_turn if address is not None))


class _Race:
    """One race for a connection; whatever ends it, at most the winner's is open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tries: list[asyncio.Task[None]] = []
        self._errors: list[OSError] = []
        self._won: Streams | None = None

    async def run(self, addresses: Iterable[str]) -> Streams:
        """Return the first connection. Raises OSError when there is none."""
        try:
            async with asyncio.TaskGroup() as group:  # waits for all of them, also when it is cancelled
                for address in addresses:
                    self._tries.append(group.create_task(self._try(address)))
                    await asyncio.wait(self._tries[-1:], timeout=CONNECT_STAGGER)
                    if self._won is not None:
                        break
        except BaseException:
            if self._won is not None:
                self._won[1].transport.abort()
            raise
        if self._won is None:
            raise self._telling_error()
        if self._won[1].transport.is_closing():  # cut while the others were given up
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return self._won

    async def _try(self, address: str) -> None:
        try:
            streams = await _connect(address, self._port)
        except OSError as error:
            self._errors.append(error)
            return
        self._won = streams
        for other in self._tries:
            if other is not asyncio.current_task():
                other.cancel()  # one that has just connected closes that again

    def _telling_error(self) -> OSError:
        """Return the error of an address whose machine is there; else of the one that failed first."""
        refused = (error for error in self._errors if isinstance(error, ConnectionRefusedError))
        return next(refused, self._errors[0])
