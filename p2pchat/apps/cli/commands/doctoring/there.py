"""`p2pchat doctor HOST:PORT`: from here to there, with one verdict."""

from __future__ import annotations

import contextlib
from pathlib import Path

from p2pchat import P2PChatError, Probed, open_history
from p2pchat.apps.cli.commands.doctoring.finding import Finding, ok, wrong
from p2pchat.apps.cli.program import command
from p2pchat.commands.endpoints import is_loopback
from p2pchat.commands.format import shown_name

MENDS = {
    "no_such_host": "check how the name is written, or use the address",
    "no_answer": "check the address and that the machine is on; there, let port {port} through firewall and router",
    "unreachable": "check the address, and that this machine is connected to that network",
    "cut": "a port forwarder with nobody behind it, or too many connections: start the peer there, or try again later",
    "silent": "check the port: a p2pchat peer greets at once; or the program there hangs",
    "other_program": "check the port: that is some other service",
    "other_version": "update the older of the two",
    "other_network": "join its network: p2pchat invite there, p2pchat PORT --invite - here",
    "busy": "try again later, or link with another peer: one is enough",
    "turned_away": "update both, and look at the events of the peer there",
}
HERE = "start a peer on that port: {start}"
THERE = "start the peer there so that others reach it: p2pchat {port} --host 0.0.0.0"


def there(found: Probed, name: str) -> Finding:
    """Say what is at an endpoint; `name` is what its peer is called here, "" when it is not known."""
    what, port = found.endpoint, found.endpoint.rpartition(":")[2]
    if found.verdict == "reached":
        who = shown_name(name) if name else f"peer {found.peer_id[:8]}"
        return ok(what, f"{who} answers, of the same network, in {milliseconds(found.seconds)}")
    if found.verdict == "self":
        return ok(what, "this peer itself answers: linking with it would do nothing")
    if found.verdict == "refused":
        mend = HERE if is_loopback(what.rpartition(":")[0]) else THERE
    else:
        mend = MENDS[found.verdict]
    at = f" ({found.address})" if found.address not in what else ""
    return wrong(what, found.text + at, mend.format(port=port, start=command(port)))


async def name_of(peer_id: str, directory: Path | None, db: str = "") -> str:
    """Return what the user of a peer is called in a profile, "" when nobody told."""
    if directory is None or not peer_id:
        return ""
    with contextlib.suppress(P2PChatError):
        async with open_history(directory, db=db or None) as history:
            return next((user.label for user in history.users() if user.id == peer_id), "")
    return ""


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"
