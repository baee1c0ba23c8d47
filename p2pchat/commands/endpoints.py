"""Ports, as people type them, and the addresses of this machine."""

from __future__ import annotations

import p2pchat
from p2pchat.commands.exit_codes import UsageError

MAX_ENDPOINTS = 8  # limit of an invite
EVERYWHERE = "0.0.0.0"  # all addresses of this machine
ANOTHER_ADDRESS = "/connect HOST:PORT, or --discover"  # the ways to a peer that is not where it was


def parse_port(text: str, what: str, lowest: int = 1) -> int:
    """Parse a port; `lowest` is 0 where 0 means any free port."""
    if text.isascii() and text.isdecimal() and len(text) <= 5 and lowest <= int(text) <= 65535:
        return int(text)
    raise UsageError(f"{text!r} is not a valid {what}: a port is a number from {lowest} to 65535")


def own_addresses() -> list[str]:
    """Return the addresses of this machine, the one towards the internet first."""
    return p2pchat.own_addresses()[:MAX_ENDPOINTS]
