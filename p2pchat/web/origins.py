"""Allowed origins: which Host a request may name and which Origin a page may have, compared exactly.

A page of another site can make a browser send any request here. With a name of its own that resolves to this address
(DNS rebinding) it can even read the answer. It cannot change the Host and Origin that the browser sends. So a request
is answered only under a configured name, or under the address its connection came to, which no other site has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?))(?::([0-9]{1,5}))?", re.ASCII)
_ORIGIN = re.compile(r"(https?)://([^/?#@\\\s]+)", re.ASCII)


class Origin(NamedTuple):
    """An origin: scheme, host in canonical spelling, port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def parse_origin(text: str) -> Origin:
    """Parse an origin without a path: "https://chat.example.org", "http://[::1]:8000".

    Raises:
        ValueError: The text is no origin.
    """
    found = _ORIGIN.fullmatch(text.lower())
    parsed = found and parse_host(found[2], found[1])
    if not parsed:
        raise ValueError(f"{text!a} is no origin: use a form like https://chat.example.org or http://192.168.1.5:8000")
    return parsed


def parse_host(text: str, scheme: str) -> Origin | None:
    """Parse a Host header for a scheme; None if it is invalid."""
    found = _HOST.fullmatch(text.lower())
    if found is None:
        return None
    v6, name, port = found.groups()
    number = int(port) if port else DEFAULT_PORTS[scheme]
    if not 0 < number < 65536:
        return None
    try:
        host = str(IPv6Address(v6)) if v6 else name
    except ValueError:
        return None
    if host.replace(".", "").isdecimal():  # some programs accept 127.1 and 2130706433; one spelling is valid here
        try:
            host = str(ip_address(host))
        except ValueError:
            return None
    return Origin(scheme, host, number)


class AllowedOrigins:
    """The origins of one gateway.

    Args:
        origins: Origins under which browsers find it, besides the address each connection came to.
    Raises:
        ValueError: One of them is invalid.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._configured = frozenset(parse_origin(origin) for origin in origins)

    def resolve_host(self, host: str, scheme: str, server: tuple[str, int | None] | None) -> Origin | None:
        """Return the origin a request was sent to by its Host header; None if it is not allowed.

        Args:
            scheme: "http" or "https", from the connection or a trusted proxy.
            server: The address and port the connection came to; None, or a port of None, if unknown.
        """
        for one in (scheme, *DEFAULT_PORTS):  # https looks like http behind a proxy that does not report it
            found = parse_host(host, one)
            if found is not None and found in self._configured:
                return found
        found = parse_host(host, scheme)
        return found if found is not None and found in _origins_of(scheme, server) else None

    def allows(self, origin: str, host: Origin, scheme: str) -> bool:
        """Return whether an Origin header names the gateway's own page, at the origin the request was sent to."""
        try:
            found = parse_origin(origin)
        except ValueError:
            return False
        if found.scheme != host.scheme and found in self._configured:  # a proxy in front speaks https
            return found.host == host.host
        return found == host


def _origins_of(scheme: str, server: tuple[str, int | None] | None) -> set[Origin]:
    if server is None or server[1] is None:
        return set()
    port = server[1]
    try:
        address = ip_address(server[0].partition("%")[0])
    except ValueError:
        return set()
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    origins = {Origin(scheme, str(address), port)}
    if address.is_loopback:
        origins.add(Origin(scheme, "localhost", port))
    return origins
