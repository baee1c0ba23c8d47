"""`p2pchat users`: who is known, and who is here, from the running peer; without one from what it has stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from p2pchat.cli.command_table import USERS_COMMAND
from p2pchat.cli.control_client import connect
from p2pchat.cli.options import ProfileChoice, database_of, find_profile, parse_words, which_peer
from p2pchat.commands.errors import DONE, UsageError, print_notice
from p2pchat.commands.output import EventLine, StdoutWriter, iso, json_line, raw_stdout
from p2pchat.commands.render import format_user, quote_name


@dataclass(slots=True)
class UsersOptions:
    """`p2pchat users`."""

    which: ProfileChoice
    db: str = field(default="", repr=False)
    as_json: bool = False


def parse_users(argv: Sequence[str]) -> UsersOptions:
    """Read `users [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(USERS_COMMAND, argv)
    if words:
        raise UsageError(f"users takes no words, only options; {words[0]!a} is one too many")
    return UsersOptions(which_peer(given, typed), database_of(given, typed), given["as_json"])


def run_users(argv: Sequence[str]) -> int:
    """Print one line for each."""
    options = parse_users(argv)
    return asyncio.run(_print(options, find_profile(options.which)))


async def _print(options: UsersOptions, directory: Path) -> int:
    output, now = StdoutWriter(raw_stdout(), for_people=not options.as_json), datetime.now().astimezone()
    directory = directory.expanduser().absolute()
    rows = await _asked(directory)
    runs = rows is not None
    for row in await _stored(directory, options.db) if rows is None else rows:
        if options.as_json:
            await output.write(json_line({"event": "presence", "at": iso(now), **row}))
        elif runs:
            await output.write(format_user(row, now).removeprefix("-- "))
        else:
            await output.write(quote_name(row["user"]) + (" (you)" if row["me"] else ""))
    if not runs:
        print_notice("-- this peer does not run: who is here is not known")
    return DONE


async def _asked(directory: Path) -> list[EventLine] | None:
    """Return what the running peer knows; None when none runs there."""
    control = await connect(directory)
    if control is None:
        return None
    try:
        return await control.ask("who")
    finally:
        await control.aclose()


async def _stored(directory: Path, db: str) -> list[EventLine]:
    from p2pchat import open_history

    async with open_history(directory, db=db or None) as history:
        return [
            {
                "user": user.label,
                "user_id": user.id,
                "name": user.name,
                "status": user.status,
                "text": user.status_text,
                "since": None,
                "me": user.is_me,
                "ignored": user.ignored,
                "about": user.about,
                "names_before": list(history.names_before(user)),
            }
            for user in history.users()
        ]
