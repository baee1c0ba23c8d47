"""Display of one chat: events and answers as JSON lines or as lines for people, and which of them are left out.

Standard output carries chat or JSON only. Under --json, warnings, errors and gaps are events like any other; for people
they go to stderr. A terminal does not repeat typed lines and older messages. Ignored users, and edits that a message
already shows, are left out. standard_output.py writes the lines, and all events into the log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from p2pchat import Conversation, History, HostedUser, Message, Receipt, Receipts, TCPPeer
from p2pchat.bounded import remember
from p2pchat.commands.event_text import EventLine, format_event, format_notice, local_now
from p2pchat.commands.exit_codes import print_notice
from p2pchat.commands.file_fetches import FileNumbers
from p2pchat.commands.notifier import Notifier
from p2pchat.commands.pending_arrivals import PendingArrivals, author_id
from p2pchat.commands.standard_output import EventLogFile, iso, json_line
from p2pchat.kinds import CHANGE_EVENTS, LISTS
from p2pchat.safe_text import quote_place


class CommandResult(NamedTuple):
    """The answer to a command: `rows` for programs, `lines` for people."""

    rows: Sequence[EventLine] = ()
    lines: Sequence[str] = ()


# ---- ignored users


RECEIPT_EVENTS = ("delivered", "read")  # about own messages


def is_ignored(of: TCPPeer | HostedUser | History, line: Mapping[str, Any]) -> bool:
    """Return whether an event line is of an ignored user: their messages, actions and presence."""
    return line["event"] not in RECEIPT_EVENTS and of.ignores(author_id(line))


def without_ignored(ignores: Callable[[str], bool], line: EventLine) -> EventLine:
    """Return the line of a message, or about one, without the reactions and votes of ignored users."""
    said = {name: line[name] for name in LISTS if name in line}
    return line | {name: [one for one in all if not ignores(one["by_id"])] for name, all in said.items()}


# ---- events and answers


LAST_LINES = 5  # shown at least when a person opens a conversation, so that they see where it stands; a guess


class LineWriter(Protocol):
    async def write(self, text: str) -> None:
        """Write one or several lines; return when they are written, or in a queue that will be written."""


class Display:
    """The output of one chat.

    Args:
        echo: Whether own messages are shown; they are not on a plain terminal, where they were typed.
    Attributes:
        me: The own label.
        notifier: Status notices for people; unused under --json.
        joining: The peer is just joining: users who appear now are not announced as new.
        has_presence: Returns whether a user (by id) has a status that was set, as terminals do: no program of a moment.
        hides: Returns whether people should not see an event, because its user is ignored.
        ignores: Returns whether a user (by id) is ignored.
        find_related: Finds the message that an event replies to, edits, deletes or reacts to; None: not available.
        numbers: Numbers of the messages listed last, by message id.
        files: Numbers of the files shown.
        numbers_files: Whether a person types here, who may ask for files by number.
        has_prompt: Whether there is a prompt: it names the current conversation, and Up gets a line back.
    """

    has_prompt = False

    def __init__(
        self, output: LineWriter, log: EventLogFile | None = None, *, as_json: bool = True, echo: bool = True
    ) -> None:
        self._output = output
        self._log = log
        self._as_json = as_json
        self._echo = echo
        self.me = ""
        self.notifier: Notifier = Notifier()
        self.joining = False
        self.has_presence: Callable[[str], bool] = lambda user_id: False
        self.hides: Callable[[EventLine], bool] = lambda line: False
        self.ignores: Callable[[str], bool] = lambda user_id: False
        self.find_related: Callable[[EventLine], Awaitable[EventLine | None]] | None = None
        self.numbers: dict[str, int] = {}
        self.files: FileNumbers = FileNumbers()
        self.numbers_files: bool = not (as_json or echo)
        self._edits = ShownEdits()
        self._arrivals = PendingArrivals(self._show_late)

    async def show_event(self, event: EventLine, *, older: bool = False) -> None:
        """Show one event; return when it is out.

        Args:
            older: Written before this run by oneself, or before the join by others; people only see a count of these.
        """
        line = json_line(event) if self._as_json or self._log is not None else ""
        if self._log is not None:
            self._log.write(line)
        if self._as_json:
            await self._output.write(line)
        elif (notice := format_notice(event)) is not None:
            print_notice(notice)
        elif not self.hides(event):
            if event["event"] == "joined":
                self.notifier.on_joined(event["user_id"])
                event = {**event, "first": event["first"] and not self.joining}
            at_once = self.joining or (event["event"] == "joined" and self.has_presence(event["user_id"]))
            for one in [event] if older else self._arrivals.lines(event, at_once=at_once):
                await self._show_line(one, older=older)

    async def _show_line(self, event: EventLine, *, older: bool) -> None:
        if event["event"] in CHANGE_EVENTS:
            if not older and not self._edits.includes(event):
                await self._show_for_people(event)
        elif older:
            self.notifier.count_older(event)
        else:
            self._edits.add(event)
            await self._show_for_people(event)

    async def _show_late(self, event: EventLine) -> None:
        """Show an event that waited, apart from those that come now."""
        if not self.hides(event):  # it may be ignored since
            await self._show_for_people(event)

    def shows(self, line: EventLine) -> bool:
        """Return whether a message of another conversation is shown in full, and not only counted."""
        return not self._as_json

    async def _show_for_people(self, event: EventLine) -> None:
        kind = event["event"]
        if kind == "delivered":
            self.notifier.on_delivered(event)
        elif kind == "sent":
            self.notifier.on_sent(event)
            if not self._echo:
                return
        await self._write_event(event)

    async def _write_event(self, event: EventLine) -> None:
        event = self.for_people(event)
        text = format_event(event, self.me, local_now(), await self._related(event))
        if text is not None:
            await self._output.write(text)

    async def _related(self, event: EventLine) -> EventLine | None:
        return await self.find_related(event) if self.find_related is not None else None

    def for_people(self, line: EventLine) -> EventLine:
        """Return a line without what ignored users say of it, with the numbers by which /get means others' files."""
        line = without_ignored(self.ignores, line)
        if not self.numbers_files or line["event"] != "message" or not line.get("files"):
            return line
        numbered = enumerate(line["files"], 1)
        numbers = self.files
        files = [{**file, "number": numbers.number(line["id"], at, file["name"])} for at, file in numbered]
        return {**line, "files": files}

    def on_accepted(self, to: Conversation, receipt: Receipt | Receipts, what: Sequence[str]) -> None:
        """Handle accepted messages: print a notice if no recipient is online. `what` names each of them."""
        if not self._as_json:
            self.notifier.on_accepted(to, receipt, what)

    async def show_answer(
        self, command: str, rows: Sequence[EventLine], lines: Sequence[str], ref: str | None = None
    ) -> None:
        """Show the answer to a command: `rows` for programs, `lines` for people. The caller made `lines` safe."""
        if self._as_json:
            line = {"event": "answer", "at": iso(datetime.now(UTC)), "command": command, "rows": list(rows)}
            await self.show_event(line if ref is None else {**line, "ref": ref})
        elif lines:
            await self._output.write("\n".join(lines))

    async def on_start(self, conversation: Conversation, unread: Sequence[Message]) -> int:
        """Show the end of the first conversation; arguments and result as of on_switch."""
        if not self._as_json and not self._echo:  # plain lines for a person: an earlier run may only have counted them
            for message in unread:
                await self._show_for_people(message.to_dict())
        return len(unread)

    async def on_switch(self, conversation: Conversation, unread: Sequence[Message]) -> int:
        """Say which conversation is open now; programs get the answer to their command.

        Args:
            unread: Its unread messages, in the order in which they came.
        Returns:
            How many of them, the first ones, were shown, now or when they came.
        """
        if not self._as_json:
            await self._output.write(f"-- now in {quote_place(conversation)}: what you type goes there")
        if not self._as_json and not self._echo and len(unread) < LAST_LINES:
            ids = {message.id for message in unread}
            for post in await conversation.history(limit=LAST_LINES):
                if post.id not in ids and not self.hides(line := post.to_dict()):
                    await self._write_event(line)
        return await Display.on_start(self, conversation, unread)

    def refresh(self) -> None:
        """Show the unread counts where a prompt shows them."""

    async def confirm(self, question: str, about: str) -> bool | None:
        """Ask the user; return True for yes, None where nobody can be asked. `about` as of CommandContext.confirm."""
        return None

    async def clear(self) -> bool:
        """Empty the screen; return False if there is none."""
        return False

    def close(self) -> None:
        """Print delayed notices and close the log."""
        self._arrivals.close()
        self.notifier.close()
        if self._log is not None:
            self._log.close()


MAX_SHOWN_EDITS = 1000  # messages; the events of their edits follow soon


class ShownEdits:
    """Suppresses edit events that a message already reflects.

    Messages arrive in their latest state, followed by the events that led to it. A user who was away sees each message
    once, as it is now.
    """

    def __init__(self) -> None:
        self._shown: dict[str, set[str]] = {}  # by message id: the entries that it reflects

    def add(self, line: Mapping[str, Any]) -> None:
        """Remember what a message that is shown reflects."""
        said = [one["entry_id"] for name in LISTS for one in line.get(name, ())]
        if shown := {*said, line.get("mended_id", ""), line.get("closed_id", "")} - {""}:
            remember(self._shown, line["id"], shown, MAX_SHOWN_EDITS)

    def includes(self, line: Mapping[str, Any]) -> bool:
        """Return whether the message already showed what this line about it says."""
        return line["entry_id"] in self._shown.get(line["id"], ())
