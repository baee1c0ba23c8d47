"""The commands `p2pchat network`: the network of this login, a copy of its key, and another network."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from p2pchat import (
    LoginNetwork,
    backup_key,
    found_anew,
    home_directory,
    inspect_profile,
    known_profiles,
    open_history,
    read_login_network,
    restore_key,
)
from p2pchat.cli.control_client import ask_running_peer
from p2pchat.cli.options import (
    CommandGroup,
    ProfileChoice,
    complete_file,
    data_option,
    json_option,
    option,
    profile_options,
    subcommand,
)
from p2pchat.cli.profiles import find_profile
from p2pchat.commands.exit_codes import DONE, CommandError, UsageError, print_notice
from p2pchat.commands.shell_command import command
from p2pchat.commands.standard_output import print_json

SHOW_EPILOG = """\
`network backup FILE` copies the key by which this login is a member, and `network restore FILE` puts it back; \
`network new` puts the network aside and founds another.

\b
Examples:
  p2pchat network
  p2pchat network --json | jq -r .role
  p2pchat network backup /media/stick/p2pchat-key
"""
_ROLES = {
    "founder": "founder: this login invites and expels, and makes admins",
    "admin": "admin: this login invites and expels",
    "member": "member",
    "guest": "guest: the key of its member is elsewhere",
    "expelled": "expelled",
    "": "everybody who knows the name is a member",
}


@subcommand("show", SHOW_EPILOG)
@profile_options
@json_option
def show(profile: ProfileChoice, as_json: bool) -> int:
    """Show the network of this login, or of a profile: what this login is in it, and where its key is."""
    is_of_login = not profile.data and profile.port < 0 and profile.network is None
    directory = None if is_of_login else find_profile(profile)
    found = read_login_network(directory)
    if not found.id:
        raise CommandError(
            found.lost
            or f"there is no network in {home_directory()} yet: the first start founds one, or joins one with --invite"
        )
    role = asyncio.run(_role(directory, found.id)) or found.role
    if found.role == "guest" and role != "expelled":
        role = "guest"
    files = [] if found.key_file is None else [found.key_file]
    if as_json:
        row = {
            "id": found.id,
            "kind": "named" if found.name else "keyed",
            "name": found.name,
            "role": role,
            "files": [str(found.directory / "network"), *map(str, files)],
            "backed_up": found.backed_up,
        }
        print_json(row)
        return DONE
    print(f"network  {found.id}" + (f", made from the name {found.name}" if found.name else ", with invites"))
    print(f"role     {_ROLES[role]}")
    print(f"files    {found.directory / 'network'}")
    for path in files:
        print(f"         {path}: the key; who has it is this {found.role}")
    if files:
        where = ("--data", profile.data) if profile.data else ()
        take = command("network", "backup", "FILE", *where)
        hint = "yes" if found.backed_up else f"no: {take} makes a copy of the key"
        print(f"backup   {hint}")
    return DONE


async def _role(directory: Path | None, network: str) -> str:
    """Return what a peer of a profile, or of the login, says that it is, or its database; "" if none does."""
    for path in known_profiles() if directory is None else [directory]:
        state = inspect_profile(path)
        if state.holder is not None and state.network_id == network:
            rows = await ask_running_peer(path, "members")
            if role := next((str(row["role"]) for row in rows or [] if row["me"]), ""):
                return role
        elif state.network_id == network and not state.key_trouble and state.database_path.exists():
            async with open_history(path) as history:
                if history.expelled_by is not None:
                    return "expelled"
    return ""


network: CommandGroup = CommandGroup(
    "network", help="The network of this login: show it, copy its key, put it back, or found another."
)
network.default = show


@network.command(
    "backup",
    epilog="""\
\b
Examples:
  p2pchat network backup /media/stick/p2pchat-key
  p2pchat network restore /media/stick/p2pchat-key     on another machine

Without the founder's key nobody can make admins any more. Whoever has the file is that member: keep it as a key.
""",
)
@click.argument("file", shell_complete=complete_file)
@data_option
def backup(file: str, data: str | None) -> int:
    """Copy the key of this login's founder or member into a private FILE."""
    found = backup_key(Path(os.path.expanduser(file)).absolute(), data)
    print_notice(f"-- {file} has the key of this network's {found.role}: whoever has it acts as that {found.role}")
    return DONE


@network.command(
    "restore",
    epilog="""\
\b
Examples:
  p2pchat network restore /media/stick/p2pchat-key
  p2pchat network restore key --data /var/lib/p2pchat/gateway     of a service, stopped

It refuses to replace another network. With --replace that one is put aside, as with `network new`.
""",
)
@click.argument("file", shell_complete=complete_file)
@option("--replace", "", "put aside the network that is here")
@data_option
def restore(file: str, replace: bool, data: str | None) -> int:
    """Make this login, or that of a profile, the founder or member whose key is in FILE."""
    found = restore_key(Path(os.path.expanduser(file)).absolute(), data, replace=replace)
    print_notice(f"-- this login is the {found.role} of the network {found.id[:8]} now")
    return DONE


@network.command(
    "new",
    epilog="""\
The former network's files stay as network.*.old, founder.*.old and member.*.old. Ports that were started before stay \
in it with what they hold; new ones are in the new network. It is refused while a peer of this login runs.
""",
)
def new(**_: Any) -> int:
    """Put the network of this login aside, and found another."""
    if not ((home_directory() / "network").exists() or known_profiles()):
        raise UsageError("there is no network yet: the first start founds one")
    found, stay = found_anew()
    print_notice(f"-- founded the network {found.id[:8]}{backup_hint(found)}")
    if stay:
        ports = ", ".join(path.name for path in stay)
        print_notice(
            f"-- {ports}: started before, and still in the former network; "
            f"another port is in the new one: {command('PORT')}"
        )
    return DONE


def backup_hint(found: LoginNetwork) -> str:
    """Return how to copy the key, as the end of a line."""
    return "" if found.backed_up else f"; {command('network', 'backup', 'FILE')} keeps a copy of its key"
