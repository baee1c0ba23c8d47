"""Invites as people hand them over: read at start, and shown on one screen with what another machine needs: the command
to paste, and the invite it asks for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence

import p2pchat
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


# ---- qr
#
# A QR code of an invite, for a camera: half blocks in black on white by colours of our own, so that it reads the same
# on a dark and on a light terminal, with the quiet zone that scanners ask for.
#
# Needs segno; without it there is none.


QUIET = 4  # modules of white around it (ISO/IEC 18004)
INDENT = "    "  # such lines are never folded (wrap.py)
_BLACK_ON_WHITE = "\x1b[38;5;16;48;5;231m"  # of the colour cube, which themes leave alone
_AS_BEFORE = "\x1b[0m"
_HALVES = {(0, 0): " ", (0, 1): "▄", (1, 0): "▀", (1, 1): "█"}  # upper and lower module; 1 is black


def qr_code(invite: str) -> list[str]:
    """Return the lines of the code, each with its colours; [] where segno is not installed, or for what is too long.

    The part before the @ is written in capitals, which take less room; case does not matter in an invite.
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
    """Return the half blocks of a line of a code, for whoever colours them itself; None for any other line.

    No text of others is taken for one: it has no escape characters when it is shown.
    """
    begin = INDENT + _BLACK_ON_WHITE
    is_row = line.startswith(begin) and line.endswith(_AS_BEFORE)
    return line.removeprefix(begin).removesuffix(_AS_BEFORE) if is_row else None


def width(code: Sequence[str]) -> int:
    """Return the columns of a code's lines."""
    return len(code[0]) - len(_BLACK_ON_WHITE) - len(_AS_BEFORE) if code else 0


def may_colour(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this terminal takes colours, and is wanted to."""
    return not environment.get("NO_COLOR") and environment.get("TERM", "") not in ("", "dumb")
