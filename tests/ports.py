"""Ports that nothing listens on, for processes and addresses of a test."""

from __future__ import annotations

import itertools
import os
import random
import socket

_LOWEST, _HIGHEST = 20_000, 30_000  # below those that systems give to outgoing connections and to port 0

# Each process of a run has a part of them, and gives none twice before it has given all: a port that was given but is
# not listened on yet could be given to another test meanwhile.
_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_count = (_HIGHEST - _LOWEST) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_first = _LOWEST + _process * _count
given: set[int] = set()
_ports = itertools.cycle(random.sample(range(_first, _first + _count), _count))


def free_ports(count: int) -> list[str]:
    """Return different ports of 127.0.0.1, in digits. No system gives one of them to somebody else meanwhile."""
    found: list[str] = []
    while len(found) < count:
        port = next(_ports)
        given.add(port)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(str(port))
    return found
