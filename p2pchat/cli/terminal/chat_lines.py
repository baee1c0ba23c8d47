"""Lines of the chat on a terminal: messages and changes in colour, own lines with their delivery marks, lines of days.

The words are those of event_text.py, with times only: days have lines of their own. As there, every line begins with
its time and ambiguous names are quoted, so that no line can pass for another speaker's. An own line waits for a better
delivery mark only for moments (PendingLine); screen.py prints it then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from p2pchat.cli.terminal.device import DIM, ME, name_style
from p2pchat.commands.event_text import (
    EventLine,
    delivery_mark,
    edit_marks,
    format_edit,
    format_event,
    message_note,
    message_text,
    quote_conversation,
    quote_name,
    quote_speaker,
)
from p2pchat.commands.wrap import Fragment
from p2pchat.safe_text import safe_text

Event = Mapping[str, Any]


def message_line(event: Event, me: str, *, elsewhere: bool, related: Event | None = None) -> list[Fragment]:
    """Return a `message` or `sent` line.

    Args:
        me: The own label.
        elsewhere: The message is of another conversation, so the line names it.
        related: The line of the message this one replies to, if available.
    """
    note, action = message_note(event, None, related), bool(event["action"])
    line = _line_of_text(event, me, message_text(event), elsewhere=elsewhere, action=action, note=note)
    if marks := edit_marks(event):
        line.append((DIM, marks))
    return line


def edited_line(event: Event, me: str, *, elsewhere: bool, edited: Event | None) -> list[Fragment]:
    """Return an `edited` line: the new text, and when the message was sent.

    Args:
        edited: The line of the message, if available.
    """
    note = "edited" if edited is None else f"edited; first sent {_time(edited)}"
    action = edited is not None and bool(edited["action"])
    kind = "sent" if edited is not None and edited["event"] == "sent" else "message"
    by = {**event, "event": kind, "sender": event["by"], "sender_id": event["by_id"], "to": event["conversation"]}
    return _line_of_text(by, me, safe_text(event["text"]), elsewhere=elsewhere, action=action, note=note)


def _line_of_text(event: Event, me: str, text: str, *, elsewhere: bool, action: bool, note: str) -> list[Fragment]:
    """Return a line with a text of its sender; `note` follows the name in parentheses."""
    line: list[Fragment] = [(DIM, f"{_time(event)} ")]
    if elsewhere and event["kind"] != "dm":  # of a direct conversation the users' names say it
        line.append((DIM, f"[{quote_conversation(event['conversation'], event['kind'])}] "))
    if action:
        line.append(("", "* "))
    line += _who(event, me, quote_name if action else quote_speaker)
    if note:
        line.append((DIM, f" ({note})"))
    line.append(("", (" " if action else ": ") + text))
    return line


def edit_event_line(event: Event, me: str, related: Event | None) -> list[Fragment]:
    """Return a `deleted` or `reaction` line. It is shown in its conversation only, so it does not name that."""
    return [(DIM, format_edit({**event, "kind": "room"}, me, local(event["sent_at"]), related))]


def _time(event: Event) -> str:
    return f"{local(event['sent_at']):%H:%M}"


def _who(event: Event, me: str, show: Any) -> list[Fragment]:
    mine = event["event"] == "sent"
    who: list[Fragment] = [(ME if mine else name_style(event["sender_id"]), _unbracketed(show(event["sender"])))]
    if event["kind"] == "dm":
        who.append(("", f" -> {_unbracketed(show(event['to'] if mine else me))}"))
    return who


def _unbracketed(name: str) -> str:
    """Quote a name that looks like the conversation of a line: `[room]`."""
    return f'"{name}"' if name[:1] == "[" else name


def change_line(event: Event, me: str) -> list[Fragment]:
    """Return a `joined`, `left`, `renamed`, `request` or `group` line."""
    return [(DIM, format_event(event, me, local(event["at"])) or "")]


def local(iso: str) -> datetime:
    """Return the time of an event line in the local zone."""
    return datetime.fromisoformat(iso).astimezone()


def rule_line(text: str, width: int) -> str:
    """Return a line across the screen with a safe text in it, cut to the width."""
    line = f"──── {text} ────"
    return line if len(line) <= width else f"── {text}"[:width]


# ---- days


class DateRule:
    """The day of the line printed last, so that a line needs no date."""

    def __init__(self) -> None:
        self._last: date | None = None

    def change(self, moment: datetime, today: date) -> str | None:
        """Return the day to print before a line of this moment; None if the line before was of the same day.

        Before the first line the day counts as today.
        """
        before, self._last = self._last or today, moment.date()
        if before == self._last:
            return None
        return f"{self._last:%A} {self._last.day} {self._last:%B %Y}"


# ---- own lines


SETTLED_AFTER = 5.0  # seconds: a recipient who has not answered by then is offline
OVERTAKEN_AFTER = 0.3  # seconds an own line may delay those behind it; a receipt takes some milliseconds


@dataclass(slots=True)
class PendingLine:
    """An own line whose mark may change.

    Attributes:
        event: The `sent` line.
        fragments: The line without its mark.
        shown_at: When it was shown first, in seconds of the loop's clock.
        overtaken_at: When another line came behind it; None: none did.
        count, of: Number of recipients who have it, and of all; 0 and 0 until the first receipt.
        read: Number of recipients who have read it.
    """

    event: EventLine
    fragments: list[Fragment]
    shown_at: float
    overtaken_at: float | None = None
    count: int = 0
    of: int = 0
    read: int = 0

    @property
    def id(self) -> str:
        id: str = self.event["id"]
        return id

    @property
    def mark(self) -> str:
        return delivery_mark(self.count, self.read, self.of, direct=self.event["kind"] == "dm")

    @property
    def complete(self) -> bool:
        """True if the mark is final: everyone has read it."""
        return 0 < self.of <= self.read

    @property
    def due_at(self) -> float:
        """The time at which it is printed with any mark."""
        by = self.shown_at + SETTLED_AFTER
        return by if self.overtaken_at is None else min(by, self.overtaken_at + OVERTAKEN_AFTER)

    def on_delivered(self, count: int, of: int) -> None:
        self.count, self.of = max(count, self.count), max(of, self.of)

    def on_read(self, count: int, of: int) -> None:
        self.read, self.of = max(count, self.read), max(of, self.of)
