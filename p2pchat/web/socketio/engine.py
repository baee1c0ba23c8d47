"""One Engine.IO connection, by WebSocket or polling: what is queued, what was written, and what has surely arrived.

A successful write does not prove that the client has the message. The connection remembers which messages were written
before each of Engine.IO's pings; the pong, of which each ping gets one, proves that they arrived, and so does the next
poll of a polling client. Messages without proof are delivered again when the client comes back. An orderly goodbye
proves everything that was written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from engineio.exceptions import QueueEmpty, SocketIsClosedError
from engineio.packet import MESSAGE
from engineio.packet import PING as ENGINE_PING
from engineio.packet import Packet as EnginePacket
from socketio.packet import ACK, DISCONNECT, EVENT, Packet

from p2pchat.web import WebSettings
from p2pchat.web.hub import QueueFull
from p2pchat.web.session import PING_AFTER, LightEvent, Post

if TYPE_CHECKING:
    from p2pchat.web.socketio.clients import SocketClient

PROOF_TIMEOUT = 1.0  # seconds to wait for the proof when the server closes a connection
MAX_POLLED = 16  # packets in the answer to one poll: the clients of python-engineio give up at more
FLUSH_TIMEOUT = 2.0  # seconds for a client that is sent away to take what was queued
NEW_MESSAGE = "newMessage"
MESSAGE_STARTS = f'42["{NEW_MESSAGE}"'  # on the wire: Engine.IO's "message", Socket.IO's "event"
CLOSE, PING, PONG = "1", "2", "3"
SEPARATOR = "\x1e"  # between the packets of one poll or post
ORDERLY_CLOSE_CODES = (1000, 1001)  # RFC 6455: sent by a browser that leaves a page, or by a program that says goodbye

Newest = dict[tuple[str, str], Post]  # messages by conversation and writer: the newest stands for those before it


class EngineConnection:
    """One connection.

    Attributes:
        sid: Its Socket.IO id.
        host: The address it came from.
        client: The registered client that uses it, or None.
        taken: Packets received before it was registered, and their size in KiB.
        held: Events that came before `register`, as packets; they are handled after it.
        lock: Held while a request is carried out, for a message until it is on its way to disk, to keep their order.
        leaving: The client said goodbye.
        sent_away: The server is about to close it; nothing more is taken from it.
        ended: Nothing more is sent or received.
        newest: The newest message that was written.
        close: Closes the WebSocket below; None while it is polling.
    """

    __slots__ = (
        "_bytes", "_has_room", "_max_bytes", "_max_frames", "_ping_timer", "_pinged", "_proof", "_queued", "_socket",
        "_unanswered", "_written", "client", "close", "deadline", "ended", "held", "host", "leaving", "lock", "newest",
        "scope", "sent_away", "sid", "taken",
    )  # fmt: skip

    def __init__(self, socket: Any, scope: Any, host: str, settings: WebSettings) -> None:
        self._socket = socket
        socket.poll = self._poll  # the library's own takes everything at once
        self._max_frames = settings.outbox_frames
        self._max_bytes = settings.outbox_bytes
        self._queued: deque[tuple[Post, int]] | None = None  # messages to be written; made when there are any
        self._written: Newest = {}  # what was written since the last ping
        self._bytes = 0
        self.newest: Post | None = None
        self._pinged: list[Newest] = []  # for each ping without a pong, what was written before it
        self._ping_timer: asyncio.TimerHandle | None = None
        self._proof: asyncio.Future[None] | None = None  # set while wait_arrival() waits
        self._has_room = LightEvent()  # something was written since drained() began to wait
        self.close: Callable[[], Any] | None = None
        self.sid = ""
        self.scope = scope
        self.host = host
        self.client: SocketClient | None = None
        self.deadline: asyncio.TimerHandle | None = None
        self.taken = 0
        self.held: list[str] = []
        self._unanswered: list[LightEvent | EnginePacket] = []  # requests, and statuses that wait for their answers
        self.lock = asyncio.Lock()
        self.leaving = False
        self.sent_away = False
        self.ended = False

    # ---- out

    def put(self, packet: EnginePacket, post: Post | None = None, *, prove: bool = True, bounded: bool = True) -> None:
        """Queue a packet. Raises QueueFull if too much is waiting.

        Args:
            post: The message in it.
            prove: Send a ping soon after the message. Without one it is proved by a later ping or poll.
            bounded: Check the limits. False for a caller that puts some packets and then waits for drained().
        """
        socket = self._socket
        if self.ended or socket.closed:
            return
        size = 0 if post is None else len(packet.encode())
        if bounded and (socket.queue.qsize() >= self._max_frames or self._bytes + size > self._max_bytes):
            raise QueueFull
        if post is not None:
            if self._queued is None:
                self._queued = deque()
            self._queued.append((post, size))
            self._bytes += size
            if prove and self._ping_timer is None:
                self._ping_timer = asyncio.get_running_loop().call_later(PING_AFTER, self._ping)
        socket.queue.put_nowait(packet)

    async def _poll(self) -> list[EnginePacket]:
        """Return the next packets to be written, at most MAX_POLLED; [] to close. Raises QueueEmpty if none come."""
        queue, engine = self._socket.queue, self._socket.server
        try:
            packets = [await asyncio.wait_for(queue.get(), engine.ping_interval + engine.ping_timeout)]
        except (TimeoutError, asyncio.CancelledError):
            raise QueueEmpty from None
        queue.task_done()
        while packets[-1] is not None and len(packets) < MAX_POLLED and not queue.empty():
            packets.append(queue.get_nowait())
            queue.task_done()
        if packets[-1] is None and len(packets) > 1:
            queue.put_nowait(None)
        return [packet for packet in packets if packet is not None]

    async def drained(self) -> None:
        """Wait until the queue is at most a quarter full."""
        queue = self._socket.queue
        while not self.ended and (queue.qsize() > self._max_frames // 4 or self._bytes > self._max_bytes // 4):
            self._has_room.clear()
            await self._has_room.wait()

    def _ping(self) -> None:
        self._ping_timer = None
        if self._is_waiting and not self.ended and not self._socket.closed:
            self._socket.queue.put_nowait(EnginePacket(ENGINE_PING))

    def on_write(self, text: str) -> None:
        """Note a packet that was written to the connection."""
        if text.startswith(MESSAGE_STARTS):
            if self._queued:
                self.newest, size = self._queued.popleft()
                log = self.newest.log
                self._written[log.conversation, log.user] = self.newest
                self._bytes -= size
        elif text == PING:
            self._pinged.append(self._written)
            self._written = {}
        self._has_room.set()

    # ---- answers come in the order of the requests

    def begin_request(self) -> LightEvent:
        """Return the place of a request, which is set when all before it are answered; end_request() must follow."""
        place = LightEvent(is_set=not self._unanswered)
        self._unanswered.append(place)
        return place

    def end_request(self) -> None:
        """Send the statuses that waited for the answer to the oldest request, and let the next one be answered."""
        waiting = self._unanswered
        del waiting[0]
        while waiting and isinstance(waiting[0], EnginePacket):
            self.put(waiting.pop(0), bounded=False)
        if waiting:
            waiting[0].set()

    def put_status(self, packet: EnginePacket) -> None:
        """Queue a status behind the answers to all requests so far, one of which may be that to its message.

        It is not bounded: one mark of a reader can be a status of each message the user wrote.
        """
        if self._unanswered:
            self._unanswered.append(packet)
        else:
            self.put(packet, bounded=False)

    async def wait_handled(self) -> None:
        """Wait until the requests that came so far were carried out."""
        await asyncio.sleep(0)  # the library begins with them in tasks of their own
        async with self.lock:
            pass

    # ---- in

    async def receive(self, text: str) -> None:
        """Take a packet of a polling client. Raises EngineIOError if the connection is closed or a WebSocket by now."""
        if self._socket.upgraded:
            raise SocketIsClosedError
        if not self.ended and not self.sent_away:
            self.on_packet(text)
            await self._socket.receive(EnginePacket(encoded_packet=text))

    def on_packet(self, text: str) -> None:
        """Note a packet that came in: a pong proves what was written before its ping."""
        if text == PONG and self._pinged:
            self._prove(self._pinged.pop(0))

    def on_poll(self) -> None:
        """Note a poll: the client has everything that was written."""
        self._prove(self.take_unproved())

    def take_unproved(self) -> Newest:
        """Return what was written and not proved; the caller takes it as proved."""
        taken: Newest = {}
        for written in (*self._pinged, self._written):
            taken.update(written)
            written.clear()  # a pong is still expected for each ping
        return taken

    def _prove(self, posts: Newest) -> None:
        if self.client is not None and posts:
            self.client.on_arrival(posts)
        if self._proof is not None and not self._proof.done() and not self._is_waiting:
            self._proof.set_result(None)

    @property
    def _is_waiting(self) -> bool:
        """True if a message is to be written or proved."""
        return bool(self._queued or self._written or any(self._pinged))

    async def wait_arrival(self) -> None:
        """Wait up to PROOF_TIMEOUT for the proof that everything written has arrived."""
        if not self._is_waiting or self.ended or self._socket.closed:
            return
        self._proof = asyncio.get_running_loop().create_future()
        self._ping()
        with suppress(TimeoutError):
            async with asyncio.timeout(PROOF_TIMEOUT):
                await self._proof

    # ---- end

    def on_close(self, code: int) -> None:
        """Note that the client closed the WebSocket."""
        self.leaving = self.leaving or code in ORDERLY_CLOSE_CODES

    def release(self) -> None:
        """Wake everything that waits for the connection, which is gone; also a poll that waits for news."""
        self.ended = True
        for timer in (self._ping_timer, self.deadline):
            if timer is not None:
                timer.cancel()
        self._has_room.set()
        self._socket.queue.put_nowait(None)

    async def end(self, *, away: bool, flush: bool = True) -> None:
        """Close the connection from this side.

        Args:
            away: Tell the client not to come back; otherwise it reconnects by itself.
            flush: Write what is queued first.
        """
        socket = self._socket
        if self.ended:
            return
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        if flush:
            await self.wait_arrival()
        if away and not socket.closed:
            leave = StrictPacket(DISCONNECT, namespace="/").encode()
            socket.queue.put_nowait(EnginePacket(MESSAGE, leave))
        self.ended = True
        if flush and not socket.closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_TIMEOUT):
                    await socket.queue.join()
        while not socket.queue.empty():
            socket.queue.get_nowait()
            socket.queue.task_done()
        socket.queue.put_nowait(None)  # its writer ends and closes the connection
        await socket.close(wait=False, abort=True)
        if self.close is not None:
            with suppress(Exception):  # closed already
                await self.close()


# ---- packets
#
# Binary packets are refused, because a reader must hold a packet that announces attachments until all have come.
# Packets other than events and acknowledgements are refused before they are parsed.

_ENGINE_WORDS = frozenset({CLOSE, "2probe", PONG, "5", "6"})  # close, probe, pong, upgrade, noop: all but messages
_MESSAGES = ("40", "41", "42", "43")


class StrictPacket(Packet):  # type: ignore[misc]
    """A Socket.IO packet that accepts well-formed events and acknowledgements only."""

    def decode(self, encoded_packet: object) -> int:
        """Parse a packet; return 0, the number of attachments that follow. Raises ValueError."""
        if not isinstance(encoded_packet, str) or encoded_packet[:1] not in ("0", "1", "2", "3"):
            raise ValueError("this packet is not accepted here")
        try:
            attachments = super().decode(encoded_packet)
        except RecursionError:
            raise ValueError("a packet is nested too deeply") from None
        if attachments:
            raise ValueError("attachments are not accepted here")
        data = self.data
        if self.packet_type in (EVENT, ACK) and self.namespace not in (None, "/"):
            raise ValueError("the only namespace is /")
        if self.packet_type == EVENT and not (isinstance(data, list) and data and isinstance(data[0], str)):
            raise ValueError("an event is a list that begins with its name")
        if self.packet_type == ACK and not isinstance(data, list):
            raise ValueError("an acknowledgement is a list")
        return 0


def may_come_in(text: str | None) -> bool:
    """Return whether the text of a WebSocket frame can be a packet at all, before it is parsed."""
    return text is not None and (text.startswith(_MESSAGES) or text in _ENGINE_WORDS)


def posted_packets(body: bytes) -> list[str]:
    """Return the packets that a polling client posts together. Raises ValueError if one of them can be no packet."""
    packets = body.decode().split(SEPARATOR)
    if not all(packet.startswith(_MESSAGES) or packet in (CLOSE, PONG) for packet in packets):
        raise ValueError("a posted packet is a message, a pong or a close")
    return packets


def ack_packet(id: int, answer: dict[str, Any]) -> EnginePacket:
    """Return the acknowledgement of an event as a packet."""
    return EnginePacket(MESSAGE, StrictPacket(ACK, data=[answer], namespace="/", id=id).encode())


def event_packet(name: str, data: dict[str, Any]) -> EnginePacket:
    """Return an event as a packet that is encoded once, however many clients get it."""
    packet = EnginePacket(MESSAGE, StrictPacket(EVENT, data=[name, data], namespace="/").encode())
    packet.encode()
    return packet
