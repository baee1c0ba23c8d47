"""Can others get in? What can be seen of that from inside, and who has to look at the rest.

Whether a router or a firewall on the way lets a connection through can only be seen from its other side. So this
never says that others reach the peer; it says what would keep them out, and what to run over there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from p2pchat.apps.cli.commands.doctoring.finding import Finding, ok, warning
from p2pchat.apps.cli.commands.doctoring.port import LOOPBACKS, Answers
from p2pchat.apps.cli.program import command
from p2pchat.commands.endpoints import host_port

MOST_NAMED = 4  # addresses in one line
LOCAL_NAMES = (".local", ".lan", ".internal", ".home.arpa", ".localdomain")


def reach(port: int, own: Sequence[str], found: Answers) -> Iterator[Finding]:
    """Look at how a peer that may run on `port` can be reached.

    Args:
        own: This machine's addresses that others may reach, without loopback.
        found: What answered at those and at loopback.
    """
    yield addresses(own)
    here = [address for address, one in found.items() if one.verdict == "self"]
    if not here:
        return
    outside = [address for address in here if address not in LOOPBACKS]
    if outside:
        there = host_port(outside[0], port)
        text = f"it answers on {there}; whether firewalls and routers let others in cannot be seen from here"
        yield ok("reach", text, f"on the other machine run: p2pchat doctor {there}")
    elif is_only_loopback(own, found):
        text = "it listens on this machine's loopback only: no other machine can link with it"
        yield warning("reach", text, f"start it again with --host, for example: {command(port, '--host', '0.0.0.0')}")
    elif own:
        text = f"it does not answer on {host_port(own[0], port)}, not even to this machine"
        yield warning("reach", text, "look at this machine's firewall, and at --host")


def is_only_loopback(own: Sequence[str], found: Answers) -> bool:
    """Whether the peer runs and has no ear for other machines."""
    here = any(found[address].verdict == "self" for address in LOOPBACKS if address in found)
    return here and bool(own) and all(found[address].verdict == "refused" for address in own if address in found)


def addresses(own: Sequence[str]) -> Finding:
    if not own:
        text = "this machine has no address but loopback: no other machine can reach it"
        return warning("address", text, "connect it to a network")
    shown = ", ".join(f"{one} (private)" if is_private(one) else one for one in own[:MOST_NAMED])
    return ok("address", shown)


def behind_nat(port: int, own: Sequence[str], known: Sequence[str]) -> Iterator[Finding]:
    """Compare this machine's addresses with those where others are known to be (endpoints).

    A machine with private addresses only sits behind a router; somebody at a public one cannot dial it.
    """
    public = [endpoint for endpoint in known if is_public(endpoint)]
    if not public or not own or not all(is_private(address) for address in own):
        return
    text = f"this machine has private addresses only, and others are out in the internet ({public[0]})"
    mend = f"have the router forward port {port} to {own[0]}, and start with --advertise PUBLIC-ADDRESS:{port}"
    yield warning("router", text, mend)


def is_private(address: str) -> bool:
    """Whether an address holds only in its own network: RFC 1918, carrier NAT (RFC 6598), fc00::/7, link-local."""
    try:
        return not ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def is_public(endpoint: str) -> bool:
    """Whether an endpoint is out in the internet, by its form."""
    host = endpoint.rpartition(":")[0].strip("[]").lower()
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(LOCAL_NAMES)
