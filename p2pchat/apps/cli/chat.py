"""`p2pchat PORT [HOST:PORT ...]`: one peer, its standard streams, and a good end.

Four things run side by side: events go out (and only then are acknowledged), input comes in, signals and closed pipes
are watched for, and whoever decides first to leave ends it. The peer itself knows nothing of streams and signals.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from p2pchat import Events, Link, Settings, TCPPeer, UnknownName
from p2pchat.apps.cli.endpoints import is_loopback
from p2pchat.apps.cli.exits import FAILED, INTERRUPTED, KEPT, Failure, Usage, complain, tell, worse
from p2pchat.apps.cli.invite import beyond_loopback, invite_screen
from p2pchat.apps.cli.leaving import Leaving
from p2pchat.apps.cli.options import ChatOptions, looks_like_invite, parse_chat
from p2pchat.apps.cli.output import Log, Output, raw_stdout
from p2pchat.apps.cli.plain import shown_name
from p2pchat.apps.cli.session import Session
from p2pchat.apps.cli.show import Show
from p2pchat.apps.cli.stdin import Kind, Lines, kind_of_stdin, raw_stdin, read_first_line
from p2pchat.apps.safetext import safe_line

ENDPOINTS_WAIT = 10.0  # seconds in which endpoints may answer before piped input is read
REFUSED_GRACE = 1.0  # seconds in which a peer from the address book may still be found when all endpoints refuse
TERMINAL_DRAIN = 1.0  # seconds somebody who typed /quit is kept waiting for those who are here


def run_chat(argv: Sequence[str]) -> int:
    """Run one peer until there is a reason to leave; return the exit code."""
    options = parse_chat(argv)
    for warning in options.warnings:
        complain(f"warning: {warning}")
    if options.verbose:
        _log_to_stderr()
    kind = kind_of_stdin()
    invite = _read_invite(options.invite, kind)
    with asyncio.Runner() as runner:
        return runner.run(Chat(options, kind, invite).run())


def _log_to_stderr() -> None:
    class OneLine(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return safe_line(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logger = logging.getLogger("p2pchat")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def _read_invite(given: str, kind: Kind) -> str | None:
    """Return the invite's text: asked for, from a file, or as it stands.

    Raises:
        Usage: There is no such file, or nothing to ask.
    """
    if not given or looks_like_invite(given):
        return given or None
    if given == "-":
        return _ask_for_invite(kind)
    try:
        with open(given, encoding="utf-8") as file:
            return file.read(65536)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Usage(f"cannot read the invite in {given}: {why}") from None


def _ask_for_invite(kind: Kind) -> str:
    if kind is Kind.TERMINAL:
        from getpass import getpass

        return getpass("Paste the invite (it is not shown): ", stream=sys.stderr)
    if kind is Kind.PIPED:
        return read_first_line(raw_stdin()).decode("utf-8", "replace")
    raise Usage("--invite - asks for the invite, and there is no input: name a file, or set P2PCHAT_INVITE")


class Chat:
    """One run. `kind` is what standard input is, `invite` the text of an invite."""

    def __init__(self, options: ChatOptions, kind: Kind, invite: str | None) -> None:
        self._options = options
        self._kind = kind
        self._invite = invite

    async def run(self) -> int:
        """Return the exit code."""
        self._leaving = Leaving()
        self._leaving.take_signals()
        log = self._open_log()
        output = Output(raw_stdout())
        self._show = Show(output, log, as_json=self._options.as_json, echo=self._kind is not Kind.TERMINAL)
        try:
            code = await self._chat(output)
            return worse(code, FAILED) if log is not None and log.failed else code
        finally:
            self._show.close()
            self._leaving.give_signals_back()

    def _open_log(self) -> Log | None:
        if not self._options.log:
            return None
        try:
            return Log(self._options.log, complain)
        except OSError as error:
            raise Failure(f"cannot write the log {self._options.log}: {error.strerror or error}") from None

    async def _chat(self, output: Output) -> int:
        peer = self._make_peer()
        self._endpoints = Endpoints([*self._options.endpoints, *endpoints_of(self._invite or "")])
        events = peer.events(consumer="main", start="beginning")
        await peer.start()
        self._show.me = peer.me.label
        with suppress(UnknownName):  # an open network whose first peer is still to be met
            self._show.rooms.add(peer.room.id)
        self._session = session = Session(
            peer, self._show, interactive=self._kind is Kind.TERMINAL, as_json=self._options.as_json
        )
        pump = asyncio.create_task(self._pump(peer, events, output))
        mind = asyncio.create_task(self._mind_refusal())
        try:
            return await self._talk(session)
        finally:
            mind.cancel()
            await peer.aclose(_STOPPED[await self._leaving.wait()])
            await pump

    def _make_peer(self) -> TCPPeer:
        options = self._options
        try:
            return TCPPeer(
                options.port,
                *options.endpoints,
                name=options.name or None,
                host=options.host,
                data=options.data or None,
                temporary=options.temp,
                key=options.key or None,
                db=options.db or None,
                invite=self._invite,
                open=options.open_network,
                advertise=options.advertise or None,
                settings=Settings(start_timeout=0.0),  # how it goes with endpoints we tell as it happens
            )
        except (ValueError, TypeError) as error:
            raise Usage(str(error)) from None

    # Side by side

    async def _pump(self, peer: TCPPeer, events: Events[Any], output: Output) -> None:
        """Show events as they come; asking for the next one acknowledges the one before."""
        try:
            await self._begin(peer)
            async for event in events:
                line = event.to_json()
                if isinstance(event, Link):
                    self._heard(event)
                self._session.noticed(line)
                await self._show.event(line)
                if output.closed.is_set():  # nobody had this one: it comes again at the next start
                    events.close()
                    self._leaving.because("output")
                    return
        finally:
            self._leaving.because("ended")

    def _heard(self, link: Link) -> None:
        self._endpoints.heard(link.endpoint, link.state, link.reason)
        if self._options.verbose:
            words = (link.state, link.endpoint or "(it called)", link.to_json()["peer_id"][:8], link.reason)
            tell(f"-- link {safe_line(' '.join(word for word in words if word))}")

    async def _begin(self, peer: TCPPeer) -> None:
        """Say where we are, before anything else."""
        first = peer.listening
        where = f"{first.host}:{first.port}" + (f", data in {safe_line(first.data)}" if first.data else "")
        tell(f"-- {shown_name(peer.me.label)} listens on {where}")
        if not is_loopback(self._options.host):
            tell(invite_screen(beyond_loopback(peer.invite, peer.port), qr=False))
        await self._show.event(first.to_json())

    async def _mind_refusal(self) -> None:
        """Leave when everyone we were told of refuses us, and nobody else is found."""
        await self._endpoints.refused.wait()
        if not await self._endpoints.linked_within(REFUSED_GRACE):
            self._leaving.because("refused")

    async def _read(self, session: Session) -> None:
        """Do what input says, until it ends."""
        if self._kind is Kind.PIPED:
            await self._endpoints.answered(ENDPOINTS_WAIT)
            if self._endpoints.refused.is_set() and not await self._endpoints.linked_within(2 * REFUSED_GRACE):
                return  # nothing is taken from input that we could only keep
        lines = Lines(raw_stdin(), asyncio.get_running_loop())
        lines.start()
        while batch := await lines.take():
            if not await session.take(batch):
                self._leaving.because("input")
                return
        if not self._options.stay:
            self._leaving.because("input")

    # The end

    async def _talk(self, session: Session) -> int:
        reader = None if self._kind is Kind.NONE else asyncio.create_task(self._read(session))
        if reader is not None:
            reader.add_done_callback(self._reader_ended)
        reason = await self._leaving.wait()
        if reader is not None and reason != "input":
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        elif reader is not None:
            await reader
        return await self._good_bye(session, reason)

    def _reader_ended(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled() and reader.exception() is not None:
            self._leaving.because("input")

    async def _good_bye(self, session: Session, reason: str) -> int:
        if reason == "interrupted":
            return INTERRUPTED
        if reason == "ended":
            complain("the peer stopped by itself: what was accepted is kept; start it again")
            return FAILED
        if reason == "refused":
            complain("every endpoint refused us, for the reasons above; nothing was sent")
            return FAILED
        missing: list[str] = []
        if reason == "input":
            patience = TERMINAL_DRAIN if self._kind is Kind.TERMINAL else self._options.drain
            missing = await session.drain(patience)
        if missing or session.undelivered():
            self._tell_kept([label for label in missing if label])
            return worse(session.code, KEPT)
        return session.code

    def _tell_kept(self, labels: list[str]) -> None:
        who = ", ".join(shown_name(label) for label in labels[:8])
        fate = (
            "it went with the temporary profile, unless others have it"
            if self._options.temp or (self._options.port == 0 and not self._options.data)
            else "it is kept, and sent at the next start"
        )
        tell(f"p2pchat: {f'not everything sent reached {who}' if who else 'nobody has what was sent'}: {fate}")


class Endpoints:
    """What became of the endpoints on the command line: one line each when it is known, another when it changes.

    Attributes:
        refused: Set when every one of them has refused us.
    """

    def __init__(self, endpoints: Sequence[str]) -> None:
        self._states: dict[str, str] = dict.fromkeys(endpoints, "")
        self._known = asyncio.Event()
        self._linked = asyncio.Event()
        self.refused = asyncio.Event()
        if not endpoints:
            self._known.set()

    def heard(self, endpoint: str, state: str, reason: str) -> None:
        """Take what a link event says."""
        if state == "up":
            self._linked.set()
        former = self._states.get(endpoint)
        if former is None or former == state or state not in _SAID or (former and state == "trying"):
            return
        self._states[endpoint] = state
        why = f": {safe_line(reason)}" if reason and state != "up" else ""
        tell(f"-- {safe_line(endpoint)} {_SAID[state]}{why}" + ("; trying on" if state == "trying" else ""))
        if all(self._states.values()):
            self._known.set()
        if set(self._states.values()) == {"refused"}:
            self.refused.set()

    @property
    def known(self) -> bool:
        """Whether each endpoint has answered or failed once."""
        return self._known.is_set()

    async def answered(self, timeout: float) -> None:
        """Wait until each endpoint has answered or failed once, at most so long."""
        await _within(self._known, timeout)

    async def linked_within(self, timeout: float) -> bool:
        """Whether there was a link to anybody, or is one in time."""
        return await _within(self._linked, timeout)


async def _within(event: asyncio.Event, timeout: float) -> bool:
    if event.is_set():
        return True
    try:
        await asyncio.wait_for(event.wait(), timeout)
    except TimeoutError:
        return False
    return True


def endpoints_of(invite: str) -> list[str]:
    """Return the endpoints an invite names, as the library writes them."""
    return [place for place in "".join(invite.split()).lower().partition("@")[2].split(",") if place]


_STOPPED = {
    "input": "end of input",
    "output": "nobody reads the output",
    "interrupted": "interrupted",
    "terminated": "terminated",
    "refused": "refused by every endpoint",
    "ended": "failed",
}
_SAID = {"up": "reached", "refused": "refused", "trying": "does not answer"}
