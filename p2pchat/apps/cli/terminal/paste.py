"""What is pasted: one message, whatever is in it, and never a command.

A terminal marks what it pastes (bracketed paste), so it can be told from what is typed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ASK_ABOVE = 5  # lines
_SLASH = "/"


def as_text(pasted: str, before: str) -> str:
    """Return what a paste puts into the line behind `before`: its newlines as ours, none at its end; a slash where
    the line begins is doubled, which anybody can see, and means: a text that begins with a slash."""
    text = pasted.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").replace("\t", "    ")
    return _SLASH + text if not before and text.startswith(_SLASH) else text


@dataclass(frozen=True, slots=True)
class Question:
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
