"""The commands about the people of the network: members, expel, pardon, admin and unadmin.

They work through the running peer, which knows who is a member now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from p2pchat.cli.control_client import RequestRefused, ask_running_peer, print_rows
from p2pchat.cli.options import (
    TIME,
    ProfileChoice,
    json_option,
    option,
    profile_choice,
    profile_options,
    subcommand,
    yes_option,
)
from p2pchat.cli.profiles import find_profile, start_command
from p2pchat.cli.standard_input import agreed, can_ask
from p2pchat.commands.event_text import EventLine, format_member
from p2pchat.commands.exit_codes import DONE, FAILED, NO_SUCH_NAME, CommandError, UsageError, print_notice
from p2pchat.commands.member_commands import expel_question
from p2pchat.commands.standard_output import iso, print_json
from p2pchat.safe_text import quote_names, safe_line

MEMBERS_EPILOG = """\
\b
Examples:
  p2pchat members
  p2pchat members --json | jq -r 'select(.role == "expelled") | .user'

A member is a login: all its profiles and programs are its users, as accounts are of their gateway.
"""


@subcommand("members", MEMBERS_EPILOG)
@profile_options
@json_option
def members(profile: ProfileChoice, as_json: bool) -> int:
    """Print who is a member of the network, one line each: the founder first, and who was expelled last."""
    print_rows(_ask(find_profile(profile), "members"), as_json, format_member)
    return DONE


def complete_member(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the users of members whose names begin so; none while no peer runs."""
    directory = find_profile(profile_choice(ctx), notify=lambda text: None)
    rows = asyncio.run(ask_running_peer(directory, "members")) or []
    names = {name for row in rows if not row["me"] for name in row["users"]}
    return sorted(name for name in names if name.startswith(incomplete) and name == safe_line(name))


EXPEL_EPILOG = """\
\b
Examples:
  p2pchat expel mallory                   all users of mallory's login
  p2pchat expel mallory --only            this one user
  p2pchat expel mallory --hide --yes      hide what they wrote, and do not ask
  p2pchat expel bob --with-admitted 7d    an admin, and whom it admitted in the last 7 days
  p2pchat expel --invite 1f00ac3e         everybody who came by this invite, which admits nobody more

What they wrote stays, unless you --hide it: every peer has it. Their own copies stay theirs.

Exit codes: 0 it is done; 1 you said no, or may not; 2 usage; 4 no such name, or several.
"""


@subcommand("expel", EXPEL_EPILOG)
@click.argument("name", required=False, shell_complete=complete_member)
@profile_options
@option("--only", "", "expel this user alone, and not its member with all its users")
@option("--with-admitted", "[SINCE]", "expel everybody, too, whom this admin admitted: ever, or since 2026-11-20 or 7d",
        is_flag=False, flag_value="52000w", type=TIME)  # fmt: skip
@click.option("--invite", metavar="ID", help="close this invite, and expel who came by it")  # not P2PCHAT_INVITE
@option("--hide", "", "show nothing any more of what they wrote")
@yes_option
@json_option
def expel(
    profile: ProfileChoice, name: str | None, only: bool, with_admitted: datetime | None, invite: str | None,
    hide: bool, yes: bool, as_json: bool,
) -> int:  # fmt: skip
    """Expel a member from the network: no peer links with it any more.

    NAME stands for its member with all its users; of a gateway's account only that account is expelled.
    """
    if (name is None) == (invite is None):
        raise UsageError("say whom to expel: NAME, or --invite ID for those who came by an invite")
    if name is None and (only or with_admitted is not None):
        raise UsageError("--only and --with-admitted are about one NAME")
    if not yes and not can_ask():
        raise UsageError("this expels people, and nobody can be asked here: add --yes")
    directory = find_profile(profile, acts=True)
    fields: dict[str, Any] = {"invite": invite.lower()} if invite is not None else {"user": name, "only": only}
    if with_admitted is not None:
        fields |= {"with_admitted": True, "since": iso(with_admitted)}
    [row] = _ask(directory, "expel", **fields, hide=hide, plan=True)
    print_notice(expel_question(row, hide=hide, with_admitted=with_admitted is not None))
    if not agreed("this expels people", "Expel?", yes):
        return FAILED
    return _print_decided(_ask(directory, "expel", **fields, hide=hide), "expelled", as_json)


@subcommand("pardon", "\b\nExamples:\n  p2pchat pardon mallory\n")
@click.argument("name", shell_complete=complete_member)
@profile_options
@json_option
def pardon(profile: ProfileChoice, name: str, as_json: bool) -> int:
    """Take back that somebody was expelled. A former admin comes back as a plain member."""
    return _decide(profile, "pardon", name, "a member again", as_json)


@subcommand("admin", "\b\nExamples:\n  p2pchat admin bob\n  p2pchat unadmin bob\n")
@click.argument("name", shell_complete=complete_member)
@profile_options
@json_option
def admin(profile: ProfileChoice, name: str, as_json: bool) -> int:
    """Make a member an admin, who may invite and expel. Only the founder can."""
    return _decide(profile, "admin", name, "an admin now, who may invite and expel", as_json)


@subcommand("unadmin", "\b\nExamples:\n  p2pchat unadmin bob\n")
@click.argument("name", shell_complete=complete_member)
@profile_options
@yes_option
@json_option
def unadmin(profile: ProfileChoice, name: str, yes: bool, as_json: bool) -> int:
    """Make an admin a plain member again, for good. Whom it admitted and expelled stays so."""
    if not agreed(f"{safe_line(name)} can never be an admin again", "Make it a plain member?", yes):
        return FAILED
    return _decide(profile, "unadmin", name, "a plain member now", as_json)


def _decide(profile: ProfileChoice, do: str, name: str, what: str, as_json: bool) -> int:
    directory = find_profile(profile, acts=True)
    return _print_decided(_ask(directory, do, user=name), what, as_json)


def _print_decided(rows: Sequence[EventLine], what: str, as_json: bool) -> int:
    if as_json:
        for row in rows:
            print_json(row)
    elif rows:
        print_notice(f"-- {quote_names([row['user'] for row in rows])}: {what}")
    return DONE


def _ask(directory: Path, do: str, **fields: Any) -> list[EventLine]:
    """Have the running peer of a profile carry out a request.

    Raises:
        CommandError: None runs there, or it refuses; the text says why.
    """
    try:
        rows = asyncio.run(ask_running_peer(directory, do, **fields))
    except RequestRefused as refused:
        refused.code = NO_SUCH_NAME if refused.code == NO_SUCH_NAME else FAILED
        raise
    if rows is None:
        start = start_command(directory)
        raise CommandError(f"the peer of {directory} does not run: start it, {start}, and try again")
    return rows
