"""The prompt: prompt_toolkit's, kept open all the time, so that no key is lost between two lines.

The file also has what belongs to typing: pastes, the external
editor, the input history, and the label before the input.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
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
from prompt_toolkit.history import FileHistory, History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout.processors import TabsProcessor
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.utils import get_cwidth

from p2pchat.cli.terminal.device import UNREAD, bind_focus, report_focus
from p2pchat.cli.terminal.screen import ResizeGuard, Screen
from p2pchat.cli.terminal.terminal_display import is_text
from p2pchat.commands.typed_paths import dropped_files
from p2pchat.commands.wrap import Row, fold_row
from p2pchat.safe_text import quote_name, safe_line
from p2pchat.threads import ends_within

MENU_ROWS = 7  # of the completion menu
LEAVE_WITHIN = 2.0  # seconds between two Ctrl-C that leave; a guess
STALL_TIMEOUT = 1.0  # seconds a stalled terminal may delay Ctrl-Z, an editor, or the end
_HOW_TO_LEAVE = "Ctrl-C again, or /quit, leaves the chat"


@dataclass(eq=False)
class Prompt:
    """One prompt.

    Args:
        label: Returns the text before the input, for a number of columns.
        on_line: Called with each complete line.
        on_switch: Called to switch to a conversation, `next` or `first` unread, or with the number of the key: of one
            in /list, or of a choice.
        on_quit: Called to end the chat: `input` (Ctrl-D), or `interrupted` (Ctrl-C twice).
        on_covered: Called with True when another program takes the terminal, and with False when it returns it.
        on_focus: Called with whether the window has the keyboard, if the terminal reports it.
        on_change: Called with the line after each change, and each move of the cursor.
        status_row: Returns the row above the input; None: none.
        choices_row: Returns the row above that, as often as it is drawn; None: none.
    """

    screen: Screen
    label: Callable[[int], Row]
    completer: Completer
    history: History
    output: Output
    depth: ColorDepth
    on_line: Callable[[str], None]
    on_switch: Callable[[str], None]
    on_quit: Callable[[str], None]
    on_covered: Callable[[bool], None]
    on_focus: Callable[[bool], None]
    on_change: Callable[[str], None]
    status_row: Callable[[], Row | None]
    choices_row: Callable[[], Row | None]

    def __post_init__(self) -> None:
        self._question: Question | None = None
        self._leaving: asyncio.TimerHandle | None = None  # runs after a Ctrl-C: another one leaves
        self._editor: asyncio.Task[object] | None = None
        self._session: PromptSession[str] = PromptSession(
            self._render,
            completer=self.completer,
            complete_while_typing=False,
            enable_history_search=True,
            enable_open_in_editor=False,  # the same keys are bound here, with what belongs to them
            enable_suspend=False,
            history=self.history,
            key_bindings=self._keys(),
            input_processors=[TabsProcessor(char1=" ", char2=" ")],  # of a paste; otherwise ^I would be shown
            reserve_space_for_menu=MENU_ROWS,
            prompt_continuation=lambda width, row, wraps: "",
            include_default_pygments_style=False,
            color_depth=self.depth,
            erase_when_done=True,
            output=self.output,
        )
        resizes = ResizeGuard(self.app, on_settled=self.screen.update_soon)
        self.screen.may_draw = lambda: not self.app._running_in_terminal and resizes.is_settled()
        for changed in (self._buffer.on_text_changed, self._buffer.on_cursor_position_changed):
            changed += self._on_buffer

    @property
    def app(self) -> Application[str]:
        return self._session.app

    @property
    def _buffer(self) -> Buffer:
        return self._session.default_buffer

    async def run(self) -> None:
        """Handle keys until close() or the terminal's end; the prompt is erased then."""
        self.screen.app = self.app
        try:
            await self._session.prompt_async(
                set_exception_handler=False, handle_sigint=False, pre_run=lambda: report_focus(self.output, True)
            )  # fmt: skip
        except EOFError:  # the terminal is gone
            self.on_quit("input")
        finally:
            report_focus(self.output, False)
            self.screen.app = None
            self.drop_question()
            if self._leaving is not None:
                self._leaving.cancel()

    async def close(self) -> None:
        """End run(), and an open editor."""
        if self._editor is not None:
            self._editor.cancel()
            await asyncio.wait([self._editor])
        if self.app.is_running and not self.app.is_done:
            self.app.exit(result="")

    async def ask(self, text: str, lines: Sequence[str] = ()) -> bool:
        """Ask a question; return whether the answer was yes. What was typed, `lines` too, comes back then.

        A word of the question or its first letter answers it. Any other line, Escape, and drop_question() are a no.
        """
        if self._question is not None or not self.app.is_running:
            return False
        before = Document("\n".join([*lines, self._buffer.text])) if lines else self._buffer.document
        answer = asyncio.Future[bool]()

        def on_answer(word: str) -> None:
            self._set_line(before)
            if not answer.done():
                answer.set_result(word == "yes")

        self._ask(Question(text, ("yes", "no"), on_answer))
        return await answer

    def drop_question(self) -> None:
        """Answer an open question with no; what was typed instead stays in the line."""
        if self._question is not None:
            typed = self._buffer.text
            self._answer("no")
            self._buffer.insert_text(typed)

    def _ask(self, question: Question) -> None:
        self._set_line()
        self._question = question
        self.screen.update_soon()

    def _render(self) -> StyleAndTextTuples:
        size = self.output.get_size()
        found: StyleAndTextTuples = []
        for row in self.screen.region(max(2, size.rows // 2)):
            found += [*row, ("", "\n")]
        if (choices := self.choices_row()) is not None:
            for row in fold_row(choices, size.columns):
                found += [*row, ("", "\n")]
        if (status := self.status_row()) is not None:
            found += [*fold_row(status, size.columns)[0], ("", "\n")]
        if self._question is not None:
            self._question.is_shown |= not self._buffer.text
            return [*found, ("bold", f"{self._question.text} {'/'.join(self._question.words)} ")]
        if self._leaving is not None:
            found += [*fold_row([("bold", _HOW_TO_LEAVE)], size.columns)[0], ("", "\n")]
        return [*found, *self.label(size.columns)]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        editing = has_focus(DEFAULT_BUFFER) & ~is_searching & Condition(lambda: self._question is None)
        asked = Condition(lambda: self._question is not None)
        bind_focus(keys, self.on_focus)
        empty = Condition(lambda: not self._buffer.text)

        keys.add("enter", filter=editing)(self._enter)
        keys.add("escape", "enter", filter=editing)(lambda event: self._buffer.insert_text("\n"))
        keys.add("tab", filter=editing)(self._tab)
        keys.add("/", filter=editing & Condition(lambda: self._buffer.complete_state is not None))(self._slash)
        keys.add("c-c", filter=~is_searching)(self._ctrl_c)
        keys.add("c-d", filter=editing & empty)(lambda event: self.on_quit("input"))
        keys.add("c-z", filter=Condition(lambda: sys.platform != "win32"))(self._suspend)
        keys.add("c-l")(lambda event: self.screen.clear())
        keys.add("c-x", "c-e", filter=editing)(self._edit)
        keys.add("c-x", "e", filter=editing)(self._edit)
        keys.add(Keys.BracketedPaste, filter=editing | asked)(self._on_paste)
        for key, where in (("a", "next"), ("u", "first"), *zip("123456789", "123456789", strict=True)):
            keys.add("escape", key, filter=editing)(partial(self._switch, where))
        keys.add("enter", filter=asked)(self._on_answer)
        for key in ("escape", "c-c", "c-d"):
            keys.add(key, filter=asked, eager=True)(lambda event: self.drop_question())
        for other in ("tab", "up", "down"):
            keys.add(other, filter=asked)(lambda event: None)
        return keys

    def _switch(self, where: str, event: KeyPressEvent) -> None:
        self.on_switch(where)

    def _enter(self, event: KeyPressEvent) -> None:
        text = self._buffer.text
        if is_secret(text) and (is_text(text) or _SENDS_HERE.match(text)):
            self._ask_before_sending(self._buffer.document)
            return
        if text.strip():
            self._buffer.append_to_history()
            self.on_line(text)
        self._set_line()

    def _on_buffer(self, buffer: Buffer) -> None:
        if self._question is None:  # else it is an answer
            self.on_change(buffer.text)

    def _set_line(self, line: Document | None = None) -> None:
        """Replace the line, as if this had been typed; None: with an empty one."""
        self._buffer.reset(line)
        self._buffer.load_history_if_not_yet_loaded()
        self.on_change(self._buffer.text)

    def _ctrl_c(self, event: KeyPressEvent) -> None:
        """Clear the line, and say how to leave; a second one soon after leaves."""
        again, self._leaving = self._leaving, None
        if again is not None:
            again.cancel()
            if not self._buffer.text:
                self.on_quit("interrupted")
                return
        self._set_line()
        self._leaving = asyncio.get_running_loop().call_later(LEAVE_WITHIN, self._stay)

    def _stay(self) -> None:
        """Let the next Ctrl-C be a first one again."""
        self._leaving = None
        self.screen.update_soon()

    def _tab(self, event: KeyPressEvent) -> None:
        """Complete with the first candidate, with each further Tab with the next one."""
        buffer = self._buffer
        if buffer.complete_state:
            buffer.complete_next()
            return
        found = list(self.completer.get_completions(buffer.document, CompleteEvent(completion_requested=True)))
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
        self.drop_question()
        buffer = self._buffer
        before = buffer.document
        buffer.insert_text(pasted_text(event.data, before.text_before_cursor))
        if needs_question(buffer.text):
            self._ask_before_sending(before)

    def _ask_before_sending(self, before: Document) -> None:
        """Ask whether the line is sent; Up brings back what was not, and `before` is the line then."""
        line = self._buffer.document

        def on_answer(word: str) -> None:
            self._set_line(line)
            if word == "edit":
                return
            self._buffer.append_to_history()
            self._set_line(None if word == "yes" else before)
            if word == "yes":
                self.on_line(line.text)
            else:
                self.screen.print_notice(f"-- not sent{'' if is_secret(line.text) else '; Up brings it back'}")

        self._ask(Question(sending_question(line.text), ("yes", "no", "edit"), on_answer))

    def _on_answer(self, event: KeyPressEvent) -> None:
        """Take the line as the answer to the question, if it is one of its words or the first letter of one."""
        assert self._question is not None
        typed = self._buffer.text.strip().casefold()
        for word in self._question.words:
            if self._question.is_shown and typed in (word, word[0]):
                self._answer(word)
                return
        self.drop_question()

    def _answer(self, word: str) -> None:
        question, self._question = self._question, None
        assert question is not None
        question.on_answer(word)
        self.screen.update_soon()

    @asynccontextmanager
    async def _covered(self) -> AsyncIterator[None]:
        """Leave the terminal to another program, once the prompt is erased there: later would erase its lines."""
        report_focus(self.output, False)
        self.on_covered(True)
        try:
            async with in_terminal():
                await ends_within(STALL_TIMEOUT, self.screen.wait_drained())
                yield
        finally:
            report_focus(self.output, True)
            self.on_covered(False)
            self.screen.update_soon()

    async def _suspend(self, event: KeyPressEvent) -> None:
        """Stop, as Ctrl-Z does, until the shell's `fg`."""
        async with self._covered():
            if sys.platform != "win32":
                os.kill(0, signal.SIGTSTP)

    async def _edit(self, event: KeyPressEvent) -> None:
        self._editor = asyncio.current_task()
        try:
            async with self._covered():
                text = await edit(self._buffer.text)
            self._set_line(Document(text))
        except (OSError, ValueError) as error:
            self.screen.print_notice(f"p2pchat: the editor failed: {error}")
        finally:
            self._editor = None


# ---- pastes
#
# A paste is one message, whatever it contains, and never a command. Terminals mark pastes (bracketed paste).


ASK_ABOVE = 5  # lines; longer pastes are sent only after a question


def pasted_text(pasted: str, before: str) -> str:
    """Return what a paste adds to the line behind `before`: with \\n as newlines, and none at the end.

    A slash at the beginning of the line is doubled, so that the line is a text and no command. Dropped files are such a
    paste too: what sends them stands in the line then, and Enter does it.
    """
    text = pasted.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    if not before and dropped_files(text):
        return f"/send {text.strip()} "
    return f"/{text}" if not before and text.startswith("/") else text


@dataclass
class Question:
    """A question in place of the line: its text, the words that answer it, and what is called with one of them.

    Nothing that was typed before it was on the screen, above an empty line (`is_shown`), answers it.
    """

    text: str = field(repr=False)
    words: Sequence[str]
    on_answer: Callable[[str], None]
    is_shown: bool = False


def sending_question(line: str) -> str:
    """Return the question before many lines or an invite are sent."""
    if is_secret(line):
        return "whoever reads this invite can join: send it?"
    return f"send {_line_count(line)} lines as one message?"


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


async def edit(text: str) -> str:
    """Return the text as the user edited it; unchanged if the editor's exit code is not 0.

    Cancelling ends the editor first.

    Raises:
        OSError: There is no editor. UnicodeDecodeError: The file is no longer UTF-8.
    """
    found = next(filter(shutil.which, DEFAULT_EDITORS), "vi")
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or found
    with tempfile.TemporaryDirectory(prefix="p2pchat-", ignore_cleanup_errors=True) as directory:  # only the owner's
        path = Path(directory, "message.txt")
        path.write_text(text, "utf-8", newline="")
        editor = await asyncio.create_subprocess_exec(*shlex.split(command), str(path))
        try:
            done = await editor.wait() == 0
        except asyncio.CancelledError:
            editor.terminate()
            await editor.wait()
            raise
        return path.read_text("utf-8").removesuffix("\n") if done else text


# ---- input history
#
FILE_NAME = "input_history"
_INVITE = re.compile(r"p2pchat:\w{8}", re.IGNORECASE)  # its beginning


_SENDS_HERE = re.compile(r"/(me|reply|edit)\s", re.IGNORECASE)  # to all who read the current conversation


def is_secret(line: str) -> bool:
    """Return whether a line contains an invite, and must not be stored."""
    return _INVITE.search(line) is not None


class ProfileHistory(FileHistory):
    """The lines typed in one profile, without invites; in memory if there is no directory, or it cannot be written."""

    def __init__(self, directory: Path | None) -> None:
        super().__init__("" if directory is None else directory / FILE_NAME)
        if directory is not None:
            with suppress(OSError):
                Path(directory, FILE_NAME).touch(mode=0o600)  # readable for nobody else

    def append_string(self, string: str) -> None:
        if not is_secret(string):
            super().append_string(string)

    def store_string(self, string: str) -> None:
        with suppress(OSError):  # a full disk: the line stays in memory
            super().store_string(string)


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
