"""Endpoints as text, "host:port" and "[v6]:port": reading, writing, and which of those told by others may be dialled.

Nothing is looked up here: whoever resolves a name learns only then what it stands for.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from p2pchat.config import Settings

CACHED = 4096  # answers remembered; while a mesh forms, every peer looks at the same few addresses for each other one


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Return host and port; an IPv6 host without its brackets.

    Raises:
        ValueError: Not "host:port" or "[v6]:port", or a port that is none; a sentence for people.
    """
    host, colon, port = endpoint.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not isinstance(_address(host), IPv6Address):
            raise ValueError(f"{endpoint!a}: between brackets stands an IPv6 address")
    elif not colon or not host or ":" in host:
        raise ValueError(f"{endpoint!a} is not HOST:PORT; an IPv6 address stands in brackets")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError(f"{endpoint!a}: a port is a number from 1 to 65535")
    if not all(character.isalnum() or character in "-._:%" for character in host):
        raise ValueError(f"{endpoint!a} has a host that is neither a name nor an address")
    return host, int(port)


@lru_cache(CACHED)
def join_endpoint(host: str, port: int) -> str:
    """Return the endpoint of a host as connections report it; mapped IPv4 addresses become plain ones."""
    address = _address(host)
    if address is not None:
        host = str(_unmapped(address))
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(CACHED)
def is_loopback(host: str) -> bool:
    """Whether this host, an address or a name, is this machine by its form."""
    address = _address(host)
    if address is not None:
        return _unmapped(address).is_loopback
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def may_be_told(endpoint: str, *, from_loopback: bool, settings: Settings) -> bool:
    """Whether an endpoint that another peer tells may be kept and dialled.

    Never multicast, broadcast, unspecified or link-local ones; loopback only from a peer that is on loopback itself.
    """
    if len(endpoint.encode()) > settings.max_endpoint_bytes:
        return False
    return _is_for(endpoint, from_loopback)


@lru_cache(CACHED)
def _is_for(endpoint: str, from_loopback: bool) -> bool:
    """Say by the form of an endpoint alone; only short ones come here and are remembered."""
    try:
        host, _ = split_endpoint(endpoint)
    except ValueError:
        return False
    if is_loopback(host):
        return from_loopback
    address = _address(host)
    if address is None:
        return not host.replace(".", "").isdecimal()  # "127.1" is no name; resolvers take it for an address
    address = _unmapped(address)
    return not (address.is_multicast or address.is_unspecified or address.is_link_local or address.is_reserved)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
