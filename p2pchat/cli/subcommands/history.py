"""The command `p2pchat history`: stored messages, oldest first, with or without a running peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click

from p2pchat import Conversation, History, Message, Sent, UnknownName, open_history, where_found
from p2pchat.cli.options import (
    CONTEXT,
    TIME,
    Command,
    ParsedType,
    ProfileChoice,
    db_option,
    json_option,
    number,
    option,
    profile_options,
)
from p2pchat.cli.profiles import complete_conversation, find_profile
from p2pchat.cli.streams import Progress
from p2pchat.commands.errors import DONE
from p2pchat.commands.output import EventLine, StdoutWriter, json_line, raw_stdout
from p2pchat.commands.render import format_gap, found_line, highlighted_message, with_gap
from p2pchat.commands.settings import is_ignored, without_ignored

PAGE = 500  # messages read at once


EPILOG = """\
\b
Examples:
  p2pchat history
  p2pchat history bob --port 8080 --since 7d
  p2pchat history room --json --search "deploy failed"
  p2pchat history --search 'from:bob "deploy failed"'
"""


@dataclass(slots=True)
class HistoryOptions:
    """Options of the output. `to` None is everything, `limit` 0 all messages, `search` "" no search."""

    profile: ProfileChoice
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
        raise ValueError(f"{words!a} is nothing to look for: {error}") from None
    return words


@click.command("history", cls=Command, context_settings=CONTEXT, epilog=EPILOG)
@click.argument("to", required=False, shell_complete=complete_conversation)
@profile_options
@db_option
@option("--limit", "N", "at most the newest N (default: all)", type=number(1), default=0)
@option("--since", "TIME", "written at this time or later: 2026-11-20, 2026-11-20T08:30, 90m, 7d", type=TIME)
@option("--before", "TIME", "only what was written before this time", type=TIME)
@option(
    "--search",
    "WORDS",
    'only messages with all these words; "in a row", from:bob',
    type=ParsedType("words", _parse_search),
    default="",
)
@json_option
def history(**values: Any) -> int:
    """Print what was said, oldest first: in one conversation (room, bob, bob#K7QF2M3P), or without TO in all of them.

    Reads beside a running peer.
    """
    options = HistoryOptions(**values)
    return asyncio.run(_print(options, str(find_profile(options.profile))))


async def _print(options: HistoryOptions, directory: str) -> int:
    output = StdoutWriter(raw_stdout(), for_people=not options.as_json)
    async with open_history(directory, db=options.db or None) as history:
        where = history.find(options.to) if options.to else None
        me = history.people.label(history.people.me)
        async for post in _wanted(history, where, options):
            line = found_line(post, options.search) if options.search else await with_gap(history, post)
            if options.as_json:
                await output.write(json_line(line))
            elif _is_shown(post, options):
                line = without_ignored(history, line)
                if gap := format_gap(line):
                    await output.write(gap)
                await output.write_fragments(highlighted_message(line, me, None, await _answered(history, post)))
            if output.closed.is_set():
                break
    return DONE


async def _answered(history: History, post: Message | Sent) -> EventLine | None:
    """Return the event line of the message this one answers, if it is stored here and not ignored."""
    try:
        line = (await history.message(post.reply_to)).to_json() if post.reply_to else None
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
    if options.limit:
        for post in await _newest(history, where, options):
            yield post
        return
    after: Message | Sent | datetime = options.since or datetime.fromtimestamp(0, UTC)
    while page := await history.history(where, after=after, before=options.before, limit=PAGE):
        for post in page:
            yield post
        after = page[-1]


async def _newest(history: History, where: Conversation | None, options: HistoryOptions) -> list[Message | Sent]:
    """Return the newest `limit` messages that are shown."""
    found: list[Message | Sent] = []
    before: Message | Sent | datetime | None = options.before
    while len(found) < options.limit:
        asked = options.limit - len(found)
        page = await history.history(where, before=before, since=options.since, limit=asked)
        found = [*(post for post in page if _is_shown(post, options)), *found]
        if len(page) < asked:
            break
        before = page[0]
    return found


def _is_shown(post: Message | Sent, options: HistoryOptions) -> bool:
    """Return whether a message is shown: to programs all are, to people none of ignored users."""
    return options.as_json or not post.sender.ignored


async def _found(history: History, where: Conversation | None, options: HistoryOptions) -> list[str]:
    """Return the ids of the messages a search finds, oldest first; ids take less memory than messages."""
    found: list[str] = []  # newest first
    before: Message | Sent | datetime | None = options.before
    with Progress() as progress:
        while not options.limit or len(found) < options.limit:
            limit = min(PAGE, options.limit - len(found)) if options.limit else PAGE
            page = await history.search(
                options.search, where, before=before, since=options.since, limit=limit, progress=progress.indexed
            )
            found += [post.id for post in reversed(page) if _is_shown(post, options)]
            if len(page) < limit:
                break
            before = page[0]
    return found[::-1]
