"""Sessions: one connection of an account, for `/chat`, `/lines` and Socket.IO alike.

A session first sends what its account missed (catch_up.py), then live events, all through one queue. How far an account
has received its messages is stored as the position of one consumer, so there is no queue of undelivered messages, and a
crash loses nothing.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from functools import partial
from operator import attrgetter
from sys import getsizeof
from typing import Any, Protocol

from fastapi import WebSocket
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect

from p2pchat import Delivered, DurableEvent, HostedUser, MessageChange, PeerClosed, Read, StorageError
from p2pchat.program_log import ProgramLog
from p2pchat.threads import ends_within, spawn
from p2pchat.web.accounts import DELIVERY_CONSUMER, Account
from p2pchat.web.catch_up import PAGE, QUEUED_KINDS, CatchUp, Post
from p2pchat.web.error_responses import WebError
from p2pchat.web.gateway_state import Gateway, gateway_of
from p2pchat.web.rate_limits import RateLimiter, site_of
from p2pchat.web.security import address_of, is_on_loopback
from p2pchat.web.session_hub import CLOSE_CODES, Ending, Envelope, HubSession, Kind, QueueFull
from p2pchat.web.web_settings import WebSettings

ASKED_EVERY = 60.0  # seconds between two questions whose an open connection is, to a program with users of its own
PING_EVERY = 0.05  # seconds between two pings of a socket, so that many messages share one; a guess
CONFIRMED_AFTER = 45.0  # seconds a socket must outlive a message without such pings: uvicorn notices a broken one in 40

CLOSE_TIMEOUT = 5.0  # seconds to send what is left and to complete the closing handshake

RECEIPTS = (Delivered, Read)  # sent beyond the limits of a queue: one read mark is an event for each message it covers
Frame = dict[str, Any]  # an ASGI message, or a packet of Socket.IO, ready to send; many connections may share one
Ping = Callable[[Callable[[], None]], None]  # sends a ping, and calls the function when it is answered
Newest = dict[tuple[str, str], DurableEvent]  # by conversation and writer: the newest stands for those before it
_log = ProgramLog("p2pchat.web")


class SessionEnded(Exception):
    """The session is over; nothing more is read from it."""


class ClientSession(ABC):
    """One connection of an account.

    Args:
        ping: Sends a ping behind what the queue has sent; None: its client cannot be pinged.
    Attributes:
        queue: What is sent to the client.
        cursor: What the client has taken of it.
        hub_session: Its entry in the hub, once open() was called.
        ref_prefix: Prefix of the refs of messages written on this connection.
    """

    def __init__(self, connection: HTTPConnection, account: Account, queue: SendQueue, ping: Ping | None) -> None:
        self.gateway: Gateway = gateway_of(connection)
        self._connection = connection
        self.account: Account = account
        self.user: HostedUser = account.user
        self.catch_up: CatchUp = CatchUp(
            account.user, self.send_missed, self._page_replayed, self.gateway.mark, self.gateway.is_shared(account),
            self.gateway.separations,
        )  # fmt: skip
        self.queue: SendQueue = queue
        self.cursor: DeliveryCursor = DeliveryCursor(self.on_arrival, ping)
        queue.on_all_sent = self.cursor.on_all_sent
        self._told: dict[tuple[str, Hashable], int] = {}  # how far the kept receipts told each step of a log
        self._heard: set[tuple[str, str]] | None = set()  # steps and messages told until these were sent
        self.ref_prefix: str = f"{secrets.token_hex(4)}:"
        self._refs = 0
        self.hub_session: HubSession

    def open(self, kind: Kind, wants: tuple[type, ...] | None = None, *, active: bool = True) -> None:
        """Open the session at the hub. Raises as Hub.open."""
        self.catch_up.changes = wants is None or any(issubclass(kind, MessageChange) for kind in wants)
        self.hub_session = self.gateway.hub.open(
            self.account, self.deliver, kind, self.on_end, wants=wants, active=active
        )
        if self.gateway.authenticate is not None:
            spawn(self.gateway.asking, self._ask_again(), "p2pchat web asks again")

    async def _ask_again(self) -> None:
        """End the session once the program says no more that its caller is its account."""
        account: Account | None = self.account
        why: Ending = "signed_out"
        try:
            while account is self.account and self.is_connected():
                await asyncio.sleep(ASKED_EVERY)
                account = await self.gateway.ask(self._connection)
        except Exception:  # whatever it is, it is no yes: the client comes back, and is told
            why = "failed"
        self.gateway.hub.end(self.hub_session, why)

    @abstractmethod
    def deliver(self, envelope: Envelope) -> None:
        """Send an event of the hub. Raises QueueFull."""

    @abstractmethod
    def send_missed(self, post: Post) -> None:
        """Send a message or a change from storage, without regard to the queue."""

    @abstractmethod
    def on_end(self, why: Ending) -> None:
        """Close the connection, because the hub has ended the session."""

    @abstractmethod
    async def report(self, problem: WebError) -> None:
        """Send an error that is no answer; the session goes on."""

    async def send_all_missed(self, since: object) -> int:
        """Send everything after `since`, or what waits for the account if there is none; return how many that were.

        Raises QueueFull, StorageError, PeerClosed.
        """
        start, problem = await self.catch_up.find_start(since)
        if problem is not None:
            await self.report(self.gateway.metrics.problem(problem))
        if isinstance(start, DurableEvent):
            self.on_named(start)
        async with self.gateway.answers.hold(self.account.key, bounded=False):  # pages of long texts, as of an answer
            if start is not None:
                return await self.catch_up.after(start)
            count = await self.catch_up.waiting(self.hub_session.place)
        self.gateway.audit_handed_over(self.account, self.hub_session.kind, count)
        return count

    async def _page_replayed(self) -> None:
        """Return when another page of missed messages may be read. Raises SessionEnded if nobody is there."""
        await self._wait_for_room()
        await self.gateway.limits.page_replayed(self.account.key, PAGE, self.is_connected)
        if not self.is_connected():
            raise SessionEnded

    def on_named(self, post: DurableEvent) -> None:
        """Store that the client has this message or change, and all before it."""
        self.user.hand_on(post, DELIVERY_CONSUMER)

    async def send_kept_receipts(self) -> None:
        """Send the receipts that no session of the account heard; sessions that want receipts call it at their start.

        Raises QueueFull, StorageError, PeerClosed.
        """
        await self.gateway.kept_receipts.wait_kept()
        self.account.unheard.clear()
        async for event in self.user.kept_receipts(self.is_connected):
            if not self.is_connected():
                return
            self.deliver(Envelope(event, (self.account.key,)))
            self._told[event.event, event.log] = event.seq
            await self._wait_for_room()
        self._heard = None

    def is_connected(self) -> bool:
        """Return whether the session is open, and nothing was noticed of an end of its connection."""
        return self.hub_session in self.gateway.hub.sessions_of(self.account) and not self.queue.gone

    async def _wait_for_room(self) -> None:
        """Wait until everything was sent. Raises SessionEnded if the client is gone: nothing more is read for it."""
        await self.queue.drained()
        if self.queue.gone:
            raise SessionEnded

    def on_arrival(self, posts: Newest) -> None:
        """Store that the client has these messages and all before them."""
        self.user.hand_on(max(posts.values(), key=attrgetter("place")), DELIVERY_CONSUMER)

    def proof(self, post: Post) -> Callable[[], None] | None:
        """Return what the queue calls once a message is sent whose arrival a ping has to prove; None for others."""
        if post.conversation.kind not in QUEUED_KINDS:
            return None
        return partial(self.cursor.on_sent, post)

    def was_told(self, event: Any) -> bool:
        """Return whether a receipt was sent already; called once for each event.

        What changes while the kept receipts are being read is among them, and comes live too, before or after.
        """
        if not isinstance(event, RECEIPTS) or event.count < event.of:
            return False
        if event.seq <= self._told.get((event.event, event.log), 0):
            return True
        if self._heard is None:
            return False
        before = len(self._heard)
        self._heard.add((event.event, event.id))
        return len(self._heard) == before

    def is_due(self, envelope: Envelope) -> bool:
        """Return whether a message or a change is to be sent live; otherwise the catch-up sends it."""
        catch_up = self.catch_up
        return catch_up.accepts(envelope.event if catch_up.is_live else envelope.for_user(self.user))

    def next_ref(self) -> str:
        """Return a ref for a message written on this connection."""
        self._refs += 1
        return f"{self.ref_prefix}{self._refs}"

    def wrote(self, post: Post) -> bool:
        """Return whether a message was written on this very connection, which got an answer instead."""
        if post.log.user != self.account.key:
            return False
        ref: str | None = getattr(self.user.post(post), "ref", None)
        return ref is not None and ref.startswith(self.ref_prefix)


class WebSocketSession(ClientSession):
    """One WebSocket of an account: its frames are handled in order, its events sent through a queue."""

    def __init__(self, websocket: WebSocket, account: Account) -> None:
        queue = SendQueue(websocket, gateway_of(websocket).settings)
        super().__init__(websocket, account, queue, ping_of(websocket))
        self._websocket = websocket
        self._closed = LightEvent()  # the hub has ended the session

    async def run(self, kind: Kind, wants: tuple[type, ...] | None = None) -> None:
        """Serve the connection until the client goes or the hub ends the session."""
        try:
            self.open(kind, wants)
        except WebError as error:  # too many sessions, or the gateway is stopping
            problem = self.gateway.metrics.problem(error)
            self.queue.put(self.error_frame(problem))
            self.queue.close(CLOSE_CODES["slow"], problem.code)
            await self.queue.run()
            return
        writing = asyncio.create_task(self.queue.run(), name=f"p2pchat /{kind}")
        try:
            await self.start()
            await self._read()
        except SessionEnded:
            pass
        except QueueFull:
            self.on_end("slow")
        except PeerClosed:
            self.on_end("deleted" if self.account.state == "deleted" else "stopping")
        except StorageError as error:  # missed messages cannot be read: the client reconnects and asks again
            self.queue.put(self.error_frame(self.gateway.metrics.problem(error)), bounded=False)
            self.queue.close(CLOSE_CODES["slow"], "storage")
        except Exception:  # a defect ends this session only
            _log.exception("a %s session ended with an unexpected error", kind)
            self.on_end("failed")
        finally:
            self.gateway.hub.close(self.hub_session)
            self.cursor.close()
            await self.finish()
            self.queue.close(1000, "")
            await asyncio.gather(writing, return_exceptions=True)

    @abstractmethod
    async def start(self) -> None:
        """Send what the client missed."""

    @abstractmethod
    async def on_frame(self, text: str | None) -> None:
        """Handle a frame of the client; None for a frame of bytes."""

    @abstractmethod
    def error_frame(self, problem: WebError) -> Frame:
        """Return the frame that reports a problem of the connection itself."""

    async def finish(self) -> None:
        """Complete what is under way after the session was closed; its answers are still sent."""

    def on_end(self, why: Ending) -> None:
        self._closed.set()
        self.queue.close(CLOSE_CODES[why], why, at_once=why in ("slow", "signed_out"))

    async def _read(self) -> None:
        """Handle frames until the client is gone."""
        limits, websocket = self.gateway.limits, self._websocket
        site = "" if is_on_loopback(websocket) else site_of(address_of(websocket))
        while (message := await websocket.receive())["type"] != "websocket.disconnect":
            if site:
                await self.pause(limits.addresses, site)
            await self.pause(limits.calls)
            await self.on_frame(message.get("text"))
            await asyncio.sleep(0)  # many frames may have come at once: other connections have their turn

    async def pause(self, limiter: RateLimiter, key: str = "", count: int = 1) -> None:
        """Wait until the account, or another key, may do so much more; further frames stay in its client's connection.

        Raises SessionEnded if the session ended meanwhile.
        """
        key = key or self.account.key
        while not self._closed.is_set() and (wait := limiter.wait(key, count)):
            await ends_within(wait, self._closed.wait())
        if self._closed.is_set():
            raise SessionEnded


# ---- what was received


class DeliveryCursor:
    """The messages that a client has taken, as one session knows it.

    A client has taken a message when it has answered a ping that was written behind it; a goodbye proves nothing, since
    messages may be under way. The ping is written at once. A server without such pings (see ping_of) gives the time in
    which it would have noticed a broken connection. What is not taken is sent again.

    Args:
        on_arrival: Called with messages that it has taken.
    """

    def __init__(self, on_arrival: Callable[[Newest], None], ping: Ping | None) -> None:
        self._on_arrival = on_arrival
        self._ping = ping
        self._sent: Newest = {}  # messages that were sent since the last ping
        self._pinged = False  # a ping is on its way
        self._next_ping = 0.0  # not before
        self._timer: asyncio.Handle | None = None

    def on_sent(self, post: Post) -> None:
        """Note a message that was sent."""
        self._sent[post.log.conversation, post.log.user] = post
        self._prove_soon()

    def on_all_sent(self) -> None:
        """Send a ping that is due at once: it arrives with the messages, also at a client that leaves right away."""
        is_due = self._ping is not None and self._next_ping <= asyncio.get_running_loop().time()
        if self._timer is not None and is_due:
            self._timer.cancel()
            self._send_ping()

    def _prove_soon(self) -> None:
        if self._timer is None and not self._pinged and self._sent:
            loop = asyncio.get_running_loop()
            if self._ping is None:
                self._timer = loop.call_later(CONFIRMED_AFTER, self._on_proof, self._take_sent())
            else:
                self._timer = loop.call_at(self._next_ping, self._send_ping)

    def _send_ping(self) -> None:
        self._timer, self._pinged = None, True
        self._next_ping = asyncio.get_running_loop().time() + PING_EVERY
        assert self._ping is not None
        self._ping(partial(self._on_proof, self._take_sent()))

    def _take_sent(self) -> Newest:
        sent, self._sent = self._sent, {}
        return sent

    def _on_proof(self, posts: Newest) -> None:
        self._timer, self._pinged = None, False
        with suppress(PeerClosed):
            self._on_arrival(posts)
        self._prove_soon()

    def close(self) -> None:
        """Take nothing more: what is written from now on gets no proof."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # frames may still be sent
        self._ping = lambda proven: None
        self._on_arrival = lambda posts: None
        self._sent.clear()


def ping_of(websocket: WebSocket) -> Ping | None:
    """Return the function of the server that sends a ping on a WebSocket; None where the server has none."""
    ping: Ping | None = websocket.scope.get("extensions", {}).get("p2pchat.ping")
    return ping


# ---- frames


class SessionTransport(Protocol):
    """The carrier of the frames of a queue: a WebSocket, or a connection of Engine.IO."""

    async def send(self, message: Frame) -> None: ...
    async def close(self, code: int, reason: str) -> None: ...


class SendQueue:
    """The frames to be sent on one connection.

    put() never waits; a task of the queue's own writes the frames in order. An answer takes its place with reserve()
    when its request begins, so that nothing that follows from the request overtakes it. When the queue is full, its
    client is too slow: its session ends, and the client reconnects and asks for what it missed.

    Attributes:
        on_all_sent: Called once nothing is left to be sent.
        gone: The connection is closed or about to be; nothing more is sent.
    """

    def __init__(self, transport: SessionTransport, settings: WebSettings) -> None:
        self._transport = transport
        self._settings = settings
        self.on_all_sent: Callable[[], None] = lambda: None
        self._frames: deque[tuple[Frame, Callable[[], None] | None]] = deque()
        self._bytes = 0
        self._wake = LightEvent()  # there is something to send, or to close
        self._empty = LightEvent(is_set=True)
        self._close: tuple[int, str] | None = None
        self.gone: bool = False

    def put(self, frame: Frame, on_sent: Callable[[], None] | None = None, *, bounded: bool = True) -> None:
        """Queue a frame; it is dropped if the client is gone. Raises QueueFull if too many frames or bytes are waiting.

        Args:
            on_sent: Called once the frame is sent.
            bounded: Check the limits. False for a caller that puts one page and then waits for drained().
        """
        if self.gone or self._close is not None:
            return
        if bounded and not self._has_room():
            raise QueueFull
        self._frames.append((frame, on_sent))
        self._bytes += frame_size(frame)
        self._empty.clear()
        self._wake.set()

    def reserve(self, on_sent: Callable[[], None] | None = None, *, bounded: bool = True) -> Frame:
        """Queue an empty frame for fill(), which must follow: everything behind it waits. Raises as put."""
        frame: Frame = {}
        self.put(frame, on_sent, bounded=bounded)
        return frame

    def fill(self, frame: Frame, content: Frame) -> None:
        """Give a reserved frame its content."""
        frame.update(content)
        self._bytes += frame_size(content) - frame_size({})
        self._wake.set()

    def _has_room(self) -> bool:
        return len(self._frames) < self._settings.outbox_frames and self._bytes < self._settings.outbox_bytes

    async def drained(self) -> None:
        """Wait until the queue is empty."""
        await self._empty.wait()

    def close(self, code: int, reason: str, *, at_once: bool = False) -> None:
        """Close the connection after sending what is queued before any reserved frame, or `at_once` without it."""
        if at_once:
            self._frames.clear()
        self._close = self._close or (code, reason)
        self._wake.set()

    async def run(self) -> None:
        """Send frames until the client is gone or the connection is to be closed."""
        try:
            while True:
                await self._wake.wait()
                await self._send_all()
                if self._close is not None:
                    return
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass  # the client is gone
        except Exception:  # a defect ends this session only
            _log.exception("frames of a session could not be sent because of an unexpected error")
            self._close = self._close or (CLOSE_CODES["failed"], "failed")
        finally:
            self.gone = True
            self._frames.clear()
            self._empty.set()
            await self._close_transport()

    async def _send_all(self) -> None:
        frames, send = self._frames, self._transport.send
        while frames and frames[0][0]:  # up to a reserved one
            frame, on_sent = frames.popleft()
            self._bytes -= frame_size(frame)
            await send(frame)
            if on_sent is not None:
                on_sent()
        self._wake.clear()
        if not frames:
            self._empty.set()
        self.on_all_sent()

    async def _close_transport(self) -> None:
        if self._close is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._transport.close(*self._close)
        except (WebSocketDisconnect, RuntimeError, OSError, TimeoutError):
            pass


class LightEvent:
    """An asyncio.Event for objects that exist in thousands.

    An asyncio.Event takes 760 bytes, even while nothing waits for it.
    """

    def __init__(self, *, is_set: bool = False) -> None:
        self._is_set = is_set
        self._waiters: list[asyncio.Future[None]] | None = None

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        """Set the event and wake all that wait."""
        self._is_set = True
        waiters, self._waiters = self._waiters, None
        for future in waiters or ():
            if not future.done():
                future.set_result(None)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> None:
        """Return once the event was set, even if it was cleared again."""
        if self._is_set:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters = [*(one for one in self._waiters or () if not one.done()), future]
        await future


def as_frame(content: Mapping[str, Any]) -> Frame:
    """Return a JSON object as a text frame."""
    return {"type": "websocket.send", "text": json.dumps(content, ensure_ascii=False, separators=(",", ":"))}


def frame_size(frame: Frame) -> int:
    """Return roughly how many bytes of memory a frame takes: up to four for each character."""
    return getsizeof(frame.get("text", "")) + 64
