"""One Engine.IO connection, by WebSocket or polling: packets decoded, given to the library, proved to have arrived.

A successful write does not prove that the client has the message, nor does a goodbye, nor a poll: HTTP clients repeat a
poll whose connection broke, and say nothing. A client has a message when it has answered a ping that was written behind
it. Engine.IO's pings have no ids and each gets one pong, so the connection remembers them in their order. Messages
without proof are delivered again when the client comes back.

Answers to polls can be lost one by one. So each one with messages ends with a ping, and nothing is written behind it
before its pong. If that does not come, the connection is closed, and the client comes back with a new one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engineio.exceptions import QueueEmpty, SocketIsClosedError
from engineio.packet import MESSAGE, NOOP
from engineio.packet import PING as ENGINE_PING
from engineio.packet import Packet as EnginePacket
from socketio.packet import ACK, CONNECT, DISCONNECT, EVENT

from p2pchat.threads import ends_within
from p2pchat.web.account_session import ClientSession, Frame, LightEvent, SendQueue
from p2pchat.web.web_settings import WebSettings

if TYPE_CHECKING:

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

PONG_TIMEOUT = 5.0  # seconds for the pong to a polled ping once the next poll has come, which is sent with it; a guess
# Packets of one POST, which wait in memory for the rate of the account. Of so many messages at once most are refused.
MAX_POSTED = 2048
MAX_POLLED = 16  # packets in the answer to one poll: the clients of python-engineio give up at more
FLUSH_TIMEOUT = 2.0  # seconds for a client that is sent away to take what was queued
NEW_MESSAGE = "newMessage"
MESSAGE_STARTS = f'42["{NEW_MESSAGE}"'  # on the wire: Engine.IO's "message", Socket.IO's "event"
CLOSE, PING, PONG, PROBE = "1", "2", "3", "2probe"
SEPARATOR = "\x1e"  # between the packets of one poll or post


class _PacketQueue(asyncio.Queue[EnginePacket | None]):
    """The packets that the library writes next; None ends them.

    Attributes:
        news: Set with each packet that comes or is taken.
        ended: None was put.
        pings: What to call for the pong of each ping, in their order; None for a ping of the library.
    """

    def __init__(self) -> None:
        super().__init__()
        self.news: LightEvent = LightEvent()
        self.ended: bool = False
        self.pings: deque[Callable[[], None] | None] = deque()

    def _put(self, item: EnginePacket | None) -> None:
        super()._put(item)
        if item is None:
            self.ended = True
        elif item.packet_type == ENGINE_PING:
            self.pings.append(getattr(item, "on_pong", None))
        self.news.set()

    def _get(self) -> EnginePacket | None:
        self.news.set()
        return super()._get()

    def take(self) -> list[EnginePacket]:
        """Return the first packets, up to the first ping, with room for one behind them; [] if they end."""
        packets = list[EnginePacket]()
        while len(packets) < MAX_POLLED - 1 and not self.empty():
            packet = self.get_nowait()
            self.task_done()
            if packet is None:
                if packets:
                    self.put_nowait(None)
                break
            packets.append(packet)
            if packet.packet_type == ENGINE_PING:
                break
        return packets

    def discard(self) -> None:
        """Forget what was not written."""
        while not self.empty():
            self.get_nowait()
            self.task_done()


class EngineConnection:
    """One connection.

    Attributes:
        queue: What is sent to the client; its packets go on to the library's queue, which has few at a time.
        host: The address it came from.
        client: The registered client that uses it, or None.
        is_joined: Its namespace is connected.
        taken: Packets received before it was registered, and their size in KiB.
        held: Events that came before `register`, as packets; they are handled after it.
        lock: Held while a request is carried out, for a message until it is on its way to disk, to keep their order.
        is_posting: The packets of a POST are being taken. A client has one POST at a time.
        is_upgrading: A WebSocket is open to which a polling client changes, or has changed. It has one at a time.
        sent_away: The server is about to close it; nothing more is taken from it.
        ended: Nothing more is sent or received.
    """

    def __init__(self, socket: Any, scope: Any, host: str, settings: WebSettings) -> None:
        self._socket = socket
        socket.poll = self._poll  # the library's own takes everything at once
        self._packets, packets = _PacketQueue(), socket.queue
        while not packets.empty():
            self._packets.put_nowait(packets.get_nowait())
        socket.queue = self._packets
        self.queue: SendQueue = SendQueue(self, settings)
        self._poller: asyncio.Task[Any] | None = None  # the request that polled last
        self._awaits_pong = False  # the answer to a poll ended with a ping, whose pong has not come
        self._pong_timer: asyncio.TimerHandle | None = None
        self.scope: Any = scope
        self.host: str = host
        self.client: ClientSession | None = None
        self.deadline: asyncio.TimerHandle | None = None
        self.is_joined: bool = False
        self.taken: int = 0
        self.held: list[str] = []
        self.lock: asyncio.Lock = asyncio.Lock()
        self.is_posting: bool = False
        self.is_upgrading: bool = False
        self.sent_away: bool = False
        self.ended: bool = False

    # ---- out

    async def send(self, frame: Frame) -> None:
        """Hand a frame of the queue to the library, once there is room."""
        if "on_pong" in frame:
            packet = EnginePacket(ENGINE_PING)
            packet.on_pong = frame["on_pong"]
        else:
            packet = EnginePacket(MESSAGE, frame["text"])
        while self._packets.qsize() >= MAX_POLLED and not self._packets.ended:
            self._packets.news.clear()
            await self._packets.news.wait()
        self._packets.put_nowait(packet)

    def ping(self, on_pong: Callable[[], None]) -> None:
        """Send a ping behind what the queue has sent, and call `on_pong` once it is answered."""
        self.queue.put({"on_pong": on_pong}, bounded=False)

    async def _poll(self) -> list[EnginePacket]:
        """Return the next packets to be written, at most MAX_POLLED; [] to close. Raises QueueEmpty if none come.

        Packets go to the poll that came last, if its connection lives: what is written to a dead one is lost.
        """
        socket, packets, poller = self._socket, self._packets, asyncio.current_task()
        is_polled = not socket.upgraded
        if is_polled:
            self._poller = poller
            packets.news.set()  # an earlier poll ends
        try:
            async with asyncio.timeout(socket.server.ping_interval + socket.server.ping_timeout):
                while True:
                    if is_polled and (self._poller is not poller or socket.upgrading or socket.upgraded):
                        return [EnginePacket(NOOP)]
                    if self._awaits_pong and not packets.ended:
                        self._expect_pong()
                    elif not packets.empty():
                        break
                    packets.news.clear()
                    await packets.news.wait()
        except (TimeoutError, asyncio.CancelledError):
            raise QueueEmpty from None
        taken = packets.take()
        if is_polled and any(packet.encode().startswith((PING, MESSAGE_STARTS)) for packet in taken):
            self._awaits_pong = True
            if taken[-1].packet_type != ENGINE_PING:
                taken.append(EnginePacket(ENGINE_PING))
                packets.pings.appendleft(None)
        return taken

    def _expect_pong(self) -> None:
        """Close the connection if the pong to a polled ping does not come: that answer was lost, with its messages."""
        if self._pong_timer is None and self.client is not None:
            hub, session = self.client.gateway.hub, self.client.hub_session
            self._pong_timer = asyncio.get_running_loop().call_later(PONG_TIMEOUT, hub.end, session, "slow")

    def drop_poll(self, poller: asyncio.Task[Any]) -> None:
        """Give nothing to a poll whose connection is gone."""
        if self._poller is poller:
            self._poller = None
            self._packets.news.set()

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
        await asyncio.sleep(0)  # each begins in a task of its own
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
        if text == PONG and self._packets.pings:
            self._awaits_pong = False
            self._packets.news.set()
            if self._pong_timer is not None:
                self._pong_timer.cancel()
                self._pong_timer = None
            on_pong = self._packets.pings.popleft()
            if on_pong is not None:
                on_pong()
        elif text == PROBE:
            self._packets.news.set()  # a poll that waits ends, so that the client can change to the WebSocket

    # ---- end

    def release(self) -> None:
        """Wake everything that waits for the connection, which is gone; also a poll that waits for news."""
        self.ended = True
        for timer in (self._pong_timer, self.deadline):
            if timer is not None:
                timer.cancel()
        self.queue.close(1000, "", at_once=True)
        self._packets.discard()
        self._packets.put_nowait(None)

    async def end(self, *, away: bool, flush: bool = True) -> None:
        """Close the connection from this side.

        Args:
            away: Tell the client not to come back; otherwise it reconnects by itself.
            flush: Send what is queued first.
        """
        if self.ended:
            return
        if away:
            self.queue.put(packet_frame(DISCONNECT), bounded=False)
        if not flush or not await ends_within(FLUSH_TIMEOUT, self.queue.drained()):
            self._packets.discard()
        self.ended = True
        self.queue.close(1000, "", at_once=True)

    async def close(self, code: int, reason: str) -> None:
        """Close the connection once the library has written what it has; called by the queue."""
        if self._socket.closing:
            return
        await ends_within(FLUSH_TIMEOUT, self._packets.join())
        self._packets.discard()
        self._packets.put_nowait(None)  # its writer ends and closes the connection
        await self._socket.close(wait=False, abort=True)


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
        if self.packet_type != CONNECT and self.namespace not in (None, "/"):
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


def packet_frame(kind: int, data: Any = None, *, id: int | None = None, namespace: str = "/") -> Frame:
    """Return a Socket.IO packet as a frame of the queue."""
    return {"text": StrictPacket(kind, data=data, namespace=namespace, id=id).encode()}


def event_frame(name: str, data: dict[str, Any]) -> Frame:
    """Return an event as a frame that is encoded once, however many clients get it."""
    return packet_frame(EVENT, [name, data])


def ack_frame(id: int, answer: dict[str, Any]) -> Frame:
    """Return the acknowledgement of an event."""
    return packet_frame(ACK, [answer], id=id)
