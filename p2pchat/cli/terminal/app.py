"""The front end of a terminal: the line one types in, the lines above it, and what the keys do; a Front."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.data_structures import Size
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output

from p2pchat import Conversation, Group, P2PChatError, TCPPeer
from p2pchat.cli.chat.endpoint_status import EndpointStatus
from p2pchat.cli.chat.run import TERMINAL_DRAIN
from p2pchat.cli.chat.shutdown import Shutdown
from p2pchat.cli.chat.startup import ChatOptions
from p2pchat.cli.terminal.completer import LineCompleter
from p2pchat.cli.terminal.modes import FocusReporter, TerminalAlerts, TerminalModes
from p2pchat.cli.terminal.prompt import (
    LineEntered,
    ProfileHistory,
    Prompt,
    PromptAction,
    QuitRequest,
    SwitchRequest,
    UnreadBadge,
    prompt_label,
)
from p2pchat.cli.terminal.screen import PendingLine, Screen, TerminalStream, colour_depth
from p2pchat.cli.terminal.view import TerminalDisplay, TypingNotifier, is_text
from p2pchat.commands.columns import Row
from p2pchat.commands.display import Display
from p2pchat.commands.errors import redirect_notices
from p2pchat.commands.notifications import NoticeLogHandler
from p2pchat.commands.output import EventLogFile
from p2pchat.commands.people_commands import listed
from p2pchat.commands.render import quote_name
from p2pchat.commands.session import Session

SETTLE = 1.0  # seconds a terminal that stands still may hold up the end, or a Ctrl-Z
_USUAL = Size(rows=24, columns=80)


class TerminalFrontEnd:
    """One terminal, from the start of a chat to its end."""

    interactive = True
    patience = TERMINAL_DRAIN
    has_input = True
    reads_to_the_end = False

    def __init__(self, options: ChatOptions, log: EventLogFile | None, leaving: Shutdown) -> None:
        self._options = options
        self._leaving = leaving
        loop = asyncio.get_running_loop()
        self._stream = None if sys.platform == "win32" else TerminalStream(sys.stdout.fileno(), loop)
        self._output = _output(self._stream)
        self._depth = colour_depth()
        self._notices = TerminalAlerts(self._output, loop.time)
        self._screen = Screen(self._output, self._stream, self._depth, self._went_up)
        self._wishes: asyncio.Queue[PromptAction] = asyncio.Queue()
        self._prompt: Prompt | None = None
        self._peer: TCPPeer | None = None
        self._session: Session | None = None
        self._focus = FocusReporter(self._output if self._stream is not None else None, self._focused)
        self._typist: TypingNotifier | None = None
        self._shows = TerminalDisplay(self._screen, self._notices, log, self._changed)
        self.show: Display = self._shows
        if sys.stderr is not None and sys.stderr.isatty():
            redirect_notices(self._screen.tell)
        self._defects = NoticeLogHandler()  # asyncio's: otherwise they go to stderr, across the prompt
        logging.getLogger("asyncio").addHandler(self._defects)
        self._modes = TerminalModes()
        self._modes.hush()
        leaving.before_exit = self._modes.give_back_at_once

    def _went_up(self, own: PendingLine) -> None:
        self._shows.went_up(own)

    @property
    def gone(self) -> bool:
        return self._screen.closed.is_set()

    # Life

    async def begin(self, peer: TCPPeer, session: Session) -> None:
        self._peer, self._session = peer, session
        await self._shows.begin(peer, session)

    async def read(self, peer: TCPPeer, session: Session, endpoints: EndpointStatus) -> None:
        self._peer, self._session = peer, session
        self._typist = TypingNotifier(peer, session, asyncio.get_running_loop().time)
        self._prompt = self._make_prompt(peer)
        running = asyncio.create_task(self._prompt.run())
        try:
            while await self._fulfil(session, await self._some_wishes()):
                pass
        finally:
            self._screen.let_all_in()
            await self._prompt.close()
            await running
            self._prompt = None

    def close(self) -> None:
        self.show.close()
        self._screen.flush()
        self._notices.close()
        redirect_notices(None)
        logging.getLogger("asyncio").removeHandler(self._defects)
        if self._stream is not None:
            self._stream.close(SETTLE)
        self._modes.give_back()

    def _make_prompt(self, peer: TCPPeer) -> Prompt:
        directory = None if self._options.is_temporary and not self._options.data else peer.data
        return Prompt(
            self._screen,
            label=self._label,
            completer=LineCompleter(
                lambda: [user.label for user in peer.users() if not user.is_me],
                lambda: [_typed_address(conversation) for conversation in peer.conversations()],
                self._members,
                self._shows.speakers,
            ),
            history=ProfileHistory(Path(directory) if directory else None),
            output=self._output,
            depth=self._depth,
            wish=self._wanted,
            suspend=self._suspend,
            editing=self._leaving.deafen,
            focus=self._focus,
            typed=self._typed,
            above=self._who_types,
        )

    # What somebody does there

    def _focused(self, on: bool) -> None:
        if self._session is not None:
            self._session.attention.focus(on)

    def _wanted(self, wish: PromptAction) -> None:
        if isinstance(wish, LineEntered) and self._typist is not None and is_text(wish.text):
            self._typist.sent()
        self._wishes.put_nowait(wish)

    def _typed(self, line: str) -> None:
        if self._session is not None and self._typist is not None:
            self._session.attention.used()
            self._typist.line(line)

    # What is wanted

    async def _some_wishes(self) -> Sequence[PromptAction]:
        """Return everything that waits, at least one."""
        wishes = [await self._wishes.get()]
        while not self._wishes.empty():
            wishes.append(self._wishes.get_nowait())
        return wishes

    async def _fulfil(self, session: Session, wishes: Sequence[PromptAction]) -> bool:
        """Do what is wanted, in order; False when it is to leave."""
        typed: list[bytes | None] = []
        for wish in wishes:
            session.attention.used()
            if isinstance(wish, LineEntered):
                typed.append(wish.text.encode("utf-8", "replace"))
                continue
            if typed and not await session.take(typed):
                self._leaving.because("input")
                return False
            typed = []
            if isinstance(wish, QuitRequest):
                self._leaving.because(wish.reason)
                return False
            await self._go(session, wish)
        if typed and not await session.take(typed):
            self._leaving.because("input")
            return False
        return True

    async def _go(self, session: Session, wish: SwitchRequest) -> None:
        assert self._peer is not None
        there = self._where(self._peer, session, wish.where)
        if there is not None:
            try:
                await session.go(there)
            except P2PChatError as error:
                await session.fail(error)

    def _where(self, peer: TCPPeer, session: Session, where: str) -> Conversation | None:
        if where.isdecimal():
            number, (shown, _) = int(where) - 1, listed(peer, session.unread)
            return shown[number] if number < len(shown) else None
        wanted = session.unread.next() if where == "next" else session.unread.first()
        return None if wanted is None else peer.find(wanted)

    # What stands before the input, and in the title

    def _changed(self) -> None:
        if self._session is not None:
            self._notices.title(quote_name(self._here(self._session)), self._session.unread.total)
        if self._prompt is not None:
            self._prompt.redraw()

    def _label(self, columns: int) -> Row:
        session, peer = self._session, self._peer
        if session is None or peer is None:
            return prompt_label("room", [], columns)
        unread = session.unread
        waiting = [
            UnreadBadge(_typed_address(peer.find(id)), unread.count(id), unread.mentions(id)) for id in unread.ids
        ]
        return prompt_label(self._here(session), waiting, columns)

    def _who_types(self) -> Row | None:
        session, peer = self._session, self._peer
        if session is None or peer is None or not self._shows.typists:
            return None
        try:
            here = session.current.id
        except P2PChatError:
            here = ""
        return self._shows.typists.row(here, lambda id: peer.find(id).kind == "dm", session.settings, peer.ignores)

    def _members(self) -> list[str]:
        """Return who can be removed from the group one is in."""
        try:
            there = None if self._session is None else self._session.current
        except P2PChatError:
            return []
        return [user.label for user in there.members if not user.is_me] if isinstance(there, Group) else []

    def _here(self, session: Session) -> str:
        try:
            return _typed_address(session.current)
        except P2PChatError:  # an open network that has met nobody yet, or a peer that is closed
            return "room"

    # Signals

    def _suspend(self) -> None:
        """Stop, as Ctrl-Z does to others; the shell continues us with `fg`."""
        if sys.platform == "win32":
            return

        def stop() -> None:
            if self._stream is not None:
                self._stream.settle(SETTLE)
            os.kill(0, signal.SIGTSTP)

        self._screen.hold()
        self._focus.stop()
        stopping = asyncio.ensure_future(run_in_terminal(stop))
        stopping.add_done_callback(lambda _: self._continued())

    def _continued(self) -> None:
        self._focus.ask()
        self._screen.release()


def _typed_address(conversation: Conversation) -> str:
    """Return a conversation's name as it is typed, and shown in the prompt."""
    return f"#{conversation.name}" if conversation.kind == "group" else conversation.name


def _output(stream: TerminalStream | None) -> Output:
    if stream is None:
        return create_output(sys.stdout)

    def size() -> Size:
        try:
            found = os.get_terminal_size(stream.fileno())
        except OSError:
            return _USUAL
        return Size(rows=found.lines or _USUAL.rows, columns=found.columns or _USUAL.columns)

    # Without questions for the cursor's place: answers that come late would be taken for keys.
    return Vt100_Output(stream, size, term=os.environ.get("TERM"), enable_cpr=False)  # type: ignore[arg-type]
