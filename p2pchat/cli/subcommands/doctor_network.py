"""Checks of the network, for `p2pchat doctor`: addresses, the port, known peers, one endpoint.

Whether a router or a firewall lets a connection through can only be seen from its other side. So these checks never
say that others can reach the peer. They say what to run on the other machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from p2pchat import KnownAddress, P2PChatError, Probed, open_history, probe
from p2pchat.cli.profiles import listen_error
from p2pchat.cli.subcommands.doctor_checks import Finding, ok, warning, wrong
from p2pchat.commands.endpoints import ANOTHER_ADDRESS, host_port, is_loopback
from p2pchat.commands.shell_command import command
from p2pchat.safe_text import quote_name, quote_names

MAX_NAMED = 4  # addresses in one line


def check_reachability(port: int, own: Sequence[str], found: Answers) -> Iterator[Finding]:
    """Check how others can reach a peer that may run on `port`.

    Args:
        own: This machine's addresses, without loopback.
        found: What answered at those and at loopback.
    """
    yield check_addresses(own)
    here = [address for address, one in found.items() if one.verdict == "self"]
    if not here:
        return
    outside = [address for address in here if address not in LOOPBACKS]
    if outside:
        there = host_port(outside[0], port)
        text = f"it answers on {there}; whether firewalls and routers let others in cannot be seen from here"
        yield ok("reach", text, f"on the other machine run: p2pchat doctor {there}")
    elif own and all(found[address].verdict == "refused" for address in own):
        text = "it listens on this machine's loopback only: no other machine can dial it"
        yield warning("reach", text, f"start it again with --host, for example: {command(port, '--host', '0.0.0.0')}")
    elif own:
        text = f"it does not answer on {host_port(own[0], port)}, not even to this machine"
        yield warning("reach", text, "check this machine's firewall, and --host")


def check_addresses(own: Sequence[str]) -> Finding:
    if not own:
        text = "this machine has no address except loopback: no other machine can reach it"
        return warning("address", text, "connect it to a network")
    shown = ", ".join(f"{one} (private)" if is_private(one) else one for one in own[:MAX_NAMED])
    return ok("address", shown)


def is_private(address: str) -> bool:
    """Return whether an address is private: RFC 1918, carrier NAT (RFC 6598), fc00::/7, link-local."""
    try:
        return not ipaddress.ip_address(address).is_global
    except ValueError:
        return False


# ---- port

NO_LISTENER = {"refused", "no_answer", "unreachable", "no_such_host"}
LOOPBACKS = ("127.0.0.1", "::1")
OWN_PROBE_TIMEOUT = 2.0  # seconds, for this machine's own addresses

Answers = Mapping[str, Probed]  # by address of this machine


async def probe_own_addresses(port: int, addresses: Sequence[str], data: str | None) -> dict[str, Probed]:
    """Probe `port` at this machine's own addresses."""
    places = [host_port(address, port) for address in addresses]
    found = await asyncio.gather(*(probe(place, data=data, timeout=OWN_PROBE_TIMEOUT) for place in places))
    return dict(zip(addresses, found, strict=True))


def check_port(number: int, found: Answers, holder: int | None) -> Finding:
    """Check who has the port.

    Args:
        found: What answered at this machine's addresses; {} when they were not probed.
        holder: The process that holds the profile, or None.
    """
    if any(one.verdict == "self" for one in found.values()):
        return ok("port", f"{number} is this peer's, which answers")
    other = next((one for one in found.values() if one.verdict not in NO_LISTENER), None)
    if other is not None and other.verdict == "silent" and holder:
        text = f"{number} is taken, but nothing answers, and process {holder} has this profile: it is stopped, or hangs"
        return wrong("port", text, f"fg in its terminal, or end it: {kill_command(holder)}")
    if other is not None:
        return wrong("port", f"{number} is taken by {describe(other)}", f"find it with: {find_command(number)}")
    trouble = bind_error(number)
    if trouble in (errno.EACCES, errno.EPERM):
        return wrong("port", f"this login may not listen on port {number}", "choose a port above 1023")
    if trouble:
        text = f"{number} is taken by a program that does not answer" if found else f"{number} is taken"
        return wrong("port", text, f"find it with: {find_command(number)}")
    if holder is not None:
        text = f"a peer is using this profile and does not listen on port {number}"
        return warning("port", text, "check again when it has started, or add --port with its port")
    return ok("port", f"{number} is free")


def describe(there: Probed) -> str:
    if there.peer_id:
        return f"another p2pchat peer ({there.peer_id[:8]})"
    return "a program that accepts connections and sends nothing" if there.verdict == "silent" else "another program"


def bind_error(number: int) -> int:
    """Return the errno for which a peer could not listen there, 0 when it could."""
    return next(filter(None, (listen_error(host, number) for host in ("127.0.0.1", "0.0.0.0"))), 0)


def kill_command(process: int) -> str:
    return f"taskkill /F /PID {process}" if sys.platform == "win32" else f"kill -9 {process}"


def find_command(number: int) -> str:
    """Return the command that shows which program has a port."""
    if sys.platform == "win32":
        return f"netstat -ano | findstr :{number}"
    return f"lsof -nP -iTCP:{number} -sTCP:LISTEN" if sys.platform == "darwin" else f"ss -ltnp 'sport = :{number}'"


# ---- known peers

MAX_PROBED_PEERS = 8  # those reached last
PEERS_PROBE_TIMEOUT = 3.0  # seconds


async def check_peers(known: Sequence[KnownAddress], data: str) -> Iterator[Finding]:
    """Check whether any known peer answers; one is enough, it tells of all others.

    Args:
        known: The known addresses, those reached last first.
    """
    labels = list(dict.fromkeys(one.user.label for one in known))[:MAX_PROBED_PEERS]
    asked = [one for one in known if one.user.label in labels]
    found = await asyncio.gather(*(probe(one.endpoint, data=data, timeout=PEERS_PROBE_TIMEOUT) for one in asked))
    best: dict[str, Probed] = {}
    for one, answer in zip(asked, found, strict=True):
        is_there = answer.verdict == "reached" and answer.peer_id == one.user.id
        if is_there or (one.user.label not in best and answer.verdict != "reached"):
            best[one.user.label] = answer
        elif one.user.label not in best:  # another peer has that address now
            best[one.user.label] = replace(answer, verdict="turned_away")
    return from_answers({label: answer for label, answer in best.items() if answer.verdict != "self"})


def from_answers(best: Mapping[str, Probed]) -> Iterator[Finding]:
    """Return which users answer, from the best answer for each label; nothing when none is known."""
    here = [label for label, answer in best.items() if answer.verdict == "reached"]
    if here:
        yield ok("peers", f"{len(here)} of {len(best)} known here answer: {quote_names(here)}")
    elif best:
        who, first = next(iter(best.items()))
        text = f"no peer known here answers: {quote_names(list(best))}"
        why = f"start one of them, or see why: p2pchat doctor {first.endpoint}"
        yield warning("peers", text, f"{why}; {quote_name(who)} may have another address: {ANOTHER_ADDRESS}")


# ---- one endpoint

REMEDIES = {
    "no_such_host": "check how the name is written, or use the address",
    "no_answer": "check the address and that the machine is on; there, let port {port} through firewall and router",
    "unreachable": "check the address, and that this machine is connected to that network",
    "cut": "a port forwarder with no peer behind it, or too many connections: start the peer there, or try again later",
    "silent": "check the port: a p2pchat peer answers at once; or the program there hangs",
    "other_program": "check the port: that is another service",
    "other_version": "update the older of the two",
    "other_network": "join its network: p2pchat invite there, p2pchat PORT --invite - here",
    "busy": "try again later, or link with another peer: one is enough",
    "turned_away": "update both, and check the events of the peer there",
}
START_HERE = "start a peer on that port: {start}"
START_THERE = "start the peer there so that others can reach it: p2pchat {port} --host 0.0.0.0"


def check_remote(found: Probed, name: str) -> Finding:
    """Check what answers at an endpoint.

    Args:
        found: The result of a probe.
        name: The name of the user there, "" when it is not known here.
    """
    what, port = found.endpoint, found.endpoint.rpartition(":")[2]
    if found.verdict == "reached":
        who = quote_name(name) if name else f"peer {found.peer_id[:8]}"
        return ok(what, f"{who} answers, of the same network, in {milliseconds(found.seconds)}")
    if found.verdict == "self":
        return ok(what, "this peer itself answers: linking with it would do nothing")
    if found.verdict == "refused":
        mend = START_HERE if is_loopback(what.rpartition(":")[0]) else START_THERE
    else:
        mend = REMEDIES[found.verdict]
    at = f" ({found.address})" if found.address not in what else ""
    return wrong(what, found.text + at, mend.format(port=port, start=command(port)))


async def user_label(peer_id: str, directory: Path | None, db: str = "") -> str:
    """Return the label of a peer's user as a profile knows it, "" when it does not."""
    if directory is None or not peer_id:
        return ""
    with contextlib.suppress(P2PChatError):
        async with open_history(directory, db=db or None) as history:
            return next((user.label for user in history.users() if user.id == peer_id), "")
    return ""


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"
