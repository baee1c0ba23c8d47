"""Event lines as people read them. Works on the objects of --json, so that a log reads like a chat as well.

Every line of a text begins with its time, or with the mark of a continued text; a name that could be taken for more
than a name stands in quotes. So no line can pass for another speaker's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from p2pchat.apps.safetext import safe_line, safe_text

_MORE_THAN_A_NAME = re.compile(r'[:<>*"]|^-|^\d')  # marks of our own lines, and what begins like one
_REASONS = {
    "left": "left",
    "lost": "left: the connection was lost",
    "timeout": "left: no sign of life for too long",
}


def shown_name(label: str) -> str:
    """Return a name fit to stand in a line of ours."""
    safe = safe_line(label)
    return '"' + safe.replace('"', "'") + '"' if _MORE_THAN_A_NAME.search(safe) else safe


def shown_time(iso: str, now: datetime | None) -> str:
    """Return a time as it is called in the zone of `now`: HH:MM today, else with its date; in the local zone and
    always with its date when `now` is None."""
    moment = datetime.fromisoformat(iso).astimezone(now.tzinfo if now else None)
    return moment.strftime("%H:%M" if now and moment.date() == now.date() else "%Y-%m-%d %H:%M")


def plain_message(event: Mapping[str, Any], me: str, now: datetime | None) -> str:
    """Return a `message` or `sent` line as text; `me` is the own label, `now` as in shown_time."""
    text = safe_text(event["text"])
    if event.get("unsupported"):
        text = f"[unsupported: {safe_line(event['unsupported'])}]"
    who = shown_name(event["sender"])
    if event["kind"] == "dm":
        who = f"{who} -> {shown_name(event['to'] if event['event'] == 'sent' else me)}"
    time = shown_time(event["sent_at"], now)
    return f"{time} * {who} {text}" if event["action"] else f"{time} {who}: {text}"


def plain_line(event: Mapping[str, Any], me: str, now: datetime) -> str | None:
    """Return an event line as text for stdout; None for what is not chat."""
    kind = event["event"]
    if kind in ("message", "sent"):
        return plain_message(event, me, now)
    time = shown_time(event["at"], now)
    if kind == "joined":
        return f"{time} -- {shown_name(event['user'])} is here"
    if kind == "left":
        reason = _REASONS.get(event["reason"]) or f"left: {safe_line(event['reason'])}"
        return f"{time} -- {shown_name(event['user'])} {reason}"
    return None


def plain_notice(event: Mapping[str, Any]) -> str | None:
    """Return an event line as text for stderr; None for what needs no word there."""
    kind = event["event"]
    if kind in ("warning", "error", "gap"):
        return f"p2pchat: {'warning: ' if kind == 'warning' else ''}{safe_line(event['text'])}"
    return None


def plain_user(row: Mapping[str, Any]) -> str:
    """Return one row of /who."""
    text = f" ({safe_line(row['text'])})" if row.get("text") else ""
    return f"-- {shown_name(row['user'])}: {row['status']}{text}{' (you)' if row['me'] else ''}"


def plain_conversation(row: Mapping[str, Any]) -> str:
    """Return one row of /list."""
    unread = f", {row['unread']} unread" if row["unread"] else ""
    return f"-- {shown_name(row['conversation'])}{unread}{' (here)' if row['current'] else ''}"
