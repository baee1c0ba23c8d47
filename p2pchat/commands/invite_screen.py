"""Invites, as people paste them: the screen that shows one."""

from __future__ import annotations

import re
from datetime import datetime

from p2pchat import parse_invite
from p2pchat.addresses import LOOPBACK, is_loopback, join_endpoint
from p2pchat.commands.standard_output import iso
from p2pchat.safe_text import safe_line

JOIN_COMMAND = "p2pchat --invite -"  # on a terminal; it asks for a name and the invite, and chooses a port
ONLY_HERE = (
    "-- only this computer can reach you at the moment; to let others in, connect it to a network and start with "
    "--host 0.0.0.0, or name an address with --advertise HOST:PORT"
)


def invite_terms(invite: str) -> str:
    """Return whom an invite admits, as the beginning of a sentence."""
    invitation = parse_invite(invite).invitation
    until = datetime.fromtimestamp(invitation.until).astimezone().strftime("%a %d %b %H:%M")
    who = "one person" if invitation.uses == 1 else f"{invitation.uses} people"
    return f"It admits {who} until {until}, while this peer runs"


def terms_of(invite: str) -> dict[str, object]:
    """Return the terms of an invite, for programs."""
    invitation = parse_invite(invite).invitation
    until = datetime.fromtimestamp(invitation.until).astimezone()
    return {"id": invitation.id, "uses": invitation.uses, "until": iso(until)}


def invite_screen(invite: str, *, only_here: bool = False) -> str:
    """Return the screen for an invite, which fits into 80 columns and 24 rows.

    Args:
        only_here: No other machine can connect to the peer at the moment.
    """
    lines = [
        *([ONLY_HERE] if only_here else []),
        "",
        f"To join from {'this computer' if only_here else 'another machine'}, run there:",
        "",
        f"    {JOIN_COMMAND}",
        "",
        "and paste this invite when it asks for it:",
        "",
        f"    {safe_line(invite)}",
        "",
        f"{invite_terms(invite)}:",
        "send it over a channel you trust.",
        "",
    ]
    return "\n".join(lines)


def names_loopback(invite: str, host: str, port: int) -> bool:
    """Return whether an invite names only loopback, where the peer listens: none of --advertise."""
    return invite.partition("@")[2] in {join_endpoint(one, port) for one in (LOOPBACK, host) if is_loopback(one)}


def looks_like_invite(text: str) -> bool:
    """Return whether a text is an invite, and not the name of a file with one."""
    return "".join(text.split()).lower().startswith("p2pchat:")


def is_cut(text: str) -> bool:
    """Return whether a text is an invite that goes on in another line: mail breaks long ones."""
    return looks_like_invite(text) and re.search(r"@.*:\d+$", "".join(text.split())) is None


def endpoints_of(invite: str) -> list[str]:
    """Return the endpoints of an invite, in the form of the library."""
    return [place for place in "".join(invite.split()).lower().partition("@")[2].split(",") if place]
