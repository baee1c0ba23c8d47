"""What a chat shows: events and answers, as JSON lines or as lines for people, and all of it into the log.

stdout carries chat or JSON only. Warnings, errors and gaps are events: under --json they go where events go,
otherwise to stderr. People are not shown what they know: what they typed on a terminal, and what is older than they.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from p2pchat import Conversation, Receipt, Receipts
from p2pchat.commands.errors import print_notice
from p2pchat.commands.notifications import Notifier
from p2pchat.commands.output import EventLine, EventLogFile, iso, json_line
from p2pchat.commands.render import EDIT_EVENTS, format_event, format_notice, quote_conversation


class LineWriter(Protocol):
    """What takes lines."""

    async def write(self, text: str) -> None:
        """Take one or several lines; returns when they are out, or surely will be."""


class Display:
    """One chat's output.

    Args:
        echo: Whether own messages are shown: not on a terminal, where they were typed.
    Attributes:
        me: The own label.
        asides: What people are told beside the chat; nothing of it under --json.
        arriving: We have just come to others: nobody found now comes for the first time.
        hides: Whether people do not want to see an event: it is of somebody they ignore.
        answered: Finds the message that one answers, edits, deletes or reacts to; None where nobody can.
        numbers: Of the lines that were listed last, by message id.
    """

    def __init__(self, output: LineWriter, log: EventLogFile | None, *, as_json: bool, echo: bool) -> None:
        self._output = output
        self._log = log
        self._as_json = as_json
        self._echo = echo
        self.me = ""
        self.asides = Notifier()
        self.arriving = False
        self.hides: Callable[[EventLine], bool] = lambda line: False
        self.answered: Callable[[EventLine], Awaitable[EventLine | None]] | None = None
        self.numbers: dict[str, int] = {}
        self._edits = ShownEdits()

    async def event(self, event: EventLine, *, older: bool = False) -> None:
        """Show one event; returns when it is out. People only hear how many are `older`: written before this run
        by themselves, or before they came by others."""
        line = json_line(event) if self._as_json or self._log is not None else ""
        if self._log is not None:
            self._log.write(line)
        if self._as_json:
            await self._output.write(line)
        elif (notice := format_notice(event)) is not None:
            print_notice(notice)
        elif self.hides(event):
            pass
        elif event["event"] in EDIT_EVENTS:
            if not older and not self._edits.is_known(event):
                await self._for_people(event)
        elif older:
            self.asides.older()
        else:
            self._edits.shown(event)
            await self._for_people(event)

    async def _for_people(self, event: EventLine) -> None:
        kind = event["event"]
        if event.get("kind") == "room":
            self.asides.rooms.add(event["conversation_id"])  # of an open network it is known only now
        if kind == "delivered":
            self.asides.delivered(event)
        elif kind == "joined":
            self.asides.joined(event["user_id"])
            event = {**event, "first": event["first"] and not self.arriving}
        elif kind == "sent":
            self.asides.sent(event)
            if not self._echo:
                return
        answered = await self.answered(event) if self.answered is not None else None
        text = format_event(event, self.me, datetime.now().astimezone(), answered)
        if text is not None:
            await self._output.write(text)

    def kept(self, to: Conversation, receipt: Receipt | Receipts) -> None:
        """Something was accepted: people hear when nobody is there for it."""
        if not self._as_json:
            self.asides.kept(to, receipt)

    async def answer(
        self, command: str, rows: Sequence[EventLine], lines: Sequence[str], ref: str | None = None
    ) -> None:
        """Show what a command says: `rows` for programs, `lines` for people, made safe by whoever made them."""
        if self._as_json:
            line = {"event": "answer", "at": iso(datetime.now(UTC)), "command": command, "rows": list(rows)}
            await self.event(line if ref is None else {**line, "ref": ref})
        elif lines:
            await self._output.write("\n".join(lines))

    async def went(self, conversation: Conversation) -> None:
        """What is typed goes there from now on; programs have the answer to their command."""
        if not self._as_json:
            is_room = conversation.kind == "room"
            where = "the room" if is_room else quote_conversation(conversation.name, conversation.kind)
            await self._output.write(f"-- what you type goes to {where}")

    async def clear(self) -> bool:
        """Empty the screen; False where there is none."""
        return False

    def close(self) -> None:
        """Show what was kept for a moment, and let the log go."""
        self.asides.close()
        if self._log is not None:
            self._log.close()


# ---- mended
#
# What people have seen of an edit or a deletion: a message comes as it is by then, what made it so comes behind it.
#
# Who comes back after others have edited sees each message once, as it is, and not all that led there.


MAX_SHOWN_EDITS = 1000  # messages that came edited or deleted; what mended them follows soon


class ShownEdits:
    """The messages that were shown edited, deleted, or with reactions."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[str, set[tuple[str, str]]]] = {}  # id -> when mended, who reacted how

    def shown(self, line: Mapping[str, Any]) -> None:
        """Take a line that is shown, if it is such a message."""
        if line["event"] in ("message", "sent") and ("mended_at" in line or "reactions" in line):
            reactions = {(one["by_id"], one["reaction"]) for one in line.get("reactions", ())}
            self._shown[line["id"]] = line.get("mended_at", ""), reactions
            if len(self._shown) > MAX_SHOWN_EDITS:
                del self._shown[next(iter(self._shown))]

    def is_known(self, line: Mapping[str, Any]) -> bool:
        """Whether what an `edited`, `deleted` or `reaction` line tells was to be seen in the message."""
        mended_at, reactions = self._shown.get(line["id"], ("", set()))
        if line["event"] == "reaction":
            return (line["by_id"], line["reaction"]) in reactions
        return bool(line["sent_at"] <= mended_at)
