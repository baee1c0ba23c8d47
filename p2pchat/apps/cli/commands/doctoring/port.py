"""The port of a peer: is it free, is it the peer that has it, or somebody else?"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Mapping, Sequence

from p2pchat import Probed, probe
from p2pchat.apps.cli.commands.doctoring.finding import Finding, ok, warning, wrong
from p2pchat.commands.endpoints import host_port

NOBODY = {"refused", "no_answer", "unreachable", "no_such_host"}
LOOPBACKS = ("127.0.0.1", "::1")
PROBE_WITHIN = 2.0  # seconds: these are this machine's own addresses

Answers = Mapping[str, Probed]  # by address of this machine


async def answers(port: int, addresses: Sequence[str], data: str | None) -> dict[str, Probed]:
    """Ask this machine's own addresses who listens on `port`, loopback first."""
    places = [host_port(address, port) for address in addresses]
    found = await asyncio.gather(*(probe(place, data=data, timeout=PROBE_WITHIN) for place in places))
    return dict(zip(addresses, found, strict=True))


def port(number: int, found: Answers, holder: int | None) -> Finding:
    """Say who has the port.

    Args:
        found: What answered at this machine's addresses; {} when nobody was asked.
        holder: The process that holds the profile, None for nobody.
    """
    if any(one.verdict == "self" for one in found.values()):
        return ok("port", f"{number} is this peer's, which answers")
    somebody = next((one for one in found.values() if one.verdict not in NOBODY), None)
    if somebody is not None and somebody.verdict == "silent" and holder:
        text = f"{number} is taken by what says nothing, and process {holder} has this profile: it is stopped, or hangs"
        return wrong("port", text, f"fg in its terminal, or end it: {ender(holder)}")
    if somebody is not None:
        return wrong("port", f"{number} is taken by {who(somebody)}", f"find it with: {finder(number)}")
    trouble = bind_trouble(number)
    if trouble in (errno.EACCES, errno.EPERM):
        return wrong("port", f"this login may not listen on port {number}", "choose a port above 1023")
    if trouble:
        text = f"{number} is taken, by nobody who answers here" if found else f"{number} is taken"
        return wrong("port", text, f"find it with: {finder(number)}")
    if holder is not None:
        text = f"a peer runs on this profile and does not listen on port {number}"
        return warning("port", text, "look again when it has started, or say its port with --port")
    return ok("port", f"{number} is free")


def who(there: Probed) -> str:
    if there.peer_id:
        return f"another p2pchat peer ({there.peer_id[:8]})"
    return "a program that takes connections and says nothing" if there.verdict == "silent" else "another program"


def bind_trouble(number: int) -> int:
    """Return why a peer could not listen there, as errno; 0 when it could."""
    for host in ("127.0.0.1", "0.0.0.0"):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
            if os.name == "posix":  # as asyncio does; on Windows it would mean to take the port from others
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, number))
                trial.listen(1)
            except OSError as error:
                return error.errno or errno.EIO
    return 0


def ender(process: int) -> str:
    return f"taskkill /F /PID {process}" if sys.platform == "win32" else f"kill -9 {process}"


def finder(number: int) -> str:
    """Return the command that says which program has a port."""
    if sys.platform == "win32":
        return f"netstat -ano | findstr :{number}"
    return f"lsof -nP -iTCP:{number} -sTCP:LISTEN" if sys.platform == "darwin" else f"ss -ltnp 'sport = :{number}'"
