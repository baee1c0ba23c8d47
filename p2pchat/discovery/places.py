"""Where to announce oneself, and on which interfaces to speak: this machine's addresses, as far as others use them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from p2pchat.core.mesh.endpoints import is_loopback, split_endpoint
from p2pchat.discovery.announcement import MAX_ADDRESSES
from p2pchat.identity.addresses import is_reachable, routed_addresses

ANY_V4, ANY_V6 = "0.0.0.0", "::"


@dataclass(frozen=True, slots=True)
class Interfaces:
    """This machine's network at one moment.

    Attributes:
        addresses: Those that others may reach it by, the one towards the internet first.
        index: The interface of each of the IPv6 ones, whose multicast is spoken by interface.
    """

    addresses: tuple[str, ...] = ()
    index: tuple[tuple[str, int], ...] = ()

    def speaking(self, only: str) -> list[str | int]:
        """Return what zeroconf shall speak on: who listens on one address alone is announced, and looks, only there."""
        chosen = [only] if only in self.addresses else self.addresses
        index = dict(self.index)
        return list(dict.fromkeys(index.get(address, address) for address in chosen))


@dataclass(frozen=True, slots=True)
class Place:
    """What is announced: one port at one or more addresses."""

    port: int
    addresses: tuple[str, ...]


def announced_place(listening: Sequence[str], port: int, advertise: str | None, own: Sequence[str]) -> Place | None:
    """Return where to say that this peer is; None for nowhere.

    Args:
        listening: The addresses it listens on; ANY_V4 and ANY_V6 are all of that kind.
        advertise: The endpoint to tell others; counts when it is an address, names are not announced.
        own: Interfaces.addresses.
    """
    if all(is_loopback(address) for address in listening):
        return None
    if advertise is not None:
        host, advertised = split_endpoint(advertise)
        if is_reachable(host):
            return Place(advertised, (str(ip_address(host)),))
    fitting = [address for address in own if _listens(listening, address)]
    return Place(port, tuple(fitting[:MAX_ADDRESSES])) if fitting else None


def _listens(listening: Sequence[str], address: str) -> bool:
    return address in listening or (ANY_V6 if ":" in address else ANY_V4) in listening


async def addresses_of(host: str) -> tuple[str, ...]:
    """Return the addresses that listening on `host` means; "" is all, a name is looked up, () what has none."""
    if not host:
        return ANY_V4, ANY_V6
    try:
        return (str(ip_address(host)),)
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def interfaces() -> Interfaces:
    """Look at this machine's network; empty when there is none, or it may not be looked at."""
    import ifaddr  # comes with zeroconf

    try:
        adapters = list(ifaddr.get_adapters())
    except OSError:
        return Interfaces()
    found: dict[str, int] = {}
    for adapter in adapters:
        for ip in adapter.ips:
            address = ip.ip if isinstance(ip.ip, str) else ip.ip[0].partition("%")[0]
            if is_reachable(address):
                found.setdefault(str(ip_address(address)), adapter.index or 0)
    return _sorted(found, routed_addresses())


def _sorted(found: dict[str, int], first: Iterable[str]) -> Interfaces:
    """The order matters only where there are more addresses than are announced: containers have many."""
    addresses = [address for address in dict.fromkeys(first) if address in found]
    addresses += sorted(address for address in found if address not in addresses)
    return Interfaces(tuple(addresses), tuple((address, found[address]) for address in addresses if ":" in address))
