"""The line one types in: prompt_toolkit's, kept open all the time, so that no key is ever lost between two lines.

What is typed leaves as things somebody wants (Wish), in the order they were typed, to whoever carries them out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application
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

from p2pchat.apps.cli.terminal.editor import edit
from p2pchat.apps.cli.terminal.focus import Focus
from p2pchat.apps.cli.terminal.paste import Question, as_text, needs_question
from p2pchat.cli.terminal.screen import Screen
from p2pchat.commands.columns import Row, fold_row

MENU_ROWS = 7  # for completions, below the line


@dataclass(frozen=True, slots=True)
class Typed:
    """A line, whole."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Go:
    """To another conversation: `next` and `first` unread, or the number in /list."""

    where: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Away: `input` (Ctrl-D), or `interrupted` (Ctrl-C)."""

    reason: str


Wish = Typed | Go | Leave


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
        wish: Callable[[Wish], None],
        suspend: Callable[[], None],
        editing: Callable[[bool], None],
        focus: Focus,
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
        self._question: Question | None = None
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
            self._wish(Leave("input"))
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
        keys.add("c-d", filter=typing & empty)(lambda event: self._wish(Leave("input")))
        keys.add("c-z")(lambda event: self._suspend())
        keys.add("c-l")(lambda event: self._screen.clear())
        keys.add("c-x", "c-e", filter=typing)(self._edit)
        keys.add("c-x", "e", filter=typing)(self._edit)
        keys.add(Keys.BracketedPaste, filter=typing)(self._pasted)
        keys.add("escape", "a", filter=typing)(lambda event: self._wish(Go("next")))
        keys.add("escape", "u", filter=typing)(lambda event: self._wish(Go("first")))
        for number in "123456789":
            keys.add("escape", number, filter=typing)(self._go_to(number))
        for answers, send in (("yY", True), ("nN", False), (["escape"], False), ("eE", None)):
            for key in answers:
                keys.add(key, filter=asked)(self._answering(send))
        for other in (Keys.Any, Keys.BracketedPaste, "enter", "tab", "c-d"):
            keys.add(other, filter=asked)(lambda event: None)
        return keys

    def _go_to(self, number: str) -> Callable[[KeyPressEvent], None]:
        return lambda event: self._wish(Go(number))

    def _enter(self, event: KeyPressEvent) -> None:
        text = self._buffer.text
        if text.strip():
            self._buffer.append_to_history()
            self._wish(Typed(text))
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
            self._wish(Leave("interrupted"))

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
        buffer.insert_text(as_text(event.data, buffer.document.text_before_cursor))
        if needs_question(buffer.text):
            self._question = Question(buffer.text, buffer.cursor_position, before, cursor)
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
            self._wish(Typed(question.text))
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
