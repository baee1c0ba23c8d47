"""Addresses and endpoints as text ("host:port", "[v6]:port"), judged by their form. No name is resolved here."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from p2pchat.settings import Settings

LOOPBACK = "127.0.0.1"
MAX_ENDPOINT_BYTES = 100
# RFC 1918, RFC 6598 (carriers and VPNs), RFC 3927; RFC 4193 and RFC 4291 for IPv6
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10")
PRIVATE_NETWORKS = [ip_network(each) for each in PRIVATE]
CACHE_SIZE = 4096  # endpoints; while a mesh forms, each peer checks the same few addresses once for every other one


@lru_cache(CACHE_SIZE)
def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Return host and port, an IPv6 host without its brackets.

    Raises:
        ValueError: Not "host:port" or "[v6]:port", or no such port; the text is for people.
    """
    host, colon, port = endpoint.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host or _address(host) is None:
            raise ValueError(f"{endpoint!r}: between brackets stands an IPv6 address")
    elif not colon or not host or ":" in host:
        raise ValueError(f"{endpoint!r} is not HOST:PORT, as localhost:8080 or [::1]:8080")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError(f"{endpoint!r}: a port is a number from 1 to 65535")
    if not all(character.isalnum() or character in "-._:%" for character in host):
        raise ValueError(f"{endpoint!r} has a host that is neither a name nor an address")
    return host, int(port)


@lru_cache(CACHE_SIZE)
def join_endpoint(host: str, port: int) -> str:
    """Return the endpoint of a host as connections report it. A mapped IPv4 address becomes a plain one."""
    address = _address(host)
    if address is not None:
        host = str(address)
    if ":" in host:
        host = f"[{host}]"
    return f"{host}:{port}"


@lru_cache(CACHE_SIZE)
def network_and_host(host: str) -> tuple[str, str]:
    """Return the network of an address, an IPv4 /24 or IPv6 /48, and its host, an IPv6 /64; "" and the name for one."""
    address = _address(host.partition("%")[0])
    if address is None:
        return "", host
    if isinstance(address, IPv4Address):
        return str(ip_network((address, 24), strict=False)), str(address)
    return str(ip_network((address, 48), strict=False)), str(ip_network((address, 64), strict=False))


@lru_cache(CACHE_SIZE)
def is_loopback(host: str) -> bool:
    """Return whether a host, an address or a name, is this machine, judged by its form."""
    address = _address(host)
    if address is not None:
        return address.is_loopback
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


@lru_cache(CACHE_SIZE)
def is_private(host: str) -> bool:
    """Return whether a host is an address of a private range, which means different machines in different networks."""
    address = _address(host.partition("%")[0])
    return address is not None and any(address in network for network in PRIVATE_NETWORKS)


def is_in_one_network(host: str, other: str) -> bool:
    """Return whether two addresses may be of one local network: an IPv4 /16, an IPv6 /64."""
    one, two = _address(host), _address(other)
    if one is None or two is None:
        return False
    bits = 64
    if isinstance(one, IPv4Address):
        bits = 16
    return two in ip_network((one, bits), strict=False)


def normal_endpoint(endpoint: str) -> str:
    """Return `host:port` in lower case, an IPv6 host in brackets.

    Raises:
        ValueError: Not an endpoint; the text is for people.
    """
    host, port = split_endpoint(endpoint.strip().lower())
    whole = join_endpoint(host, port)
    if not whole.isascii() or len(whole) > MAX_ENDPOINT_BYTES:
        raise ValueError(f"{endpoint[:30]!r}: an address has at most {MAX_ENDPOINT_BYTES} characters, of ASCII")
    return whole


def parse_endpoint(endpoint: str | int) -> str:
    """Return "host:port". A bare port is a peer on this machine. Raises ValueError for anything else."""
    text = str(endpoint).strip()
    if text.isdecimal():
        text = f"{LOOPBACK}:{text}"
    return normal_endpoint(text)


def may_name_mean(host: str, own: str) -> bool:
    """Return whether a name that other peers told may mean this address, towards which this machine has the address
    `own`.

    It never means this machine, and a machine in a private range only where this one is in that range too. So nobody
    has a peer dial its neighbours' networks, and a mesh with names of its own works in any network.
    """
    if not _is_for(join_endpoint(host, 1), False):
        return False
    one, two = _address(host.partition("%")[0]), _address(own.partition("%")[0])
    if one is None or not is_private(host):
        return one is not None
    return two is not None and any(one in each and two in each for each in PRIVATE_NETWORKS)


def is_shareable(endpoint: str, *, from_loopback: bool, settings: Settings) -> bool:
    """Return whether an endpoint learned from another peer may be stored, dialled and shared.

    Multicast, broadcast, unspecified and link-local addresses never are; loopback only with a peer on loopback.
    """
    if len(endpoint.encode()) > settings.max_endpoint_bytes:
        return False
    return _is_for(endpoint, from_loopback)


@lru_cache(CACHE_SIZE)
def _is_for(endpoint: str, from_loopback: bool) -> bool:
    """Judge the form of an endpoint. Only short endpoints come here and are cached."""
    try:
        host, _ = split_endpoint(endpoint)
    except ValueError:
        return False
    if is_loopback(host):
        return from_loopback
    address = _address(host)
    if address is None:
        last = host.rstrip(".").rpartition(".")[
            2
        ]  # "127.1" and "0x7f000001" are no names: resolvers take both for addresses
        return not (last.isdecimal() or last.lower().startswith("0x"))
    return not (address.is_multicast or address.is_unspecified or address.is_link_local or address.is_reserved)


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, not a name."""
    return _address(host.partition("%")[0]) is not None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return an IP address, a mapped IPv4 one as a plain one; None for a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address
