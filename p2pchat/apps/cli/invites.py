"""Invites as people hand them over: read at start, and shown on one screen with what another machine needs: the command
to paste, and the invite it asks for."""

from __future__ import annotations

import os
import shutil

import p2pchat
from p2pchat import InviteError, parse_invite
from p2pchat.apps.cli.asking import ask_hidden, nothing_shown
from p2pchat.apps.cli.endpoints import host_port, is_loopback
from p2pchat.apps.cli.exits import Usage, complain
from p2pchat.apps.cli.folding import fold
from p2pchat.apps.cli.qr import may_colour, qr_code, width
from p2pchat.apps.cli.stdin import Kind, raw_stdin, read_first_line
from p2pchat.apps.safetext import safe_line

MOST_PLACES = 8  # as many as an invite takes
ROWS_BESIDE = 6  # where it listens, what to do next and a prompt stand on the same screen
MOST_PASTES = 3  # an invite that cannot be read is asked for again so often
JOIN_COMMAND = "p2pchat --invite -"  # on a terminal; it asks for a name and the invite, and picks a port


class NothingSaid(Exception):
    """Whoever was asked ended the input instead (Ctrl-D): leave without a word."""


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


def read_invite(given: str, kind: Kind) -> str | None:
    """Return the invite's text, which can be read: asked for, from a file, or as it stands; None when none was given.

    Raises:
        Usage: There is no such file, or nothing to ask. InviteError: It is none; says what is wrong with it.
        NothingSaid: Who was asked for it ended the input.
    """
    if not given:
        return None
    if given == "-" and kind is Kind.TERMINAL:
        return _ask_for_invite()
    text = given if looks_like_invite(given) else _written_down(given, kind)
    parse_invite(text)
    return text


def _written_down(given: str, kind: Kind) -> str:
    if given == "-":
        if kind is Kind.NONE:
            raise Usage("--invite - asks for the invite, and there is no input: name a file, or set P2PCHAT_INVITE")
        return read_first_line(raw_stdin()).decode("utf-8", "replace")
    try:
        with open(given, encoding="utf-8") as file:
            return file.read(65536)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Usage(f"cannot read the invite in {given}: {why}") from None


def _ask_for_invite() -> str:
    with nothing_shown():  # from the first question to the last answer: who is quick pastes before the next one stands
        for attempts_left in reversed(range(MOST_PASTES)):
            text = ask_hidden("Paste the invite (it is not shown), then Enter: ")
            if text is None:
                raise NothingSaid
            try:
                parse_invite(text)
                return text
            except InviteError as error:
                if not attempts_left:
                    raise
                complain("nothing was pasted; Ctrl-D leaves" if not text else str(error))
    raise AssertionError("the last attempt returns or raises")


def endpoints_of(invite: str) -> list[str]:
    """Return the endpoints an invite names, as the library writes them."""
    return [place for place in "".join(invite.split()).lower().partition("@")[2].split(",") if place]
