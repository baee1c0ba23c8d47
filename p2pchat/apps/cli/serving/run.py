"""One run of a gateway: the port for the page, the peer, the application, the server; and the same backwards.

At the end whoever is connected is told first (sessions close as "comes back soon", /readyz says 503), then the server
takes no more, then the peer leaves in good order: what was accepted is on the disk before anything closes.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

from p2pchat import Failed, InviteError, Joined, Left, Link, Listening, Settings, Stopped, TCPPeer, Warned
from p2pchat.apps.cli.asking import can_ask
from p2pchat.apps.cli.chat.streams import REFUSED_GRACE
from p2pchat.apps.cli.peeroptions import make_peer
from p2pchat.apps.cli.program import command
from p2pchat.apps.cli.serving.options import WebOptions
from p2pchat.apps.cli.serving.records import Records
from p2pchat.cli.chat.endpoint_status import ALONE_AFTER, Endpoints
from p2pchat.cli.chat.shutdown import Leaving
from p2pchat.cli.control_server import ControlServer
from p2pchat.cli.subcommands.web_server import Server, listen, make_server, started, url_of
from p2pchat.commands.endpoints import is_loopback
from p2pchat.commands.errors import DONE, FAILED, INTERRUPTED, Usage, complain, tell, worse
from p2pchat.commands.format import shown_name
from p2pchat.commands.invites import endpoints_of, own_addresses, welcome_screen
from p2pchat.safe_text import safe_line
from p2pchat.web.app import create_app
from p2pchat.web.gateway import Gateway
from p2pchat.web.settings import WebSettings

_TOLD = (Failed, Joined, Left, Link, Listening, Stopped, Warned)  # nothing of them is what somebody wrote
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
        raise Usage(str(error)) from None
    return WebSettings(
        sign_up="open" if options.sign_up == "open" else "token" if options.sign_up == "token" else "auto",
        trust_loopback=options.trust_loopback,
        origins=options.origins,
        trusted_proxies=options.trusted_proxies,
        root_path=options.root_path,
    )


class Serving:
    """One run. `invite` is the text of an invite."""

    def __init__(self, options: WebOptions, invite: str | None) -> None:
        self._options = options
        self._invite = invite
        self._settings = web_settings(options)

    async def run(self) -> int:
        """Return the exit code."""
        self._leaving = Leaving()
        self._leaving.take_signals()
        self._records = Records(self._options)
        try:
            with listen(self._options.http_host, self._options.http_port) as listener:
                code = await self._with_peer(listener)
            return worse(code, FAILED) if self._records.failed else code
        finally:
            await self._records.aclose()
            self._leaving.give_signals_back()

    async def _with_peer(self, listener: socket.socket) -> int:
        peer = make_peer(self._options, self._invite, Settings())
        invited = endpoints_of(self._invite or "")
        self._endpoints = Endpoints(self._options.endpoints, invited, port=self._options.port)
        events = peer.events(*_TOLD, consumer=None)
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
        gateway.journal.write = self._records.write
        await gateway.begin()
        control = ControlServer(peer)
        control.accounts = gateway.accounts
        await control.start()
        server = make_server(app, self._settings)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="p2pchat web server")
        task.add_done_callback(lambda task: self._leaving.because("ended"))
        minding = asyncio.create_task(self._mind_refusal())
        alone = asyncio.get_running_loop().call_later(ALONE_AFTER, self._endpoints.tell_alone)
        reason = "ended"
        try:
            await started(server, task)
            self._say_where(peer, listener.getsockname()[1])
            reason = await leaving
        finally:
            minding.cancel()
            alone.cancel()
            await self._stop(gateway, server, task)
            await control.leave(_STOPPED.get(reason, "terminated"))
        return self._code(reason)

    async def _stop(self, gateway: Gateway, server: Server, task: asyncio.Task[None]) -> None:
        await gateway.aclose()
        server.should_exit = True
        results = await asyncio.gather(task, return_exceptions=True)
        if isinstance(results[0], Exception):
            complain(f"the server of the page ended: {results[0]!a}")

    def _code(self, reason: str) -> int:
        if reason == "interrupted":
            return INTERRUPTED
        if reason == "ended":
            complain("the gateway stopped by itself: what was accepted is kept; start it again")
        if reason == "refused":
            complain("every endpoint refused us, for the reasons above")
        return FAILED if reason in ("ended", "refused") else DONE

    async def _watch(self, events: Any) -> None:
        """Tell what happens to the peer, to people and into the log."""
        try:
            async for event in events:
                if isinstance(event, Link):
                    self._endpoints.heard(event.endpoint, event.state, event.reason, event.code)
                if isinstance(event, Warned | Failed):
                    complain(f"warning: {event.text}")
                self._records.write(event.to_json())
        finally:
            self._leaving.because("ended")

    async def _mind_refusal(self) -> None:
        """Leave when everyone we were told of refuses us, and nobody else is found."""
        await self._endpoints.refused.wait()
        if not await self._endpoints.linked_within(REFUSED_GRACE):
            self._leaving.because("refused")

    # What is said at the start

    def _say_where(self, peer: TCPPeer, port: int) -> None:
        options, first = self._options, peer.listening
        self._records.write(first.to_json())
        where = f"{first.host}:{first.port}" + (f", data in {safe_line(first.data)}" if first.data else "")
        tell(f"-- {shown_name(peer.me.label)} listens on {where}")
        url = options.origins[0] + options.root_path + "/" if options.origins else ""
        url = url or url_of(options.http_host, port, options.root_path)
        self._records.write({"event": "serving", "at": first.to_json()["at"], "url": url, "http_port": port})
        tell(f"-- the page: {url}")
        self._say_how_to_join(peer, port)

    def _say_how_to_join(self, peer: TCPPeer, port: int) -> None:
        options = self._options
        if not is_loopback(options.http_host) and not options.origins:
            for address in _reached_by(options.http_host):
                tell(f"--           {url_of(address, port, options.root_path)}")
        if options.sign_up != "open" and not (is_loopback(options.http_host) and not options.origins):
            which = ["--data", options.data] if options.data else ["--port", str(peer.port)]
            tell(f"-- others need an account: {command('web', 'token', 'NAME', *which)} makes one, or --sign-up open")
        if not is_loopback(options.host):
            with suppress(InviteError):  # an open network whose first peer is still to be met
                tell(welcome_screen(peer.invite, peer.port, qr=can_ask()))
        else:
            tell(f"-- a terminal here joins with: {command(peer.port + 1, peer.port, '--name', 'bob')}")


def _reached_by(host: str) -> list[str]:
    """Return the addresses of this machine that a listener on all of them takes; [] where it listens on one."""
    if host not in ("0.0.0.0", "::"):
        return []
    return [address for address in own_addresses() if host == "::" or ":" not in address]
