"""Endpoints as people type them: HOST:PORT, [::1]:8080, or a bare port, which means this machine."""

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
    """Return the port; `lowest` is 0 where 0 means "any that is free".

    Raises:
        Usage: It is none.
    """
    if text.isascii() and text.isdecimal() and len(text) <= 5 and lowest <= int(text) <= 65535:
        return int(text)
    raise UsageError(f"{text!a} is no {what}: a port is a number from {lowest} to 65535")


def parse_endpoint(text: str) -> str:
    """Return `text` as HOST:PORT, in the one way the library writes it; the host of a bare port is loopback.

    Raises:
        Usage: It is no endpoint; says what is wrong with it.
    """
    if text.isascii() and text.isdecimal():
        return f"{LOOPBACK}:{parse_port(text, 'endpoint')}"
    scheme, slashes, place = text.partition("://")
    if slashes:
        example = place.partition("/")[0] or "localhost:8080"
        raise UsageError(f"{text!a} is no endpoint: leave {scheme}:// out, as in {example}")
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise UsageError(f"{text!a} is no endpoint: write HOST:PORT, for example localhost:8080")
    if host.startswith("[") and host.endswith("]"):
        if not _is_ipv6(host[1:-1]):
            raise UsageError(f"{text!a} is no endpoint: there is no IPv6 address between its brackets")
        host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    elif ":" in host:
        hint = f"[{host}]:{port}" if _is_ipv6(host) else "[::1]:8080"
        raise UsageError(f"{text!a} is no endpoint: an IPv6 address stands in brackets, as in {hint}")
    elif not _HOST.fullmatch(host):
        raise UsageError(f"{text!a} is no endpoint: {host!a} is no host name or address")
    return f"{host.lower()}:{parse_port(port, 'port of an endpoint')}"


def host_port(host: str, port: int) -> str:
    """Return HOST:PORT, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`; a name other than localhost is not resolved."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# ---- program
#
# How this program is typed here, for the commands it tells people to paste: what works in their terminal, and no more.
#
# Who has it on the path types `p2pchat`; who started it as `.venv/bin/python -m p2pchat` has to type that again.


NAME = "p2pchat"


def program(words: Sequence[str] | None = None) -> str:
    """Return what stands before the words of a command, quoted for a shell.

    Args:
        words: How this process was started; None: as it was.
    """
    words = sys.orig_argv if words is None else words
    if shutil.which(NAME):
        return NAME
    if NAME in words[1:3] and "-m" in words[:2]:
        return f"{quoted(words[0])} -m {NAME}"
    script = next((word for word in words[:2] if os.path.splitext(os.path.basename(word))[0] == NAME), NAME)
    return quoted(script)


def command(*words: str | int) -> str:
    """Return a command of this program as one line to paste into a shell of this machine."""
    return " ".join([program(), *map(quoted, map(str, words))])


def quoted(word: str) -> str:
    """Return one word as it stands in a command to be pasted."""
    return subprocess.list2cmdline([word]) if sys.platform == "win32" else shlex.quote(word)
