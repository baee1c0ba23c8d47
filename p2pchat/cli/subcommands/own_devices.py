"""The commands `p2pchat device` and `devices`: the machines of one person."""

from __future__ import annotations

import asyncio

import click

from p2pchat import DataLocked, add_device, join_device
from p2pchat.cli.control_client import ask_profile, profile_in_use
from p2pchat.cli.options import (
    Command,
    CommandGroup,
    ProfileChoice,
    advertise_option,
    json_option,
    option,
    profile_options,
)
from p2pchat.cli.profiles import FIRST_PORT, find_profile, port_of
from p2pchat.commands.event_text import format_device, local_now
from p2pchat.commands.exit_codes import DONE, FAILED, print_notice
from p2pchat.commands.qr_code import may_colour, qr_code
from p2pchat.commands.shell_command import command
from p2pchat.commands.standard_output import json_line

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
"""


@click.command("add", cls=Command, epilog=ADD_EPILOG)
@profile_options
@advertise_option
@option("--host", "ADDRESS", "where to wait for the other machine (default 0.0.0.0)", default="0.0.0.0")
def add(profile: ProfileChoice, advertise: str | None, host: str) -> int:
    """Make another machine a device of yours: it shows your messages, and writes as you.

    The code is good for ten minutes and one machine. The other machine must reach this one.
    """
    directory = find_profile(profile, acts=True)
    at = [advertise] if advertise else []
    try:
        added = asyncio.run(add_device(directory, on_code=_show_code, is_wanted=_is_wanted, host=host, at=at))
    except DataLocked as locked:
        raise profile_in_use(directory, locked) from None
    if added is None:
        print_notice("-- nothing was handed over, and the code is used up")
        return FAILED
    print("the other machine is yours now: start p2pchat at both")
    return DONE


def _show_code(code: str) -> None:
    print(f"At the other machine, within ten minutes:\n\n  {command('device', 'join', code)}\n", flush=True)
    if may_colour():
        print(qr_code(code)[0], flush=True)


async def _is_wanted(words: str) -> bool:
    try:
        return click.confirm(f"A machine came. Does it show these four words?\n\n  {words}\n\nMake it yours")
    except click.Abort:  # nobody answers
        return False


@click.command("join", cls=Command, epilog=JOIN_EPILOG)
@click.argument("code")
@profile_options
def join(code: str, profile: ProfileChoice) -> int:
    """Make this machine a device of the person whose other machine shows this code."""
    if not profile.data and profile.port < 0:
        profile.port = FIRST_PORT
    directory = find_profile(profile)
    joined = asyncio.run(join_device(code, directory, on_words=_show_words))
    port = port_of(directory)
    start = command(port) if port else command("--data", str(joined.directory))
    print(f"this machine is yours now: {start}")
    return DONE


def _show_words(words: str) -> None:
    print(f"Compare these four words with those at the other machine, and say yes there:\n\n  {words}\n", flush=True)


DEVICES_EPILOG = """\
\b
Examples:
  p2pchat devices
  p2pchat devices --json | jq -r 'select(.linked) | .peer_id'

`p2pchat device add` adds one. Those that are away are known while this peer runs.
"""


@click.command("devices", cls=Command, epilog=DEVICES_EPILOG)
@profile_options
@json_option
def devices(profile: ProfileChoice, as_json: bool) -> int:
    """Print your machines, one line each: this one, those that are linked, and when others were."""
    now = local_now()
    for row in asyncio.run(ask_profile(find_profile(profile), "", "devices")):
        print(json_line(row) if as_json else format_device(row, now).removeprefix("-- "), flush=True)
    return DONE


@click.group("device", cls=CommandGroup, epilog=ADD_EPILOG)
def device() -> None:
    """Use p2pchat as one person on several machines: each has all messages, and a key of its own."""


device.add_command(add)
device.add_command(join)
