"""The command `p2pchat users`: users as the running peer knows them, or as its database does."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import click

from p2pchat.cli.control_client import ask_running_peer
from p2pchat.cli.options import CONTEXT, Command, ProfileChoice, db_option, json_option, profile_options
from p2pchat.cli.profiles import find_profile
from p2pchat.commands.errors import DONE, print_notice
from p2pchat.commands.output import EventLine, StdoutWriter, iso, json_line, raw_stdout
from p2pchat.commands.render import format_user, quote_name

EPILOG = """\
\b
Examples:
  p2pchat users
  p2pchat users --json | jq -r 'select(.status == "online") | .user'
"""


@click.command("users", cls=Command, context_settings=CONTEXT, epilog=EPILOG)
@profile_options
@db_option
@json_option
def users(profile: ProfileChoice, db: str, as_json: bool) -> int:
    """Print who is known, and who is here: one line each. Without a running peer nobody's status is known."""
    return asyncio.run(_print(find_profile(profile), db, as_json))


async def _print(directory: Path, db: str, as_json: bool) -> int:
    output, now = StdoutWriter(raw_stdout(), for_people=not as_json), datetime.now().astimezone()
    rows = await ask_running_peer(directory, "who")
    runs = rows is not None
    for row in await _stored(directory, db) if rows is None else rows:
        if as_json:
            await output.write(json_line({"event": "presence", "at": iso(now), **row}))
        elif runs:
            await output.write(format_user(row, now).removeprefix("-- "))
        else:
            await output.write(quote_name(row["user"]) + (" (you)" if row["me"] else ""))
    if not runs:
        print_notice("-- this peer is not running, so who is here is not known")
    return DONE


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
