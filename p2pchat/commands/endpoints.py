"""Endpoints as typed: HOST:PORT, [::1]:8080, or a bare port, which means this machine. And command lines to paste."""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

from p2pchat.commands.errors import UsageError

LOOPBACK = "127.0.0.1"
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


def parse_port(text: str, what: str, lowest: int = 1) -> int:
    """Parse a port; `lowest` is 0 where 0 means any free port.

    Raises:
        UsageError: It is invalid.
    """
    if text.isascii() and text.isdecimal() and len(text) <= 5 and lowest <= int(text) <= 65535:
        return int(text)
    raise UsageError(f"{text!a} is not a valid {what}: a port is a number from {lowest} to 65535")


def parse_endpoint(text: str) -> str:
    """Parse an endpoint into the HOST:PORT form of the library; a bare port is one of loopback.

    Raises:
        UsageError: It is invalid; the text says why.
    """
    if text.isascii() and text.isdecimal():
        return f"{LOOPBACK}:{parse_port(text, 'endpoint')}"
    scheme, slashes, place = text.partition("://")
    if slashes:
        example = place.partition("/")[0] or "localhost:8080"
        raise UsageError(f"{text!a} is not an endpoint: leave out {scheme}://, as in {example}")
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise UsageError(f"{text!a} is not an endpoint: write HOST:PORT, for example localhost:8080")
    if host.startswith("[") and host.endswith("]"):
        if not _is_ipv6(host[1:-1]):
            raise UsageError(f"{text!a} is not an endpoint: no IPv6 address between the brackets")
        host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    elif ":" in host:
        hint = f"[{host}]:{port}" if _is_ipv6(host) else "[::1]:8080"
        raise UsageError(f"{text!a} is not an endpoint: put the IPv6 address in brackets, as in {hint}")
    elif not _HOST.fullmatch(host):
        raise UsageError(f"{text!a} is not an endpoint: {host!a} is not a host name or address")
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


def program(words: Sequence[str] | None = None) -> str:
    """Return how this program is typed here, quoted for a shell: p2pchat, or the way this process was started.

    Args:
        words: The command line of this process; None: sys.orig_argv.
    """
    words = sys.orig_argv if words is None else words
    if shutil.which(NAME):
        return NAME
    if NAME in words[1:3] and "-m" in words[:2]:
        return f"{quoted(words[0])} -m {NAME}"
    script = next((word for word in words[:2] if os.path.splitext(os.path.basename(word))[0] == NAME), NAME)
    return quoted(script)


def command(*words: str | int) -> str:
    """Return a command of this program to paste into a shell of this machine."""
    return " ".join([program(), *map(quoted, map(str, words))])


def quoted(word: str) -> str:
    """Return one word quoted for a shell."""
    return subprocess.list2cmdline([word]) if sys.platform == "win32" else shlex.quote(word)
