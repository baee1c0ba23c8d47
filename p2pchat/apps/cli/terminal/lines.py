"""Event lines as coloured lines: the words of format.py, with the time alone in front, as days have lines of their own.

Every line begins with its time; names that could be taken for more stand in quotes. So it holds what format.py says:
no line can pass for another speaker's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p2pchat.apps.cli.terminal.colours import DIM, ME, name_style
from p2pchat.apps.cli.terminal.day import local
from p2pchat.commands.columns import Fragment
from p2pchat.commands.format import (
    mended_marks,
    message_text,
    plain_line,
    plain_mending,
    quoted_message,
    shown_name,
    shown_place,
    shown_speaker,
)
from p2pchat.safe_text import safe_text

Event = Mapping[str, Any]


def message_line(event: Event, me: str, *, elsewhere: bool, answered: Event | None = None) -> list[Fragment]:
    """Return a `message` or `sent` line.

    Args:
        me: The own label.
        elsewhere: One is not where it belongs; the line says where that is.
        answered: The line of the message this one answers, where that is known.
    """
    line: list[Fragment] = [(DIM, f"{local(event['sent_at']):%H:%M} ")]
    line += _where(event) if elsewhere else []
    action = bool(event["action"])
    if action:
        line.append(("", "* "))
    line += _who(event, me, shown_name if action else shown_speaker)
    if answered is not None:
        line.append((DIM, f" (to {quoted_message(answered)})"))
    line.append(("", (" " if action else ": ") + message_text(event)))
    if marks := mended_marks(event):
        line.append((DIM, marks))
    return line


def edited_line(event: Event, me: str, *, elsewhere: bool, edited: Event | None) -> list[Fragment]:
    """Return an `edited` line: the message as it is now, and when it was written.

    Args:
        edited: The line of the message, where it is known.
    """
    when = "" if edited is None else f" {_time(edited)}"
    line: list[Fragment] = [(DIM, f"{_time(event)} ")]
    line += _where(event) if elsewhere else []
    action = edited is not None and bool(edited["action"])
    said = "sent" if edited is not None and edited["event"] == "sent" else "message"
    by = {**event, "event": said, "sender": event["by"], "sender_id": event["by_id"], "to": event["conversation"]}
    line += [("", "* ")] if action else []
    line += _who(by, me, shown_name if action else shown_speaker)
    line.append((DIM, f" (edited{when})"))
    line.append(("", (" " if action else ": ") + safe_text(event["text"])))
    return line


def told_line(event: Event, me: str, mended: Event | None) -> list[Fragment]:
    """Return a `deleted` or `reaction` line; it is shown where it belongs, so it need not say where."""
    return [(DIM, plain_mending({**event, "kind": "room"}, me, local(event["sent_at"]), mended))]


def _where(event: Event) -> list[Fragment]:
    """Return where a line belongs that is shown elsewhere: of a direct one its names say it."""
    if event["kind"] == "dm":
        return []
    return [(DIM, f"[{shown_place(event['conversation'], event['kind'])}] ")]


def _time(event: Event) -> str:
    return f"{local(event['sent_at']):%H:%M}"


def _who(event: Event, me: str, show: Any) -> list[Fragment]:
    mine = event["event"] == "sent"
    who: list[Fragment] = [(ME if mine else name_style(event["sender_id"]), _bare(show(event["sender"])))]
    if event["kind"] == "dm":
        who.append(("", f" -> {_bare(show(event['to'] if mine else me))}"))
    return who


def _bare(name: str) -> str:
    """Quote what could be taken for the place of a line too: `[room]`."""
    return f'"{name}"' if name[:1] == "[" else name


def change_line(event: Event, me: str) -> list[Fragment]:
    """Return a `joined`, `left` or `group` line."""
    text = plain_line(event, me, local(event["at"]))
    return [(DIM, text or "")]
