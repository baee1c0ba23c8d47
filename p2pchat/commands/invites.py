"""Invites: the screen that shows another machine how to join, with a QR code, and the parts of an invite."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence

import p2pchat
from p2pchat.commands.endpoints import host_port, is_loopback
from p2pchat.commands.wrap import fold
from p2pchat.safe_text import safe_line

MAX_ENDPOINTS = 8  # limit of an invite
OTHER_ROWS = 6  # rows of the startup notices and the prompt on the same screen
JOIN_COMMAND = "p2pchat --invite -"  # on a terminal; it asks for a name and the invite, and chooses a port


def invite_screen(invite: str, *, qr: bool, size: os.terminal_size | None = None) -> str:
    """Return the screen for an invite, which fits into 80 columns and 24 rows.

    Args:
        qr: Add a QR code if the terminal is large enough and segno is installed.
        size: Size of the terminal; None: ask it.
    """
    lines = [
        "",
        "To join from another machine, run there:",
        "",
        f"    {JOIN_COMMAND}",
        "",
        "and paste this invite when it asks for it:",
        "",
        f"    {safe_line(invite)}",
        "",
        "Anyone who has it can join, read the room, and invite others:",
        "send it over a channel you trust.",
        "",
    ]
    if qr and may_colour():
        lines += _fitting_code(invite, lines, size or shutil.get_terminal_size())
    return "\n".join(lines)


def welcome_screen(invite: str, port: int, *, qr: bool) -> str:
    """Return the invite screen of a peer that listens for other machines, or why none could connect."""
    invite = beyond_loopback(invite, port)
    if all(is_loopback(endpoint.rpartition(":")[0]) for endpoint in endpoints_of(invite)):
        return (
            "-- this computer has no address that others can reach: connect it to a network, "
            "or name one with --advertise HOST:PORT; /invite then shows how others join"
        )
    return invite_screen(invite, qr=qr)


def _fitting_code(invite: str, above: list[str], size: os.terminal_size) -> list[str]:
    code = qr_code(invite)
    rows_above = sum(-(-len(line) // size.columns) or 1 for line in fold("\n".join(above), size.columns).split("\n"))
    if rows_above + len(code) + OTHER_ROWS <= size.lines and width(code) <= size.columns:
        return [*code, ""] if code else []
    return []


def beyond_loopback(invite: str, port: int) -> str:
    """Return the invite of a running peer, with this machine's addresses if it names only loopback ones."""
    code, _, places = invite.partition("@")
    if not all(is_loopback(place.rpartition(":")[0]) for place in places.split(",")):
        return invite
    return f"{code}@{','.join(own_endpoints(port)) or places}"


def own_endpoints(port: int) -> list[str]:
    """Return the endpoints of this machine for `port`."""
    return [host_port(host, port) for host in own_addresses()]


def own_addresses() -> list[str]:
    """Return the addresses of this machine, the one towards the internet first."""
    return p2pchat.own_addresses()[:MAX_ENDPOINTS]


def looks_like_invite(text: str) -> bool:
    """Return whether a text is an invite, and not the name of a file with one."""
    return "".join(text.split()).lower().startswith("p2pchat:")


def endpoints_of(invite: str) -> list[str]:
    """Return the endpoints of an invite, in the form of the library."""
    return [place for place in "".join(invite.split()).lower().partition("@")[2].split(",") if place]


# ---- QR code
#
# Half blocks in explicit black on white, so that cameras read it on dark and light terminals. Needs segno.


QUIET = 4  # white modules around the code (ISO/IEC 18004)
INDENT = "    "  # indented lines are never folded (wrap.py)
_BLACK_ON_WHITE = "\x1b[38;5;16;48;5;231m"  # of the colour cube, which themes do not change
_AS_BEFORE = "\x1b[0m"
_HALVES = {(0, 0): " ", (0, 1): "▄", (1, 0): "▀", (1, 1): "█"}  # upper and lower module; 1 is black


def qr_code(invite: str) -> list[str]:
    """Return the lines of the code, with colours; [] without segno, or if the invite is too long.

    The part before the @ is upper case, which takes less room; case does not matter in an invite.
    """
    try:
        import segno
    except ImportError:
        return []
    code, at, places = invite.partition("@")
    content = [code.upper(), (at + places).encode()] if at else code.upper()
    try:
        symbol = segno.make(content, error="l", boost_error=False, micro=False)  # type: ignore[arg-type]
    except ValueError:  # segno.DataOverflowError
        return []
    return [
        f"{INDENT}{_BLACK_ON_WHITE}{row}{_AS_BEFORE}"
        for row in _rows([list(row) for row in symbol.matrix_iter(border=QUIET)])
    ]


def _rows(modules: Sequence[Sequence[int]]) -> Iterator[str]:
    white = [0] * len(modules[0])
    for upper in range(0, len(modules), 2):
        lower = modules[upper + 1] if upper + 1 < len(modules) else white
        yield "".join(_HALVES[bool(a), bool(b)] for a, b in zip(modules[upper], lower, strict=True))


def row_of_code(line: str) -> str | None:
    """Return the half blocks of a line of a code, without colours; None for other lines.

    Text of others never matches: its escape characters were replaced.
    """
    begin = INDENT + _BLACK_ON_WHITE
    is_row = line.startswith(begin) and line.endswith(_AS_BEFORE)
    return line.removeprefix(begin).removesuffix(_AS_BEFORE) if is_row else None


def width(code: Sequence[str]) -> int:
    """Return the columns of a code."""
    return len(code[0]) - len(_BLACK_ON_WHITE) - len(_AS_BEFORE) if code else 0


def may_colour(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this terminal may show colours."""
    return not environment.get("NO_COLOR") and environment.get("TERM", "") not in ("", "dumb")
