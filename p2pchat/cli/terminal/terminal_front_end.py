"""The terminal front end: connects the prompt, the screen above it, the display and the session.

prompt_toolkit's patch_stdout is not used: it writes in the event loop, which a stalled terminal would block,
and it cannot hold back own lines until their delivery mark is settled. Screen does both.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from prompt_toolkit.output import ColorDepth

from p2pchat import Conversation, Group, P2PChatError, TCPPeer
from p2pchat.cli.chat_startup import TERMINAL_DRAIN, ChatOptions
from p2pchat.cli.endpoint_status import EndpointStatus
from p2pchat.cli.process import NoticeLogHandler, Shutdown
from p2pchat.cli.standard_input import echo_off
from p2pchat.cli.terminal.device import (
    DIM,
    TerminalAlerts,
    TerminalStream,
    create_terminal_output,
    reset_modes,
)
from p2pchat.cli.terminal.line_completer import LineCompleter
from p2pchat.cli.terminal.prompt import (
    STALL_TIMEOUT,
    ProfileHistory,
    Prompt,
    UnreadBadge,
    prompt_label,
)
from p2pchat.cli.terminal.screen import Screen
from p2pchat.cli.terminal.terminal_display import (
    TerminalDisplay,
    TypingNotifier,
    choices_row,
    is_text,
    open_conversation,
)
from p2pchat.commands.conversation_commands import listed
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.exit_codes import redirect_notices
from p2pchat.commands.message_commands import change
from p2pchat.commands.session import Session
from p2pchat.commands.standard_output import EventLogFile
from p2pchat.commands.wrap import Row
from p2pchat.kinds import CALLS
from p2pchat.safe_text import quote_name


@dataclass(frozen=True)
class TypedLine:
    """A line that waits for those before it."""

    session: Session
    text: str = field(repr=False)
    shown_last: Mapping[str, str] | None

    async def __call__(self) -> bool:
        return await self.session.execute([self.text.encode("utf-8", "replace")], self.shown_last)


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
        self._depth = ColorDepth.from_env() or ColorDepth.DEPTH_4_BIT
        self._alerts = TerminalAlerts(self._output, loop.time)
        self._screen = Screen(self._output, self._stream, self._depth, lambda own: self.display.on_settled(own))
        self._actions: asyncio.Queue[Callable[[], Awaitable[bool]]] = asyncio.Queue()  # in order; False ends the chat
        self._shown_at_begin: Mapping[str, str] | None = None  # Session.shown_last as the line was begun; None: no line
        self._prompt: Prompt | None = None
        self._asked: EventLine | None = None  # the question whose keys were drawn last: a key answers no other one
        self.display: TerminalDisplay = TerminalDisplay(self._screen, self._alerts, log, self._refresh)
        if sys.stderr is not None and sys.stderr.isatty():
            redirect_notices(self._screen.print_notice)
        self._log_handler = NoticeLogHandler()  # without it asyncio logs to stderr, across the prompt
        logging.getLogger("asyncio").addHandler(self._log_handler)
        self._modes = ExitStack()  # what is typed before there is a prompt appears in it; echoed it would appear twice
        self._modes.enter_context(echo_off())
        shutdown.before_exit = self._restore_at_once

    @property
    def closed(self) -> bool:
        return self._screen.closed.is_set()

    async def begin(self, peer: TCPPeer, session: Session) -> None:
        self.display.begin(peer, session)

    async def read(self, peer: TCPPeer, session: Session, endpoints: EndpointStatus) -> None:
        self._peer, self._session = peer, session
        self._typing = TypingNotifier(peer, session)
        self._prompt = self._make_prompt(peer)
        self.display.ask = partial(self._ask, self._prompt)
        self.display.drop_question = self._prompt.drop_question
        running = asyncio.create_task(self._prompt.run())
        try:
            while await (await self._actions.get())():
                pass
            self._shutdown.request("quit")
        finally:
            self._screen.stop_waiting()
            await self._prompt.close()
            await running
            self._prompt = None

    def close(self) -> None:
        self.display.close()
        self._screen.close()
        self._alerts.close()
        redirect_notices(None)
        logging.getLogger("asyncio").removeHandler(self._log_handler)
        if self._stream is not None:
            self._stream.close(STALL_TIMEOUT)
        self._modes.close()

    def _restore_at_once(self) -> None:
        self._modes.close()
        reset_modes()

    def _make_prompt(self, peer: TCPPeer) -> Prompt:
        directory = None if self._options.is_temporary and not self._options.data else peer.data
        return Prompt(
            self._screen,
            label=self._label,
            completer=LineCompleter(
                lambda: [user.label for user in peer.users() if not user.is_me],
                lambda: [_typed_address(conversation) for conversation in peer.conversations()],
                self._members,
                self.display.speakers,
                lambda: self.display.files.names,
            ),
            history=ProfileHistory(Path(directory) if directory else None),
            output=self._output,
            depth=self._depth,
            on_line=self._on_line,
            on_switch=self._on_switch,
            on_quit=self._on_quit,
            on_covered=self._on_covered,
            on_focus=self._session.activity.on_focus,
            on_change=self._on_change,
            status_row=self._status_row,
            choices_row=self._choices_row,
        )

    async def _ask(self, prompt: Prompt, question: str) -> bool:
        """Ask a question. Lines that were typed before it and wait come back in the line: nobody sends an answer."""
        waiting = [self._actions.get_nowait() for _ in range(self._actions.qsize())]
        lines = list[str]()
        for action in waiting:
            if isinstance(action, TypedLine):
                lines.append(action.text)
            else:
                self._actions.put_nowait(action)
        return await prompt.ask(question, lines)

    # Events of the prompt

    def _on_line(self, line: str) -> None:
        shown_last, self._shown_at_begin = self._shown_at_begin, None
        if is_text(line):
            self._typing.on_sent()
        self._actions.put_nowait(TypedLine(self._session, line, shown_last))

    def _on_switch(self, where: str) -> None:
        self._session.activity.on_input()
        asked = self._asked
        if asked is not None and where.isdecimal() and int(where) <= len(asked["choices"]):
            self._actions.put_nowait(partial(self._press, asked, asked["choices"][int(where) - 1]))
            return
        self._shown_at_begin = None  # another conversation is opened below a line
        self._actions.put_nowait(partial(self._switch, where))

    def _on_quit(self, reason: str) -> None:
        self._actions.put_nowait(partial(self._quit, reason))

    def _on_change(self, line: str) -> None:
        self._session.activity.on_input()
        if not line:
            self._shown_at_begin = None
        elif self._shown_at_begin is None:
            self._shown_at_begin = self._session.shown_last
        self._typing.on_line(line)

    async def _quit(self, reason: str) -> bool:
        self._shutdown.request(reason)
        return False

    async def _switch(self, where: str) -> bool:
        there = self._find(where)
        if there is not None:
            try:
                await self._session.switch_to(there)
            except (P2PChatError, OSError) as error:
                await self._session.report_error(error)
        return True

    async def _press(self, question: EventLine, choice: str) -> bool:
        """React to a question with a choice, unless the key before did."""
        if self.display.questions.close(question["id"]):
            try:
                await change(CALLS["react"], self._session, await self._peer.message(question["id"]), reaction=choice)
            except (P2PChatError, OSError) as error:
                self.display.questions.add(question, self._peer.me.id)
                await self._session.report_error(error)
        return True

    def _find(self, where: str) -> Conversation | None:
        unread = self._session.unread
        if where.isdecimal():
            number, (shown, _) = int(where) - 1, listed(self._peer, unread)
            return shown[number] if number < len(shown) else None
        id = (unread.most_urgent() if where == "next" else unread.first()) or self._session.last_elsewhere
        return self._peer.find(id) if id else None

    # Prompt and title

    def _refresh(self) -> None:
        if self._prompt is not None:
            self._alerts.title(quote_name(self._current()), self._session.unread.total)
            self._screen.update_soon()

    def _label(self, columns: int) -> Row:
        unread = self._session.unread
        badges = [
            UnreadBadge(_typed_address(self._peer.find(id)), unread.count(id), unread.mentions(id)) for id in unread.ids
        ]
        return prompt_label(self._peer.me.label, self._current(), badges, columns)

    def _choices_row(self) -> Row | None:
        here = open_conversation(self._session)
        self._asked = None if here is None else self.display.questions.newest(here.id)
        return None if self._asked is None else choices_row(self._asked)

    def _status_row(self) -> Row | None:
        """Return the row above the prompt: files that are on their way, and who is typing."""
        typing, files = self._typing_row(), self._session.fetches.row
        return [(DIM, f"{files}{'   ' if typing else ''}"), *(typing or [])] if files else typing

    def _typing_row(self) -> Row | None:
        peer, here = self._peer, open_conversation(self._session)
        if not self.display.typing:
            return None
        if isinstance(here, Group) and not here.is_member:
            here = None  # who was removed does not learn who stops
        return self.display.typing.row(
            "" if here is None else here.id,
            lambda id: peer.find(id).kind == "dm",
            self._session.settings,
            peer.ignores,
        )

    def _members(self) -> list[str]:
        """Return the other members of the current group."""
        there = open_conversation(self._session)
        return [user.label for user in there.members if not user.is_me] if isinstance(there, Group) else []

    def _current(self) -> str:
        here = open_conversation(self._session)
        return "room" if here is None else _typed_address(here)

    def _on_covered(self, covered: bool) -> None:
        self._shutdown.ignores_interrupt = covered
        self._session.activity.on_covered(covered)


def _typed_address(conversation: Conversation) -> str:
    """Return a conversation's name as it is typed, and shown in the prompt."""
    return f"#{conversation.name}" if conversation.kind == "group" else conversation.name
