"""The terminal front end: connects the prompt, the screen above it, the display and the session.

prompt_toolkit's patch_stdout is not used: it writes in the event loop, which a terminal that stands still would block,
and it cannot hold back own lines until their delivery mark is settled. Screen does both.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from prompt_toolkit.application import run_in_terminal

from p2pchat import Conversation, Group, P2PChatError, TCPPeer
from p2pchat.cli.endpoint_status import EndpointStatus
from p2pchat.cli.runner import Shutdown
from p2pchat.cli.startup import TERMINAL_DRAIN, ChatOptions
from p2pchat.cli.terminal.completer import LineCompleter
from p2pchat.cli.terminal.device import (
    FocusReporter,
    TerminalAlerts,
    TerminalModes,
    TerminalStream,
    colour_depth,
    create_terminal_output,
)
from p2pchat.cli.terminal.event_display import TerminalDisplay, TypingNotifier, is_text
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
from p2pchat.cli.terminal.screen import PendingLine, Screen
from p2pchat.commands.conversation_commands import listed
from p2pchat.commands.event_text import quote_name
from p2pchat.commands.exit_codes import redirect_notices
from p2pchat.commands.notifications import NoticeLogHandler
from p2pchat.commands.output import Display, EventLogFile
from p2pchat.commands.session import Session
from p2pchat.commands.wrap import Row

STALL_TIMEOUT = 1.0  # seconds a terminal that stands still may delay the end, or Ctrl-Z


class TerminalFrontEnd:
    """The front end of one terminal, from the start of a chat to its end."""

    interactive = True
    drain_timeout = TERMINAL_DRAIN
    has_input = True
    reads_to_the_end = False

    def __init__(self, options: ChatOptions, log: EventLogFile | None, shutdown: Shutdown) -> None:
        self._options = options
        self._shutdown = shutdown
        loop = asyncio.get_running_loop()
        self._stream = None if sys.platform == "win32" else TerminalStream(sys.stdout.fileno(), loop)
        self._output = create_terminal_output(self._stream)
        self._depth = colour_depth()
        self._alerts = TerminalAlerts(self._output, loop.time)
        self._screen = Screen(self._output, self._stream, self._depth, self._on_settled)
        self._actions: asyncio.Queue[PromptAction] = asyncio.Queue()
        self._prompt: Prompt | None = None
        self._peer: TCPPeer | None = None
        self._session: Session | None = None
        self._focus = FocusReporter(self._output if self._stream is not None else None, self._on_focus)
        self._typing: TypingNotifier | None = None
        self._view = TerminalDisplay(self._screen, self._alerts, log, self._refresh)
        self.display: Display = self._view
        if sys.stderr is not None and sys.stderr.isatty():
            redirect_notices(self._screen.print_notice)
        self._log_handler = NoticeLogHandler()  # without it asyncio logs to stderr, across the prompt
        logging.getLogger("asyncio").addHandler(self._log_handler)
        self._modes = TerminalModes()
        self._modes.disable_echo()
        shutdown.before_exit = self._modes.restore_at_once

    def _on_settled(self, own: PendingLine) -> None:
        self._view.on_settled(own)

    @property
    def closed(self) -> bool:
        return self._screen.closed.is_set()

    async def begin(self, peer: TCPPeer, session: Session) -> None:
        self._peer, self._session = peer, session
        await self._view.begin(peer, session)

    async def read(self, peer: TCPPeer, session: Session, endpoints: EndpointStatus) -> None:
        self._peer, self._session = peer, session
        self._typing = TypingNotifier(peer, session, asyncio.get_running_loop().time)
        self._prompt = self._make_prompt(peer)
        running = asyncio.create_task(self._prompt.run())
        try:
            while await self._perform(session, await self._next_actions()):
                pass
        finally:
            self._screen.stop_waiting()
            await self._prompt.close()
            await running
            self._prompt = None

    def close(self) -> None:
        self.display.close()
        self._screen.flush()
        self._alerts.close()
        redirect_notices(None)
        logging.getLogger("asyncio").removeHandler(self._log_handler)
        if self._stream is not None:
            self._stream.close(STALL_TIMEOUT)
        self._modes.restore()

    def _make_prompt(self, peer: TCPPeer) -> Prompt:
        directory = None if self._options.is_temporary and not self._options.data else peer.data
        return Prompt(
            self._screen,
            label=self._label,
            completer=LineCompleter(
                lambda: [user.label for user in peer.users() if not user.is_me],
                lambda: [_typed_address(conversation) for conversation in peer.conversations()],
                self._members,
                self._view.speakers,
            ),
            history=ProfileHistory(Path(directory) if directory else None),
            output=self._output,
            depth=self._depth,
            on_action=self._on_action,
            suspend=self._suspend,
            on_editor=self._shutdown.ignore_interrupt,
            focus=self._focus,
            on_change=self._on_change,
            status_row=self._typing_row,
        )

    # Events of the prompt

    def _on_focus(self, focused: bool) -> None:
        if self._session is not None:
            self._session.activity.on_focus(focused)

    def _on_action(self, action: PromptAction) -> None:
        if isinstance(action, LineEntered) and self._typing is not None and is_text(action.text):
            self._typing.on_sent()
        self._actions.put_nowait(action)

    def _on_change(self, line: str) -> None:
        if self._session is not None and self._typing is not None:
            self._session.activity.on_input()
            self._typing.on_line(line)

    async def _next_actions(self) -> Sequence[PromptAction]:
        """Return all actions that wait, at least one."""
        actions = [await self._actions.get()]
        while not self._actions.empty():
            actions.append(self._actions.get_nowait())
        return actions

    async def _perform(self, session: Session, actions: Sequence[PromptAction]) -> bool:
        """Perform actions in order; return False if one of them ends the chat."""
        lines: list[bytes | None] = []  # consecutive lines are executed together
        for action in [*actions, None]:
            if isinstance(action, LineEntered):
                session.activity.on_input()
                lines.append(action.text.encode("utf-8", "replace"))
                continue
            if lines and not await session.execute(lines):
                self._shutdown.request("input")
                return False
            lines = []
            if action is not None:
                session.activity.on_input()
            if isinstance(action, QuitRequest):
                self._shutdown.request(action.reason)
                return False
            if isinstance(action, SwitchRequest):
                await self._switch(session, action.where)
        return True

    async def _switch(self, session: Session, where: str) -> None:
        assert self._peer is not None
        there = self._find(self._peer, session, where)
        if there is not None:
            try:
                await session.switch_to(there)
            except P2PChatError as error:
                await session.report_error(error)

    def _find(self, peer: TCPPeer, session: Session, where: str) -> Conversation | None:
        if where.isdecimal():
            number, (shown, _) = int(where) - 1, listed(peer, session.unread)
            return shown[number] if number < len(shown) else None
        id = session.unread.most_urgent() if where == "next" else session.unread.first()
        return None if id is None else peer.find(id)

    # Prompt and title

    def _refresh(self) -> None:
        if self._session is not None:
            self._alerts.title(quote_name(self._current(self._session)), self._session.unread.total)
        if self._prompt is not None:
            self._prompt.redraw()

    def _label(self, columns: int) -> Row:
        session, peer = self._session, self._peer
        if session is None or peer is None:
            return prompt_label("room", [], columns)
        unread = session.unread
        badges = [
            UnreadBadge(_typed_address(peer.find(id)), unread.count(id), unread.mentions(id)) for id in unread.ids
        ]  # fmt: skip
        return prompt_label(self._current(session), badges, columns)

    def _typing_row(self) -> Row | None:
        session, peer = self._session, self._peer
        if session is None or peer is None or not self._view.typing:
            return None
        try:
            here = session.current.id
        except P2PChatError:
            here = ""
        return self._view.typing.row(here, lambda id: peer.find(id).kind == "dm", session.settings, peer.ignores)

    def _members(self) -> list[str]:
        """Return the other members of the current group."""
        try:
            there = None if self._session is None else self._session.current
        except P2PChatError:
            return []
        return [user.label for user in there.members if not user.is_me] if isinstance(there, Group) else []

    def _current(self, session: Session) -> str:
        try:
            return _typed_address(session.current)
        except P2PChatError:  # an open network before the first peer was met, or a closed peer
            return "room"

    def _suspend(self) -> None:
        """Stop the process, as Ctrl-Z does; the shell's `fg` continues it."""
        if sys.platform == "win32":
            return

        def stop() -> None:
            if self._stream is not None:
                self._stream.wait_drained_blocking(STALL_TIMEOUT)
            os.kill(0, signal.SIGTSTP)

        self._screen.hold()
        self._focus.disable()
        stopping = asyncio.ensure_future(run_in_terminal(stop))
        stopping.add_done_callback(lambda _: self._on_continued())

    def _on_continued(self) -> None:
        self._focus.enable()
        self._screen.release()


def _typed_address(conversation: Conversation) -> str:
    """Return a conversation's name as it is typed, and shown in the prompt."""
    return f"#{conversation.name}" if conversation.kind == "group" else conversation.name
