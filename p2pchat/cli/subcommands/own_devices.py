"""The commands `p2pchat device` and `devices`: the machines of one person."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import click

from p2pchat import DataLocked, Device, add_device, join_device
from p2pchat.cli.control_client import ask_profile, print_rows
from p2pchat.cli.options import (
    CommandGroup,
    ProfileChoice,
    advertise_option,
    json_option,
    option,
    profile_options,
    subcommand,
    yes_option,
)
from p2pchat.cli.process import own_command
from p2pchat.cli.profiles import FIRST_PORT, find_profile, port_of, start_command
from p2pchat.cli.standard_input import agreed, can_ask, confirm
from p2pchat.commands.event_text import format_device
from p2pchat.commands.exit_codes import DONE, FAILED, CommandError, UsageError, print_notice
from p2pchat.commands.last_start import LastStart
from p2pchat.commands.shell_command import command, quoted
from p2pchat.safe_text import safe_line

ADD_EPILOG = """\
\b
Examples:
  p2pchat device add                     at a machine that you have
  p2pchat device join CODE               at the new one, with the code that the other shows
  p2pchat device add --advertise desk.example.org:9000

Whoever gets your key can write as you and read what you can. Say yes only if both machines show the same four words.

Exit codes: 0 the other machine is yours; 1 it is not; 2 usage.
"""
JOIN_EPILOG = """\
\b
Examples:
  p2pchat device join p2pchat-device:...@desk.local:40123
  p2pchat device join --port 8081 CODE   on a machine where a peer on 8080 is somebody else
  p2pchat device join CODE --always-on   on a machine that is never off, for systemd
"""
UNIT = """\
[Unit]
Description=p2pchat, always on

[Service]
ExecStart={start}
StandardOutput=null
Restart=on-failure
SuccessExitStatus=3

[Install]
WantedBy=default.target
"""
TRUST = "It will read all that you can, and write as you. So can whoever gets its disk."


@subcommand("add", ADD_EPILOG)
@profile_options
@advertise_option
@option("--host", "ADDRESS", "where to wait for the other machine (default 0.0.0.0)", default="0.0.0.0")
def add(profile: ProfileChoice, advertise: str | None, host: str) -> int:
    """Make another machine a device of yours: it shows your messages, and writes as you.

    The code is good for ten minutes and one machine. The other machine must reach this one.
    """
    directory = find_profile(profile, acts=True)
    at, port = [advertise] if advertise else [], port_of(directory)
    try:
        added = asyncio.run(
            add_device(directory, on_code=_show_code, is_wanted=_is_wanted, host=host, at=at, port=port)
        )
    except DataLocked:
        raise CommandError(
            f"the peer of {directory} runs: stop it this first time, as its machine gets a key of its own"
        ) from None
    if added is None:
        print_notice("-- nothing was handed over, and the code is used up")
        return FAILED
    _remember_joined(directory)
    print(f"the other machine is yours now, beside this one: {start_command(directory)}")
    return DONE


def _remember_joined(directory: Path) -> None:
    """Have a terminal of a profile listen for the person's other machines; the profile is whose who sits here."""
    last = LastStart.load(directory)
    replace(last, joined=True, terminal=last.terminal or can_ask()).save(directory)


def _show_code(code: str) -> None:
    print(f"At the other machine, within ten minutes:\n\n  {command('device', 'join', code)}\n", flush=True)


async def _is_wanted(words: str) -> bool:
    return await confirm(f"A machine came. Does it show these four words?\n\n  {words}\n\n{TRUST}\nMake it yours?")


@subcommand("join", JOIN_EPILOG)
@click.argument("code")
@profile_options
@option("--always-on", "", "write a unit for systemd, too, that runs the peer for other machines, with nobody there")
def join(code: str, profile: ProfileChoice, always_on: bool) -> int:
    """Make this machine a device of the person whose other machine shows this code."""
    if not profile.data and profile.port < 0:
        profile.port = FIRST_PORT
    directory = find_profile(profile)
    port = port_of(directory)
    if always_on and not port:
        raise UsageError("others must find a machine that is always on at its port: --port PORT, or a DIR named so")
    joined = asyncio.run(join_device(code, directory, on_words=_show_words))
    _remember_joined(directory)
    print(f"this machine is yours now: {start_command(directory)}")
    if always_on:
        _write_unit(joined, port)
    return DONE


def _write_unit(joined: Device, port: int) -> None:
    """Write a unit that runs the peer of a profile, into that, and say how it is started."""
    assert joined.directory is not None
    directory = joined.directory.absolute()
    words = [*own_command(), str(port), "--data", str(directory), "--host", "0.0.0.0"]
    unit = directory / f"p2pchat-{port}.service"
    start = " ".join(json.dumps(word, ensure_ascii=False).replace("%", "%%").replace("$", "$$") for word in words)
    unit.write_text(UNIT.format(start=start), "utf-8")
    print(f"have systemd run it, now and at each boot:\n\n  systemctl --user enable --now {quoted(str(unit))}")
    print("  loginctl enable-linger\n")


def _show_words(words: str) -> None:
    print(f"Compare these four words with those at the other machine, and say yes there:\n\n  {words}\n", flush=True)


DEVICES_EPILOG = """\
\b
Examples:
  p2pchat devices
  p2pchat devices --json | jq -r 'select(.linked) | .peer_id'

`p2pchat device add` adds one, `p2pchat device rename` and `p2pchat device revoke` change one.
"""


@subcommand("devices", DEVICES_EPILOG)
@profile_options
@json_option
def devices(profile: ProfileChoice, as_json: bool) -> int:
    """Print your machines, one line each: this one, those that are linked, and the others."""
    print_rows(asyncio.run(ask_profile(find_profile(profile), "", "devices")), as_json, format_device)
    return DONE


@click.group("device", cls=CommandGroup, epilog=ADD_EPILOG)
def device() -> None:
    """Use p2pchat as one person on several machines: each has all messages, and a key of its own."""


REVOKE_EPILOG = """\
\b
Examples:
  p2pchat device revoke laptop

`p2pchat devices` shows the names and ids. Others shut it out as soon as they know, whatever key of yours it has. It
keeps what is on its disk: docs/devices.md.
"""


@subcommand("revoke", REVOKE_EPILOG)
@click.argument("machine")
@profile_options
@yes_option
def revoke(machine: str, profile: ProfileChoice, yes: bool) -> int:
    """Shut out a machine of yours that was lost, for good: nobody links with it any more."""
    directory = find_profile(profile, acts=True)
    if not yes:
        # A machine says itself what it is called: whoever is asked sees them all.
        print_rows(asyncio.run(ask_profile(directory, "", "devices")), False, format_device)
    if not agreed(f"{safe_line(machine)} can never come back", "Shut it out?", yes):
        return FAILED
    asyncio.run(ask_profile(directory, "", "revoke_device", machine=machine))
    print(f"{safe_line(machine)} is shut out: it keeps what it has, and nobody links with it")
    return DONE


@subcommand("rename", "\b\nExamples:\n  p2pchat device rename KVXSQCHM attic\n")
@click.argument("machine")
@click.argument("name")
@profile_options
def rename(machine: str, name: str, profile: ProfileChoice) -> int:
    """Call a machine of yours otherwise: its name or id, and the new name, which you alone see."""
    directory = find_profile(profile, acts=True)
    [row] = asyncio.run(ask_profile(directory, "", "rename_device", machine=machine, name=name))
    print(f"{row['peer_id'][:8]} is called {safe_line(row['name'])}")
    return DONE


device.add_command(add)
device.add_command(rename)
device.add_command(revoke)
device.add_command(join)
