"""Own addresses: those of this machine that other machines may reach, in the order in which they are told.

First comes the address that packets towards the internet leave by, as the routing table says. Then come those of the
interfaces on Linux (two machines on one cable have neither a route nor a name), and those of the machine's own name
elsewhere. Interfaces without a network card behind them come last: those of containers, virtual machines and tunnels,
of which all machines have the same ones.
"""

from __future__ import annotations

import socket
import struct
import sys
from array import array
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from p2pchat.addresses import join_endpoint

_DISCARD = 9  # a port; nothing is sent
_SIOCGIFCONF = 0x8912  # Linux: the IPv4 addresses of all interfaces, as netdevice(7) says
_IFREQ_BYTES = 40 if sys.maxsize >> 32 else 32
_MAX_ADDRESSES = 1024
_V6_INTERFACES = Path("/proc/net/if_inet6")  # address, index, prefix, scope, flags, name
_INTERFACES = Path("/sys/class/net")
_BRIDGES = ("docker", "br-", "virbr", "veth", "cni", "podman", "lxc", "lxd")


def own_addresses() -> list[str]:
    """Return the addresses others may reach, the one towards the internet first; [] when offline."""
    found = routed_addresses()
    if sys.platform == "linux":
        on_interfaces = sorted(_on_interfaces(), key=lambda named: _is_virtual(named[0]))
        found += [address for _, address in on_interfaces]
    else:
        found += _of_own_name()
    return [address for address in dict.fromkeys(found) if is_reachable(address)]


def own_endpoints(host: str, port: int) -> list[str]:
    """Return the endpoints at which others may reach this machine when it listens on 0.0.0.0, or on "" or ::, both."""
    return endpoints_of(own_addresses(), host, port)


def endpoints_of(addresses: list[str], host: str, port: int) -> list[str]:
    """Return the same for these addresses of this machine."""
    kinds = (".", ":") if host in ("", "::") else (".",)
    return [join_endpoint(address, port) for address in addresses if any(kind in address for kind in kinds)]


def is_reachable(address: str) -> bool:
    """Return whether another machine may reach this address: not loopback, link-local, unspecified or multicast."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return not (ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast)


def routed_addresses() -> list[str]:
    """Return the IPv4 and IPv6 addresses that packets towards the internet leave by; [] when offline."""
    found = [address_towards("192.0.2.1"), address_towards("2001:db8::1")]
    return [address for address in found if address]


def address_towards(address: str) -> str:
    """Return the address that a packet to `address` would leave by, "" for none. No packet is sent."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, _DISCARD))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def _of_own_name() -> list[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return []  # the machine cannot resolve its own name
    return [str(sockaddr[0]) for *_, sockaddr in found]


def _is_virtual(interface: str) -> tuple[bool, bool]:
    """Return whether no network card is behind an interface, nor a part of it; and whether it is called like a bridge.

    In a container no interface has a card.
    """
    at = _INTERFACES / interface
    has_card = (at / "device").exists() or any(at.glob("lower_*/device"))
    return not has_card, interface.startswith(_BRIDGES)


def _on_interfaces() -> Iterator[tuple[str, str]]:
    """Yield (interface, address) on Linux."""
    if sys.platform != "linux":
        return
    import fcntl

    rows = array("B", bytes(_MAX_ADDRESSES * _IFREQ_BYTES))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
        wanted = struct.pack("iP", len(rows), rows.buffer_info()[0])
        filled, _ = struct.unpack("iP", fcntl.ioctl(asks, _SIOCGIFCONF, wanted))
    for at in range(0, filled, _IFREQ_BYTES):
        name, address = struct.unpack_from("16s4x4s", rows, at)
        yield name.rstrip(b"\0").decode().partition(":")[0], socket.inet_ntoa(address)
    try:
        lines = _V6_INTERFACES.read_text("ascii").splitlines()
    except OSError:
        return
    for line in lines:
        address, *_, name = line.split()
        yield name, str(IPv6Address(int(address, 16)))
