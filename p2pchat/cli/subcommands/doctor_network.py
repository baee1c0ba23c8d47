"""Checks of the network, for `p2pchat doctor`: addresses, the port, known peers, one endpoint.

Whether a router or a firewall lets a connection through can only be seen from its other side. So these checks never
say that others can reach the peer. They say what to run on the other machine.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence

from p2pchat import KnownAddress, Probed, probe
from p2pchat.addresses import LOOPBACK, is_loopback, join_endpoint
from p2pchat.cli.profiles import listen_error
from p2pchat.cli.subcommands.doctor_checks import Finding, ok, warning, wrong
from p2pchat.commands.endpoints import ANOTHER_ADDRESS, EVERYWHERE
from p2pchat.commands.shell_command import command
from p2pchat.safe_text import quote_name, quote_names

MAX_NAMED = 4  # addresses in one line


def check_reachability(host: str, port: int, own: Sequence[str]) -> Iterator[Finding]:
    """Check how others can reach a peer.

    Args:
        host: The address on which it listens; "" if that is not known.
        own: This machine's addresses, without loopback.
    """
    if not own:
        text = "this machine has no address except loopback: no other machine can reach it"
        yield warning("address", text, "connect it to a network")
        return
    yield ok("address", ", ".join(shown_address(one) for one in own[:MAX_NAMED]))
    if is_loopback(host):
        text = "it listens on this machine's loopback only: no other machine can dial it"
        yield warning("reach", text, f"start it again with --host, for example: {command(port, '--host', EVERYWHERE)}")
    elif host:
        there = join_endpoint(host if host in own else own[0], port)
        text = f"it listens on {host}; whether firewalls and routers let others in cannot be seen from here"
        yield ok("reach", text, f"on the other machine run: p2pchat doctor {there}")


def shown_address(address: str) -> str:
    """Return an address, and whether it is private: RFC 1918, carrier NAT (RFC 6598), fc00::/7, link-local."""
    return address if ipaddress.ip_address(address).is_global else f"{address} (private)"


# ---- port

NO_LISTENER = {"refused", "no_answer", "unreachable", "no_such_host"}
OWN_PROBE_TIMEOUT = 2.0  # seconds, for this machine's own address


async def check_port(number: int, data: str | None, holder: int | None) -> Finding:
    """Check who has the port of a peer that answers no commands.

    Args:
        data: The profile that the port is probed with; None if its key or its network cannot be read.
        holder: The process that holds the profile, or None.
    """
    if data is not None:
        found = await probe(number, data=data, timeout=OWN_PROBE_TIMEOUT)
        if found.verdict == "self":
            return ok("port", f"{number} is this peer's, which answers")
        if found.verdict == "silent" and holder:
            who = f"process {holder} has this profile: it is stopped, or hangs"
            mend = f"fg in its terminal, or end it: {kill_command(holder)}"
            return wrong("port", f"{number} is taken, but nothing answers, and {who}", mend)
        if found.verdict not in NO_LISTENER:
            return wrong("port", f"{number} is taken by {describe(found)}", f"find it with: {find_command(number)}")
    trouble = bind_error(number)
    if trouble in (errno.EACCES, errno.EPERM):
        return wrong("port", f"this login may not listen on port {number}", "choose a port above 1023")
    if trouble:
        return wrong("port", f"{number} is taken", f"find it with: {find_command(number)}")
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
    return listen_error(LOOPBACK, number) or listen_error(EVERYWHERE, number)


def kill_command(process: int) -> str:
    return f"taskkill /F /PID {process}" if sys.platform == "win32" else f"kill -9 {process}"


def find_command(number: int) -> str:
    """Return the command that shows which program has a port."""
    if sys.platform == "win32":
        return f"netstat -ano | findstr :{number}"
    return f"lsof -nP -iTCP:{number} -sTCP:LISTEN" if sys.platform == "darwin" else f"ss -ltnp 'sport = :{number}'"


# ---- known peers

MAX_PROBED = 16  # addresses, those reached last
PEERS_PROBE_TIMEOUT = 3.0  # seconds


async def check_peers(known: Sequence[KnownAddress], data: str, *, runs: bool = False) -> list[Finding]:
    """Check whether any known peer answers; one is enough, it tells of all others.

    Args:
        known: The known addresses, those reached last first.
        runs: The peer of the profile runs, and has no link.
    """
    asked = known[:MAX_PROBED]
    found = await asyncio.gather(*(probe(one.endpoint, data=data, timeout=PEERS_PROBE_TIMEOUT) for one in asked))
    endpoints: dict[str, str] = {}
    here = set()
    for one, answer in zip(asked, found, strict=True):
        endpoints.setdefault(one.user.label, one.endpoint)
        if answer.verdict == "reached" and answer.peer_id == one.user.id:  # else another peer has that address now
            here.add(one.user.label)
    return from_answers(endpoints, here, runs=runs)


def from_answers(endpoints: Mapping[str, str], here: Collection[str], *, runs: bool = False) -> list[Finding]:
    """Return which of the known users answer; nothing when none is known."""
    answering = f"{len(here)} of {len(endpoints)} known here answer: {quote_names(sorted(here))}"
    if here and runs:
        return [warning("peers", f"linked with nobody, though {answering}", "start it again: its first lines say why")]
    if here:
        return [ok("peers", answering)]
    if not endpoints:
        return []
    who = next(iter(endpoints))
    why = f"start one of them, or see why: p2pchat doctor {endpoints[who]}"
    text = f"no peer known here answers: {quote_names([*endpoints])}"
    return [warning("peers", text, f"{why}; {quote_name(who)} may have another address: {ANOTHER_ADDRESS}")]


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


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"
