"""The prompt: prompt_toolkit's, kept open all the time, so that no key is lost between two lines.

What the user does leaves it as PromptActions, in order. The file also has what belongs to typing: pastes, the external
editor, the input history, and the label before the input.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, in_terminal
from prompt_toolkit.buffer import Buffer, CompletionState
from prompt_toolkit.completion import CompleteEvent, Completer
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus, is_searching
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout.processors import TabsProcessor
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.utils import get_cwidth

from p2pchat.cli.terminal.device import UNREAD, FocusReporter, breaks_rows
from p2pchat.cli.terminal.screen import ResizeGuard, Screen
from p2pchat.cli.terminal.terminal_display import is_text
from p2pchat.commands.typed_paths import dropped_files
from p2pchat.commands.wrap import Row, fold_row
from p2pchat.safe_text import quote_name, safe_line

MENU_ROWS = 7  # of the completion menu
PASTE_WITHIN = 2.0  # seconds without input after which a paste has ended, although its end mark is missing; a guess
LEAVE_WITHIN = 2.0  # seconds between two Ctrl-C that leave; a guess
_HOW_TO_LEAVE = "Ctrl-C again, or /quit, leaves the chat"


@dataclass(frozen=True, slots=True)
class LineEntered:
    """A complete line.

    Attributes:
        shown_last: The messages shown last when it was begun (Session.shown_last); None if that is not known.
    """

    text: str = field(repr=False)
    shown_last: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class SwitchRequest:
    """Switch to a conversation: `next` or `first` unread, or its number in /list."""

    where: str


@dataclass(frozen=True, slots=True)
class QuitRequest:
    """End the chat: `input` (Ctrl-D), or `interrupted` (Ctrl-C twice)."""

    reason: str


PromptAction = LineEntered | SwitchRequest | QuitRequest


class Prompt:
    """One prompt.

    Args:
        label: Returns the text before the input, for a number of columns.
        on_action: Called with each action.
        suspend: Stops the process until it is continued.
        on_editor: Called with True when an editor takes the terminal, and with False when it returns it.
        on_change: Called with the line after each change, and each move of the cursor.
        status_row: Returns the row above the input; None: none.
    """

    def __init__(
        self,
        screen: Screen,
        *,
        label: Callable[[int], Row],
        completer: Completer,
        history: History,
        output: Output,
        depth: ColorDepth,
        on_action: Callable[[PromptAction], None],
        suspend: Callable[[], None],
        on_editor: Callable[[bool], None],
        focus: FocusReporter,
        on_change: Callable[[str], None],
        status_row: Callable[[], Row | None],
    ) -> None:
        self._screen = screen
        self._label = label
        self._completer = completer
        self._on_action = on_action
        self._suspend = suspend
        self._on_editor = on_editor
        self._focus = focus
        self._on_change = on_change
        self._status_row = status_row
        self._output = output
        self._question: PasteQuestion | YesNoQuestion | None = None
        self._leaving: asyncio.TimerHandle | None = None  # runs after a Ctrl-C: another one leaves
        self._editor: asyncio.Task[None] | None = None
        self._session: PromptSession[str] = PromptSession(
            self._render,
            completer=completer,
            complete_while_typing=False,
            enable_history_search=True,
            enable_open_in_editor=False,  # bound here, so that nothing is printed meanwhile
            enable_suspend=False,
            history=history,
            key_bindings=self._keys(),
            input_processors=[TabsProcessor(char1=" ", char2=" ")],  # of a paste; otherwise ^I would be shown
            reserve_space_for_menu=MENU_ROWS,
            prompt_continuation=lambda width, row, wraps: "",
            include_default_pygments_style=False,
            color_depth=depth,
            erase_when_done=True,
            output=output,
        )
        self._resizes = ResizeGuard(
            self.app, output.get_size, breaks=breaks_rows(), on_settled=screen.update_soon
        )  # fmt: skip
        screen.may_draw = self._resizes.is_settled
        for changed in (self._buffer.on_text_changed, self._buffer.on_cursor_position_changed):
            changed += lambda buffer: on_change(buffer.text)

    @property
    def app(self) -> Application[str]:
        return self._session.app

    @property
    def _buffer(self) -> Buffer:
        return self._session.default_buffer

    async def run(self) -> None:
        """Handle keys until close() or the terminal's end; the prompt is erased then."""
        self._screen.app = self.app
        try:
            await self._session.prompt_async(
                set_exception_handler=False, handle_sigint=False, pre_run=self._begin
            )  # fmt: skip
        except EOFError:  # the terminal is gone
            self._on_action(QuitRequest("input"))
        finally:
            self._focus.disable()
            self._resizes.cancel()
            self._screen.app = None
            if self._question is not None:
                self._answer(send=False)
            if self._leaving is not None:
                self._leaving.cancel()

    def _begin(self) -> None:
        self._focus.enable()
        parser = getattr(self.app.input, "vt100_parser", None)  # Windows reports pastes in another way
        if parser is not None:
            UnfinishedPaste(self.app, parser)

    async def close(self) -> None:
        """End run(), and an open editor."""
        if self._editor is not None:
            self._editor.cancel()
            await asyncio.wait([self._editor])
        if self.app.is_running and not self.app.is_done:
            self.app.exit(result="")

    def resume(self) -> None:
        """Take the terminal again after `kill -STOP` and the shell's `fg`: the shell left its own modes and text."""
        if self.app.is_running and self._editor is None:
            self.app.input.raw_mode().__enter__()  # left with the one that run() entered
            self._output.write_raw("\r")  # over a prompt that something drew since then
            self.app.renderer.reset()
            self._focus.enable()
            self.redraw()

    def redraw(self) -> None:
        self.app.invalidate()

    async def ask(self, text: str) -> bool:
        """Ask a question; return whether it was answered with y. What was being typed comes back afterwards."""
        if self._question is not None or not self.app.is_running:
            return False
        line, cursor = self._buffer.text, self._buffer.cursor_position
        self._question = question = YesNoQuestion(text, asyncio.get_running_loop().create_future())
        self._set_line()
        self.redraw()
        try:
            return await question.answer
        finally:
            self._question = None
            self._set_line(line, cursor)
            self.redraw()

    def _render(self) -> StyleAndTextTuples:
        size = self._output.get_size()
        found: StyleAndTextTuples = []
        for row in self._screen.region(max(2, size.rows // 2)):
            found += [*row, ("", "\n")]
        if (status := self._status_row()) is not None:
            found += [*fold_row(status, size.columns)[0], ("", "\n")]
        if self._question is not None:
            return [*found, ("bold", self._question.text_shown)]
        if self._leaving is not None:
            found += [*fold_row([("bold", _HOW_TO_LEAVE)], size.columns)[0], ("", "\n")]
        return [*found, *self._label(size.columns)]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        editing = has_focus(DEFAULT_BUFFER) & ~is_searching & Condition(lambda: self._question is None)
        asked = Condition(lambda: self._question is not None)
        self._focus.bind(keys)
        empty = Condition(lambda: not self._buffer.text)

        keys.add("enter", filter=editing)(self._enter)
        keys.add("escape", "enter", filter=editing)(lambda event: self._buffer.insert_text("\n"))
        keys.add("tab", filter=editing)(self._tab)
        keys.add("/", filter=editing & Condition(lambda: self._buffer.complete_state is not None))(self._slash)
        keys.add("c-c", filter=~is_searching)(self._ctrl_c)
        keys.add("c-d", filter=editing & empty)(lambda event: self._on_action(QuitRequest("input")))
        keys.add("c-z")(lambda event: self._suspend())
        keys.add("c-l")(lambda event: self._screen.clear())
        keys.add("c-x", "c-e", filter=editing)(self._edit)
        keys.add("c-x", "e", filter=editing)(self._edit)
        keys.add(Keys.BracketedPaste, filter=editing)(self._on_paste)
        keys.add("escape", "a", filter=editing)(partial(self._switch, "next"))
        keys.add("escape", "u", filter=editing)(partial(self._switch, "first"))
        for number in "123456789":
            keys.add("escape", number, filter=editing)(partial(self._switch, number))
        for answers, send in (("yY", True), ("nN", False), (["escape"], False), ("eE", None)):
            for key in answers:
                keys.add(key, filter=asked)(self._answering(send))
        for other in (Keys.Any, Keys.BracketedPaste, "enter", "tab", "c-d"):
            keys.add(other, filter=asked)(lambda event: None)
        return keys

    def _switch(self, where: str, event: KeyPressEvent) -> None:
        self._on_action(SwitchRequest(where))

    def _enter(self, event: KeyPressEvent) -> None:
        text = self._buffer.text
        if is_secret(text) and (is_text(text) or _SENDS_HERE.match(text)):
            self._question = PasteQuestion(text, self._buffer.cursor_position, text, self._buffer.cursor_position)
        elif text.strip():
            self._buffer.append_to_history()
            self._on_action(LineEntered(text))
        self._set_line()

    def _set_line(self, text: str = "", cursor: int = 0) -> None:
        """Replace the line, as if this had been typed."""
        self._buffer.reset(Document(text, cursor))
        self._buffer.load_history_if_not_yet_loaded()
        self._on_change(text)

    def _ctrl_c(self, event: KeyPressEvent) -> None:
        """Clear the line, or cancel the question, and say how to leave; a second one soon after leaves."""
        if self._question is not None:
            self._answer(send=False)
            return
        again, self._leaving = self._leaving, None
        if again is not None:
            again.cancel()
            if not self._buffer.text:
                self._on_action(QuitRequest("interrupted"))
                return
        self._set_line()
        self._leaving = asyncio.get_running_loop().call_later(LEAVE_WITHIN, self._stay)

    def _stay(self) -> None:
        """Let the next Ctrl-C be a first one again."""
        self._leaving = None
        self.redraw()

    def _tab(self, event: KeyPressEvent) -> None:
        """Complete with the first candidate, with each further Tab with the next one."""
        buffer = self._buffer
        if buffer.complete_state:
            buffer.complete_next()
            return
        found = list(self._completer.get_completions(buffer.document, CompleteEvent(completion_requested=True)))
        if len(found) == 1:
            buffer.apply_completion(found[0])
        elif found:
            buffer.complete_state = CompletionState(original_document=buffer.document, completions=found)
            buffer.go_to_completion(0)

    def _slash(self, event: KeyPressEvent) -> None:
        """Type a slash; behind a directory that Tab offered, take it instead, so that Tab goes on inside of it."""
        if self._buffer.document.text_before_cursor.endswith("/"):
            self._buffer.complete_state = None
        else:
            self._buffer.insert_text("/")

    def _on_paste(self, event: KeyPressEvent) -> None:
        buffer = self._buffer
        before, cursor = buffer.text, buffer.cursor_position
        buffer.insert_text(pasted_text(event.data, buffer.document.text_before_cursor))
        if needs_question(buffer.text):
            self._question = PasteQuestion(buffer.text, buffer.cursor_position, before, cursor)
            self._set_line()

    def _answering(self, send: bool | None) -> Callable[[KeyPressEvent], None]:
        return lambda event: self._answer(send=send)

    def _answer(self, *, send: bool | None) -> None:
        """Send the text, leave it to Up (False), or let the user edit it (None). Other questions have only y and n."""
        if isinstance(self._question, YesNoQuestion):
            if send is not None and not self._question.answer.done():
                self._question.answer.set_result(send)
            return
        question, self._question = self._question, None
        assert question is not None
        if send is None:
            self._set_line(question.text, question.cursor)
            return
        self._set_line(question.text)
        self._buffer.append_to_history()
        if send:
            self._set_line()
            self._on_action(LineEntered(question.text))
            return
        self._set_line(question.text_before, question.cursor_before)
        self._screen.print_notice(f"-- not sent{'' if is_secret(question.text) else '; Up brings it back'}")

    def _edit(self, event: KeyPressEvent) -> None:
        self._screen.hold()
        self._focus.disable()
        self._on_editor(True)
        self._editor = event.app.create_background_task(self._run_editor(self._buffer.text))

    async def _run_editor(self, before: str) -> None:
        try:
            text = await edit(before, self._screen.wait_drained)
            self._set_line(text, len(text))
        except (OSError, ValueError) as error:
            self._screen.print_notice(f"p2pchat: the editor failed: {error}")
        finally:
            self._editor = None
            self._focus.enable()
            self._screen.release()
            self._on_editor(False)


# ---- pastes
#
# A paste is one message, whatever it contains, and never a command. Terminals mark pastes (bracketed paste).


ASK_ABOVE = 5  # lines; longer pastes are sent only after a question
_SLASH = "/"


def pasted_text(pasted: str, before: str) -> str:
    """Return what a paste adds to the line behind `before`: with \\n as newlines, and none at the end.

    A slash at the beginning of the line is doubled, so that the line is a text and no command. Dropped files are such a
    paste too: what sends them stands in the line then, and Enter does it.
    """
    text = pasted.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    if not before and dropped_files(text):
        return f"/send {text.strip()} "
    return _SLASH + text if not before and text.startswith(_SLASH) else text


@dataclass(frozen=True, slots=True)
class PasteQuestion:
    """The question before many lines or an invite are sent, with line and cursor after the paste and before it."""

    text: str = field(repr=False)
    cursor: int
    text_before: str = field(repr=False)
    cursor_before: int

    @property
    def text_shown(self) -> str:
        if is_secret(self.text):
            return "whoever reads this invite can join: send it? y/n, e: edit "
        return f"send {_line_count(self.text)} lines as one message? y/n, e: edit "


@dataclass(frozen=True, slots=True)
class YesNoQuestion:
    """A question of a command."""

    text: str = field(repr=False)
    answer: asyncio.Future[bool]

    @property
    def text_shown(self) -> str:
        return f"{self.text} y/n "


def needs_question(text: str) -> bool:
    """Return whether a text has so many lines that the user is asked before it is sent."""
    return _line_count(text) > ASK_ABOVE


def _line_count(text: str) -> int:
    return text.count("\n") + 1


# ---- external editor
#
# $VISUAL, $EDITOR, or the first editor found. prompt_toolkit's own editor support runs the editor in a thread that
# cannot be ended: a chat that gets SIGTERM would wait until the user closes the editor.


DEFAULT_EDITORS = ("editor", "nano", "pico", "vi", "emacs", "notepad")  # prompt_toolkit's order; notepad: Windows
TERMINATE_TIMEOUT = 1.0  # seconds until a terminated editor is killed; a guess


async def edit(text: str, wait_drained: Callable[[], Awaitable[None]]) -> str:
    """Return the text as the user edited it; unchanged if the editor's exit code is not 0.

    Cancelling ends the editor first.

    Args:
        wait_drained: Waits until the prompt is erased on the terminal: later that would erase the editor's lines.
    Raises:
        OSError: There is no editor. UnicodeDecodeError: The file is no longer UTF-8.
    """
    with _temporary_file(text) as path:
        async with in_terminal():
            await wait_drained()
            editor = await _start_editor(path)
            try:
                done = await editor.wait() == 0
            except asyncio.CancelledError:
                await _terminate(editor)
                raise
        return path.read_text("utf-8").removesuffix("\n") if done else text


@contextmanager
def _temporary_file(text: str) -> Iterator[Path]:
    """Write the text into a file that only the owner can read, and delete the file afterwards."""
    descriptor, name = tempfile.mkstemp(".txt", "p2pchat-")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        yield Path(name)
    finally:
        with suppress(OSError):  # the editor may have it open, on Windows, or have moved it
            os.unlink(name)


async def _start_editor(path: Path) -> asyncio.subprocess.Process:
    chosen = [words for variable in ("VISUAL", "EDITOR") if (words := os.environ.get(variable))]
    for words in (*chosen, *DEFAULT_EDITORS):
        with suppress(FileNotFoundError):
            return await asyncio.create_subprocess_exec(*shlex.split(words), str(path))
    raise OSError("no editor found: name one in the variable EDITOR")


async def _terminate(editor: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        editor.terminate()
        try:
            await asyncio.wait_for(editor.wait(), TERMINATE_TIMEOUT)
        except TimeoutError:
            editor.kill()
            await editor.wait()


CTRL_C = "\x03"
PASTE_END = "\x1b[201~"


class UnfinishedPaste:
    """Ends a paste whose end mark is lost: otherwise all keys would count as pasted, and do nothing.

    It ends after PASTE_WITHIN seconds without input, or at Ctrl-C, and is taken as it is.
    """

    def __init__(self, app: Application[str], parser: Vt100Parser) -> None:
        self._app = app
        self._parser = parser
        self._feed = parser.feed
        self._timer: asyncio.TimerHandle | None = None
        parser.feed = self._on_input  # type: ignore[method-assign]

    def _on_input(self, data: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        before, interrupts, _ = data.rpartition(CTRL_C) if data.endswith(CTRL_C) else (data, "", "")
        self._feed(before)
        if interrupts:
            self._feed(PASTE_END if self._parser._in_bracketed_paste else CTRL_C)
        if self._parser._in_bracketed_paste:
            self._timer = asyncio.get_running_loop().call_later(PASTE_WITHIN, self._end)

    def _end(self) -> None:
        self._feed(PASTE_END)
        self._app.key_processor.feed_multiple(self._app.input.flush_keys())
        self._app.key_processor.process_keys()


# ---- input history
#
# A file in the profile's directory: one JSON string per line, oldest first. prompt_toolkit's FileHistory would make it
# readable for everyone, keep invites, grow without limit, and raise in a key handler when the disk is full.


FILE_NAME = "input_history"
MAX_LINES = 2000  # twice as many are cut to this at the next start
_INVITE = re.compile(r"p2pchat:\w{8}", re.IGNORECASE)  # its beginning


_SENDS_HERE = re.compile(r"/(me|reply|edit)\s", re.IGNORECASE)  # to all who read the current conversation


def is_secret(line: str) -> bool:
    """Return whether a line contains an invite, and must not be stored."""
    return _INVITE.search(line) is not None


class ProfileHistory(History):
    """The lines typed in one profile; in memory if there is no directory, or it cannot be written."""

    def __init__(self, directory: Path | None) -> None:
        super().__init__()
        self._path = None if directory is None else directory / FILE_NAME

    def load_history_strings(self) -> Iterable[str]:
        """Yield the lines, the newest first."""
        lines = self._read()
        if len(lines) > 2 * MAX_LINES:
            lines = lines[-MAX_LINES:]
            self._write(os.O_TRUNC, lines)
        for line in reversed(lines):
            try:
                text = json.loads(line)
            except ValueError:
                continue
            if isinstance(text, str):
                yield text

    def append_string(self, string: str) -> None:
        if not is_secret(string):
            super().append_string(string)

    def store_string(self, string: str) -> None:
        if self._path is not None:
            self._write(os.O_APPEND, [json.dumps(string)])

    def _read(self) -> list[str]:
        if self._path is None:
            return []
        try:
            return self._path.read_text("utf-8", "replace").split("\n")[:-1]
        except OSError:
            return []

    def _write(self, mode: int, lines: list[str]) -> None:
        assert self._path is not None
        flags = os.O_WRONLY | os.O_CREAT | mode | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            with open(os.open(self._path, flags, 0o600), "wb") as file:
                file.write("".join(line + "\n" for line in lines).encode())
        except OSError:  # a full disk: the line stays in memory
            pass


# ---- label
#
# The current conversation and unread counts of others: `[bob 2 · room 5 @1] room> `.


_PLAIN = re.compile(r"[\w#.'-]+\Z")  # other names are quoted: they could be mistaken for counts
MIN_INPUT_COLUMNS = 16  # left for the input, if the terminal has them


class UnreadBadge(NamedTuple):
    """Unread counts of one conversation."""

    name: str
    lines: int
    mentions: int


def prompt_label(own: str, where: str, badges: Sequence[UnreadBadge], columns: int) -> Row:
    """Return the text before the input: who writes and to whom; shorter if there is little room."""
    end = [("bold", _name(where)), ("", "> ")]
    longest = " · ".join(_badge_text(each) for each in badges)
    total = UnreadBadge("", sum(each.lines for each in badges), sum(each.mentions for each in badges))
    for writer in ([("", f"{_name(own)} to ")], []):
        for words in (longest, _badge_text(total)) if badges else ("",):
            row = [*([("", "["), (UNREAD, words), ("", "] ")] if words else []), *writer, *end]
            if sum(get_cwidth(text) for _, text in row) <= columns - MIN_INPUT_COLUMNS:
                return row
    return [("", "> ")] if not badges or columns < MIN_INPUT_COLUMNS else [(UNREAD, _badge_text(total)), ("", "> ")]


def _badge_text(badge: UnreadBadge) -> str:
    name = f"{_name(badge.name)} " if badge.name else ""
    return f"{name}{badge.lines}" + (f" @{badge.mentions}" if badge.mentions else "")


def _name(name: str) -> str:
    shown = quote_name(name)
    return shown if shown.startswith('"') or _PLAIN.match(shown) else f'"{safe_line(name)}"'
