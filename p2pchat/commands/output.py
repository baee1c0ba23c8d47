"""The output of a chat: events and answers as JSON lines or as lines for people, and all of them into the log.

Standard output carries chat or JSON only. Under --json, warnings, errors and gaps are events like any other; for people
they go to stderr. A terminal does not repeat typed lines and older messages.

Each line is written whole and flushed, without blocking the loop. A closed pipe is not an error: `closed` is set, and
the chat shuts down. A standard output that was closed from the start is ignored.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import select
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TextIO

from p2pchat import Conversation, History, HostedUser, Message, Receipt, Receipts, TCPPeer
from p2pchat.commands.event_text import EDIT_EVENTS, EventLine, format_event, format_notice, quote_place
from p2pchat.commands.exit_codes import CommandError, print_error, print_notice
from p2pchat.commands.file_fetches import FileNumbers
from p2pchat.commands.notices import Notifier
from p2pchat.commands.wrap import USUAL_WIDTH, MaybeTerminal, as_escapes, fold_marked, fold_row, terminal_width
from p2pchat.safe_text import safe_json


class CommandResult(NamedTuple):
    """The answer to a command: `rows` for programs, `lines` for people."""

    rows: Sequence[EventLine] = ()
    lines: Sequence[str] = ()


# ---- ignored users


RECEIPT_EVENTS = ("delivered", "read")  # about own messages


def is_ignored(of: TCPPeer | HostedUser | History, line: Mapping[str, Any]) -> bool:
    """Return whether an event line is of an ignored user: their messages, actions and presence."""
    return line["event"] not in RECEIPT_EVENTS and of.ignores(_author_id(line))


def without_ignored(of: TCPPeer | HostedUser | History, line: EventLine) -> EventLine:
    """Return the line of a message without the reactions of ignored users."""
    if not line.get("reactions"):
        return line
    return {**line, "reactions": [one for one in line["reactions"] if not of.ignores(one["by_id"])]}


def _author_id(line: Mapping[str, Any]) -> str:
    if line["event"] == "group":  # changes of a group concern everyone, except an ignored user's own coming and going
        return line.get("target_id") or ""
    return line.get("sender_id") or line.get("by_id") or line.get("user_id") or ""


# ---- events and answers


class LineWriter(Protocol):
    async def write(self, text: str) -> None:
        """Write one or several lines; return when they are out, or surely will be."""


class Display:
    """The output of one chat.

    Args:
        echo: Whether own messages are shown; they are not on a plain terminal, where they were typed.
    Attributes:
        me: The own label.
        notifier: Status notices for people; unused under --json.
        joining: The peer is just joining: users who appear now are not announced as new.
        hides: Returns whether people should not see an event, because its user is ignored.
        find_related: Finds the message that an event replies to, edits, deletes or reacts to; None: not available.
        numbers: Numbers of the messages listed last, by message id.
        files: Numbers of the files shown.
        numbers_files: Whether a person types here, who may ask for files by number.
        has_prompt: Whether there is a prompt: it names the current conversation, and a refused line stays in it.
    """

    has_prompt = False

    def __init__(self, output: LineWriter, log: EventLogFile | None, *, as_json: bool, echo: bool) -> None:
        self._output = output
        self._log = log
        self._as_json = as_json
        self._echo = echo
        self.me = ""
        self.notifier: Notifier = Notifier()
        self.joining = False
        self.hides: Callable[[EventLine], bool] = lambda line: False
        self.find_related: Callable[[EventLine], Awaitable[EventLine | None]] | None = None
        self.numbers: dict[str, int] = {}
        self.files: FileNumbers = FileNumbers()
        self.numbers_files: bool = not (as_json or echo)
        self._edits = ShownEdits()

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
        elif self.hides(event):
            pass
        elif event["event"] in EDIT_EVENTS:
            if not older and not self._edits.includes(event):
                await self._show_for_people(event)
        elif older:
            self.notifier.count_older(event)
        else:
            self._edits.add(event)
            await self._show_for_people(event)

    def shows(self, line: EventLine) -> bool:
        """Return whether a message of another conversation is shown in full, and not only counted."""
        return not self._as_json

    async def _show_for_people(self, event: EventLine) -> None:
        kind = event["event"]
        if event.get("kind") == "room":
            self.notifier.rooms.add(event["conversation_id"])  # unknown before in an open network
        if kind == "delivered":
            self.notifier.on_delivered(event)
        elif kind == "joined":
            self.notifier.on_joined(event["user_id"])
            event = {**event, "first": event["first"] and not self.joining}
        elif kind == "sent":
            self.notifier.on_sent(event)
            if not self._echo:
                return
        event = self.with_file_numbers(event)
        text = format_event(event, self.me, datetime.now().astimezone(), await self._related(event))
        if text is not None:
            await self._output.write(text)

    async def _related(self, event: EventLine) -> EventLine | None:
        return await self.find_related(event) if self.find_related is not None else None

    def with_file_numbers(self, line: EventLine) -> EventLine:
        """Return the line of a message of somebody else with the numbers by which /get means its files."""
        if not self.numbers_files or line["event"] != "message" or not line.get("files"):
            return line
        numbered = enumerate(line["files"], 1)
        numbers = self.files
        files = [{**file, "number": numbers.number(line["id"], at, file["name"])} for at, file in numbered]
        return {**line, "files": files}

    def on_accepted(self, to: Conversation, receipt: Receipt | Receipts) -> None:
        """Handle an accepted message: print a notice if no recipient is online."""
        if not self._as_json:
            self.notifier.on_accepted(to, receipt)

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
                await self._show_for_people(message.to_json())
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
        return await Display.on_start(self, conversation, unread)

    def refresh(self) -> None:
        """Show the unread counts where a prompt shows them."""

    async def confirm(self, question: str) -> bool:
        """Ask the user; return True for yes, and where nobody can be asked."""
        return True

    async def clear(self) -> bool:
        """Empty the screen; return False if there is none."""
        return False

    def close(self) -> None:
        """Print delayed notices and close the log."""
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
        self._shown: dict[str, tuple[str, set[tuple[str, str]]]] = {}  # id -> time of edit, (user, reaction) pairs

    def add(self, line: Mapping[str, Any]) -> None:
        """Remember a message that is shown edited, deleted or with reactions."""
        if line["event"] in ("message", "sent") and ("mended_at" in line or "reactions" in line):
            reactions = {(one["by_id"], one["reaction"]) for one in line.get("reactions", ())}
            self._shown[line["id"]] = line.get("mended_at", ""), reactions
            if len(self._shown) > MAX_SHOWN_EDITS:
                del self._shown[next(iter(self._shown))]

    def includes(self, line: Mapping[str, Any]) -> bool:
        """Return whether the message already showed what this `edited`, `deleted` or `reaction` line says."""
        mended_at, reactions = self._shown.get(line["id"], ("", set()))
        if line["event"] == "reaction":
            return (line["by_id"], line["reaction"]) in reactions
        return bool(line["sent_at"] <= mended_at)


# ---- streams and files


_NEVER_BLOCKS_BYTES = 4096  # POSIX: a pipe that polls writable takes PIPE_BUF bytes, on Linux 4096


def json_line(event: EventLine) -> str:
    """Return an event as one line of JSON that is safe on a terminal too."""
    return safe_json(json.dumps(event, ensure_ascii=False, separators=(",", ":")))


def iso(moment: datetime) -> str:
    """Return an aware time as event lines write it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class RawStream(MaybeTerminal, Protocol):
    """An unbuffered stream: a line is out when write() returned."""

    def write(self, data: bytes, /) -> int | None: ...


def raw_stdout() -> RawStream | None:
    """Return standard output without a buffer; None if it is closed."""
    return raw_stream(sys.stdout)


def raw_stream(stream: TextIO | None) -> RawStream | None:
    """Return a standard stream without a buffer; None if it is closed. A Windows console takes UTF-8 there."""
    if stream is None:
        return None
    try:
        stream.flush()
        os.fstat(stream.fileno())
    except (OSError, ValueError):
        return None
    raw: RawStream = getattr(stream.buffer, "raw", stream.buffer)
    return raw


class StdoutWriter:
    """Writes lines to standard output, or to another standard stream.

    Args:
        for_people: Fold lines on a terminal, so that no wrapped row passes for a line.
    Attributes:
        closed: Set when the reader has gone; further lines are dropped.
    """

    def __init__(self, raw: RawStream | None, *, for_people: bool = False) -> None:
        self._raw = raw
        self._folds = for_people and raw is not None and os.isatty(raw.fileno())
        self._turn = asyncio.Lock()
        self.closed: asyncio.Event = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """True while the reader is so slow that write() would wait; always False on Windows, which cannot tell."""
        return sys.platform != "win32" and self._raw is not None and not self._ready()

    async def write(self, text: str) -> None:
        """Write one or several lines; return when the system has them.

        Raises:
            CommandError: They cannot be written, for another reason than a closed pipe.
        """
        if self._raw is None or self.closed.is_set():
            return
        if self._folds:
            text = fold_marked(text, terminal_width(self._raw))
        await self._put(text)

    async def write_fragments(self, line: Sequence[tuple[str, str]]) -> None:
        """Write one line of styled fragments, like write(); styles appear on a terminal only."""
        if not self._folds:
            await self.write("".join(text for _, text in line))
            return
        await self._put("\n".join(as_escapes(row) for row in fold_row(line, terminal_width(self._raw) or USUAL_WIDTH)))

    async def _put(self, text: str) -> None:
        if self._raw is None or self.closed.is_set():
            return
        data = (text + "\n").encode("utf-8", "backslashreplace")
        async with self._turn:
            try:
                # A thread costs a turn of the loop for each line, and while others flood this peer turns are long. A
                # terminal may take less than a long line without blocking, and never says so.
                in_parts = len(data) <= _NEVER_BLOCKS_BYTES or not os.isatty(self._raw.fileno())
                while data and in_parts and self._ready():
                    part, data = data[:_NEVER_BLOCKS_BYTES], data[_NEVER_BLOCKS_BYTES:]
                    _write_all(self._raw, part)
                if data:
                    await asyncio.get_running_loop().run_in_executor(None, _write_all, self._raw, data)
            except OSError as error:
                self.closed.set()
                if error.errno not in (errno.EPIPE, errno.EINVAL, errno.ESHUTDOWN, errno.EBADF):  # EINVAL: Windows
                    raise CommandError(f"cannot write to standard output: {error.strerror or error}") from None

    def _ready(self) -> bool:
        if sys.platform == "win32" or self._raw is None:
            return False
        return bool(select.select([], [self._raw.fileno()], [], 0)[1])


def _write_all(raw: RawStream, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[raw.write(bytes(view)) or 0 :]
        except BlockingIOError:  # another program made the shared terminal non-blocking
            select.select([], [raw.fileno()], [])


class EventLogFile:
    """The file of --log: every event, as it happened. A write error is reported once, to `on_error`."""

    def __init__(self, path: str, on_error: Callable[[str], None] = print_error) -> None:
        """Open `path` for appending; a new file is readable by its owner only.

        A partial line at its end, of a process that was killed, becomes a line of its own.
        """
        self._path = path
        self._on_error = on_error
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            self._file = open(os.open(path, flags, 0o600), "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise CommandError(f"cannot write the log {path}: {error.strerror or error}") from None
        self.failed: bool = False
        if _has_partial_last_line(path):
            self._file.write(b"\n")

    def write(self, line: str) -> None:
        """Append one line with one write, so that several processes may share the file."""
        if self.failed:
            return
        try:
            _write_all(self._file, (line + "\n").encode("utf-8", "backslashreplace"))
        except OSError as error:
            self.failed = True
            self._on_error(f"cannot write the log {self._path}: {error.strerror}; logging stops")

    def close(self) -> None:
        self._file.close()


def _has_partial_last_line(path: str) -> bool:
    """Return whether the last line of a file is incomplete; False if it is no plain file, or not readable."""
    try:
        if not os.path.isfile(path) or not os.path.getsize(path):
            return False
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False
