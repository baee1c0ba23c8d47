"""A running gateway: its peer, its server (http_server.py), and the log of its events.

A start opens the port of the page, the peer, the application and the server, in this order. At the end clients are
told first (sessions close as "comes back soon", /readyz says 503), then the server stops, then the peer leaves in good
order: what was accepted is on disk before anything closes.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI

import p2pchat
from p2pchat import TCPPeer, inspect_profile, make_member, profile_directory, read_login_network
from p2pchat.addresses import is_loopback
from p2pchat.cli.control_server import ControlServer
from p2pchat.cli.endpoint_status import EndpointStatus, announcement, print_way_in, report_reach
from p2pchat.cli.http_server import listen, make_server, url_of, wait_until_started
from p2pchat.cli.process import STOP_REASONS, Shutdown, freeze_started
from p2pchat.cli.profiles import WebOptions, make_peer, profile_words
from p2pchat.commands.endpoints import own_addresses
from p2pchat.commands.event_text import AT_A_GATEWAY, EventLine
from p2pchat.commands.exit_codes import (
    DONE,
    FAILED,
    HANG,
    INTERRUPTED,
    CommandError,
    UsageError,
    print_error,
    print_notice,
    redirect_notices,
    worst_code,
)
from p2pchat.commands.shell_command import command
from p2pchat.commands.standard_output import EventLogFile, StdoutWriter, iso, json_line, raw_stdout, raw_stream
from p2pchat.commands.wrap import fold, terminal_width
from p2pchat.safe_text import quote_name, safe_line
from p2pchat.threads import ends_within, in_thread, stop_tasks
from p2pchat.web import WebSettings
from p2pchat.web.app import create_app
from p2pchat.web.cluster.cluster import Cluster
from p2pchat.web.cluster.cluster_key import ClusterKey, read_key_file
from p2pchat.web.cluster.engine_store import StoreOptions
from p2pchat.web.cluster.nats_client import parse_servers
from p2pchat.web.cluster.nats_client import require as require_nats
from p2pchat.web.gateway_state import Gateway

# ---- run

_EVENTS = (  # none of them holds a text that a user wrote
    p2pchat.Failed, p2pchat.Joined, p2pchat.Left, p2pchat.Link, p2pchat.Listening, p2pchat.MemberChange,
    p2pchat.Stopped, p2pchat.Warned,
)  # fmt: skip


def web_settings(options: WebOptions) -> WebSettings:
    from p2pchat.web.security import parse_origin

    try:
        for origin in options.origins:
            parse_origin(origin)
        return WebSettings(
            sign_up=options.sign_up,
            # Nobody is given invites where others than this machine reach the page, unless the option says so.
            invites="off" if options.invites == "auto" and not is_loopback(options.http_host) else options.invites,
            trust_loopback=options.trust_loopback,
            origins=options.origins,
            trusted_proxies=options.trusted_proxies,
            auth_header=options.auth_header,
            root_path=options.root_path,
            safe=options.safe,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def cluster_of(options: WebOptions) -> Cluster | None:
    """Return the cluster that the options name. Raises UsageError, and P2PChatError: its key or nats-py is missing."""
    if not options.cluster:
        return None
    if options.auth_header:
        raise UsageError("gateways of a cluster know users by their tokens only: leave --auth-header or --cluster out")
    require_nats()
    try:
        servers = parse_servers(options.engine)
    except ValueError as error:
        raise UsageError(str(error)) from None
    key = ClusterKey(read_key_file(Path(os.path.expanduser(options.cluster_key))), options.cluster)
    credentials = Path(os.path.expanduser(options.engine_credentials)) if options.engine_credentials else None
    return Cluster(key, StoreOptions(options.cluster, servers, credentials))


class GatewayRun:
    """One run of a gateway. `invite` is the text of an invite, None for none."""

    def __init__(self, options: WebOptions, invite: str | None) -> None:
        self._options = options
        self._invite = invite
        self._settings = web_settings(options)
        self._cluster = cluster_of(options)

    async def run(self) -> int:
        """Run the gateway until a signal; return the exit code."""
        self._leaving = Shutdown()
        with self._leaving.on_signals(), listen(self._options.http_host, self._options.http_port) as listener:
            self._event_log = EventLogWriter(self._options)
            try:
                code = await self._with_peer(listener)
                return worst_code(code, FAILED) if self._event_log.failed else code
            finally:
                await self._event_log.aclose()

    async def _with_peer(self, listener: socket.socket) -> int:
        if not self._cluster and self._invite is None:
            _join_beside_founder(self._options, admin=self._settings.gives_invites)
        peer = make_peer(self._options, self._invite)
        self._endpoints = EndpointStatus.of_start(peer, self._options, self._invite)
        watching = asyncio.create_task(self._watch(peer))  # it reads events from before the start
        leaving = asyncio.create_task(self._leaving.wait())
        starting = asyncio.create_task(peer.start())
        try:
            await asyncio.wait([starting, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                await stop_tasks([starting])
                return self._code(await leaving)
            await starting
            self._endpoints.begin()
            peer.set_presence("offline", AT_A_GATEWAY)  # the peer's own user is not at a terminal
            return await self._with_gateway(peer, listener)
        finally:
            leaving.cancel()
            await peer.aclose()
            await watching

    async def _with_gateway(self, peer: TCPPeer, listener: socket.socket) -> int:
        app = create_app(peer, self._settings, self._cluster)
        gateway: Gateway = app.state.gateway
        gateway.audit_log.write = self._event_log.write
        await gateway.start()
        freeze_started()
        control = ControlServer(peer)
        control.accounts = gateway.accounts
        await control.start()
        reason = "ended"
        try:
            with self._endpoints.watching(self._leaving):
                reason = await self._serve_page(listener, peer, app)
        finally:
            await gateway.aclose()
            await control.shut_down(STOP_REASONS[reason])
        return self._code(reason)

    async def _serve_page(self, listener: socket.socket, peer: TCPPeer, app: FastAPI) -> str:
        server = make_server(app, self._settings)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="p2pchat web server")
        task.add_done_callback(lambda task: self._leaving.request("ended"))
        try:
            await wait_until_started(server, task)
            await self._announce(peer, listener.getsockname()[1])
            return await self._leaving.wait()
        finally:
            await app.state.gateway.aclose()  # before the server: clients are told to come back soon
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
            refused = self._endpoints.not_admitted
            print_error("every endpoint refused us, for the reasons above" if refused is None else refused.text)
        return FAILED if reason in ("ended", "refused") else DONE

    async def _watch(self, peer: TCPPeer) -> None:
        """Print the events of the peer, and write them to the log."""
        try:
            await self._endpoints.watch(peer, self._log, _EVENTS)
        finally:
            self._leaving.request("ended")

    async def _log(self, event: Any) -> None:
        if isinstance(event, p2pchat.Failed):
            print_error(f"warning: {event.text}")
        self._event_log.write(event.to_dict())

    async def _announce(self, peer: TCPPeer, port: int) -> None:
        """Say where the peer and the page listen, whom that shuts out, and how others join."""
        options = self._options
        self._event_log.write(peer.listening.to_dict())
        print_notice(announcement(peer))
        report_reach(peer, options)
        url = options.origins[0] + options.root_path + "/" if options.origins else ""
        url = url or url_of(options.http_host, port, options.root_path)
        serving = {"url": url, "http_host": options.http_host, "http_port": port, "trusts": options.trust_loopback}
        self._event_log.write({"event": "serving", "at": iso(datetime.now(UTC)), **serving})
        print_notice(f"-- the page: {url}")
        await self._announce_how_to_join(peer, port)

    async def _announce_how_to_join(self, peer: TCPPeer, port: int) -> None:
        options = self._options
        if options.http_host in ("0.0.0.0", "::") and not options.origins:
            for address in own_addresses():
                if options.http_host == "::" or ":" not in address:
                    print_notice(f"--           {url_of(address, port, options.root_path)}")
        if options.sign_up != "open" and not (is_loopback(options.http_host) and not options.origins):
            which = profile_words(Path(peer.listening.data))
            print_notice(
                f"-- others need an account: {command('web', 'token', 'NAME', *which)} makes one, or --sign-up open"
            )
        if not is_loopback(options.host):
            await print_way_in(peer, options)
        else:
            there = ["--network", options.network] if options.network is not None else []
            print_notice(f"-- a terminal here joins with: {command(peer.port + 1, peer.port, *there, '--name', 'bob')}")


def _join_beside_founder(options: WebOptions, *, admin: bool) -> None:
    """Make a gateway a member of its own at its first start, if this login has founded its network.

    Otherwise its accounts were guests of the founder, and no admin could expel one.
    """
    keeps = options.keeps_history or options.data
    if not keeps or options.network is not None or read_login_network().role != "founder":
        return
    state = inspect_profile(options.data or profile_directory(options.port))
    is_new = not (state.peer_id or state.key_trouble or state.database_path.exists())
    if is_new and state.network_path.parent != state.directory:
        make_member(state.directory, admin=admin)


# ---- event log

MAX_QUEUED_LINES = 10_000  # of some 300 bytes
CONSOLE_PATIENCE = 0.5  # seconds for a busy terminal to take the next line; a guess


class EventLogWriter:
    """Writes event lines to standard output (--json), to the file of --log, and to stderr: as text, or all with -v.

    A task writes them from a queue, so that no slow reader makes the gateway wait. Lines that do not fit are left out,
    and their number is reported. Without --json all notices go this way, because lines nobody reads may fill a pipe.
    """

    def __init__(self, options: WebOptions) -> None:
        self._output = StdoutWriter(raw_stdout() if options.as_json else None)
        self._log = EventLogFile(options.log) if options.log else None
        self._console = StdoutWriter(None if options.as_json else raw_stream(sys.stderr))
        self._as_json, self._verbose = options.as_json, options.verbose
        self._lines: asyncio.Queue[EventLine | str] = asyncio.Queue(MAX_QUEUED_LINES)
        self._lost = 0
        self._is_stuck = False  # nobody reads the console
        self._loop = asyncio.get_running_loop()
        self._writing = asyncio.create_task(self._write_queued())
        if not options.as_json:
            redirect_notices(self._on_notice)

    @property
    def failed(self) -> bool:
        return self._log is not None and self._log.failed

    def write(self, line: EventLine | str) -> None:
        """Queue one line; a text is for the console only."""
        try:
            self._lines.put_nowait(line)
        except asyncio.QueueFull:
            self._lost += 1

    def _on_notice(self, text: str) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # it comes from another thread
            self._loop.call_soon_threadsafe(self.write, text)
        else:
            self.write(text)

    async def _write_queued(self) -> None:
        while True:
            lines = [await self._lines.get()]
            lines += [self._lines.get_nowait() for _ in range(self._lines.qsize())]
            if self._log is not None and (kept := [json_line(one) for one in lines if not isinstance(one, str)]):
                await in_thread(self._log.write, "\n".join(kept))  # its disk may hang
            for line in lines:
                await self._put(line)
                self._lines.task_done()

    async def _put(self, line: EventLine | str) -> None:
        if isinstance(line, str):
            await self._show(line)
            return
        text = json_line(line)
        with suppress(CommandError):  # a full disk behind standard output does not stop the chat
            await self._output.write(text)
        if said := f"-- {safe_line(text)}" if self._verbose else console_line(line):
            await self._show(said)
        if self._as_json and (told := self._take_lost()):
            print_error(told)

    async def _show(self, text: str) -> None:
        if not await self._has_room():
            self._lost += 1
            return
        if told := self._take_lost():
            text = f"p2pchat: {told}\n{text}"
        with suppress(CommandError):
            await self._console.write(fold(text, terminal_width(sys.stderr), HANG))

    async def _has_room(self) -> bool:
        """Return whether the console takes a line; wait a moment for its reader, but not again while it is stuck."""
        deadline = self._loop.time() + (0.0 if self._is_stuck else CONSOLE_PATIENCE)
        while self._console.is_full:
            if self._loop.time() >= deadline:
                self._is_stuck = True
                return False
            await asyncio.sleep(0.01)
        self._is_stuck = False
        return True

    def _take_lost(self) -> str:
        """Return how many lines were left out since the last call, as a sentence; "" for none."""
        lost, self._lost = self._lost, 0
        return f"{lost} lines about this gateway were left out: their reader is too slow" if lost else ""

    async def aclose(self) -> None:
        """Write the queued lines, and end."""
        await ends_within(1.0, self._end_log())
        redirect_notices(None)
        await stop_tasks([self._writing])

    async def _end_log(self) -> None:
        await self._lines.join()
        if self._log is not None:
            await in_thread(self._log.close)


def console_line(line: EventLine) -> str:
    """Return a line of the log as the console shows it: who connects, and what waits or is sent; "" for others."""
    match line:
        case {"event": "serving", "http_port": port, "trusts": True}:
            text = f"Chat service started on :{port}"
        case {"event": "session", "state": "open", "user": user, "kind": kind}:
            text = f"{quote_name(user)} connected ({kind})"
        case {"event": "session", "user": user, "kind": kind, "why": why}:
            text = f"{quote_name(user)} disconnected ({kind}: {why})"
        case {"event": "waiting", "user": user, "from": writer}:
            text = f"buffered for {quote_name(user)}, who is offline: a message from {quote_name(writer)}"
        case {"event": "handed", "user": user, "from": writer}:
            text = f"sent to {quote_name(user)}: a message from {quote_name(writer)}"
        case {"event": "handed", "user": user, "count": count}:
            text = f"sent to {quote_name(user)}: {count} buffered message{'s' if count > 1 else ''}"
        case {"event": "account", "user": user, "change": change}:
            text = f"{quote_name(user)}: {_CHANGES.get(change, change)}"
        case {"event": "cluster", "state": "up"}:
            text = "the engine of the cluster is there"
        case {"event": "cluster", "reason": reason}:
            text = f"the engine of the cluster is away ({reason}): nobody can register until it is back"
        case _:
            return ""
    return f"{datetime.fromisoformat(line['at']).astimezone():%Y/%m/%d %H:%M:%S} {text}"


_CHANGES = {  # of an account, where the word in the log is not enough for people
    "token": "new token",
    "label": "another token, or one of several revoked",
    "revoked": "token revoked",
    "hosted": "hosted here too, as in the cluster",
    "left": "no longer hosted here, but at other gateways",
}
