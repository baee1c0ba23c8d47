"""`p2pchat history [TO]`: what was said, oldest first, read without a running peer and beside one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from p2pchat import Conversation, History, Message, Sent, UnknownName, open_history, where_found
from p2pchat.cli.command_table import HISTORY_COMMAND
from p2pchat.cli.options import ProfileChoice, database_of, find_profile, parse_time, parse_words, which_peer
from p2pchat.cli.progress import Progress
from p2pchat.commands.errors import DONE, UsageError
from p2pchat.commands.output import EventLine, StdoutWriter, json_line, raw_stdout
from p2pchat.commands.render import format_gap, found_line, highlighted_message, with_gap
from p2pchat.commands.settings import is_ignored, without_ignored

PAGE = 500  # messages read at once


@dataclass(slots=True)
class HistoryOptions:
    """`p2pchat history [TO]`.

    `db` "" is the profile's own, `to` "" everything; `limit` 0 no limit, `search` empty no search.
    """

    which: ProfileChoice
    db: str = field(default="", repr=False)
    to: str = ""
    limit: int = 0
    since: datetime | None = None
    before: datetime | None = None
    search: str = ""
    as_json: bool = False


def parse_history(argv: Sequence[str], now: datetime) -> HistoryOptions:
    """Read `history [TO] [options]`; `now` (aware) is what "90m ago" counts from.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(HISTORY_COMMAND, argv)
    if len(words) > 1:
        raise UsageError(f"history takes one conversation, these are {len(words)}; a name with blanks stands in quotes")
    limit = given["limit"]
    if limit is not None and not (limit.isascii() and limit.isdecimal() and int(limit) > 0):
        raise UsageError(f"--limit {limit!a} is no number above 0")
    return HistoryOptions(
        which=which_peer(given, typed),
        db=database_of(given, typed),
        to=words[0] if words else "",
        limit=int(limit or 0),
        since=parse_time("--since", given["since"], now),
        before=parse_time("--before", given["before"], now),
        search=_words(given["search"]),
        as_json=given["as_json"],
    )


def _words(search: str | None) -> str:
    """Return the words of --search, which can be meant; "" without."""
    if search is None:
        return ""
    try:
        where_found(search, "")
    except ValueError as error:
        raise UsageError(f"--search {search!a} is nothing to look for: {error}") from None
    return search


def run_history(argv: Sequence[str]) -> int:
    """Print the history of one profile."""
    options = parse_history(argv, datetime.now(UTC))
    directory = find_profile(options.which)
    return asyncio.run(_print(options, str(directory)))


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
                await output.write_marked(highlighted_message(line, me, None, await _answered(history, post)))
            if output.closed.is_set():
                break
    return DONE


async def _answered(history: History, post: Message | Sent) -> EventLine | None:
    """Return the line of the message this one answers, when it is here."""
    try:
        line = (await history.message(post.reply_to)).to_json() if post.reply_to else None
        return None if line is None or is_ignored(history, line) else line
    except UnknownName:
        return None


async def _wanted(
    history: History, where: Conversation | None, options: HistoryOptions
) -> AsyncIterator[Message | Sent]:
    """Yield what was asked for, oldest first; read page by page, so that a long history takes no memory."""
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
    """Return the newest `limit` that are shown."""
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
    """Programs are told everything, people nothing of those they ignore."""
    return options.as_json or not post.sender.ignored


async def _found(history: History, where: Conversation | None, options: HistoryOptions) -> list[str]:
    """Return the ids of what a search finds, oldest first: of many that is less than the messages are."""
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
