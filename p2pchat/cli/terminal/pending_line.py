"""Lines of the chat on a terminal: messages and changes in colour, own lines with their delivery marks.

The words are those of event_text.py, with times only: days have lines of their own. As there, every line begins with
its time and ambiguous names are quoted, so that no line can pass for another speaker's. An own line waits for a better
delivery mark only for moments (PendingLine); screen.py prints it then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from p2pchat.cli.terminal.device import DIM, ME, name_style
from p2pchat.commands.event_text import (
    EventLine,
    LineStyle,
    delivery_mark,
    format_event,
    message_row,
)
from p2pchat.commands.wrap import Fragment, Row

COLOURS = LineStyle(of=name_style, mine=ME, dim=DIM)


def chat_line(event: EventLine, me: str, *, elsewhere: bool, related: EventLine | None = None) -> Row:
    """Return a line of a message, or of an edit, a deletion or a reaction.

    Args:
        me: The own label.
        elsewhere: The message is of another conversation, so the line names it.
        related: The line of the message this one replies to or changes, if available.
    """
    named = elsewhere and event["kind"] != "dm"  # of a direct conversation the users' names say it
    return message_row(event, me, local(event["sent_at"]), related, names_place=named, style=COLOURS)


def change_line(event: EventLine, me: str) -> Row:
    """Return a `joined`, `left`, `renamed`, `begun`, `member` or `group` line."""
    return [(DIM, format_event(event, me, local(event["at"])) or "")]


def local(iso: str) -> datetime:
    """Return the time of an event line in the local zone."""
    return datetime.fromisoformat(iso).astimezone()


# ---- own lines


@dataclass
class PendingLine:
    """An own line whose mark may change.

    Attributes:
        event: The `sent` line.
        fragments: The line without its mark.
        is_earlier: It was written before this start, at another machine, and who has it may be known there alone.
        due_at: The time at which it is printed with any mark, in seconds of the loop's clock.
        count, of: Number of recipients who have it, and of all; 0 and 0 until the first receipt.
        at_gateway: Number of those who have it at a gateway; 0 in the room, where all were here.
        read: Number of recipients who have read it.
        files: Number of recipients who have each of its files, by root.
    """

    event: EventLine
    fragments: list[Fragment]
    is_earlier: bool = False
    due_at: float = 0.0
    count: int = 0
    of: int = 0
    at_gateway: int = 0
    read: int = 0
    files: dict[str, int] = field(default_factory=dict)

    @property
    def id(self) -> str:
        id: str = self.event["id"]
        return id

    @property
    def mark(self) -> str:
        kind = self.event["kind"]
        mark = delivery_mark(self.count, self.read, self.of, kind, self.at_gateway)
        if self.is_earlier and not (self.count or self.read):
            mark = ""
        return mark + self._files_mark(direct=kind == "dm")

    def _files_mark(self, *, direct: bool) -> str:
        """Return how many have the files of the message; "" before anybody has, and for one without files."""
        roots = {file["root"] for file in self.event.get("files", ())}
        having = min((self.files.get(root, 0) for root in roots), default=0)
        if not having:
            return ""
        what = "file" if len(roots) == 1 else "files"
        return f", has the {what}" if direct else f", {what} {having}/{max(having, self.of)}"

    @property
    def complete(self) -> bool:
        """True if the mark is final: everyone has read it, and has its files."""
        roots = {file["root"] for file in self.event.get("files", ())}
        return 0 < self.of <= min([self.read, *(self.files.get(root, 0) for root in roots)])

    def on_delivered(self, count: int, of: int, *, at_gateway: bool = False) -> None:
        self.count, self.of = max(count, self.count), max(of, self.of)
        self.at_gateway = min(self.at_gateway + at_gateway, self.count)

    def on_file(self, root: str, count: int) -> None:
        self.files[root] = count

    def on_read(self, count: int, of: int) -> None:
        self.read, self.of = max(count, self.read), max(of, self.of)
