"""The HTTP server: uvicorn on a socket of ours, told to stop by us and not by signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from p2pchat import Failed, InviteError, Joined, Left, Link, Listening, Settings, Stopped, TCPPeer, Warned
from p2pchat.cli.chat.endpoint_status import ALONE_AFTER, EndpointStatus
from p2pchat.cli.chat.run import REFUSED_GRACE
from p2pchat.cli.chat.shutdown import Shutdown
from p2pchat.cli.control_server import ControlServer
from p2pchat.cli.profiles import make_peer
from p2pchat.cli.stdin import can_ask
from p2pchat.cli.subcommands.web import WebOptions
from p2pchat.commands.endpoints import command, is_loopback
from p2pchat.commands.errors import (
    DONE,
    FAILED,
    INTERRUPTED,
    CommandError,
    UsageError,
    print_error,
    print_notice,
    worst_code,
)
from p2pchat.commands.invites import endpoints_of, own_addresses, welcome_screen
from p2pchat.commands.output import EventLine, EventLogFile, StdoutWriter, json_line, raw_stdout
from p2pchat.commands.render import quote_name
from p2pchat.safe_text import safe_line
from p2pchat.web.app import create_app
from p2pchat.web.gateway import Gateway
from p2pchat.web.settings import WebSettings

BACKLOG = 2048  # connections the system holds while we are busy: a gateway's users come back together after a restart
STOP_TIMEOUT = 5  # seconds in which calls under way may end
MAX_READ_BYTES = 8192  # bytes of a WebSocket: 1,300 of the smallest frames, some 10 ms of work
MAX_FRAGMENTS = 1024  # of one message, whose limit counts bytes: empty ones would be kept without end
TOO_BIG = 1009  # RFC 6455: a message too big to process
PING_INTERVAL = 20.0  # seconds: keeps connections through proxies, and finds browsers that are gone


class WriteTimeout(asyncio.Protocol):
    """A connection whose other end takes what it asked for: one that takes nothing is ended, and its memory is free."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    drain_timeout = 30.0  # seconds without progress, as on a link between peers
    _stuck: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self.drain_timeout, self._look, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._drained()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._drained()

    def _look(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left >= before:
            self.transport.abort()
        elif left:
            self._stuck = self.loop.call_later(self.drain_timeout, self._look, left)

    def _drained(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None


class WebSocketProtocol(WriteTimeout, WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, for clients that send what costs them little and us much."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if hasattr(transport, "max_size"):  # asyncio's own: how much is read before others have their turn
            transport.max_size = MAX_READ_BYTES

    def handle_cont(self, event: Any) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self.frames = []
            self.conn.fail(TOO_BIG, "too many fragments")
            self.handle_parser_exception()
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # whoever does not read gets no pongs: they would be kept without end


class RequestProtocol(WriteTimeout, H11Protocol):
    """uvicorn's HTTP, with a time in which the head of a request has to be there; a body has one in middleware.py."""

    head_timeout = 10.0  # seconds; make_server says how many
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        """A connection that has begun a head, or never said anything, is waited for so long."""
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._late is None:
            self._late = self.loop.call_later(self.head_timeout, self.transport.abort)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class PageServer(uvicorn.Server):
    """uvicorn without its signal handlers: what a signal means is decided in one place for the whole program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; with "::" on IPv4 as well, where the system can.

    Raises:
        Failure: The port is taken, or there is no such address here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    dual = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=dual)
    except OSError as error:
        why = error.strerror or str(error)
        raise CommandError(f"the page cannot have port {port} on {host}: {why}; choose another HTTP_PORT") from None


def make_server(app: FastAPI, settings: WebSettings) -> PageServer:
    """Return a server for an application, not started."""
    protocol = type("InTime", (RequestProtocol,), {"head_timeout": settings.body_timeout})
    config = uvicorn.Config(
        app,
        http=protocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # ours are of named proxies only (create_app)
        server_header=False,
        ws=WebSocketProtocol,
        ws_max_size=settings.max_body_bytes,
        ws_ping_interval=PING_INTERVAL,
        ws_ping_timeout=PING_INTERVAL,
        ws_per_message_deflate=False,  # its windows cost more memory for each user than everything else together
        h11_max_incomplete_event_size=settings.max_header_bytes,
        timeout_graceful_shutdown=STOP_TIMEOUT,
        backlog=BACKLOG,
    )
    return PageServer(config)


async def wait_until_started(server: PageServer, task: asyncio.Task[None]) -> None:
    """Return when a server takes connections, or its task has ended."""
    while not server.started and not task.done():
        await asyncio.sleep(0.01)  # uvicorn tells nobody


def url_of(host: str, port: int, root_path: str = "") -> str:
    """Return the address of the page on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}{root_path}/"


# ---- run
#
# One run of a gateway: the port for the page, the peer, the application, the server; and the same backwards.
#
# At the end whoever is connected is told first (sessions close as "comes back soon", /readyz says 503), then the server
# takes no more, then the peer leaves in good order: what was accepted is on the disk before anything closes.


_EVENTS = (Failed, Joined, Left, Link, Listening, Stopped, Warned)  # nothing of them is what somebody wrote
_STOPPED = {"interrupted": "interrupted", "refused": "refused by every endpoint", "ended": "failed"}


def web_settings(options: WebOptions) -> WebSettings:
    """Return what the options say to the gateway.

    Raises:
        Usage: An origin or a proxy that is none.
    """
    from p2pchat.web.origins import parse_origin

    try:
        for origin in options.origins:
            parse_origin(origin)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return WebSettings(
        sign_up="open" if options.sign_up == "open" else "token" if options.sign_up == "token" else "auto",
        trust_loopback=options.trust_loopback,
        origins=options.origins,
        trusted_proxies=options.trusted_proxies,
        root_path=options.root_path,
    )


class GatewayRun:
    """One run. `invite` is the text of an invite."""

    def __init__(self, options: WebOptions, invite: str | None) -> None:
        self._options = options
        self._invite = invite
        self._settings = web_settings(options)

    async def run(self) -> int:
        """Return the exit code."""
        self._leaving = Shutdown()
        self._leaving.install_handlers()
        self._event_log = EventLogWriter(self._options)
        try:
            with listen(self._options.http_host, self._options.http_port) as listener:
                code = await self._with_peer(listener)
            return worst_code(code, FAILED) if self._event_log.failed else code
        finally:
            await self._event_log.aclose()
            self._leaving.restore_handlers()

    async def _with_peer(self, listener: socket.socket) -> int:
        peer = make_peer(self._options, self._invite, Settings())
        invited = endpoints_of(self._invite or "")
        self._endpoints = EndpointStatus(self._options.endpoints, invited, port=self._options.port)
        events = peer.events(*_EVENTS, consumer=None)
        watching = asyncio.create_task(self._watch(events))
        leaving = asyncio.create_task(self._leaving.wait())
        starting = asyncio.create_task(peer.start())
        try:
            await asyncio.wait([starting, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                return self._code(await leaving)
            await starting
            peer.set_presence("offline")  # nobody is there as the peer's own user
            return await self._serve(peer, listener, leaving)
        finally:
            leaving.cancel()
            await peer.aclose()
            await watching

    async def _serve(self, peer: TCPPeer, listener: socket.socket, leaving: asyncio.Task[str]) -> int:
        app = create_app(peer, self._settings)
        gateway: Gateway = app.state.gateway
        gateway.audit_log.write = self._event_log.write
        await gateway.start()
        control = ControlServer(peer)
        control.accounts = gateway.accounts
        await control.start()
        server = make_server(app, self._settings)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="p2pchat web server")
        task.add_done_callback(lambda task: self._leaving.request("ended"))
        minding = asyncio.create_task(self._watch_refusals())
        alone = asyncio.get_running_loop().call_later(ALONE_AFTER, self._endpoints.report_alone)
        reason = "ended"
        try:
            await wait_until_started(server, task)
            self._announce(peer, listener.getsockname()[1])
            reason = await leaving
        finally:
            minding.cancel()
            alone.cancel()
            await self._stop(gateway, server, task)
            await control.shut_down(_STOPPED.get(reason, "terminated"))
        return self._code(reason)

    async def _stop(self, gateway: Gateway, server: PageServer, task: asyncio.Task[None]) -> None:
        await gateway.aclose()
        server.should_exit = True
        results = await asyncio.gather(task, return_exceptions=True)
        if isinstance(results[0], Exception):
            print_error(f"the server of the page ended: {results[0]!a}")

    def _code(self, reason: str) -> int:
        if reason == "interrupted":
            return INTERRUPTED
        if reason == "ended":
            print_error("the gateway stopped by itself: what was accepted is kept; start it again")
        if reason == "refused":
            print_error("every endpoint refused us, for the reasons above")
        return FAILED if reason in ("ended", "refused") else DONE

    async def _watch(self, events: Any) -> None:
        """Tell what happens to the peer, to people and into the log."""
        try:
            async for event in events:
                if isinstance(event, Link):
                    self._endpoints.on_link_event(event.endpoint, event.state, event.reason, event.code)
                if isinstance(event, Warned | Failed):
                    print_error(f"warning: {event.text}")
                self._event_log.write(event.to_json())
        finally:
            self._leaving.request("ended")

    async def _watch_refusals(self) -> None:
        """Leave when everyone we were told of refuses us, and nobody else is found."""
        await self._endpoints.refused.wait()
        if not await self._endpoints.linked_within(REFUSED_GRACE):
            self._leaving.request("refused")

    # What is said at the start

    def _announce(self, peer: TCPPeer, port: int) -> None:
        options, first = self._options, peer.listening
        self._event_log.write(first.to_json())
        where = f"{first.host}:{first.port}" + (f", data in {safe_line(first.data)}" if first.data else "")
        print_notice(f"-- {quote_name(peer.me.label)} listens on {where}")
        url = options.origins[0] + options.root_path + "/" if options.origins else ""
        url = url or url_of(options.http_host, port, options.root_path)
        self._event_log.write({"event": "serving", "at": first.to_json()["at"], "url": url, "http_port": port})
        print_notice(f"-- the page: {url}")
        self._announce_how_to_join(peer, port)

    def _announce_how_to_join(self, peer: TCPPeer, port: int) -> None:
        options = self._options
        if not is_loopback(options.http_host) and not options.origins:
            for address in _reached_by(options.http_host):
                print_notice(f"--           {url_of(address, port, options.root_path)}")
        if options.sign_up != "open" and not (is_loopback(options.http_host) and not options.origins):
            which = ["--data", options.data] if options.data else ["--port", str(peer.port)]
            print_notice(
                f"-- others need an account: {command('web', 'token', 'NAME', *which)} makes one, or --sign-up open"
            )
        if not is_loopback(options.host):
            with suppress(InviteError):  # an open network whose first peer is still to be met
                print_notice(welcome_screen(peer.invite, peer.port, qr=can_ask()))
        else:
            print_notice(f"-- a terminal here joins with: {command(peer.port + 1, peer.port, '--name', 'bob')}")


def _reached_by(host: str) -> list[str]:
    """Return the addresses of this machine that a listener on all of them takes; [] where it listens on one."""
    if host not in ("0.0.0.0", "::"):
        return []
    return [address for address in own_addresses() if host == "::" or ":" not in address]


# ---- records
#
# Where a gateway's lines go: standard output under --json, the file of --log, and under -v stderr.
#
# They are put into a queue and written by a task, so that no reader of ours makes the gateway wait; what does not fit
# is left out, and that is said.


MAX_QUEUED_LINES = 10_000  # lines of some 300 bytes

# What the peer tells that nobody wrote: no texts, and none of what people say of themselves.
OPERATIONAL = ("listening", "link", "joined", "left", "warning", "error", "stopped")


class EventLogWriter:
    """The lines of one run. `closed` is set when the reader of standard output has gone."""

    def __init__(self, options: WebOptions) -> None:
        self._output = StdoutWriter(raw_stdout() if options.as_json else None)
        self._log = _open_log(options.log) if options.log else None
        self._verbose = options.verbose and not options.as_json
        self._lines: asyncio.Queue[EventLine] = asyncio.Queue(MAX_QUEUED_LINES)
        self._lost = 0
        self._writing: asyncio.Task[None] | None = None
        self.closed = self._output.closed

    @property
    def failed(self) -> bool:
        """Whether the log could not be written."""
        return self._log is not None and self._log.failed

    def write(self, line: EventLine) -> None:
        """Have one line written, in its turn."""
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_queued())
        try:
            self._lines.put_nowait(line)
        except asyncio.QueueFull:
            self._lost += 1

    async def _write_queued(self) -> None:
        while True:
            line = await self._lines.get()
            try:
                await self._put(line)
            finally:
                self._lines.task_done()

    async def _put(self, line: EventLine) -> None:
        if self._lost:
            lost, self._lost = self._lost, 0
            print_error(f"{lost} lines about this gateway were left out: whoever reads them is too slow")
        text = json_line(line)
        if self._log is not None:
            self._log.write(text)
        if self._verbose:
            print_notice(f"-- {safe_line(text)}")
        with suppress(CommandError):  # a full disk behind standard output stops nobody's chat
            await self._output.write(text)

    async def aclose(self) -> None:
        """Write what waits, and end."""
        if self._writing is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._lines.join()
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        if self._log is not None:
            self._log.close()


def _open_log(path: str) -> EventLogFile:
    try:
        return EventLogFile(path, print_error)
    except OSError as error:
        raise CommandError(f"cannot write the log {path}: {error.strerror or error}") from None
