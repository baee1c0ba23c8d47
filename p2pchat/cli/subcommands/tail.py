"""`p2pchat tail [TO]`: the newest messages, then what comes, for people or as JSON lines, until somebody has enough."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from p2pchat.cli.command_table import TAIL_COMMAND
from p2pchat.cli.control_client import ControlClient, PeerGone, RequestRefused, connect_or_run, run_until_signal
from p2pchat.cli.control_server import DEFAULT_LAST, MAX_LAST
from p2pchat.cli.options import ProfileChoice, database_of, find_profile, parse_words, which_peer
from p2pchat.commands.errors import DONE, UsageError, print_notice
from p2pchat.commands.output import EventLine, StdoutWriter, json_line, raw_stdout
from p2pchat.commands.render import EDIT_EVENTS, format_event, format_notice, quote_name
from p2pchat.safe_text import safe_line

MOST_RECENT = 500  # messages to which answers are shown with what they are to


@dataclass(slots=True)
class TailOptions:
    """`p2pchat tail [TO]`. `to` "" is everything; `last` messages come first."""

    which: ProfileChoice
    to: str = ""
    last: int = DEFAULT_LAST
    db: str = field(default="", repr=False)
    as_json: bool = False


def parse_tail(argv: Sequence[str]) -> TailOptions:
    """Read `tail [TO] [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(TAIL_COMMAND, argv)
    if len(words) > 1:
        raise UsageError(f"tail takes one conversation, these are {len(words)}; a name with blanks stands in quotes")
    last = given["last"]
    if last is not None and not (last.isascii() and last.isdecimal() and int(last[:9]) <= MAX_LAST):
        raise UsageError(f"-n {last!a} is no number from 0 to {MAX_LAST}")
    return TailOptions(
        which=which_peer(given, typed),
        to=words[0] if words else "",
        last=DEFAULT_LAST if last is None else int(last),
        db=database_of(given, typed),
        as_json=given["as_json"],
    )


def run_tail(argv: Sequence[str]) -> int:
    """Follow until the end; return the exit code."""
    options = parse_tail(argv)
    directory = find_profile(options.which)
    return run_until_signal(_tail(options, directory), terminated=lambda: DONE)


async def _tail(options: TailOptions, directory: Path) -> int:
    output = StdoutWriter(raw_stdout(), for_people=not options.as_json)
    async with connect_or_run(directory, port=options.which.port, db=options.db) as control:
        if control.is_own:
            me = control.listening
            print_notice(
                f"-- no peer runs here, so this command does: {quote_name(me['user'])} listens on port {me['port']}"
            )
        following = asyncio.create_task(_follow(options, control, output))
        closed = asyncio.create_task(_closed(output))
        try:
            await asyncio.wait([following, closed], return_when=asyncio.FIRST_COMPLETED)
            return following.result() if following.done() else DONE
        finally:
            for task in (following, closed):
                task.cancel()
            await asyncio.gather(following, closed, return_exceptions=True)


class RecentMessages:
    """The newest messages, by id: what an answer is to is shown with it."""

    def __init__(self) -> None:
        self._lines: dict[str, EventLine] = {}

    def keep(self, line: EventLine) -> None:
        if line["event"] in ("message", "sent"):
            self._lines[line["id"]] = line
            if len(self._lines) > MOST_RECENT:
                del self._lines[next(iter(self._lines))]

    def answered(self, line: EventLine) -> EventLine | None:
        """Return the message this one answers, edits, deletes or reacts to; None when it does not, or to an older
        one."""
        return self._lines.get(line["id"] if line["event"] in EDIT_EVENTS else line.get("reply_to") or "")


async def _follow(options: TailOptions, control: ControlClient, output: StdoutWriter) -> int:
    fields = {"to": options.to} if options.to else {}
    await control.say(do="tail", last=options.last, ignored=options.as_json, **fields)
    recent = RecentMessages()
    asked = True  # and not answered yet: an error is about that
    while (line := await control.next_line()) is not None:
        if asked and line["event"] == "error":
            raise RequestRefused(line)
        if line["event"] == "answer":
            asked = False
        elif options.as_json:
            await output.write(json_line(line))
        else:
            await _show(line, control, output, recent)
    if not control.reason:
        raise PeerGone("")
    print_notice(f"-- the peer stopped: {safe_line(control.reason)}")
    return DONE


async def _show(line: EventLine, control: ControlClient, output: StdoutWriter, recent: RecentMessages) -> None:
    notice = format_notice(line)
    if notice is not None:
        print_notice(notice)
        return
    recent.keep(line)
    text = format_event(line, control.listening["user"], datetime.now().astimezone(), recent.answered(line))
    if text is not None:
        await output.write(text)


async def _closed(output: StdoutWriter) -> None:
    """Return when nobody reads the output any more: at once where it is a pipe, else with the next line."""
    loop = asyncio.get_running_loop()
    fd = _pipe()
    if fd is not None:
        with suppress(OSError, NotImplementedError, ValueError):
            loop.add_reader(fd, output.closed.set)  # a pipe one writes to is only ever "readable" when it is broken
    try:
        await output.closed.wait()
    finally:
        if fd is not None:
            with suppress(OSError, NotImplementedError, ValueError):
                loop.remove_reader(fd)


def _pipe() -> int | None:
    """Return the descriptor of standard output when it is a pipe."""
    try:
        fd = sys.stdout.fileno()
        return fd if sys.platform != "win32" and stat.S_ISFIFO(os.fstat(fd).st_mode) else None
    except (AttributeError, OSError, ValueError):
        return None
