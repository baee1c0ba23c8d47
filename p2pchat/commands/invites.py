"""Invites as people hand them over: read at start, and shown on one screen with what another machine needs: the command
to paste, and the invite it asks for."""

from __future__ import annotations

import os
import shutil

import p2pchat
from p2pchat.apps.cli.qr import may_colour, qr_code, width
from p2pchat.commands.endpoints import host_port, is_loopback
from p2pchat.commands.wrap import fold
from p2pchat.safe_text import safe_line

MOST_PLACES = 8  # as many as an invite takes
ROWS_BESIDE = 6  # where it listens, what to do next and a prompt stand on the same screen
JOIN_COMMAND = "p2pchat --invite -"  # on a terminal; it asks for a name and the invite, and picks a port


def invite_screen(invite: str, *, qr: bool, size: os.terminal_size | None = None) -> str:
    """Return the screen, which fits into 80 columns and 24 rows.

    Args:
        qr: On a terminal that is large enough, a QR code stands below, where segno is installed.
        size: Of the terminal; None looks.
    """
    lines = [
        "",
        "To join from another machine, run there:",
        "",
        f"    {JOIN_COMMAND}",
        "",
        "and paste this invite, which it asks for:",
        "",
        f"    {safe_line(invite)}",
        "",
        "Whoever has it can join, read the room, and invite others:",
        "send it in a way you trust.",
        "",
    ]
    if qr and may_colour():
        lines += _fitting_code(invite, lines, size or shutil.get_terminal_size())
    return "\n".join(lines)


def welcome_screen(invite: str, port: int, *, qr: bool) -> str:
    """Return the screen of a peer that listens beyond this machine, or why nobody could come by it now."""
    invite = beyond_loopback(invite, port)
    if all(is_loopback(endpoint.rpartition(":")[0]) for endpoint in endpoints_of(invite)):
        return (
            "-- this machine has no address that others could reach: connect it to a network, "
            "or name one with --advertise HOST:PORT; /invite then shows how others join"
        )
    return invite_screen(invite, qr=qr)


def _fitting_code(invite: str, above: list[str], size: os.terminal_size) -> list[str]:
    code = qr_code(invite)
    rows_above = sum(-(-len(line) // size.columns) or 1 for line in fold("\n".join(above), size.columns).split("\n"))
    if rows_above + len(code) + ROWS_BESIDE <= size.lines and width(code) <= size.columns:
        return [*code, ""] if code else []
    return []


def beyond_loopback(invite: str, port: int) -> str:
    """Return the invite of a running peer, with this machine's addresses where it names only loopback."""
    code, _, places = invite.partition("@")
    if not all(is_loopback(place.rpartition(":")[0]) for place in places.split(",")):
        return invite
    return f"{code}@{','.join(own_endpoints(port)) or places}"


def own_endpoints(port: int) -> list[str]:
    """Return where others may reach this machine on `port`."""
    return [host_port(host, port) for host in own_addresses()]


def own_addresses() -> list[str]:
    """Return the addresses of this machine that others may reach, the one towards the internet first."""
    return p2pchat.own_addresses()[:MOST_PLACES]


def looks_like_invite(text: str) -> bool:
    """Whether this is an invite itself, not the name of a file with one."""
    return "".join(text.split()).lower().startswith("p2pchat:")


def endpoints_of(invite: str) -> list[str]:
    """Return the endpoints an invite names, as the library writes them."""
    return [place for place in "".join(invite.split()).lower().partition("@")[2].split(",") if place]
