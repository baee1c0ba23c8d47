"""Wire: one Engine.IO connection, by WebSocket or polling: what waits for it, what went out, and what surely arrived.

That something was written to a connection does not say that anybody has it. So a wire remembers which messages went
out before Engine.IO's ping: its pong says that they arrived, and so does the next poll of a client that polls. What
was not proved when a connection broke is delivered again when the client comes back; an orderly goodbye counts for
everything that was written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from p2pchat import Message, Sent
from p2pchat.web.hub import Slow
from p2pchat.web.socketio.messages import MESSAGE_STARTS, PING, PONG, EnginePacket, farewell, ping, size_of

if TYPE_CHECKING:
    from p2pchat.web.socketio.clients import Client

PROBE_AFTER = 5.0  # seconds after a message in which a ping asks whether it has arrived; Engine.IO's own come each 25 s
PROVED_WITHIN = 1.0  # seconds that the proof gets when a connection is closed from here
FLUSHED_WITHIN = 2.0  # seconds that a client which is sent away gets to take what was written
GOING_AWAY = (1000, 1001)  # close codes of RFC 6455 that a browser sends when a page is left, or a program says goodbye

Post = Message | Sent


class Wire:
    """One connection.

    Attributes:
        id: Engine.IO's name of it, which only the client knows.
        host: The address it came from.
        client: Whose it is, once registered.
    """

    __slots__ = (
        "_arrival", "_bytes", "_close", "_drained", "_max_bytes", "_max_frames", "_out", "_pinged", "_probe", "_proved",
        "_socket", "_went", "client", "deadline", "ended", "frames", "host", "id", "leaving", "scope", "sid",
    )  # fmt: skip

    def __init__(
        self, socket: Any, scope: Any, host: str, *, max_frames: int, max_bytes: int,
        proved: Callable[[Wire, Post], None],
    ) -> None:  # fmt: skip
        self._socket = socket
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._proved = proved
        self._out: deque[tuple[Post, int]] | None = None  # messages that wait to be written; made when there are any
        self._bytes = 0
        self._went: Post | None = None  # the newest that was written
        self._pinged: Post | None = None  # the newest that was written before the last ping
        self._probe: asyncio.TimerHandle | None = None
        self._arrival: asyncio.Future[None] | None = None  # somebody waits for what was written to have arrived
        self._drained: asyncio.Future[None] | None = None  # somebody waits for less to be on its way
        self._close: Callable[[], Any] | None = None
        self.id: str = socket.sid
        self.sid = ""  # Socket.IO's name of it
        self.scope = scope
        self.host = host
        self.client: Client | None = None
        self.deadline: asyncio.TimerHandle | None = None
        self.frames = 0  # taken before it was registered
        self.leaving = False  # said goodbye in good order
        self.ended = False

    @property
    def newest(self) -> Post | None:
        """The newest message that was written to it, of those of which it is to be known."""
        return self._went

    # ---- out

    def put(self, packet: EnginePacket, post: Post | None = None, *, bounded: bool = True) -> None:
        """Have a packet written. Raises Slow when too much waits already.

        Args:
            post: The message it is, when it is to be known whether that arrived.
            bounded: False where who puts it waits for room() after some.
        """
        socket = self._socket
        if self.ended or socket.closed:
            return
        size = 0 if post is None else size_of(packet)
        if bounded and (socket.queue.qsize() >= self._max_frames or self._bytes + size > self._max_bytes):
            raise Slow
        if post is not None:
            if self._out is None:
                self._out = deque()
            self._out.append((post, size))
            self._bytes += size
            if self._probe is None:
                self._probe = asyncio.get_running_loop().call_later(PROBE_AFTER, self._ask)
        socket.queue.put_nowait(packet)

    async def room(self) -> None:
        """Wait until not much is on its way: for who could write more than is taken."""
        queue = self._socket.queue
        while not self.ended and (queue.qsize() > self._max_frames // 4 or self._bytes > self._max_bytes // 4):
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def _ask(self) -> None:
        """Ask whether everything has arrived."""
        self._probe = None
        if not self.ended and not self._socket.closed:
            self._socket.queue.put_nowait(ping())

    def wrote(self, text: str) -> None:
        """A packet was written to the connection."""
        if text.startswith(MESSAGE_STARTS):
            if self._out:
                self._went, size = self._out.popleft()
                self._bytes -= size
        elif text == PING:
            self._pinged = self._went
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # ---- in

    def took(self, text: str) -> None:
        """A packet came in."""
        if text == PONG and self._pinged is not None:
            self._arrived(self._pinged)

    def polled(self) -> None:
        """The client asks for more: it has what the last answer brought."""
        if self._went is not None:
            self._arrived(self._went)

    def _arrived(self, post: Post) -> None:
        self._pinged = None
        self._proved(self, post)
        if self._arrival is not None and not self._arrival.done() and not self._out and post is self._went:
            self._arrival.set_result(None)

    async def arrival(self) -> None:
        """Wait a moment for the proof that everything written has arrived."""
        if self._went is None or self.ended or self._socket.closed:
            return
        self._arrival = asyncio.get_running_loop().create_future()
        self._ask()
        with suppress(TimeoutError):
            async with asyncio.timeout(PROVED_WITHIN):
                await self._arrival

    # ---- the end

    def closes_with(self, close: Callable[[], Any]) -> None:
        """Take what closes the WebSocket below."""
        self._close = close

    def went_away(self, code: int) -> None:
        """The WebSocket was closed from the other side."""
        self.leaving = self.leaving or code in GOING_AWAY

    def release(self) -> None:
        """The connection is gone: nobody waits for it any more, a poll that was waiting for news included."""
        self.ended = True
        if self._probe is not None:
            self._probe.cancel()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._socket.queue.put_nowait(None)

    async def end(self, *, away: bool, flush: bool = True) -> None:
        """Close it from here.

        Args:
            away: The client is sent away for good; otherwise it comes back by itself.
            flush: What was put before is written first.
        """
        socket = self._socket
        if self.ended:
            return
        if self._probe is not None:
            self._probe.cancel()
        if flush:
            await self.arrival()
        if away and not socket.closed:
            socket.queue.put_nowait(farewell())
        self.ended = True
        if flush and not socket.closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSHED_WITHIN):
                    await socket.queue.join()
        while not socket.queue.empty():
            socket.queue.get_nowait()
            socket.queue.task_done()
        socket.queue.put_nowait(None)  # its writer ends, and closes the connection
        await socket.close(wait=False, abort=True)
        if self._close is not None:
            with suppress(Exception):  # closed already
                await self._close()
