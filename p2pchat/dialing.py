"""Dialling: from a host and a port to two plain streams, or to an error and nothing left open.

The addresses of a name race each other (RFC 8305): each begins a moment after the one before it, or once that has
failed, and the first connection wins. asyncio has such a race (happy_eyeballs_delay), which loses sockets when it is
cancelled: CPython 3.11's asyncio/staggered.py hands the connection on as the result of a task, after which nobody looks
any more, and wait_for in it may swallow the cancellation. So here a connection is in one place from the moment it is
there, and whoever is cancelled closes what is in it.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Iterable
from itertools import chain, zip_longest

from p2pchat.client import STREAM_LIMIT_BYTES

CONNECT_STAGGER = 0.25  # seconds before the next address of a host is tried too (RFC 8305)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(host: str, port: int, *, timeout: float) -> Streams:
    """Connect, without TLS yet; Client takes it from here.

    Raises:
        OSError: Nobody there, no such host, no way. Of several addresses: why the most telling one failed.
        TimeoutError: No answer within `timeout` seconds (an OSError too).
    """
    async with asyncio.timeout(timeout):
        if _is_address(host):
            return await _connect(host, port)
        return await _Race(port).run(await _addresses(host, port))


async def _connect(address: str, port: int) -> Streams:
    return await asyncio.open_connection(address, port, limit=STREAM_LIMIT_BYTES)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def _addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a name, best first, IPv6 and IPv4 in turn: one of the two may lead nowhere."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    families: dict[int, list[str]] = {}
    for family, _, _, _, where in found:
        scope = where[3] if len(where) == 4 else 0  # of a link-local address: which network card
        families.setdefault(family, []).append(f"{where[0]}%{scope}" if scope else str(where[0]))
    in_turn = chain.from_iterable(zip_longest(*families.values()))
    return list(dict.fromkeys(address for address in in_turn if address is not None))


class _Race:
    """One race for a connection; whatever ends it, at most the winner's is open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tries: list[asyncio.Task[None]] = []
        self._errors: list[OSError] = []
        self._won: Streams | None = None

    async def run(self, addresses: Iterable[str]) -> Streams:
        """Return the first connection. Raises OSError when there is none."""
        try:
            async with asyncio.TaskGroup() as group:  # waits for all of them, also when it is cancelled
                for address in addresses:
                    self._tries.append(group.create_task(self._try(address)))
                    await asyncio.wait(self._tries[-1:], timeout=CONNECT_STAGGER)
                    if self._won is not None:
                        break
        except BaseException:
            if self._won is not None:
                self._won[1].transport.abort()
            raise
        if self._won is None:
            raise self._telling_error()
        if self._won[1].transport.is_closing():  # cut while the others were given up
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return self._won

    async def _try(self, address: str) -> None:
        try:
            streams = await _connect(address, self._port)
        except OSError as error:
            self._errors.append(error)
            return
        self._won = streams
        for other in self._tries:
            if other is not asyncio.current_task():
                other.cancel()  # one that has just connected closes that again

    def _telling_error(self) -> OSError:
        """Return the error of an address whose machine is there; else of the one that failed first."""
        refused = (error for error in self._errors if isinstance(error, ConnectionRefusedError))
        return next(refused, self._errors[0])
