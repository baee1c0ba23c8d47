"""One end of a circuit, as the transport under a stream reader and writer: Client speaks TLS over it as over a socket.

core/mesh/circuits.py decides where it leads, and tells when it has ended.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable

from p2pchat.core.inputs import CircuitSent
from p2pchat.core.mesh.circuits import CircuitWindow
from p2pchat.core.mesh.dialer import CARRIED
from p2pchat.protocol import MAX_CARRIED_BYTES, Carried, Circuit, encode
from p2pchat.runtime.buffered_transport import BufferedTransport, hand_over


class CircuitTransport(BufferedTransport):
    """The transport of one end of a circuit.

    Args:
        link: The link of the peer that carries it.
        circuit: Its number there.
        put: Takes what the core has to know: how much this end takes, and its end.
        send: Writes an encoded frame to that link: a goodbye is the last thing before that link ends too.
        forget: Called when it has ended.
    """

    def __init__(
        self,
        link: int,
        circuit: int,
        put: Callable[[CircuitSent], None],
        send: Callable[[int, bytes], None],
        forget: Callable[[], object],
    ) -> None:
        ends = {"peername": (CARRIED, link), "sockname": (CARRIED, link)}
        super().__init__({**ends, "through": link}, MAX_CARRIED_BYTES)
        self._link = link
        self._circuit = circuit
        self._put = put
        self._send = send
        self._forget = forget
        self._window = CircuitWindow()
        self._unread: deque[bytes] = deque()
        self._far_ended = False
        self._read_handle: asyncio.Handle | None = None

    def start(self) -> None:
        """Tell the other end how much this one takes."""
        self._take(0)

    def can_write_eof(self) -> bool:
        return False  # TLS says when nothing more comes

    def abort(self) -> None:
        if not self._closing:
            self._closing = self._ends = True
            self._say(Circuit(self._circuit, end="lost"))
            self._loop.call_soon(self.lose, None)

    def _say(self, frame: Circuit | Carried) -> None:
        if not self._lost:
            self._put(CircuitSent(self._link, frame))

    def _push(self) -> None:
        """Send what the other end takes."""
        frames = bytearray()
        while self._unsent and (most := self._window.may_send) > 0:
            data = self._take_unsent()
            if len(data) > most:
                self._put_back(data[most:])
                data = data[:most]
            self._window.sent += len(data)
            frames += encode(Carried(self._circuit, data))
        if frames:
            self._send(self._link, bytes(frames))
        self._passed_on()
        if self._closing and not self._unsent and not self._lost:
            self._say(Circuit(self._circuit, end="closed"))
            self._loop.call_soon(self.lose, None)

    def on_frame(self, frame: Circuit | Carried) -> None:
        """Take what came from the other end."""
        if isinstance(frame, Circuit):
            self._far_ended = True
            self._read()
            return
        if frame.d:
            self._unread.append(frame.d)
            self._read()
        if frame.room:
            self._window.widen(frame.room)
            self._push()

    def _read_later(self) -> None:
        if self._read_handle is None and not self._lost:
            self._read_handle = self._loop.call_soon(self._read)

    def _read(self) -> None:
        """Pass on what came, while the protocol reads; then the end, if it came."""
        self._read_handle = None
        while self._unread and self._reading and not self._lost:
            data = self._unread.popleft()
            hand_over(data, self.protocol)
            self._take(len(data))
        if self._far_ended and not self._unread:
            self.lose(ConnectionResetError(errno.ECONNRESET, "the circuit has ended"))

    def _take(self, count: int) -> None:
        room = self._window.take(count)
        if room:
            self._say(Carried(self._circuit, room=room))

    def _on_lost(self, error: Exception | None) -> None:
        self._unread.clear()
        self._forget()
