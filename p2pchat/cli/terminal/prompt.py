"""The line one types in: prompt_toolkit's, kept open all the time, so that no key is ever lost between two lines.

What is typed leaves as things somebody wants (Wish), in the order they were typed, to whoever carries them out.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.utils import get_cwidth

from p2pchat.cli.terminal.modes import FocusReporter
from p2pchat.cli.terminal.screen import UNREAD, Screen
from p2pchat.commands.columns import Row, fold_row
from p2pchat.commands.render import quote_name
from p2pchat.safe_text import safe_line

MENU_ROWS = 7  # for completions, below the line


@dataclass(frozen=True, slots=True)
class LineEntered:
    """A line, whole."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SwitchRequest:
    """To another conversation: `next` and `first` unread, or the number in /list."""

    where: str


@dataclass(frozen=True, slots=True)
class QuitRequest:
    """Away: `input` (Ctrl-D), or `interrupted` (Ctrl-C)."""

    reason: str


PromptAction = LineEntered | SwitchRequest | QuitRequest


class Prompt:
    """One prompt.

    Args:
        label: Returns what stands before the input, in at most so many columns.
        wish: Takes what is wanted.
        suspend: Stops the program until somebody continues it.
        editing: Called when an editor takes the terminal, and when it has given it back.
        focus: Knows whether this window has the keyboard.
        typed: Called with the line whenever it has changed, and whenever a key did something to it.
        above: Returns what stands right above the line, None for nothing.
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
        wish: Callable[[PromptAction], None],
        suspend: Callable[[], None],
        editing: Callable[[bool], None],
        focus: FocusReporter,
        typed: Callable[[str], None],
        above: Callable[[], Row | None],
    ) -> None:
        self._screen = screen
        self._label = label
        self._completer = completer
        self._wish = wish
        self._suspend = suspend
        self._editing = editing
        self._focus = focus
        self._typed = typed
        self._above = above
        self._output = output
        self._question: PasteQuestion | None = None
        self._editor: asyncio.Task[None] | None = None
        self._session: PromptSession[str] = PromptSession(
            self._message,
            completer=completer,
            complete_while_typing=False,
            enable_history_search=True,
            enable_open_in_editor=False,  # bound here, so that nothing is printed meanwhile
            enable_suspend=False,
            history=history,
            key_bindings=self._keys(),
            reserve_space_for_menu=MENU_ROWS,
            prompt_continuation=lambda width, row, wraps: "",
            include_default_pygments_style=False,
            color_depth=depth,
            erase_when_done=True,
            output=output,
        )
        for changed in (self._buffer.on_text_changed, self._buffer.on_cursor_position_changed):
            changed += lambda buffer: typed(buffer.text)

    @property
    def app(self) -> Application[str]:
        return self._session.app

    @property
    def _buffer(self) -> Buffer:
        return self._session.default_buffer

    async def run(self) -> None:
        """Take keys until close() or the terminal's end; the prompt is gone then."""
        self._screen.app = self.app
        try:
            await self._session.prompt_async(
                set_exception_handler=False, handle_sigint=False, pre_run=self._focus.ask
            )  # fmt: skip
        except EOFError:  # the terminal has gone
            self._wish(QuitRequest("input"))
        finally:
            self._focus.stop()
            self._screen.app = None

    async def close(self) -> None:
        """End run(), and the editor if one is open."""
        if self._editor is not None:
            self._editor.cancel()
            await asyncio.wait([self._editor])
        if self.app.is_running and not self.app.is_done:
            self.app.exit(result="")

    def redraw(self) -> None:
        """What stands before the input has changed."""
        self.app.invalidate()

    # What is seen

    def _message(self) -> StyleAndTextTuples:
        size = self._output.get_size()
        found: StyleAndTextTuples = []
        for row in self._screen.region(max(2, size.rows // 2)):
            found += [*row, ("", "\n")]
        if (above := self._above()) is not None:
            found += [*fold_row(above, size.columns)[0], ("", "\n")]
        if self._question is not None:
            return [*found, ("bold", self._question.words)]
        return [*found, *self._label(size.columns)]

    # Keys

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        typing = has_focus(DEFAULT_BUFFER) & ~is_searching & Condition(lambda: self._question is None)
        asked = Condition(lambda: self._question is not None)
        self._focus.bind(keys)
        empty = Condition(lambda: not self._buffer.text)

        keys.add("enter", filter=typing)(self._enter)
        keys.add("escape", "enter", filter=typing)(lambda event: self._buffer.insert_text("\n"))
        keys.add("tab", filter=typing)(self._tab)
        keys.add("c-c", filter=~is_searching)(self._ctrl_c)
        keys.add("c-d", filter=typing & empty)(lambda event: self._wish(QuitRequest("input")))
        keys.add("c-z")(lambda event: self._suspend())
        keys.add("c-l")(lambda event: self._screen.clear())
        keys.add("c-x", "c-e", filter=typing)(self._edit)
        keys.add("c-x", "e", filter=typing)(self._edit)
        keys.add(Keys.BracketedPaste, filter=typing)(self._pasted)
        keys.add("escape", "a", filter=typing)(lambda event: self._wish(SwitchRequest("next")))
        keys.add("escape", "u", filter=typing)(lambda event: self._wish(SwitchRequest("first")))
        for number in "123456789":
            keys.add("escape", number, filter=typing)(self._go_to(number))
        for answers, send in (("yY", True), ("nN", False), (["escape"], False), ("eE", None)):
            for key in answers:
                keys.add(key, filter=asked)(self._answering(send))
        for other in (Keys.Any, Keys.BracketedPaste, "enter", "tab", "c-d"):
            keys.add(other, filter=asked)(lambda event: None)
        return keys

    def _go_to(self, number: str) -> Callable[[KeyPressEvent], None]:
        return lambda event: self._wish(SwitchRequest(number))

    def _enter(self, event: KeyPressEvent) -> None:
        text = self._buffer.text
        if text.strip():
            self._buffer.append_to_history()
            self._wish(LineEntered(text))
        self._put()

    def _put(self, text: str = "", cursor: int = 0) -> None:
        """Make this the line, as if it had been typed."""
        self._buffer.reset(Document(text, cursor))
        self._buffer.load_history_if_not_yet_loaded()
        self._typed(text)

    def _ctrl_c(self, event: KeyPressEvent) -> None:
        if self._question is not None:
            self._answer(send=False)
        elif self._buffer.text:
            self._put()
        else:
            self._wish(QuitRequest("interrupted"))

    def _tab(self, event: KeyPressEvent) -> None:
        """Complete: the first that fits, the next one with each further Tab."""
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

    # Pasting

    def _pasted(self, event: KeyPressEvent) -> None:
        buffer = self._buffer
        before, cursor = buffer.text, buffer.cursor_position
        buffer.insert_text(pasted_text(event.data, buffer.document.text_before_cursor))
        if needs_question(buffer.text):
            self._question = PasteQuestion(buffer.text, buffer.cursor_position, before, cursor)
            self._put()

    def _answering(self, send: bool | None) -> Callable[[KeyPressEvent], None]:
        return lambda event: self._answer(send=send)

    def _answer(self, *, send: bool | None) -> None:
        """Send, forget the paste (False), or let it be edited (None)."""
        question, self._question = self._question, None
        assert question is not None
        if send is None:
            self._put(question.text, question.cursor)
        elif send:
            self._put(question.text)
            self._buffer.append_to_history()
            self._put()
            self._wish(LineEntered(question.text))
        else:
            self._put(question.text_before, question.cursor_before)

    # The editor

    def _edit(self, event: KeyPressEvent) -> None:
        self._screen.hold()
        self._focus.stop()
        self._editing(True)
        self._editor = event.app.create_background_task(self._edited(self._buffer.text))

    async def _edited(self, before: str) -> None:
        try:
            text = await edit(before)
            self._put(text, len(text))
        except (OSError, ValueError) as error:
            self._screen.tell(f"p2pchat: the editor did not work: {error}")
        finally:
            self._editor = None
            self._editing(False)
            self._focus.ask()
            self._screen.release()


# ---- paste
#
# What is pasted: one message, whatever is in it, and never a command.
#
# A terminal marks what it pastes (bracketed paste), so it can be told from what is typed.


ASK_ABOVE = 5  # lines
_SLASH = "/"


def pasted_text(pasted: str, before: str) -> str:
    """Return what a paste puts into the line behind `before`: its newlines as ours, none at its end; a slash where
    the line begins is doubled, which anybody can see, and means: a text that begins with a slash."""
    text = pasted.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").replace("\t", "    ")
    return _SLASH + text if not before and text.startswith(_SLASH) else text


@dataclass(frozen=True, slots=True)
class PasteQuestion:
    """Asked before many lines are sent: `text` and where the cursor is, as they are with the paste, and were before."""

    text: str = field(repr=False)
    cursor: int
    text_before: str = field(repr=False)
    cursor_before: int

    @property
    def lines(self) -> int:
        return self.text.count("\n") + 1

    @property
    def words(self) -> str:
        return f"send {self.lines} lines as one message? y/n, e: edit "


def needs_question(text: str) -> bool:
    """Whether a line is so long that it is asked whether all of it is meant."""
    return text.count("\n") + 1 > ASK_ABOVE


# ---- editor
#
# The text being typed, in somebody's editor: what $VISUAL or $EDITOR names, or the first that is there.
#
# prompt_toolkit's own way runs the editor in a thread, which nobody can end: a chat told to leave (SIGTERM, a lost
# session) would wait for the editor to be closed.


ANY_EDITOR = ("editor", "nano", "pico", "vi", "emacs", "notepad")  # prompt_toolkit's order; notepad for Windows
PATIENCE = 1.0  # seconds an editor told to end has for its own affairs; a guess


async def edit(text: str) -> str:
    """Return what somebody makes of a text in an editor; the text itself when the editor gives up (not exit code 0).

    Cancelled, it ends the editor first. Raises OSError when there is no editor, UnicodeDecodeError for no text.
    """
    with _written(text) as path:
        async with in_terminal():
            editor = await _start(path)
            try:
                done = await editor.wait() == 0
            except asyncio.CancelledError:
                await _end(editor)
                raise
        return path.read_text("utf-8").removesuffix("\n") if done else text


@contextmanager
def _written(text: str) -> Iterator[Path]:
    """Hold a text in a file that only its owner can read, and that goes afterwards."""
    descriptor, name = tempfile.mkstemp(".txt", "p2pchat-")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        yield Path(name)
    finally:
        with suppress(OSError):  # the editor may have it still, on Windows, or have put it elsewhere
            os.unlink(name)


async def _start(path: Path) -> asyncio.subprocess.Process:
    chosen = [words for variable in ("VISUAL", "EDITOR") if (words := os.environ.get(variable))]
    for words in (*chosen, *ANY_EDITOR):
        with suppress(FileNotFoundError):
            return await asyncio.create_subprocess_exec(*shlex.split(words), str(path))
    raise OSError("there is none: name one in the variable EDITOR")


async def _end(editor: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        editor.terminate()
        try:
            await asyncio.wait_for(editor.wait(), PATIENCE)
        except TimeoutError:
            editor.kill()
            await editor.wait()


# ---- history
#
# What was typed, kept for the next start: one JSON string a line in the profile's directory, oldest first.
#
# Secrets are not kept: invites, whatever command they stand in.


FILE_NAME = "input_history"
MOST_LINES = 2000  # kept; twice as many are cut down at the next start
_SECRET = re.compile(r"p2pchat:\w{8}", re.IGNORECASE)  # how an invite begins


def is_secret(line: str) -> bool:
    """Whether a line is not to be kept."""
    return _SECRET.search(line) is not None


class ProfileHistory(History):
    """The lines typed in one profile; in memory only without a directory, or when the disk does not want them."""

    def __init__(self, directory: Path | None) -> None:
        super().__init__()
        self._path = None if directory is None else directory / FILE_NAME

    def load_history_strings(self) -> Iterable[str]:
        """Yield what was typed, the newest first."""
        lines = self._read()
        if len(lines) > 2 * MOST_LINES:
            lines = lines[-MOST_LINES:]
            self._cut(lines)
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

    def _cut(self, lines: list[str]) -> None:
        self._write(os.O_TRUNC, lines)

    def _write(self, how: int, lines: list[str]) -> None:
        assert self._path is not None
        flags = os.O_WRONLY | os.O_CREAT | how | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            with open(os.open(self._path, flags, 0o600), "wb") as file:
                file.write("".join(line + "\n" for line in lines).encode())
        except OSError:  # a full disk is told by whoever must write there; a line typed is no such thing
            pass


# ---- label
#
# What stands before the input: where one is, and what is unread elsewhere: `[bob 2 · room 5 @1] room> `.


_PLAIN = re.compile(r"[\w#.'-]+\Z")  # anything else could be taken for more than a name here
ROOM_TO_TYPE = 16  # columns left for the input, at least, where the terminal has them


class UnreadBadge(NamedTuple):
    """What is unread in one conversation."""

    name: str
    lines: int
    mentions: int


def prompt_label(where: str, waiting: Sequence[UnreadBadge], columns: int) -> Row:
    """Return what stands before the input, shorter where there is little room."""
    end = [("bold", _name(where)), ("", "> ")]
    longest = " · ".join(_words(each) for each in waiting)
    total = UnreadBadge("", sum(each.lines for each in waiting), sum(each.mentions for each in waiting))
    for words in (longest, _words(total)) if waiting else ("",):
        row = [("", "["), (UNREAD, words), ("", "] "), *end] if words else end
        if sum(get_cwidth(text) for _, text in row) <= columns - ROOM_TO_TYPE:
            return row
    return [("", "> ")] if not waiting or columns < ROOM_TO_TYPE else [(UNREAD, _words(total)), ("", "> ")]


def _words(waiting: UnreadBadge) -> str:
    name = f"{_name(waiting.name)} " if waiting.name else ""
    return f"{name}{waiting.lines}" + (f" @{waiting.mentions}" if waiting.mentions else "")


def _name(name: str) -> str:
    shown = quote_name(name)
    return shown if shown.startswith('"') or _PLAIN.match(shown) else f'"{safe_line(name)}"'
