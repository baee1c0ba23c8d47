"""The base of transports that are no sockets: what circuits and the pipes of tests share."""

from __future__ import annotations

import asyncio
from collections import deque

from p2pchat.client import STREAM_LIMIT_BYTES, Streams


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

    def _put_back(self, data: bytes) -> None:
        """Put back the rest of a piece that was taken."""
        self._unsent.appendleft(data)
        self.unsent_bytes += len(data)

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
