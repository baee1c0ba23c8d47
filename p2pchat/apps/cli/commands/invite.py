"""`p2pchat invite`: the screen with what another machine needs, also beside a running peer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from p2pchat import profile_invite
from p2pchat.apps.cli.endpoints import parse_endpoint
from p2pchat.apps.cli.exits import DONE, Usage
from p2pchat.apps.cli.folding import fold, terminal_width
from p2pchat.apps.cli.invites import invite_screen, own_endpoints
from p2pchat.apps.cli.options import WhichPeer, parse_words, which_peer
from p2pchat.apps.cli.profiles import find_profile
from p2pchat.apps.cli.registry.invite import COMMAND


@dataclass(slots=True)
class InviteOptions:
    """`p2pchat invite`."""

    which: WhichPeer
    advertise: str = ""


def parse_invite_command(argv: Sequence[str]) -> InviteOptions:
    """Read `invite [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, _ = parse_words(COMMAND, argv)
    if words:
        raise Usage(f"invite takes no words, only options; {words[0]!a} is one too many")
    return InviteOptions(which_peer(given), parse_endpoint(given["advertise"]) if given["advertise"] else "")


def run_invite(argv: Sequence[str]) -> int:
    """Print the screen of one profile; beside a running peer too."""
    options = parse_invite_command(argv)
    directory = find_profile(options.which)
    port = int(directory.name) if directory.name.isdecimal() else 0
    endpoints = [options.advertise] if options.advertise else own_endpoints(port) if port else []
    if not endpoints:
        raise Usage("at which address do others reach this peer? Say it with --advertise HOST:PORT")
    screen = invite_screen(profile_invite(directory, endpoints), qr=sys.stdout.isatty())
    print(fold(screen, terminal_width(sys.stdout)))
    if not options.advertise:
        print(f"It works while the peer listens beyond this machine: p2pchat {port} --host 0.0.0.0")
    return DONE
