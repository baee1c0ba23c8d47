"""Local times, and a line where the day changes, so that a time needs no date."""

from __future__ import annotations

from datetime import date, datetime


def local(iso: str) -> datetime:
    """Return the moment of an event line in the local zone."""
    return datetime.fromisoformat(iso).astimezone()


def rule(text: str, width: int) -> str:
    """Return a line across the screen, or what fits of it, with a text in it made safe before."""
    line = f"──── {text} ────"
    return line if len(line) <= width else f"── {text}"[:width]


class Days:
    """The day of the line printed last."""

    def __init__(self) -> None:
        self._last: date | None = None

    def change(self, moment: datetime, today: date) -> str | None:
        """Return what to say before a line of this moment: its day, when the line before was of another one.

        The first line of all is taken to be of today."""
        before, self._last = self._last or today, moment.date()
        if before == self._last:
            return None
        return f"{self._last:%A} {self._last.day} {self._last:%B %Y}"
