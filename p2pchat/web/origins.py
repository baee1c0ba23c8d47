"""Where a gateway is: which Host a request may name and which Origin a browser may come from, compared exactly.

A page of another site can have a browser send us anything, and by a name of its own that resolves to us (DNS
rebinding) even read the answer; what it cannot change is what the browser says in Host and Origin. So a request is
answered only under a name we were given, or under the very address its connection came to, which no other site has.
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
    """A place of the web: scheme, host in its usual spelling, port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def parse_origin(text: str) -> Origin:
    """Return the origin a text names: "https://chat.example.org", "http://[::1]:8000", and nothing behind it.

    Raises:
        ValueError: It is no origin.
    """
    found = _ORIGIN.fullmatch(text.lower())
    parsed = found and parse_host(found[2], found[1])
    if not parsed:
        raise ValueError(f"{text!a} is no origin: write it like https://chat.example.org or http://192.168.1.5:8000")
    return parsed


def parse_host(text: str, scheme: str) -> Origin | None:
    """Return what a Host header means under a scheme; None when it is none."""
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
    if host.replace(".", "").isdecimal():  # 127.1 and 2130706433 are addresses to some programs: only one spelling here
        try:
            host = str(ip_address(host))
        except ValueError:
            return None
    return Origin(scheme, host, number)


class AllowedOrigins:
    """The origins of one gateway.

    Args:
        origins: Where its people find it, beside the address each connection comes to.
    Raises:
        ValueError: One is none.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._given = frozenset(parse_origin(origin) for origin in origins)

    def asked(self, host: str, scheme: str, server: tuple[str, int | None] | None) -> Origin | None:
        """Return where a request was sent to, by its Host; None when that is not here.

        Args:
            scheme: "http" or "https", as the connection or a trusted proxy says.
            server: The address and port the connection came to; None, or a port of None, when there is none.
        """
        for one in (scheme, *DEFAULT_PORTS):  # behind a proxy that does not say so, https looks like http
            found = parse_host(host, one)
            if found is not None and found in self._given:
                return found
        found = parse_host(host, scheme)
        return found if found is not None and found in _of_connection(scheme, server) else None

    def comes_from_here(self, origin: str, asked: Origin, scheme: str) -> bool:
        """Whether a browser's page of this Origin header is the gateway's own, loaded from where the request goes."""
        try:
            found = parse_origin(origin)
        except ValueError:
            return False
        if found.scheme != asked.scheme and found in self._given:  # a proxy in front of us speaks https
            return found.host == asked.host
        return found == asked


def _of_connection(scheme: str, server: tuple[str, int | None] | None) -> set[Origin]:
    if server is None or server[1] is None:
        return set()
    port = server[1]
    try:
        address = ip_address(server[0].partition("%")[0])
    except ValueError:
        return set()
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    places = {Origin(scheme, str(address), port)}
    if address.is_loopback:
        places.add(Origin(scheme, "localhost", port))
    return places
