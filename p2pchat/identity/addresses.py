"""The addresses by which others may reach this machine, without asking anybody.

The address that packets towards the internet leave by is asked of the system's routes; what else there is, on Linux of
its interfaces (two machines on one cable have neither a route nor a name that says where they are), elsewhere of the
machine's own name. Bridges of containers and virtual machines come last: everybody's have the same addresses.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from p2pchat.core.mesh.addressbook import join_endpoint

_DISCARD = 9  # a port; nothing is sent to it
_SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface
_IFREQ_BYTES = 40
_V6_INTERFACES = Path("/proc/net/if_inet6")  # address, index, prefix, scope, flags, name
_BRIDGES = ("docker", "br-", "virbr", "veth", "cni", "podman", "lxc", "lxd")


def own_addresses() -> list[str]:
    """Return the addresses of this machine that others may reach, the one towards the internet first; [] offline."""
    found = routed_addresses()
    if sys.platform == "linux":
        on_interfaces = sorted(_on_interfaces(), key=lambda named: named[0].startswith(_BRIDGES))
        found += [address for _, address in on_interfaces]
    else:
        found += _of_own_name()
    return [address for address in dict.fromkeys(found) if is_reachable(address)]


def own_endpoints(host: str, port: int) -> list[str]:
    """Return where others may reach this machine when it listens on all addresses: `host` is "", 0.0.0.0 or ::."""
    kinds = {"": (".", ":"), "::": (":",)}.get(host, (".",))
    fitting = [address for address in own_addresses() if any(kind in address for kind in kinds)]
    return [join_endpoint(address, port) for address in fitting]


def is_reachable(address: str) -> bool:
    """Whether another machine may reach this one by it: an address that is neither loopback nor link-local."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return not (ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast)


def routed_addresses() -> list[str]:
    """Return the own addresses, IPv4 and IPv6, that packets towards the internet leave by; [] offline."""
    found = [_towards(socket.AF_INET, "192.0.2.1"), _towards(socket.AF_INET6, "2001:db8::1")]
    return [address for address in found if address]


def _towards(family: socket.AddressFamily, address: str) -> str:
    """Return the own address that a packet there would leave by; none is sent."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, _DISCARD))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def _of_own_name() -> list[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return []  # a machine that does not know its own name
    return [str(sockaddr[0]) for *_, sockaddr in found]


def _on_interfaces() -> Iterator[tuple[str, str]]:
    """Yield (interface, address) as Linux tells it; of IPv4 the first address of each."""
    if sys.platform != "linux":
        return
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asks, _SIOCGIFADDR, struct.pack(f"{_IFREQ_BYTES}s", name.encode()))
            except OSError:
                continue  # it has none
            yield name, socket.inet_ntoa(answer[20:24])
    try:
        lines = _V6_INTERFACES.read_text("ascii").splitlines()
    except OSError:
        return
    for line in lines:
        address, *_, name = line.split()
        yield name, str(IPv6Address(int(address, 16)))
