"""Endpoints and invites, as people type, paste and scan them, and command lines to paste.

An endpoint as typed is HOST:PORT, [::1]:8080, or a bare port, which means this machine.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import p2pchat
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.wrap import fold
from p2pchat.safe_text import safe_line

LOOPBACK = "127.0.0.1"
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


def parse_port(text: str, what: str, lowest: int = 1) -> int:
    """Parse a port; `lowest` is 0 where 0 means any free port."""
    if text.isascii() and text.isdecimal() and len(text) <= 5 and lowest <= int(text) <= 65535:
        return int(text)
    raise UsageError(f"{text!r} is not a valid {what}: a port is a number from {lowest} to 65535")


def parse_endpoint(text: str) -> str:
    """Parse an endpoint into the HOST:PORT form of the library; a bare port is one of loopback."""
    if text.isascii() and text.isdecimal():
        return f"{LOOPBACK}:{parse_port(text, 'endpoint')}"
    scheme, slashes, place = text.partition("://")
    if slashes:
        example = place.partition("/")[0] or "localhost:8080"
        raise UsageError(f"{text!r} is not an endpoint: leave out {scheme}://, as in {example}")
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise UsageError(f"{text!r} is not an endpoint: write HOST:PORT, for example localhost:8080")
    if host.startswith("[") and host.endswith("]"):
        if not _is_ipv6(host[1:-1]):
            raise UsageError(f"{text!r} is not an endpoint: no IPv6 address between the brackets")
        host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    elif ":" in host:
        hint = f"[{host}]:{port}" if _is_ipv6(host) else "[::1]:8080"
        raise UsageError(f"{text!r} is not an endpoint: put the IPv6 address in brackets, as in {hint}")
    elif not _HOST.fullmatch(host):
        raise UsageError(f"{text!r} is not an endpoint: {host!r} is not a host name or address")
    return f"{host.lower()}:{parse_port(port, 'port of an endpoint')}"


def host_port(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`; names other than localhost are not resolved."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# ---- command lines to paste


NAME = "p2pchat"
SCRIPTS = (NAME, "p2pchat-mesh")  # the second is run by uvx and pipx, which put no `p2pchat` on the path


def program(words: Sequence[str] | None = None) -> str:
    """Return how this program is typed in any terminal, quoted for a shell: p2pchat, or the way it was started.

    A terminal in which no virtual environment was activated, or that is in another directory, finds it by its path.

    Args:
        words: The command line of this process; None: sys.orig_argv.
    """
    words = sys.orig_argv if words is None else words
    if found := shutil.which(NAME):
        activated = os.environ.get("VIRTUAL_ENV")
        is_everywhere = not activated or os.path.abspath(activated) not in map(str, Path(found).absolute().parents)
        return NAME if is_everywhere else quoted(os.path.abspath(found))
    if NAME in words[1:3] and "-m" in words[:2]:
        return f"{_located(words[0])} -m {NAME}"
    if words[1:] and words[1].endswith(".pyz"):
        return " ".join(map(_located, words[:2]))
    script = next((word for word in words[:2] if os.path.splitext(os.path.basename(word))[0] in SCRIPTS), "")
    return _located(script) if script else NAME


def _located(word: str) -> str:
    """Return a program or file that was named relative to this directory so that other terminals find it, quoted."""
    return quoted(os.path.abspath(word) if os.path.dirname(word) else word)


def command(*words: str | int) -> str:
    """Return a command of this program to paste into a shell of this machine."""
    return " ".join([program(), *map(quoted, map(str, words))])


def quoted(word: str) -> str:
    return subprocess.list2cmdline([word]) if sys.platform == "win32" else shlex.quote(word)


# ---- invites


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


def welcome_screen(invite: str, host: str, port: int, *, qr: bool) -> str:
    """Return the invite screen of a peer that listens for other machines, or why none could connect."""
    invite = beyond_loopback(invite, host, port)
    if names_loopback(invite, host, port):
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


def names_loopback(invite: str, host: str, port: int) -> bool:
    """Return whether an invite names only loopback, where the peer listens: none of --advertise."""
    own = [host_port(LOOPBACK, port), *([host_port(host, port)] if is_loopback(host) else [])]
    return invite.partition("@")[2] in own


def beyond_loopback(invite: str, host: str, port: int) -> str:
    """Return the invite of a running peer, with this machine's addresses in place of the loopback one it listens on."""
    if not names_loopback(invite, host, port):
        return invite
    code, _, place = invite.partition("@")
    return f"{code}@{','.join(own_endpoints(port)) or place}"


def own_endpoints(port: int) -> list[str]:
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
