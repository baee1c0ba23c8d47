"""What a chat shows: events and answers, as JSON lines or as lines for people, and all of it into the log.

stdout carries chat or JSON only. Warnings, errors and gaps are events: under --json they go where events go,
otherwise to stderr. On a terminal what was typed there is not shown a second time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from p2pchat.apps.cli.exits import tell
from p2pchat.apps.cli.output import Log, Output
from p2pchat.apps.cli.plain import plain_line, plain_notice, shown_name
from p2pchat.apps.safetext import safe_json

RECEIPTS_AFTER = 0.3  # seconds: receipts that come together are one line for people

Line = dict[str, Any]


def json_line(event: Line) -> str:
    """Return an event as one line of JSON that is safe on a terminal too."""
    return safe_json(json.dumps(event, ensure_ascii=False, separators=(",", ":")))


def now_iso() -> str:
    """Return the present as event lines write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Show:
    """One chat's output.

    Args:
        echo: Whether own messages are shown: not on a terminal, where they were typed.
    Attributes:
        me: The own label.
        rooms: Ids of the room, once it is known: receipts there are too many to show to people.
    """

    def __init__(self, output: Output, log: Log | None, *, as_json: bool, echo: bool) -> None:
        self._output = output
        self._log = log
        self._as_json = as_json
        self._echo = echo
        self._delivered: dict[str, int] = {}  # user -> messages, not yet shown
        self._later: asyncio.TimerHandle | None = None
        self.me = ""
        self.rooms: set[str] = set()

    async def event(self, event: Line) -> None:
        """Show one event; returns when it is out."""
        line = json_line(event) if self._as_json or self._log is not None else ""
        if self._log is not None:
            self._log.write(line)
        if self._as_json:
            await self._output.write(line)
        elif (notice := plain_notice(event)) is not None:
            tell(notice)
        elif event["event"] == "delivered":
            self._gather(event)
        else:
            await self._for_people(event)

    async def _for_people(self, event: Line) -> None:
        if event.get("kind") == "room":
            self.rooms.add(event["conversation_id"])  # of an open network it is known only now
        if event["event"] == "sent" and not self._echo:
            return
        text = plain_line(event, self.me, datetime.now().astimezone())
        if text is not None:
            await self._output.write(text)

    def _gather(self, event: Line) -> None:
        """Keep a receipt for a moment: fifty that come together are one line."""
        if event["conversation_id"] in self.rooms:
            return
        self._delivered[event["user"]] = self._delivered.get(event["user"], 0) + 1
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(RECEIPTS_AFTER, self._tell_delivered)

    def _tell_delivered(self) -> None:
        self._later = None
        for user, count in self._delivered.items():
            tell(f"-- {shown_name(user)} has {'it' if count == 1 else f'all {count} messages'}")
        self._delivered.clear()

    async def answer(self, command: str, rows: Sequence[Line], lines: Sequence[str], ref: str | None = None) -> None:
        """Show what a command says: `rows` for programs, `lines` for people, made safe by whoever made them."""
        if self._as_json:
            line = {"event": "answer", "at": now_iso(), "command": command, "rows": list(rows)}
            await self.event(line if ref is None else {**line, "ref": ref})
        elif lines:
            await self._output.write("\n".join(lines))

    def close(self) -> None:
        """Show what was kept for a moment, and let the log go."""
        if self._later is not None:
            self._later.cancel()
            self._tell_delivered()
        if self._log is not None:
            self._log.close()
