"""Ports of this machine: which are free for one more peer."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from contextlib import suppress

from p2pchat import known_profiles
from p2pchat.commands.endpoints import LOOPBACK
from p2pchat.commands.errors import Failure

FIRST_PORT = 8080
MOST_TRIED = 200  # who has that many taken names one


def free_port(host: str, taken: Collection[int] = ()) -> int:
    """Return the first port from 8080 on where this machine lets us listen.

    Raises:
        Failure: None of the first 200 is free.
    """
    for port in range(FIRST_PORT, FIRST_PORT + MOST_TRIED):
        if port not in taken and is_free(host, port):
            return port
    raise Failure(f"no port from {FIRST_PORT} to {FIRST_PORT + MOST_TRIED - 1} is free: name one, p2pchat PORT")


def next_port(port: int, host: str = LOOPBACK) -> int:
    """Return the next port that a further peer of this machine could have; `port` + 1 when nothing is known of it."""
    taken = {int(directory.name) for directory in known_profiles()} | {port}
    ahead = range(port + 1, min(port + MOST_TRIED, 65536))
    return next((one for one in ahead if one not in taken and is_free(host, one)), port + 1)


def is_free(host: str, port: int) -> bool:
    """Whether a peer could listen there now."""
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return True  # no such address: starting says so, better than we could
    for family, kind, protocol, _, address in places:
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":  # as asyncio does: what is closed but lingers is free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                probe.listen(1)
            except OSError:
                return False
    return True
