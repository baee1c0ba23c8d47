"""The command `p2pchat users`: everyone who is known in the network."""

from __future__ import annotations

import asyncio
from pathlib import Path

from p2pchat import open_history
from p2pchat.cli.control_client import ask_running_peer
from p2pchat.cli.options import ProfileChoice, json_option, option, stored_options, subcommand
from p2pchat.cli.profiles import find_profile
from p2pchat.commands.conversation_commands import conversation_row
from p2pchat.commands.event_text import format_user, local_now
from p2pchat.commands.exit_codes import DONE, print_notice
from p2pchat.commands.people_commands import is_present, user_row
from p2pchat.commands.standard_output import StdoutWriter, iso, json_line, raw_stdout
from p2pchat.safe_text import quote_name

EPILOG = """\
\b
Examples:
  p2pchat users
  p2pchat users --json | jq -r 'select(.status == "online") | .user'
"""


@subcommand("users", EPILOG)
@stored_options
@option("-a --all everyone", "", "everyone known: programs that ran once and closed accounts too")
@json_option
def users(profile: ProfileChoice, db: str, everyone: bool, as_json: bool) -> int:
    """Print who is here and with whom you talk: one line each. Without a running peer nobody's status is known.

    With --json it is everyone known.
    """
    return asyncio.run(_print_users(find_profile(profile), db, everyone or as_json, as_json))


async def _print_users(directory: Path, db: str, everyone: bool, as_json: bool) -> int:
    output, now = StdoutWriter(raw_stdout(), for_people=not as_json), local_now()
    rows = await ask_running_peer(directory, "who")
    talks = await ask_running_peer(directory, "list") if rows is not None else None
    runs = rows is not None and talks is not None
    if rows is None or talks is None:
        async with open_history(directory, db=db or None) as history:
            rows = [user_row(user) for user in history.users()]
            talks = [conversation_row(one) for one in history.conversations()]
    known = len(rows)
    if not everyone:
        talking = {talk.get("user_id") for talk in talks}
        rows = [row for row in rows if row["user_id"] in talking or is_present(row)]
    for row in rows:
        if as_json:
            await output.write(json_line({"event": "presence", "at": iso(now), **row}))
        elif runs:
            await output.write(format_user(row, now).removeprefix("-- "))
        else:
            await output.write(quote_name(row["user"]) + (" (you)" if row["me"] else ""))
    if known > len(rows):
        print_notice(f"-- and {known - len(rows)} more: p2pchat users -a shows them too")
    if not runs:
        print_notice("-- this peer is not running, so who is here is not known")
    return DONE
