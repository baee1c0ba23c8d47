"""The command `p2pchat invite`: how others join the network, which invites there are, and taking one back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from p2pchat.addresses import join_endpoint
from p2pchat.cli.control_client import RequestRefused, ask_profile, ask_running_peer, print_rows, profile_in_use
from p2pchat.cli.options import (
    END,
    ProfileChoice,
    advertise_option,
    json_option,
    number,
    option,
    profile_options,
    subcommand,
)
from p2pchat.cli.profiles import find_profile, port_of
from p2pchat.commands.endpoints import own_addresses
from p2pchat.commands.event_text import EventLine, format_invite
from p2pchat.commands.exit_codes import DONE, CommandError, UsageError, print_notice
from p2pchat.commands.invite_screen import invite_screen, terms_of
from p2pchat.commands.shell_command import command
from p2pchat.commands.standard_output import print_json
from p2pchat.commands.wrap import fold, terminal_width

MAX_USES = 64
SECONDS_A_DAY = 86400.0

EPILOG = """\
\b
Examples:
  p2pchat invite                         admits one person within seven days
  p2pchat invite --uses 5 --until 12h    five people, until tonight
  p2pchat invite --until 2026-12-24
  p2pchat invite --port 8080 --advertise chat.example.org:8080
  p2pchat invite --list                  those of this peer, and who came by them
  p2pchat invite --revoke 1f00ac3e       admits nobody any more

Only the founder of the network and its admins invite. An invite admits while the peer that made it runs. Who came by \
it stays a member when it ends: `p2pchat expel` is for that.

Exit codes: 0 it is done; 1 failure; 2 usage, or this peer may not invite.
"""


@dataclass
class InviteOptions:
    """Options of the command. `until` None: for the usual time."""

    profile: ProfileChoice
    advertise: str | None
    uses: int | None
    until: datetime | None
    lists: bool
    revokes: str | None
    as_json: bool

    @property
    def fields(self) -> dict[str, Any]:
        """Return the fields of the request."""
        found: dict[str, Any] = {} if self.uses is None else {"uses": self.uses}
        if self.until is not None:
            found["days"] = (self.until - datetime.now(UTC)).total_seconds() / SECONDS_A_DAY
        return found

    def check(self) -> None:
        """Raise UsageError for options that exclude each other."""
        makes = bool(self.fields) or self.advertise is not None
        if self.lists + (self.revokes is not None) + makes > 1:
            raise UsageError("--list and --revoke stand alone: they make no invite")


@subcommand("invite", EPILOG)
@profile_options
@advertise_option
@option("--uses", "N", "how many people it admits (default 1)", type=number(1, MAX_USES))
@option("--until", "TIME", "when it ends: 12h, 3d, 2w, or a date (default 7d)", type=END)
@option("--list lists", "", "list the invites of this peer")
@option("--revoke revokes", "ID", "take an invite back: it admits nobody any more")
@json_option
def invite(**values: Any) -> int:
    """Show the command to paste on another machine, and the invite it asks for.

    The invite admits one person within seven days, while this peer runs.
    """
    options = InviteOptions(**values)
    options.check()
    directory = find_profile(options.profile)
    if options.lists:
        return _print_list(asyncio.run(ask_profile(directory, "", "invites")), as_json=options.as_json)
    if options.revokes is not None:
        return _revoke(directory, options.revokes, as_json=options.as_json)
    row = asyncio.run(_make(directory, options))
    if options.advertise:
        row |= {"invite": f"{row['invite'].partition('@')[0]}@{options.advertise}", "only_this_machine": False}
    if options.as_json:
        print_json(row)
        return DONE
    if "host" not in row and not options.advertise:
        print(f"It works while the peer listens for other machines: {command(row['port'], '--host', '0.0.0.0')}")
    screen = invite_screen(row["invite"], only_here=row["only_this_machine"])
    print(fold(screen, terminal_width(sys.stdout)))
    return DONE


def _print_list(rows: Sequence[EventLine], *, as_json: bool) -> int:
    print_rows(rows, as_json, format_invite)
    if not rows and not as_json:
        print_notice("-- this peer has made no invite")
    return DONE


def _revoke(directory: Path, id: str, *, as_json: bool) -> int:
    try:
        rows = asyncio.run(ask_profile(directory, "", "revoke", invite=id.lower()))
    except RequestRefused as refused:
        raise CommandError(f"{refused}: p2pchat invite --list shows those it made") from None
    if as_json:
        print_json(rows[0])
    else:
        print_notice(
            f"-- the invite {id.lower()} admits nobody any more; who came by it stays: p2pchat expel --invite ID"
        )
    return DONE


async def _make(directory: Path, options: InviteOptions) -> EventLine:
    """Have the running peer make an invite; else make it from the profile's files."""
    rows = await ask_running_peer(directory, "invite", **options.fields)
    return rows[0] if rows else await _make_at_rest(directory, options)


async def _make_at_rest(directory: Path, options: InviteOptions) -> EventLine:
    """Return the same row for a peer that is not running, with the profile's port and this machine's addresses."""
    from p2pchat import DataLocked, open_alone

    port = port_of(directory)
    own = [join_endpoint(address, port) for address in own_addresses() if port]
    endpoints = [options.advertise] if options.advertise else own
    if not endpoints:
        raise UsageError("at which address do others reach this peer? Add --advertise HOST:PORT")
    try:
        async with open_alone(directory) as peer:
            text = await peer.make_invite(**options.fields, at=endpoints)
    except DataLocked as locked:
        raise profile_in_use(directory, locked) from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    return {"invite": text, "port": port, "only_this_machine": False, **terms_of(text)}
