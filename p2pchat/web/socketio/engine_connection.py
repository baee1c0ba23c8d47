"""One Engine.IO connection, by WebSocket or polling: packets decoded, queued, written, and proved to have arrived.

A successful write does not prove that the client has the message, nor does a goodbye, nor a poll: HTTP clients repeat a
poll whose connection broke, and say nothing. A client has a message when it has answered a ping that was written behind
it. Engine.IO's pings have no ids and each gets one pong, so the connection remembers which messages were written before
each. Messages without proof are delivered again when the client comes back.

Answers to polls can be lost one by one. So each one with messages ends with a ping, and nothing is written behind it
before its pong. If that does not come, the connection is closed, and the client comes back with a new one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from engineio.exceptions import QueueEmpty, SocketIsClosedError
from engineio.packet import MESSAGE, NOOP
from engineio.packet import PING as ENGINE_PING
from engineio.packet import Packet as EnginePacket
from socketio.packet import ACK, CONNECT_ERROR, DISCONNECT, EVENT

from p2pchat import DurableEvent
from p2pchat.threads import ends_within
from p2pchat.web import WebSettings
from p2pchat.web.account_session import PING_EVERY, LightEvent
from p2pchat.web.catch_up import Post
from p2pchat.web.session_hub import QueueFull

if TYPE_CHECKING:
    from p2pchat.web.socketio.socket_client import SocketClient

    class Packet:  # python-socketio has no types; a class whose base is unknown would be unknown to callers, too
        packet_type: int
        data: Any
        namespace: str | None
        id: int | None

        def __init__(
            self, packet_type: int = EVENT, data: Any = None, namespace: str | None = None, id: int | None = None,
            *, encoded_packet: object = None,
        ) -> None: ...  # fmt: skip
        def encode(self) -> str: ...
        def decode(self, encoded_packet: str) -> int: ...
else:
    from socketio.packet import Packet

PROOF_TIMEOUT = 1.0  # seconds to wait for the proof when the server closes a connection
PONG_TIMEOUT = 5.0  # seconds for the pong to a polled ping once the next poll has come, which is sent with it; a guess
# Packets of one POST, which wait in memory for the rate of the account. Of so many messages at once most are refused.
MAX_POSTED = 2048
MAX_POLLED = 16  # packets in the answer to one poll: the clients of python-engineio give up at more
FLUSH_TIMEOUT = 2.0  # seconds for a client that is sent away to take what was queued
NEW_MESSAGE = "newMessage"
MESSAGE_STARTS = f'42["{NEW_MESSAGE}"'  # on the wire: Engine.IO's "message", Socket.IO's "event"
CLOSE, PING, PONG, PROBE = "1", "2", "3", "2probe"
SEPARATOR = "\x1e"  # between the packets of one poll or post

Newest = dict[tuple[str, str], DurableEvent]  # by conversation and writer: the newest stands for those before it


class _PacketQueue(asyncio.Queue[EnginePacket | None]):
    """The packets to be written; None ends them. Attributes: `news`, set with each packet; `ended`, None was put."""

    def __init__(self) -> None:
        super().__init__()
        self.news: LightEvent = LightEvent()
        self.ended: bool = False

    def _put(self, item: EnginePacket | None) -> None:
        super()._put(item)
        self.ended = self.ended or item is None
        self.news.set()


class EngineConnection:
    """One connection.

    Attributes:
        sid: Its Socket.IO id.
        host: The address it came from.
        client: The registered client that uses it, or None.
        taken: Packets received before it was registered, and their size in KiB.
        held: Events that came before `register`, as packets; they are handled after it.
        lock: Held while a request is carried out, for a message until it is on its way to disk, to keep their order.
        is_posting: The packets of a POST are being taken. A client has one POST at a time.
        is_upgrading: A WebSocket is open to which a polling client changes, or has changed. It has one at a time.
        sent_away: The server is about to close it; nothing more is taken from it.
        ended: Nothing more is sent or received.
        close: Closes the WebSocket below; None while it is polling.
    """

    def __init__(self, socket: Any, scope: Any, host: str, settings: WebSettings) -> None:
        self._socket = socket
        socket.poll = self._poll  # the library's own takes everything at once
        self._queue, queue = _PacketQueue(), socket.queue
        while not queue.empty():
            self._queue.put_nowait(queue.get_nowait())
        socket.queue = self._queue
        self._max_frames = settings.outbox_frames
        self._max_bytes = settings.outbox_bytes
        # Messages to be written, with their sizes, and whether a ping follows; made when there are any.
        self._queued: deque[tuple[Post | None, int, bool]] | None = None
        self._written: Newest = {}  # what was written since the last ping
        self._bytes = 0
        self._pinged: list[Newest] = []  # for each ping without a pong, what was written before it
        self._ping_timer: asyncio.TimerHandle | None = None
        self._next_ping = 0.0  # not before
        self._poller: asyncio.Task[Any] | None = None  # the request that polled last
        self._awaits_pong = False  # the answer to a poll ended with a ping, whose pong has not come
        self._pong_timer: asyncio.TimerHandle | None = None
        self._proof: asyncio.Future[None] | None = None  # set while wait_arrival() waits
        self._has_room = LightEvent()  # something was written since drained() began to wait
        self.close: Callable[[], Any] | None = None
        self.sid: str = ""
        self.scope: Any = scope
        self.host: str = host
        self.client: SocketClient | None = None
        self.deadline: asyncio.TimerHandle | None = None
        self.taken: int = 0
        self.held: list[str] = []
        self._unanswered: list[LightEvent | EnginePacket] = []  # requests, and statuses that wait for their answers
        self.lock: asyncio.Lock = asyncio.Lock()
        self.is_posting: bool = False
        self.is_upgrading: bool = False
        self.sent_away: bool = False
        self.ended: bool = False

    # ---- out

    def put(self, packet: EnginePacket, post: Post | None = None, *, prove: bool = True, bounded: bool = True) -> None:
        """Queue a packet. Raises QueueFull if too much is waiting.

        Args:
            post: The message in it.
            prove: Send a ping behind the message. Without one it is proved by a later ping.
            bounded: Check the limits. False for a caller that puts some packets and then waits for drained().
        """
        socket = self._socket
        if self.ended or socket.closed:
            return
        size = 0 if post is None else len(packet.encode())
        if bounded and (self._queue.qsize() >= self._max_frames or self._bytes + size > self._max_bytes):
            raise QueueFull
        if post is not None:
            if self._queued is None:
                self._queued = deque()
            self._queued.append((post, size, prove))
            self._bytes += size
        self._queue.put_nowait(packet)

    async def _poll(self) -> list[EnginePacket]:
        """Return the next packets to be written, at most MAX_POLLED; [] to close. Raises QueueEmpty if none come.

        Packets go to the poll that came last, if its connection lives: what is written to a dead one is lost.
        """
        socket, queue, poller = self._socket, self._queue, asyncio.current_task()
        is_polled = not socket.upgraded
        if is_polled:
            self._poller = poller
            queue.news.set()  # an earlier poll ends
        try:
            async with asyncio.timeout(socket.server.ping_interval + socket.server.ping_timeout):
                while True:
                    if is_polled and (self._poller is not poller or socket.upgrading or socket.upgraded):
                        return [EnginePacket(NOOP)]
                    if self._awaits_pong and not queue.ended:
                        self._expect_pong()
                    elif not queue.empty():
                        break
                    queue.news.clear()
                    await queue.news.wait()
        except (TimeoutError, asyncio.CancelledError):
            raise QueueEmpty from None
        packets = self._take_packets(MAX_POLLED - 1 if is_polled else MAX_POLLED)
        if is_polled and any(packet.encode().startswith((PING, MESSAGE_STARTS)) for packet in packets):
            packets = [*(packet for packet in packets if packet.packet_type != ENGINE_PING), EnginePacket(ENGINE_PING)]
            self._awaits_pong = True
        return packets

    def _take_packets(self, most: int) -> list[EnginePacket]:
        """Return the first packets of the queue; [] if it ends."""
        queue, packets = self._queue, list[EnginePacket]()
        while len(packets) < most and not queue.empty():
            packet = queue.get_nowait()
            queue.task_done()
            if packet is not None:
                packets.append(packet)
                continue
            if packets:
                queue.put_nowait(None)
            break
        return packets

    def _expect_pong(self) -> None:
        """Close the connection if the pong to a polled ping does not come: that answer was lost, with its messages."""
        if self._pong_timer is None and self.client is not None:
            hub, session = self.client.gateway.hub, self.client.hub_session
            self._pong_timer = asyncio.get_running_loop().call_later(PONG_TIMEOUT, hub.end, session, "slow")

    def drop_poll(self, poller: asyncio.Task[Any]) -> None:
        """Give nothing to a poll whose connection is gone."""
        if self._poller is poller:
            self._poller = None
            self._queue.news.set()

    async def drained(self) -> None:
        """Wait until the queue is at most a quarter full."""
        queue = self._queue
        while not self.ended and (queue.qsize() > self._max_frames // 4 or self._bytes > self._max_bytes // 4):
            self._has_room.clear()
            await self._has_room.wait()

    def _ping_soon(self) -> None:
        """Queue a ping, at once if there was none for a while: then it is written together with the message."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._next_ping:
            self._ping()
        else:
            self._ping_timer = loop.call_at(self._next_ping, self._ping)

    def _ping(self) -> None:
        self._ping_timer = None
        self._next_ping = asyncio.get_running_loop().time() + PING_EVERY
        if (self._queued or self._written) and not self.ended and not self._socket.closed:
            self._queue.put_nowait(EnginePacket(ENGINE_PING))

    def on_write(self, text: str) -> None:
        """Note a packet that was written to the connection."""
        if text.startswith(MESSAGE_STARTS):
            if self._queued:
                post, size, prove = self._queued.popleft()
                self._bytes -= size
                if post is not None:
                    self._written[post.log.conversation, post.log.user] = post
                if prove and self._ping_timer is None and self._socket.upgraded:  # the answer to a poll has its ping
                    self._ping_soon()
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

    # ---- change to a WebSocket

    def begin_upgrade(self) -> bool:
        """Return whether the client may change to one more WebSocket; end_upgrade() must follow if so."""
        if self.is_upgrading or self.ended or self.sent_away:
            return False
        self.is_upgrading = True
        return True

    @property
    def is_upgraded(self) -> bool:
        """True once the client has changed."""
        return bool(self._socket.upgraded)

    def end_upgrade(self) -> None:
        """Let the client poll on if it has not changed: the library would answer each poll with nothing, at once."""
        self.is_upgrading = False
        if not self._socket.upgraded:
            self._socket.upgrading = False

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
            if self._awaits_pong:
                self._awaits_pong = False
                self._queue.news.set()
                if self._pong_timer is not None:
                    self._pong_timer.cancel()
                    self._pong_timer = None
            self._prove(self._pinged.pop(0))
        elif text == PROBE:
            self._queue.news.set()  # a poll that waits ends, so that the client can change to the WebSocket

    def forget(self) -> None:
        """Forget what was written or queued and is not proved: its client is gone."""
        for written in (*self._pinged, self._written):
            written.clear()  # a pong is still expected for each ping
        if self._queued:
            self._queued = deque((None, size, False) for _, size, _ in self._queued)

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
        await ends_within(PROOF_TIMEOUT, self._proof)

    # ---- end

    def release(self) -> None:
        """Wake everything that waits for the connection, which is gone; also a poll that waits for news."""
        self.ended = True
        for timer in (self._ping_timer, self._pong_timer, self.deadline):
            if timer is not None:
                timer.cancel()
        self._has_room.set()
        self._queue.put_nowait(None)

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
            self._queue.put_nowait(EnginePacket(MESSAGE, leave))
        self.ended = True
        if flush and not socket.closed:
            await ends_within(FLUSH_TIMEOUT, self._queue.join())
        while not self._queue.empty():
            self._queue.get_nowait()
            self._queue.task_done()
        self._queue.put_nowait(None)  # its writer ends and closes the connection
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
NO_NAMESPACE = "the only namespace is /: connect to the address of the gateway without a path"
_HANDLERS_OF_SERVER = frozenset({"connect", "disconnect", "*"})  # the library would call them with what a client sends


class StrictPacket(Packet):
    """A Socket.IO packet that accepts well-formed events and acknowledgements only."""

    data: Any

    def encode(self) -> str:
        """Return the packet as text. Clients look for a `message` in a refusal; the library sends a bare text."""
        if self.packet_type == CONNECT_ERROR and self.namespace not in (None, "/"):
            self.data = {"message": NO_NAMESPACE}
        return super().encode()

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
            raise ValueError(NO_NAMESPACE)
        if self.packet_type == EVENT and not (isinstance(data, list) and data and isinstance(data[0], str)):
            raise ValueError("an event is a list that begins with its name")
        if self.packet_type == EVENT and data[0] in _HANDLERS_OF_SERVER:
            raise ValueError("this name is no event of a client")
        if self.packet_type == ACK and not isinstance(data, list):
            raise ValueError("an acknowledgement is a list")
        return 0


def may_come_in(text: str | None) -> bool:
    """Return whether the text of a WebSocket frame can be a packet at all, before it is parsed."""
    return text is not None and (text.startswith(_MESSAGES) or text in _ENGINE_WORDS)


def posted_packets(body: bytes) -> list[str]:
    """Return the packets that a polling client posts together. Raises ValueError for too many, or what is no packet."""
    packets = body.decode().split(SEPARATOR, MAX_POSTED)
    if len(packets) > MAX_POSTED:
        raise ValueError(f"one POST has at most {MAX_POSTED} packets")
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
