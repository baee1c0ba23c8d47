"""Ports that nothing listens on, for processes and addresses of a test."""

from __future__ import annotations

import random
import socket

_LOWEST, _HIGHEST = 20_000, 30_000  # below those that systems give to outgoing connections and to port 0


def free_ports(count: int) -> list[str]:
    """Return different ports of 127.0.0.1, in digits. No system gives one of them to somebody else meanwhile."""
    found: set[str] = set()
    while len(found) < count:
        port = random.randrange(_LOWEST, _HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(str(port))
    return list(found)
