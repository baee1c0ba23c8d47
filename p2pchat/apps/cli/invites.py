"""Invites as people hand them over: read at start, and shown by `p2pchat invite`, one screen with what another
machine needs: the command to paste, and the invite it asks for."""

from __future__ import annotations

import socket
import sys

from p2pchat.apps.cli.chat.stdin import Kind, raw_stdin, read_first_line
from p2pchat.apps.cli.endpoints import is_loopback
from p2pchat.apps.cli.exits import Usage
from p2pchat.apps.safetext import safe_line

MOST_PLACES = 8  # as many as an invite takes


def invite_screen(invite: str, *, qr: bool) -> str:
    """Return the screen; with a QR code of the invite where segno is installed and it is wanted."""
    lines = [
        "",
        "To join from another machine, run there (any free port instead of 8080):",
        "",
        "    python -m p2pchat 8080 --invite -",
        "",
        "and paste this invite, which it asks for:",
        "",
        f"    {safe_line(invite)}",
        "",
    ]
    if qr:
        lines += _qr_code(invite)
    lines += ["Whoever has it can join, read the room's history, and invite others. Send it on a way you trust.", ""]
    return "\n".join(lines)


def _qr_code(text: str) -> list[str]:
    try:
        import segno
    except ImportError:
        return []
    from io import StringIO

    out = StringIO()
    segno.make(text.upper(), error="l").terminal(out, border=2, compact=True)
    return out.getvalue().splitlines()


def beyond_loopback(invite: str, port: int) -> str:
    """Return the invite of a running peer, with this machine's addresses where it names only loopback."""
    code, _, places = invite.partition("@")
    if not all(is_loopback(place.rpartition(":")[0]) for place in places.split(",")):
        return invite
    return f"{code}@{','.join(own_endpoints(port)) or places}"


def own_endpoints(port: int) -> list[str]:
    """Return where others may reach this machine on `port`."""
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in own_addresses()]


def own_addresses() -> list[str]:
    """Return the addresses of this machine that others may reach, the one towards the internet first."""
    found = [_towards(socket.AF_INET, "192.0.2.1"), _towards(socket.AF_INET6, "2001:db8::1")]
    try:
        found += [str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)]
    except OSError:
        pass  # a machine that does not know its own name
    return [host for host in dict.fromkeys(found) if host and "%" not in host and not is_loopback(host)][:MOST_PLACES]


def _towards(family: socket.AddressFamily, address: str) -> str:
    """Return the own address a packet there would leave by; none is sent."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def looks_like_invite(text: str) -> bool:
    """Whether this is an invite itself, not the name of a file with one."""
    return "".join(text.split()).lower().startswith("p2pchat:")


def read_invite(given: str, kind: Kind) -> str | None:
    """Return the invite's text: asked for, from a file, or as it stands.

    Raises:
        Usage: There is no such file, or nothing to ask.
    """
    if not given or looks_like_invite(given):
        return given or None
    if given == "-":
        return _ask_for_invite(kind)
    try:
        with open(given, encoding="utf-8") as file:
            return file.read(65536)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Usage(f"cannot read the invite in {given}: {why}") from None


def _ask_for_invite(kind: Kind) -> str:
    if kind is Kind.TERMINAL:
        from getpass import getpass

        return getpass("Paste the invite (it is not shown): ", stream=sys.stderr)
    if kind is Kind.PIPED:
        return read_first_line(raw_stdin()).decode("utf-8", "replace")
    raise Usage("--invite - asks for the invite, and there is no input: name a file, or set P2PCHAT_INVITE")


def endpoints_of(invite: str) -> list[str]:
    """Return the endpoints an invite names, as the library writes them."""
    return [place for place in "".join(invite.split()).lower().partition("@")[2].split(",") if place]
