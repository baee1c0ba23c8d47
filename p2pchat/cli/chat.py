"""The chat: `p2pchat PORT [HOST:PORT ...]` runs one peer behind a front end until a shutdown is requested.

Three tasks run concurrently: one shows events and acknowledges them afterwards, one executes input, one watches for
signals and closed pipes. The peer itself knows nothing of streams and signals.

There are two front ends: StreamFrontEnd for pipes, programs and --plain, and TerminalFrontEnd (cli/terminal) for the
interactive line, which alone imports prompt_toolkit.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from p2pchat import (
    DurableEvent,
    Events,
    Link,
    MemberChange,
    Message,
    P2PChatError,
    Seen,
    TCPPeer,
    home_directory,
)
from p2pchat.addresses import is_loopback
from p2pchat.cli.chat_startup import (
    TERMINAL_DRAIN,
    ChatOptions,
    JoinSummary,
    StartupErrors,
    chat_options,
    next_steps,
    open_to_others,
    run_setup_wizard,
)
from p2pchat.cli.control_server import ControlServer
from p2pchat.cli.endpoint_status import REFUSED_GRACE, EndpointStatus, announcement, print_way_in, report_reach
from p2pchat.cli.process import (
    STOP_REASONS,
    Shutdown,
    allow_descriptors,
    freeze_started,
    make_runner,
    show_library_logs,
)
from p2pchat.cli.profiles import history_command, make_peer, read_peer_invite
from p2pchat.cli.standard_input import (
    InputEnded,
    InputKind,
    LineReader,
    ask,
    can_ask,
    is_binary,
    raw_stdin,
    read_invite,
    stdin_kind,
)
from p2pchat.commands.display import Display
from p2pchat.commands.event_text import find_obstacle
from p2pchat.commands.exit_codes import (
    DONE,
    FAILED,
    INTERRUPTED,
    KEPT,
    CommandError,
    UsageError,
    print_error,
    print_notice,
    worst_code,
)
from p2pchat.commands.session import Session
from p2pchat.commands.shell_command import command
from p2pchat.commands.standard_output import EventLogFile, StdoutWriter, raw_stdout
from p2pchat.safe_text import quote_names
from p2pchat.threads import ends_within, stop_tasks

if TYPE_CHECKING:
    from p2pchat.cli.terminal.terminal_front_end import TerminalFrontEnd


def run_chat(ctx: click.Context, others: Sequence[str]) -> int:
    """Run one peer until a shutdown is requested; return the exit code.

    Args:
        others: The words of the command line without PORT.
    """
    options = chat_options(ctx, may_ask=can_ask())
    show_library_logs(verbose=options.verbose)
    allow_descriptors()
    kind = stdin_kind()
    try:
        invite = read_invite(options.invite, kind) if options.bare else read_peer_invite(options, kind)
        if options.bare:
            options = run_setup_wizard(options, invite, ask)
        open_to_others(options, invite, is_person=can_ask())
    except InputEnded:
        return DONE
    errors = StartupErrors(options, others)
    while True:
        try:
            with make_runner() as runner:
                return runner.run(Chat(options, kind, invite).run())
        except P2PChatError as error:
            if not errors.try_next_port(error):
                raise errors.explain(error) from None


ACCEPTED_WITHIN = 20.0  # seconds until SIGTERM ends a process that reads input and files; a guess
SHOWN_WITHIN = 5.0  # seconds in which own messages are shown at the end: as long as --drain waits


class Chat:
    """One run of a chat. `kind` is what standard input is, `invite` the text of an invite."""

    def __init__(self, options: ChatOptions, kind: InputKind, invite: str | None) -> None:
        self._options = options
        self._kind = kind
        self._invite = invite
        self._reader: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Return the exit code."""
        self._shutdown = Shutdown()
        with self._shutdown.on_signals():
            log = EventLogFile(self._options.log) if self._options.log else None
            self._front = choose_front_end(self._options, self._kind, log, self._shutdown)
            self._display = self._front.display
            try:
                code = await self._run_peer()
                return worst_code(code, FAILED) if log is not None and log.failed else code
            finally:
                self._front.close()

    async def _run_peer(self) -> int:
        self._founds = not (home_directory() / "network").exists()
        peer = make_peer(self._options, self._invite)
        self._endpoints = EndpointStatus.of_start(peer, self._options, self._invite)
        self._join_summary = JoinSummary(peer, self._invite or "", dials=self._endpoints.dials)
        events = peer.events(consumer="main", start="beginning")
        await peer.start(timeout=0)  # the chat reports on endpoints itself, as they answer
        if self._kind is InputKind.NONE and peer.listening.peer_id != peer.me.id:
            peer.set_presence("offline")  # nobody is at this machine; on another one its person may be
        freeze_started()
        control = await ControlServer(peer).start()
        self._init_display(peer)
        self._session = session = Session(
            peer, self._display, interactive=self._front.interactive, as_json=self._options.as_json
        )
        session.local_files = True
        control.activity = session.activity
        session.on_dial = self._endpoints.add
        if self._front.has_input:
            self._reader = asyncio.create_task(self._front.read(peer, session, self._endpoints))
        pump = asyncio.create_task(self._pump(peer, events))
        try:
            with self._endpoints.watching(self._shutdown):
                return await self._run_session(session)
        finally:
            session.activity.close()
            await session.stop()
            self._join_summary.close()
            session.mark_seen()  # the last lines shown count as read too
            await control.shut_down(STOP_REASONS[await self._shutdown.wait()])
            await pump

    def _init_display(self, peer: TCPPeer) -> None:
        self._since = peer.listening.at
        self._display.me = peer.me.label
        self._display.notifier.history_command = history_command(self._options, peer.listening.data)
        self._display.notifier.obstacle = partial(find_obstacle, peer)
        self._display.has_presence = lambda user_id: peer.user(user_id).since is not None
        self._display.notifier.rooms.add(peer.room.id)

    # Events

    async def _pump(self, peer: TCPPeer, events: Events[Any]) -> None:
        """Show events as they arrive; asking for the next one acknowledges the one before."""
        try:
            await self._begin(peer)
            async for event in events:
                line = event.to_dict()
                if isinstance(event, Link):
                    self._endpoints.on_link_event(event)
                self._join_summary.on_event(event)
                self._display.joining = self._join_summary.in_progress
                shown = self._session.on_event(line)
                if self._session.is_disabled(line):
                    continue
                await self._display.show_event(line, older=self._is_older(event))
                if isinstance(event, MemberChange):
                    self._endpoints.on_member_event(event, shown=True)
                self._session.on_displayed(event, shown=shown)
                if isinstance(event, Seen):
                    await self._session.on_seen(event.conversation)
                if self._front.closed:
                    events.hold()  # nobody read this one: it and all that follow come again at the next start
                    if not self._front.reads_to_the_end:
                        self._shutdown.request("output")
        finally:
            self._shutdown.request("ended")

    def _is_older(self, event: Any) -> bool:
        if not isinstance(event, DurableEvent):
            return False
        return event.old or (event.received_at < self._since and not isinstance(event, Message))

    async def _begin(self, peer: TCPPeer) -> None:
        """Say where this peer listens, before anything else."""
        first = peer.listening
        print_notice(announcement(peer))
        await self._display.show_event(first.to_dict())
        self._endpoints.begin()
        await self._front.begin(peer, self._session)
        if self._front.has_input:  # without input no user is there to read
            self._session.track_reads()
        if self._front.interactive:
            since = first.to_dict()["at"]
            await self._session.count_unread(since)
            with suppress(P2PChatError):  # a closed peer
                await self._session.show_head(self._session.current)
                await self._session.open(self._session.current, self._display.on_start, before=since)
            self._session.mark_seen()
        await self._print_next_steps(peer)

    async def _print_next_steps(self, peer: TCPPeer) -> None:
        """Say how others join and what to do now; below the history, which may fill the screen."""
        has_invite = False
        if not is_loopback(self._options.host):
            has_invite = await print_way_in(peer, self._options)
        if self._options.discover and is_loopback(self._options.host):
            print_notice("-- --discover finds others; to be found, start with --host 0.0.0.0")
        report_reach(peer, self._options, terminal=self._front.interactive)
        if self._founds and self._front.interactive and peer.people.own_role == "founder" and peer.people.decides:
            copy = command("network", "backup", "FILE")
            print_notice(f"-- this login founded its network; {copy} keeps a copy of its key")
        if self._options.bare:
            names = [user.name for user in peer.users()]
            network, dials = peer.listening.network, self._endpoints.dials
            print_notice(next_steps(peer.port, self._options.host, network, names, has_invite=has_invite, dials=dials))

    # The end

    async def _run_session(self, session: Session) -> int:
        reader = self._reader
        if reader is not None:
            reader.add_done_callback(self._on_reader_done)
        reason = await self._shutdown.wait()
        self._display.notifier.on_shutdown()
        if reader is not None and reason == "terminated" and isinstance(self._front, StreamFrontEnd):
            self._endpoints.stop_waiting()
            session.names_stopped.set()
            self._front.stop_reading()
            try:
                async with asyncio.timeout(ACCEPTED_WITHIN):
                    await reader  # what was piped in is accepted
                    if not session.interactive:
                        await session.sender.wait_sent()
            except TimeoutError:
                print_error("ended while files did not answer: they were not sent, nor what came after them")
                session.exit_code = worst_code(session.exit_code, FAILED)
        elif reader is not None and reason not in ("input", "quit"):
            await stop_tasks([reader])
        elif reader is not None:
            await reader
        if reason != "ended":
            await session.sender.wait_shown(SHOWN_WITHIN)
        return await self._finish(session, reason)

    def _on_reader_done(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled() and reader.exception() is not None:
            self._shutdown.request("input")

    async def _finish(self, session: Session, reason: str) -> int:
        """Wait for deliveries where that makes sense; return the exit code."""
        if reason == "ended":
            print_error("the peer stopped by itself; what it accepted is saved: start it again")
            return FAILED
        if reason == "refused" and self._endpoints.not_admitted is not None:
            await self._display.show_event(self._endpoints.not_admitted.to_dict())
            return FAILED
        if reason == "refused":
            print_error("every endpoint refused us, for the reasons above; nothing was sent")
            return FAILED
        missing: list[str] | None = None
        if reason in ("input", "quit") and session.sender.is_sending:
            print_notice("-- files are copied into your profile before they are sent; Ctrl-C leaves without them")
            await self._shutdown.until_signal(session.sender.wait_sent())
            await session.sender.wait_shown(SHOWN_WITHIN)
        if reason == "input":
            await self._shutdown.until_signal(session.wait(self._front.drain_timeout))
        if reason in ("input", "quit"):
            missing = await self._shutdown.until_signal(session.sender.drain(self._front.drain_timeout))
        if missing is None:
            reason = await self._shutdown.wait()
            missing = await session.sender.drain(0.0)
        code = INTERRUPTED if reason == "interrupted" else session.exit_code
        if missing or session.sender.has_undelivered():
            self._report_undelivered([label for label in missing if label])
            return worst_code(code, KEPT)
        return code

    def _report_undelivered(self, labels: list[str]) -> None:
        who, obstacle = quote_names(labels), self._display.notifier.obstacle(labels)
        fate = f"saved; {obstacle}" if obstacle else "saved, and sent at the next start"
        if not self._options.keeps_history:
            fate = "lost, unless others have it: nothing is kept here"
        print_notice(
            f"p2pchat: {f'not everything was delivered to {who}' if who else 'nobody got your messages yet'}: {fate}"
        )


# ---- front ends


def choose_front_end(
    options: ChatOptions, kind: InputKind, log: EventLogFile | None, shutdown: Shutdown
) -> StreamFrontEnd | TerminalFrontEnd:
    """Return the front end that fits standard input and output, and the options."""
    if wants_terminal(options, kind):
        from p2pchat.cli.terminal.terminal_front_end import TerminalFrontEnd

        return TerminalFrontEnd(options, log, shutdown)
    return StreamFrontEnd(options, kind, log, shutdown)


def wants_terminal(options: ChatOptions, kind: InputKind) -> bool:
    """Return whether a person types at a terminal that can move its cursor, and did not ask for less."""
    if options.as_json or options.plain or kind is not InputKind.TERMINAL or not _stdout_is_terminal():
        return False
    return sys.platform == "win32" or os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def _stdout_is_terminal() -> bool:
    try:
        return sys.stdout is not None and sys.stdout.isatty()
    except ValueError:  # closed
        return False


ENDPOINTS_WAIT = 10.0  # seconds in which endpoints may answer before piped input is read


class StreamFrontEnd:
    """Standard input and output: lines in, lines out, nothing is ever redrawn. TerminalFrontEnd has the same interface.

    Attributes:
        display: Shows events.
        has_input: There is anything to read at all.
        interactive: A person sees the errors, so they do not change the exit code.
        drain_timeout: Seconds to wait for deliveries at the end of input.
    """

    display: Display

    def __init__(self, options: ChatOptions, kind: InputKind, log: EventLogFile | None, shutdown: Shutdown) -> None:
        self._options = options
        self._kind = kind
        self._shutdown = shutdown
        self._output = StdoutWriter(raw_stdout(), for_people=not options.as_json)
        self._read_all = False
        self.has_input: bool = kind is not InputKind.NONE
        self._lines = LineReader(raw_stdin(), asyncio.get_running_loop()) if self.has_input else None
        self.interactive: bool = kind is InputKind.TERMINAL
        self.drain_timeout: float = TERMINAL_DRAIN if self.interactive else options.drain
        self.display = Display(self._output, log, as_json=options.as_json, echo=not self.interactive)

    @property
    def closed(self) -> bool:
        """True once the reader of the output has gone."""
        return self._output.closed.is_set()

    @property
    def reads_to_the_end(self) -> bool:
        """True if input is read to its end even without a reader of the output: its writer may not notice a stop."""
        return self._kind is InputKind.PIPED and not self._read_all

    async def begin(self, peer: TCPPeer, session: Session) -> None:
        """Show the current conversation; called when the peer runs, before any event is shown."""

    async def read(self, peer: TCPPeer, session: Session, endpoints: EndpointStatus) -> None:
        """Execute input and request the shutdown at its end; stopped by SIGTERM, cancelled on any other shutdown."""
        assert self._lines is not None
        self._lines.start()
        try:
            if self._kind is InputKind.PIPED:
                await ends_within(ENDPOINTS_WAIT, endpoints.all_known.wait())
                if endpoints.refused.is_set() and not await endpoints.linked_within(2 * REFUSED_GRACE):
                    return  # accept no input that we could not send
            await self._read_lines(session, self._lines)
        finally:
            self._read_all = True

    def stop_reading(self) -> None:
        """End the input after what is there now."""
        if self._lines is not None:
            self._lines.stop()

    async def _read_lines(self, session: Session, lines: LineReader) -> None:
        batch = await lines.take()
        if self._kind is InputKind.PIPED and is_binary(batch):
            why = "the input is no text: nothing of it was sent. p2pchat send TO --file FILE sends a file"
            await session.report_error(UsageError(why))
            while batch:  # the pipe is read to its end all the same
                batch = await lines.take()
        while batch:
            if not await session.execute(batch):
                self._shutdown.request("quit")
                return
            batch = await lines.take()
        if lines.has_more:  # input that came faster than it was sent
            await session.report_error(CommandError("stopped before the end of the input: the rest was not sent"))
        if not self._options.stay or self.closed:
            self._shutdown.request("input")

    def close(self) -> None:
        """Print delayed notices, and restore the streams."""
        self.display.close()
