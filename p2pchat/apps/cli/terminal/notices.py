"""What reaches somebody who does not look: the bell, a notice on the desktop, the title of the window.

All of it is text of others: on one line, made safe, and with words of ours in front, since some terminals take
orders where the text of a notice begins.
"""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.output import Output

from p2pchat.safe_text import safe_line

BELL_EVERY = 2.0  # seconds; more often it is noise
MOST_CHARACTERS = 120  # of a notice: what desktops show of one
_PUSH_TITLE, _POP_TITLE = "\x1b[22;0t", "\x1b[23;0t"  # xterm's; others ignore them


class Notices:
    """One terminal's bell, notices and title.

    Args:
        clock: Seconds.
    """

    def __init__(self, output: Output, clock: Callable[[], float]) -> None:
        self._output = output
        self._clock = clock
        self._rang_at: float | None = None
        self._title: str | None = None

    def ring(self, text: str, *, bell: bool, desktop: bool) -> None:
        """Draw attention to a message, unless that was just done."""
        now = self._clock()
        if not (bell or desktop) or (self._rang_at is not None and now - self._rang_at < BELL_EVERY):
            return
        self._rang_at = now
        if desktop:
            self._output.write_raw(f"\x1b]9;p2pchat: {_short(text)}\x07")
        if bell:
            self._output.write_raw("\a")
        self._output.flush()

    def title(self, where: str, unread: int) -> None:
        """Name the window after the conversation, with how much is unread elsewhere."""
        title = _short((f"({unread}) " if unread else "") + f"{where} - p2pchat")
        if title == self._title:
            return
        if self._title is None:
            self._output.write_raw(_PUSH_TITLE)
        self._title = title
        self._output.set_title(title)
        self._output.flush()

    def close(self) -> None:
        """Leave the title as it was, or empty where the terminal cannot."""
        if self._title is not None:
            self._output.clear_title()
            self._output.write_raw(_POP_TITLE)
            self._output.flush()


def _short(text: str) -> str:
    line = safe_line(text.replace("\n", " "))
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 1] + "…"
