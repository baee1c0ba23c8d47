"""Endpoints, as people type them.

An endpoint as typed is HOST:PORT, [::1]:8080, or a bare port, which means this machine.
"""

from __future__ import annotations

import ipaddress
import re

import p2pchat
from p2pchat.commands.exit_codes import UsageError

MAX_ENDPOINTS = 8  # limit of an invite
LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # all addresses of this machine
ANOTHER_ADDRESS = "/connect HOST:PORT, or --discover"  # the ways to a peer that is not where it was
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


def parse_port(text: str, what: str, lowest: int = 1) -> int:
    """Parse a port; `lowest` is 0 where 0 means any free port."""
    if text.isascii() and text.isdecimal() and len(text) <= 5 and lowest <= int(text) <= 65535:
        return int(text)
    raise UsageError(f"{text!r} is not a valid {what}: a port is a number from {lowest} to 65535")


def parse_endpoint(text: str) -> str:
    """Parse an endpoint into the HOST:PORT form of the library; a bare port is one of loopback."""
    if text.isascii() and text.isdecimal():
        return f"{LOOPBACK}:{parse_port(text, 'port of a peer')}"
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
    return f"{host.lower()}:{parse_port(port, 'port of a peer')}"


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


def own_addresses() -> list[str]:
    """Return the addresses of this machine, the one towards the internet first."""
    return p2pchat.own_addresses()[:MAX_ENDPOINTS]
