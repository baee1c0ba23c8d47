"""`p2pchat PORT [HOST:PORT ...]`: one peer, the front end it has, and a good end.

Four things run side by side: events go out (and only then are acknowledged), input comes in, signals and closed pipes
are watched for, and whoever decides first to leave ends it. The peer itself knows nothing of streams and signals.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import click

from p2pchat import (
    Deleted,
    Edited,
    Events,
    InviteError,
    Link,
    Message,
    P2PChatError,
    Reaction,
    Sent,
    Settings,
    TCPPeer,
    UnknownName,
)
from p2pchat.cli.chat.endpoint_status import ALONE_AFTER, EndpointStatus
from p2pchat.cli.chat.shutdown import Shutdown
from p2pchat.cli.chat.startup import (
    ChatOptions,
    StartupErrors,
    allow_descriptors,
    chat_options,
    next_steps,
    run_setup_wizard,
)
from p2pchat.cli.control_server import ControlServer
from p2pchat.cli.loop import make_runner
from p2pchat.cli.profiles import history_command, make_peer
from p2pchat.cli.stdin import InputEnded, InputKind, LineReader, ask, can_ask, raw_stdin, read_invite, stdin_kind
from p2pchat.commands.display import Display
from p2pchat.commands.endpoints import is_loopback
from p2pchat.commands.errors import DONE, FAILED, INTERRUPTED, KEPT, CommandError, print_error, print_notice, worst_code
from p2pchat.commands.invites import endpoints_of, welcome_screen
from p2pchat.commands.notifications import JoinSummary, show_library_logs
from p2pchat.commands.output import EventLogFile, StdoutWriter, raw_stdout
from p2pchat.commands.render import quote_name, quote_names
from p2pchat.commands.session import Session
from p2pchat.commands.settings import LastStart, migrate_ignored
from p2pchat.safe_text import safe_line


def run_chat(ctx: click.Context, others: Sequence[str]) -> int:
    """Run one peer until there is a reason to leave; return the exit code.

    Args:
        others: The words of the command line without PORT.
    """
    options = chat_options(ctx, may_ask=can_ask())
    if options.verbose:
        show_library_logs()
    allow_descriptors()
    kind = stdin_kind()
    try:
        invite = read_invite(options.invite, kind)
        if options.bare:
            options = run_setup_wizard(options, invite, ask)
    except InputEnded:
        return DONE
    starting = StartupErrors(options, others)
    while True:
        try:
            with make_runner() as runner:
                return runner.run(Chat(options, kind, invite).run())
        except P2PChatError as error:
            if not starting.goes_elsewhere(error):
                raise starting.mended(error) from None


class Chat:
    """One run. `kind` is what standard input is, `invite` the text of an invite."""

    def __init__(self, options: ChatOptions, kind: InputKind, invite: str | None) -> None:
        self._options = options
        self._kind = kind
        self._invite = invite
        self._reader: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Return the exit code."""
        self._leaving = Shutdown()
        self._leaving.take_signals()
        log = self._open_log()
        self._front = choose_front_end(self._options, self._kind, log, self._leaving)
        self._show = self._front.show
        try:
            code = await self._chat()
            return worst_code(code, FAILED) if log is not None and log.failed else code
        finally:
            self._front.close()
            self._leaving.give_signals_back()

    def _open_log(self) -> EventLogFile | None:
        if not self._options.log:
            return None
        try:
            return EventLogFile(self._options.log, print_error)
        except OSError as error:
            raise CommandError(f"cannot write the log {self._options.log}: {error.strerror or error}") from None

    async def _chat(self) -> int:
        settings = Settings(start_timeout=0.0)  # how it goes with endpoints we tell as it happens
        peer = make_peer(self._options, self._invite, settings)
        invited = endpoints_of(self._invite or "")
        self._endpoints = EndpointStatus(self._options.endpoints, invited, port=self._options.port)
        self._arrival = JoinSummary(self._invite or "", calls=bool(self._options.endpoints or invited))
        events = peer.events(consumer="main", start="beginning")
        await peer.start()
        control = await ControlServer(peer).start()
        self._introduce(peer)
        self._arrival.begin(peer)
        self._session = session = Session(
            peer, self._show, interactive=self._front.interactive, as_json=self._options.as_json
        )
        control.attention = session.attention
        session.tells_of_calls(self._endpoints.call)
        await migrate_ignored(peer, session.settings)
        if session.settings.trouble:
            print_error(f"warning: {session.settings.trouble}")
        if self._front.has_input:
            self._reader = asyncio.create_task(self._front.read(peer, session, self._endpoints))
        pump = asyncio.create_task(self._pump(peer, events))
        mind = asyncio.create_task(self._mind_refusal())
        alone = asyncio.get_running_loop().call_later(ALONE_AFTER, self._endpoints.tell_alone)
        try:
            return await self._talk(session)
        finally:
            mind.cancel()
            alone.cancel()
            session.attention.close()
            self._arrival.close()
            session.look()  # what was shown last is read as well
            await control.shut_down(_STOP_REASONS[await self._leaving.wait()])
            await pump

    def _introduce(self, peer: TCPPeer) -> None:
        """Tell what shows events what they mean here."""
        self._since = peer.listening.at
        self._show.me = peer.me.label
        self._show.asides.history = history_command(self._options, peer.listening.data)
        with suppress(UnknownName):  # an open network whose first peer is still to be met
            self._show.asides.rooms.add(peer.room.id)

    # Side by side

    async def _pump(self, peer: TCPPeer, events: Events[Any]) -> None:
        """Show events as they come; asking for the next one acknowledges the one before."""
        try:
            await self._begin(peer)
            async for event in events:
                line = event.to_json()
                if isinstance(event, Link):
                    self._heard(event)
                self._arrival.noticed(event)
                self._show.arriving = self._arrival.under_way
                self._session.noticed(line)
                if self._session.is_unwanted(line):
                    continue
                await self._show.event(line, older=self._is_older(event))
                self._session.shown(event)
                if self._front.gone:
                    events.hold()  # nobody had this one: it and all behind it come at the next start
                    if not self._front.reads_to_the_end:
                        self._leaving.because("output")
        finally:
            self._leaving.because("ended")

    def _is_older(self, event: Any) -> bool:
        if isinstance(event, Sent):
            return event.old or event.received_at < self._since
        if isinstance(event, (Edited, Deleted, Reaction)):
            return event.old or event.at < self._since
        return isinstance(event, Message) and event.old

    def _heard(self, link: Link) -> None:
        self._endpoints.heard(link.endpoint, link.state, link.reason, link.code)
        if self._options.verbose:
            words = (link.state, link.endpoint or "(it called)", link.to_json()["peer_id"][:8], link.reason)
            print_notice(f"-- link {safe_line(' '.join(word for word in words if word))}")

    async def _begin(self, peer: TCPPeer) -> None:
        """Say where we are, before anything else."""
        first = peer.listening
        where = f"{first.host}:{first.port}" + (f", data in {safe_line(first.data)}" if first.data else "")
        print_notice(f"-- {quote_name(peer.me.label)} listens on {where}")
        await self._show.event(first.to_json())
        await self._front.begin(peer, self._session)
        if self._front.has_input:  # else nobody is there
            self._session.sees(shows_past=self._front.interactive)
            self._session.look()
        self._say_what_next(peer)

    def _say_what_next(self, peer: TCPPeer) -> None:
        """Say how others come here and what to do now: below what was said before, which may fill the screen."""
        if not is_loopback(self._options.host):
            with suppress(InviteError):  # an open network whose first peer is still to be met
                print_notice(welcome_screen(peer.invite, peer.port, qr=can_ask()))
        self._tell_reach()
        if self._options.bare:
            names = [user.name for user in peer.users()]
            print_notice(next_steps(peer.port, self._options.host, names, calls=self._endpoints.any))

    def _tell_reach(self) -> None:
        """Say that fewer can reach this peer than last time, and remember how it is now."""
        options, settings = self._options, self._session.settings
        if options.discover and is_loopback(options.host):
            print_notice("-- --discover finds others; to be found by them, listen with --host 0.0.0.0")
        if options.is_temporary:
            return
        fewer = settings.last_start.fewer_now(options.host)
        if fewer:
            print_notice(fewer)
        settings.started(LastStart(options.host, options.advertise, options.discover))

    async def _mind_refusal(self) -> None:
        """Leave when everyone we were told of refuses us, and nobody else is found."""
        await self._endpoints.refused.wait()
        if not await self._endpoints.linked_within(REFUSED_GRACE):
            self._leaving.because("refused")

    # The end

    async def _talk(self, session: Session) -> int:
        reader = self._reader
        if reader is not None:
            reader.add_done_callback(self._reader_ended)
        reason = await self._leaving.wait()
        self._show.asides.leave()
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
            print_error("the peer stopped by itself: what was accepted is kept; start it again")
            return FAILED
        if reason == "refused":
            print_error("every endpoint refused us, for the reasons above; nothing was sent")
            return FAILED
        missing: list[str] = []
        if reason == "input":
            missing = await session.drain(self._front.patience)
        if missing or session.undelivered():
            self._tell_kept([label for label in missing if label])
            return worst_code(session.code, KEPT)
        return session.code

    def _tell_kept(self, labels: list[str]) -> None:
        who = quote_names(labels)
        fate = (
            "it went with the temporary profile, unless others have it"
            if self._options.is_temporary
            else "it is kept, and sent at the next start"
        )
        print_notice(f"p2pchat: {f'not everything sent reached {who}' if who else 'nobody has what was sent'}: {fate}")


_STOP_REASONS = {
    "input": "end of input",
    "output": "nobody reads the output",
    "interrupted": "interrupted",
    "terminated": "terminated",
    "refused": "refused by every endpoint",
    "ended": "failed",
}


# ---- fronts
#
# What is in front of a running peer: where its events are shown, and where its input comes from.
#
# A chat knows no more of its front end than this. There are two: the standard streams, for pipes, programs and
# `--plain`, and the interactive line of a terminal, which alone needs prompt_toolkit and is only imported there.


class FrontEnd(Protocol):
    """One front end.

    Attributes:
        show: Takes what is to be shown.
        interactive: Somebody sees the errors, so that they do not change the exit code.
        patience: Seconds to wait for deliveries at the end of input.
    """

    show: Display
    interactive: bool
    patience: float

    @property
    def has_input(self) -> bool:
        """Whether there is anything to read at all."""

    @property
    def gone(self) -> bool:
        """Whether nobody reads any more what is shown."""

    @property
    def reads_to_the_end(self) -> bool:
        """Whether input is read to its end although nobody reads what is shown."""

    async def begin(self, peer: TCPPeer, session: Session) -> None:
        """The peer runs: show where one is, before any event is shown."""

    async def read(self, peer: TCPPeer, session: Session, endpoints: EndpointStatus) -> None:
        """Do what input says; at its end decide to leave. Cancelled when something else decides."""

    def close(self) -> None:
        """Show what was kept for a moment, and leave the streams as they were."""


def choose_front_end(options: ChatOptions, kind: InputKind, log: EventLogFile | None, leaving: Shutdown) -> FrontEnd:
    """Return the front end that fits what standard input and output are, and what was asked for."""
    if wants_terminal(options, kind):
        from p2pchat.cli.terminal.app import TerminalFrontEnd

        return TerminalFrontEnd(options, log, leaving)

    return StreamFrontEnd(options, kind, log, leaving)


def wants_terminal(options: ChatOptions, kind: InputKind) -> bool:
    """Whether somebody types at a terminal that can move its cursor, and wants to be treated so."""
    if options.as_json or options.plain or kind is not InputKind.TERMINAL or not _is_terminal():
        return False
    return sys.platform == "win32" or os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def _is_terminal() -> bool:
    try:
        return sys.stdout is not None and sys.stdout.isatty()
    except ValueError:  # closed
        return False


# ---- streams
#
# The front end of pipes and programs, and of `--plain`: lines in, lines out, nothing is ever drawn over.


ENDPOINTS_WAIT = 10.0  # seconds in which endpoints may answer before piped input is read
REFUSED_GRACE = 1.0  # seconds in which a peer from the address book may still be found when all endpoints refuse
TERMINAL_DRAIN = 1.0  # seconds somebody who typed /quit is kept waiting for those who are here


class StreamFrontEnd:
    """Standard input and output as they are; a Front."""

    def __init__(self, options: ChatOptions, kind: InputKind, log: EventLogFile | None, leaving: Shutdown) -> None:
        self._options = options
        self._kind = kind
        self._leaving = leaving
        self._output = StdoutWriter(raw_stdout(), for_people=not options.as_json)
        self._read_all = False
        self.interactive = kind is InputKind.TERMINAL
        self.patience = TERMINAL_DRAIN if self.interactive else options.drain
        self.show = Display(self._output, log, as_json=options.as_json, echo=not self.interactive)

    @property
    def has_input(self) -> bool:
        return self._kind is not InputKind.NONE

    @property
    def gone(self) -> bool:
        return self._output.closed.is_set()

    @property
    def reads_to_the_end(self) -> bool:
        return self._kind is InputKind.PIPED and not self._read_all  # whoever writes there may not see us leave

    async def begin(self, peer: TCPPeer, session: Session) -> None:
        pass

    async def read(self, peer: TCPPeer, session: Session, endpoints: EndpointStatus) -> None:
        try:
            if self._kind is InputKind.PIPED:
                await endpoints.answered(ENDPOINTS_WAIT)
                if endpoints.refused.is_set() and not await endpoints.linked_within(2 * REFUSED_GRACE):
                    return  # nothing is taken from input that we could only keep
            await self._read(session)
        finally:
            self._read_all = True

    async def _read(self, session: Session) -> None:
        lines = LineReader(raw_stdin(), asyncio.get_running_loop())
        lines.start()
        while batch := await lines.take():
            if not await session.take(batch):
                self._leaving.because("input")
                return
        if not self._options.stay or self.gone:
            self._leaving.because("input")

    def close(self) -> None:
        self.show.close()
