"""The commands `p2pchat history`, which prints stored messages, `tail`, which follows new ones, and `delete`.

A running peer is asked to delete; otherwise the profile is changed by this command, which then also gives the room back
to the disk, however large the database is.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from p2pchat import Conversation, History, Message, Sent, UnknownName, open_history, where_found
from p2pchat.bounded import remember
from p2pchat.cli import options as cli
from p2pchat.cli.control_client import ControlClient, PeerGone, RequestRefused, ask_profile, connect_or_run
from p2pchat.cli.control_protocol import DEFAULT_LAST, MAX_LAST
from p2pchat.cli.process import run_until_signal
from p2pchat.cli.profiles import complete_conversation, find_profile
from p2pchat.cli.standard_input import Progress, can_ask, confirm
from p2pchat.commands.display import is_ignored, without_ignored
from p2pchat.commands.event_text import (
    DeletedLines,
    EventLine,
    format_deletion,
    format_event,
    format_gap,
    format_notice,
    found_line,
    local_now,
    message_row,
    with_gap,
)
from p2pchat.commands.exit_codes import DONE, FAILED, UsageError, print_notice
from p2pchat.commands.pending_arrivals import PendingArrivals
from p2pchat.commands.standard_output import StdoutWriter, json_line, print_json, raw_stdout
from p2pchat.kinds import CHANGE_EVENTS
from p2pchat.safe_text import quote_name, quote_place, safe_line
from p2pchat.threads import stop_tasks

# ---- history


PAGE = 500  # messages read at once


HISTORY_EPILOG = """\
\b
Examples:
  p2pchat history
  p2pchat history bob --port 8080 --since 7d
  p2pchat history room --json --search "deploy failed"
  p2pchat history --search 'from:bob "deploy failed"'
"""


@dataclass
class HistoryOptions:
    """Options of the output. `to` None is everything, `limit` 0 all messages, `search` "" no search."""

    profile: cli.ProfileChoice
    to: str | None
    db: str = field(repr=False)
    limit: int
    since: datetime | None
    before: datetime | None
    search: str
    as_json: bool


def _parse_search(words: str) -> str:
    try:
        where_found(words or "any", "")
    except ValueError as error:
        raise ValueError(f"{words!r} is nothing to look for: {error}") from None
    return words


@cli.subcommand("history", HISTORY_EPILOG)
@click.argument("to", required=False, shell_complete=complete_conversation)
@cli.stored_options
@cli.option("-n --limit", "N", "at most the newest N (default: all)", type=cli.number(1), default=0)
@cli.option("--since", "TIME", "written at this time or later: 2026-11-20, 2026-11-20T08:30, 90m, 7d", type=cli.TIME)
@cli.option("--before", "TIME", "only what was written before this time", type=cli.TIME)
@cli.option(
    "--search",
    "WORDS",
    'only messages with all these words; "in a row", from:bob',
    type=cli.ParsedType("words", _parse_search),
    default="",
)
@cli.json_option
def history(**values: Any) -> int:
    """Print what was said, oldest first: in one conversation (room, bob, bob#K7QF2M3P), or without TO in all of them.

    A running peer may go on meanwhile.
    """
    options = HistoryOptions(**values)
    return asyncio.run(_print(options, str(find_profile(options.profile))))


async def _print(options: HistoryOptions, directory: str) -> int:
    output = StdoutWriter(raw_stdout(), for_people=not options.as_json)
    async with open_history(directory, db=options.db or None) as history:
        where = history.find(options.to) if options.to else None
        me = history.directory.label(history.directory.me)
        deleted = DeletedLines([] if options.as_json or options.search else await history.deleted_messages(where))
        is_first = options.limit > 0 or options.since is not None  # what stands above it was not asked for
        async for post in _wanted(history, where, options):
            above, is_first = [] if is_first and deleted.before(post) else deleted.before(post), False
            for text in above:
                await output.write(text)
            line = found_line(post, options.search) if options.search else await with_gap(history, post)
            if options.as_json:
                await output.write(json_line(line))
            else:
                line = without_ignored(history.ignores, line)
                if gap := format_gap(line):
                    await output.write(gap)
                await output.write_fragments(message_row(line, me, None, await _answered(history, post)))
            if output.closed.is_set():
                break
        for text in deleted.rest() if options.before is None else ():
            await output.write(text)
    return DONE


async def _answered(history: History, post: Message | Sent) -> EventLine | None:
    """Return the event line of the message this one answers, if it is stored here and not ignored."""
    try:
        line = (await history.message(post.reply_to)).to_dict() if post.reply_to else None
        return None if line is None or is_ignored(history, line) else line
    except UnknownName:
        return None


async def _wanted(
    history: History, where: Conversation | None, options: HistoryOptions
) -> AsyncIterator[Message | Sent]:
    """Yield the wanted messages, oldest first, read page by page: a long history is never in memory."""
    if options.search:
        for id in await _found(history, where, options):
            yield await history.message(id)
        return
    read = partial(history.history, where, ignored=options.as_json)  # programs get what ignored users wrote
    if options.limit:
        for post in await read(before=options.before, since=options.since, limit=options.limit):
            yield post
        return
    after: Message | Sent | datetime = options.since or datetime.fromtimestamp(0, UTC)
    while page := await read(after=after, before=options.before, limit=PAGE):
        for post in page:
            yield post
        after = page[-1]


async def _found(history: History, where: Conversation | None, options: HistoryOptions) -> list[str]:
    """Return the ids of the messages a search finds, oldest first; ids take less memory than messages."""
    found: list[str] = []  # newest first
    before: Message | Sent | datetime | None = options.before
    with Progress() as progress:
        while not options.limit or len(found) < options.limit:
            limit = min(PAGE, options.limit - len(found)) if options.limit else PAGE
            page = await history.search(
                options.search, where, before=before, since=options.since, limit=limit, ignored=options.as_json,
                progress=progress.indexed,
            )  # fmt: skip
            found += [post.id for post in reversed(page)]
            if len(page) < limit:
                break
            before = page[0]
    return found[::-1]


# ---- tail


MAX_RECENT = 500  # messages kept, so that a reply is shown with the message it answers


TAIL_EPILOG = """\
\b
Examples:
  p2pchat tail
  p2pchat tail bob -n 50
  p2pchat tail --json | jq -r 'select(.event == "message") | .text'

Exit codes: 0 the peer stopped, or the reader of the output went away; 1 the peer was killed; 130 Ctrl-C.
"""


@cli.subcommand("tail", TAIL_EPILOG)
@click.argument("to", required=False, shell_complete=complete_conversation)
@cli.stored_options
@cli.option(
    "-n --last",
    "N",
    "begin with the newest N messages (default 10)",
    type=cli.number(0, MAX_LAST),
    default=DEFAULT_LAST,
)
@cli.json_option
def tail(profile: cli.ProfileChoice, to: str | None, last: int, db: str, as_json: bool) -> int:
    """Print the newest messages, then new ones as they come, until Ctrl-C or until the reader of the output goes away.

    TO is room, bob, or bob#K7QF2M3P; without it everything is printed. A running peer is asked; otherwise this command
    runs the peer.
    """
    running = connect_or_run(find_profile(profile), port=profile.port, db=db)
    request = {"do": "tail", "last": last, "ignored": as_json, **({"to": to} if to else {})}
    return run_until_signal(_tail(running, request, as_json), terminated=lambda: DONE)


async def _tail(running: AbstractAsyncContextManager[ControlClient], request: dict[str, Any], as_json: bool) -> int:
    output = StdoutWriter(raw_stdout(), for_people=not as_json)
    async with running as control:
        if control.is_own:
            me = control.listening
            print_notice(
                f"-- no peer runs here, so this command does: {quote_name(me['user'])} listens on port {me['port']}"
            )
        following = asyncio.create_task(_follow(control, request, output, as_json))
        closed = asyncio.create_task(_closed(output))
        try:
            await asyncio.wait([following, closed], return_when=asyncio.FIRST_COMPLETED)
            return following.result() if following.done() else DONE
        finally:
            await stop_tasks([following, closed])


class RecentMessages:
    """The newest messages by id, so that a reply is shown with the message it answers."""

    def __init__(self) -> None:
        self._lines: dict[str, EventLine] = {}

    def keep(self, line: EventLine) -> None:
        if line["event"] in ("message", "sent"):
            remember(self._lines, line["id"], line, MAX_RECENT)

    def answered(self, line: EventLine) -> EventLine | None:
        """Return the message this line answers, edits, deletes or reacts to; None for none, or an older one."""
        return self._lines.get(line["id"] if line["event"] in CHANGE_EVENTS else line.get("reply_to") or "")


async def _follow(control: ControlClient, request: dict[str, Any], output: StdoutWriter, as_json: bool) -> int:
    await control.send(**request)
    recent = RecentMessages()
    arrivals = PendingArrivals(lambda line: _show(line, control, output, recent))
    waiting = True  # for the answer to `tail`; an error before it is about that
    while (line := await control.next_line()) is not None:
        if waiting and line["event"] == "error":
            raise RequestRefused(line)
        if line["event"] == "answer":
            waiting = False
        elif as_json:
            await output.write(json_line(line))
        else:
            for one in arrivals.lines(line):
                await _show(one, control, output, recent)
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
    text = format_event(line, control.listening["user"], local_now(), recent.answered(line))
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


# ---- delete


DELETE_EPILOG = """\
\b
Examples:
  p2pchat delete bob
  p2pchat delete '#ops' --before 30d --yes
  p2pchat delete room --from mallory --json --yes

It deletes here only: others keep what they have, and are not told. Nothing that was deleted comes back, no tick \
changes, and new messages come as before. Your messages that nobody else has yet stay. Copies made before (backups, \
exports) keep it too.

Exit codes: 0 it is deleted; 1 you said no, or it could not be deleted.
"""


@dataclass
class DeleteOptions:
    """Options of the command."""

    profile: cli.ProfileChoice
    to: str
    db: str = field(repr=False)
    sender: str | None
    before: datetime | None
    yes: bool
    as_json: bool

    @property
    def what(self) -> str:
        """Words for the messages to be deleted; the conversation stands behind them."""
        of = f"what {quote_name(self.sender)} wrote" if self.sender else "everything"
        when = f" before {self.before.astimezone():%Y-%m-%d %H:%M}" if self.before else ""
        return f"{of}{when}"


@cli.subcommand("delete", DELETE_EPILOG)
@click.argument("to", shell_complete=complete_conversation)
@cli.stored_options
@cli.option("--from sender", "NAME", "only what this user wrote")
@cli.option("--before", "TIME", "only what was written before: 2026-11-20, 2026-11-20T08:30, 90m, 7d", type=cli.TIME)
@cli.yes_option
@cli.json_option
def delete(**values: Any) -> int:
    """Delete what is stored here of a conversation: room, bob, bob#K7QF2M3P, '#ops'.

    Texts leave this disk for good. Works beside a running peer, and on a profile at rest, where the file shrinks too.
    """
    options = DeleteOptions(**values)
    directory = find_profile(options.profile)
    if not options.yes and not can_ask():
        raise UsageError("this deletes for good, and nobody can be asked here: add --yes")
    return run_until_signal(_delete(directory, options))


async def _delete(directory: Path, options: DeleteOptions) -> int:
    if not options.yes and not await _confirmed(directory, options):
        print_notice("-- nothing was deleted")
        return FAILED
    fields = {"sender": options.sender} if options.sender else {}
    if options.before is not None:
        fields["before"] = options.before.astimezone().isoformat()
    [row] = await ask_profile(directory, options.db, "delete_history", to=options.to, **fields)
    if options.as_json:
        print_json(row)
    else:
        for line in format_deletion(row):
            print(line, flush=True)
    return DONE


async def _confirmed(directory: Path, options: DeleteOptions) -> bool:
    async with open_history(directory, db=options.db or None) as history:
        where = quote_place(history.find(options.to))
    return await confirm(f"delete {options.what} that is stored here of {where}? Others keep theirs.")
