"""One link to another peer: the TLS handshake, frames in both directions, and its end.

`Client` takes a connected pair of asyncio streams, dialled or accepted. The streams may belong to anything whose
transport can write, close, abort, change its protocol, report the size of its buffer and keep limits on it. TLS runs on
top of them (identity/tls_pipe.py). A Client moves bytes and cuts them into frames. What a frame means, who may be at
the far end, and when to give up on it are decided in core/.

Reading: all bytes of one read (up to 256 KiB, in one buffer shared by all links of a thread) are decrypted at once, and
wait until their owner, who is told of it, calls decode(), which passes on frames as one list. After the TLS handshake
the Client itself is the transport's protocol: a task that reads from the stream would cost another turn of the loop for
each read, and a dozen objects for each link.

Writing: nothing waits for the far end. `send` always takes the bytes, and `full` tells the caller to stop because the
link's buffer is above its limit. `has_room` tells long before whether what can wait should. Each `send` is one TLS
write; the driver joins all frames of one turn of the loop.

A started link ends once. on_down then gets one of these reasons:
    closed    the far end said, inside TLS, that it has written its last byte
    lost      the connection broke, or ended without that word, or its address is no more this machine's
    timeout   the system gave up on it (ETIMEDOUT)
    slow      give_up() was called: it stood still (StuckLinks in runtime/connection_manager.py)
    local     close() or abort() was called here
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from p2pchat.errors import HandshakeError
from p2pchat.identity.tls_pipe import ThreadBuffer, TlsPipe, peer_key
from p2pchat.protocol import AnyFrame, Decoder, PeerId
from p2pchat.settings import Settings

# For a plain Protocol asyncio allocates and frees 256 KiB for each read: three system calls, 14 us. Loops on Windows
# may fill a buffer long after they asked for it, while it holds the bytes of another link.
if TYPE_CHECKING or sys.platform != "win32":
    from asyncio import BufferedProtocol as _BaseProtocol
else:
    from asyncio import Protocol as _BaseProtocol

if TYPE_CHECKING:
    from p2pchat.trace import LinkTrace

# A StreamReader, used during the TLS handshake, pauses its socket above twice its limit. One read of the socket brings
# at most 256 KiB, so the stream holds less than 512 KiB, and one read of that much empties it.
STREAM_LIMIT_BYTES = 128 * 1024
STREAM_READ_BYTES = 4 * STREAM_LIMIT_BYTES
LOW_BUFFER_PART = 4  # a link has room, and a full one counts as drained, up to this part of its limit: a few batches
DECODED_BYTES = 32 * 1024  # at once: 1,000 of the smallest frames take 10 ms
WINDOWS_TIMEOUT = 121  # ERROR_SEM_TIMEOUT: Windows' ETIMEDOUT for an overlapped read, not a TimeoutError in Python

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


_ciphertext = ThreadBuffer()


class Client(_BaseProtocol):
    """One link. Make it, await handshake(), call start(); use it in the event loop it was made in.

    The methods of asyncio.BufferedProtocol are for the transport alone.

    Attributes:
        full: The buffer rose above its limit and has not drained since.
        has_room: The buffer is below a quarter of its limit.
        spoke: Whole frames have come since StuckLinks (runtime/connection_manager.py) set it to False.
        undecoded: What was received and waits for decode().
        stuck_check: The timer of StuckLinks while bytes are unsent; it ends with the link.
    """

    __slots__ = (
        *("link_id", "_reader", "_writer", "_transport", "_loop", "_settings", "_server_side", "_tls", "_decoder"),
        *("_on_frames", "_on_fault", "_on_down", "_on_full", "_on_drained"),
        *("_on_bytes", "undecoded"),
        *("_on_unsent", "_started", "_reading", "_faulted", "spoke", "_trace"),
        *("_written_bytes", "full", "has_room", "stuck_check"),
        *("_closing", "_reason", "_ended"),
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
        on_drained: Callable[[int, bool], None],
        on_unsent: Callable[[Client], None] = lambda client: None,
        on_bytes: Callable[[int, int], object],
        trace: LinkTrace | None = None,
    ) -> None:
        """Take over a connected pair of streams. Every callback gets `link_id` first.

        Args:
            on_bytes: Called when bytes came, with the number of those that wait for decode() in `undecoded`.
            on_frames: Called with the frames of one read, in order. [] means that bytes came but no whole frame, which
                is a sign of life too.
            on_fault: Called with the code and text of the `bye` that the far end deserves. Nothing is decoded after it.
            on_down: Called once after start(), as the last callback, with the reason.
            on_full: Called when the buffer has risen above its limit, from within send().
            on_drained: Called when the buffer has come down to a quarter of its limit, and whether it was full.
            on_unsent: Called with this link when the system has not taken all bytes and `stuck_check` is None.
            trace: Gets every frame, and the end.
        """
        self.link_id = link_id
        self._reader, self._writer = reader, writer
        self._transport = cast(asyncio.Transport, writer.transport)  # it reads too, unlike typeshed says
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._server_side = server_side
        self._tls = TlsPipe(tls_context, server_side=server_side)
        self._decoder = Decoder(settings)
        self._on_frames, self._on_fault, self._on_down = on_frames, on_fault, on_down
        self._on_full, self._on_drained, self._on_unsent = on_full, on_drained, on_unsent
        self._on_bytes = on_bytes
        self.undecoded: bytes = b""  # received, also before start()
        self._trace = trace
        if trace is not None:
            self._decoder.on_read = partial(trace.on_frames, "in")
        self._started = False
        self._reading = True  # False while reading is paused
        self._faulted = False
        self.spoke: bool = False
        self._written_bytes = 0  # ever given to the transport
        self.full: bool = False
        self.has_room: bool = True
        self.stuck_check: asyncio.TimerHandle | None = None
        self._closing = False
        self._reason = ""  # of the end; "" before it
        self._ended: asyncio.Future[None] | None = None  # exists while close() waits for the end
        # TCP_USER_TIMEOUT is not used: on Linux a closed window counts as silence too, so a peer that is alive but
        # stopped would be cut off. The ping notices a dead one.
        limit = settings.buffer_limit_bytes
        self._transport.set_write_buffer_limits(high=limit // LOW_BUFFER_PART, low=limit // LOW_BUFFER_PART)

    def __repr__(self) -> str:
        side = "accepted" if self._server_side else "dialled"
        state = self._reason or ("closing" if self._closing else "up" if self._tls.handshaken else "handshake")
        return f"<Client {self.link_id} {side} {state}>"

    # Handshake

    async def handshake(self, timeout: float) -> PeerId:
        """Do the TLS handshake. Return the server's key on the dialling side, "" on the accepting side.

        Raises:
            HandshakeError: The far end does not speak TLS 1.3, or has another kind of key.
            TimeoutError: Not done within `timeout` seconds.
            OSError: The connection broke, or abort() was called.
            After any error the connection is closed, and on_down is not called.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._do_handshake()
            if self._server_side:
                return ""
            key = peer_key(self._tls.certificate())
            if self._trace is not None:
                self._trace.peer = key
            return key
        except BaseException as error:  # also when cancelled
            if self._trace is not None:
                self._trace.error = str(error) or type(error).__name__
            # "local" still sends the TLS alert that says what was wrong; other failures deserve no more time.
            self._end("local" if isinstance(error, HandshakeError) else "lost")
            raise

    async def _do_handshake(self) -> None:
        if not self._server_side:
            self._tls.begin()
        while not self._tls.handshaken:
            self._write(self._tls.outgoing())
            ciphertext = await self._reader.read(STREAM_READ_BYTES)
            if not ciphertext:
                raise ConnectionResetError("the far end closed the connection within the TLS handshake")
            try:
                self.undecoded = self._tls.receive(ciphertext)
            finally:
                self._write(self._tls.outgoing())
        self._replace_protocol()

    def _replace_protocol(self) -> None:
        """Make this object the transport's protocol. The stream is empty: nothing was awaited since it was read."""
        self._transport.pause_reading()  # uvloop asks how to read only when reading starts
        self._transport.set_protocol(self)
        self._transport.resume_reading()
        if self._tls.closed_by_peer:
            self._end("closed")
        elif self._reader.at_eof() or self._reader.exception() is not None:
            self._end("lost")

    # Reading

    def start(self) -> None:
        """Start the callbacks. What was received before waits for decode()."""
        self._started = True
        if self.undecoded:
            self._on_bytes(self.link_id, len(self.undecoded))
        elif self._reason:
            self._loop.call_soon(self._on_down, self.link_id, self._reason)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _ciphertext.view

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(_ciphertext.view[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        if self._reason:
            return
        try:
            plaintext = self._tls.receive(data)
        except OSError:
            self._end("lost")
            return
        if not self._closing:  # else read and drop: closing a socket with unread bytes would destroy the bye on its way
            if answer := self._tls.outgoing():  # almost never: a key update requires one
                self._write(answer)
            self.undecoded += plaintext
            if self._started:
                self._on_bytes(self.link_id, len(self.undecoded))
        if self._tls.closed_by_peer:
            self._end("closed")

    def eof_received(self) -> None:
        self._end("lost")  # an end without close_notify was not the far end's decision

    def connection_lost(self, exc: Exception | None) -> None:
        timed_out = isinstance(exc, TimeoutError) or getattr(exc, "winerror", 0) == WINDOWS_TIMEOUT
        self._end("timeout" if timed_out else "lost")

    def decode(self) -> None:
        """Decode the first of what waits; behind the last of it tell the end of the link, if it has ended meanwhile."""
        had_ended = bool(self._reason)
        plaintext, self.undecoded = self.undecoded[:DECODED_BYTES], self.undecoded[DECODED_BYTES:]
        if not self._closing and not self._faulted:
            frames = self._decoder.feed(plaintext)
            if frames:
                self.spoke = True
            self._on_frames(self.link_id, frames)
            fault = self._decoder.fault
            if fault is not None:
                self._faulted = True
                self._on_fault(self.link_id, fault.code, str(fault))
        if had_ended and not self.undecoded:
            self._tell_end()

    def _tell_end(self) -> None:
        """Tell the end of a link that ended before its last bytes were decoded."""
        if self._trace is not None:
            self._trace.on_end(self._reason)
        self._on_down(self.link_id, self._reason)

    def pause_reading(self) -> None:
        """Stop reading, so that TCP stops the far end. At most one read that is under way still arrives."""
        if self._reading and not self._closing and not self._reason:
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again. Does nothing when reading was not paused."""
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def raise_limit(self) -> None:
        """Accept frames of the full size: this link has its `go`."""
        self._decoder.max_frame_bytes = self._settings.max_frame_bytes
        self._decoder.takes_pieces = True

    # Writing

    @property
    def buffered(self) -> int:
        """The number of bytes that the system has not taken yet."""
        return self._transport.get_write_buffer_size()

    @property
    def transport(self) -> asyncio.Transport:
        """The transport below TLS."""
        return self._transport

    @property
    def taken_bytes(self) -> int:
        """The number of bytes that the system has taken so far."""
        return self._written_bytes - self._transport.get_write_buffer_size()

    @property
    def reads(self) -> bool:
        """False while reading is paused."""
        return self._reading

    def send(self, data: bytes) -> None:
        """Write encoded frames. Dropped when the link is closing."""
        if self._closing or self._reason:
            return
        try:
            self._tls.send(data)
        except ConnectionError:
            self._end("lost")
            return
        if self._trace is not None:
            self._trace.on_frames("out", data)
        self._write(self._tls.outgoing())

    def _write(self, ciphertext: bytes) -> None:
        if not ciphertext or self._transport.is_closing():
            return
        self._transport.write(ciphertext)
        self._written_bytes += len(ciphertext)
        buffered = self._transport.get_write_buffer_size()
        if not self.has_room:
            self._check_full(buffered)
        if buffered and self.stuck_check is None:
            self._on_unsent(self)

    def pause_writing(self) -> None:
        self.has_room = False
        self._check_full(self._transport.get_write_buffer_size())

    def _check_full(self, buffered: int) -> None:
        """Note a full buffer. The transport has paused the writing, so resume_writing() follows."""
        if buffered > self._settings.buffer_limit_bytes and not self.full and not self._closing:
            self.full = True
            self._on_full(self.link_id)

    def resume_writing(self) -> None:
        was_full, self.full, self.has_room = self.full, False, True
        if not self._closing:
            self._on_drained(self.link_id, was_full)

    # End

    async def close(self, bye: bytes | None = None, drain_timeout: float = 1.0) -> None:
        """End the link in order, within `drain_timeout` seconds: send `bye` and close_notify after what was sent.

        Then wait until the far end has closed too. Otherwise bytes that it still sends could make the system drop what
        is on its way to it. Never raises. Calling it again does nothing.
        """
        if self._reason:
            self.abort()  # nobody wants what it sent at last
        if self._reason or self._closing:
            return
        if bye is not None:
            self.send(bye)
        self._closing = True
        self._tls.close()
        self._write(self._tls.outgoing())
        self.resume_reading()
        try:
            async with asyncio.timeout(drain_timeout):
                await self._wait_until_ended()
        except (TimeoutError, OSError):
            pass
        finally:
            self._end("local")

    async def _wait_until_ended(self) -> None:
        if self._transport.can_write_eof():
            self._transport.write_eof()  # after everything written before
        self._ended = self._loop.create_future()
        await self._ended

    def abort(self) -> None:
        """End the link at once and drop what is unsent. on_down is called in a later turn of the loop."""
        if not self._reason:
            self._closing = True
            self._end("local", later=True)
        elif self.undecoded:
            self.undecoded = b""
            self._loop.call_soon(self._tell_end)

    def give_up(self, reason: str = "slow") -> None:
        """End a link that stands still, or is `lost`."""
        self._end(reason)

    @property
    def own_address(self) -> str:
        """The address of this end; of a carried link the word for that."""
        own = self._transport.get_extra_info("sockname") or ("",)
        return str(own[0])

    @property
    def has_address(self) -> bool:
        """True if this machine still has the address of this end, or the link is carried."""
        own = self._transport.get_extra_info("socket")
        if own is not None:
            with socket.socket(own.family, socket.SOCK_DGRAM) as probe:
                try:
                    probe.bind((own.getsockname()[0], 0))
                except OSError as error:
                    return error.errno != errno.EADDRNOTAVAIL
        return True

    def _end(self, reason: str, *, later: bool = False) -> None:
        if self._reason:
            return
        self._reason = "local" if self._closing else reason
        if self._closing:
            self.undecoded = b""
        if self._trace is not None and not self.undecoded:
            self._trace.on_end(self._reason)
        if self.stuck_check is not None:
            self.stuck_check.cancel()
            self.stuck_check = None
        self._close_transport(at_once=later)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        if not self._started:
            return
        if self.undecoded:
            return  # decode() tells the end
        if later:
            self._loop.call_soon(self._on_down, self.link_id, self._reason)
        else:
            self._on_down(self.link_id, self._reason)

    def _close_transport(self, *, at_once: bool) -> None:
        """Close the transport; let it write what it still has, unless the far end will not take it."""
        if self._reason == "closed":
            self._tls.close()
            self._write(self._tls.outgoing())
        if at_once or self._reason in ("slow", "timeout") or self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()
