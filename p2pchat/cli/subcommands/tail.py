"""The command `p2pchat tail`: the newest messages, then new ones as they come, for people or as JSON lines."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from p2pchat.cli.control_client import ControlClient, PeerGone, RequestRefused, connect_or_run
from p2pchat.cli.control_socket import DEFAULT_LAST, MAX_LAST
from p2pchat.cli.options import (
    CONTEXT,
    Command,
    ProfileChoice,
    db_option,
    json_option,
    number,
    option,
    profile_options,
)
from p2pchat.cli.profiles import complete_conversation, find_profile
from p2pchat.cli.runner import run_until_signal
from p2pchat.commands.errors import DONE, print_notice
from p2pchat.commands.output import EventLine, StdoutWriter, json_line, raw_stdout
from p2pchat.commands.render import EDIT_EVENTS, format_event, format_notice, quote_name
from p2pchat.safe_text import safe_line

MAX_RECENT = 500  # messages kept, so that a reply is shown with the message it answers


EPILOG = """\
\b
Examples:
  p2pchat tail
  p2pchat tail bob -n 50
  p2pchat tail --json | jq -r 'select(.event == "message") | .text'

Exit codes: 0 the peer stopped, or the reader of the output went away; 1 the peer was killed; 130 Ctrl-C.
"""


@dataclass(slots=True)
class TailOptions:
    """The conversations to follow. `to` None is everything; the newest `last` messages come first."""

    profile: ProfileChoice
    to: str | None
    last: int
    db: str = field(repr=False)
    as_json: bool


@click.command("tail", cls=Command, context_settings=CONTEXT, epilog=EPILOG)
@click.argument("to", required=False, shell_complete=complete_conversation)
@profile_options
@db_option
@option(
    "-n --last", "N", "begin with the newest N messages (default 10)", type=number(0, MAX_LAST), default=DEFAULT_LAST
)
@json_option
def tail(**values: Any) -> int:
    """Print the newest messages, then new ones as they come, until Ctrl-C or until the reader of the output goes away.

    TO is room, bob, or bob#K7QF2M3P; without it everything is printed. A running peer is asked; otherwise this command
    runs the peer.
    """
    options = TailOptions(**values)
    directory = find_profile(options.profile)
    return run_until_signal(_tail(options, directory), terminated=lambda: DONE)


async def _tail(options: TailOptions, directory: Path) -> int:
    output = StdoutWriter(raw_stdout(), for_people=not options.as_json)
    async with connect_or_run(directory, port=options.profile.port, db=options.db) as control:
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
    """The newest messages by id, so that a reply is shown with the message it answers."""

    def __init__(self) -> None:
        self._lines: dict[str, EventLine] = {}

    def keep(self, line: EventLine) -> None:
        if line["event"] in ("message", "sent"):
            self._lines[line["id"]] = line
            if len(self._lines) > MAX_RECENT:
                del self._lines[next(iter(self._lines))]

    def answered(self, line: EventLine) -> EventLine | None:
        """Return the message this line answers, edits, deletes or reacts to; None for none, or an older one."""
        return self._lines.get(line["id"] if line["event"] in EDIT_EVENTS else line.get("reply_to") or "")


async def _follow(options: TailOptions, control: ControlClient, output: StdoutWriter) -> int:
    fields = {"to": options.to} if options.to else {}
    await control.send(do="tail", last=options.last, ignored=options.as_json, **fields)
    recent = RecentMessages()
    waiting = True  # for the answer to `tail`; an error before it is about that
    while (line := await control.next_line()) is not None:
        if waiting and line["event"] == "error":
            raise RequestRefused(line)
        if line["event"] == "answer":
            waiting = False
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
    """Return when the reader of the output has gone: at once where it is a pipe, else with the next line."""
    loop = asyncio.get_running_loop()
    fd = _pipe()
    if fd is not None:
        with suppress(OSError, NotImplementedError, ValueError):
            loop.add_reader(fd, output.closed.set)  # the write end of a pipe is only "readable" when the pipe is broken
    try:
        await output.closed.wait()
    finally:
        if fd is not None:
            with suppress(OSError, NotImplementedError, ValueError):
                loop.remove_reader(fd)


def _pipe() -> int | None:
    """Return the descriptor of standard output if it is a pipe, else None."""
    try:
        fd = sys.stdout.fileno()
        return fd if sys.platform != "win32" and stat.S_ISFIFO(os.fstat(fd).st_mode) else None
    except (AttributeError, OSError, ValueError):
        return None
