"""Commands about the mesh: linking with a peer, forgetting one, inviting."""

from __future__ import annotations

from p2pchat import TCPPeer
from p2pchat.commands.context import Answer, Here
from p2pchat.commands.endpoints import is_loopback, parse_endpoint
from p2pchat.commands.invites import beyond_loopback, endpoints_of, invite_screen
from p2pchat.commands.output import Line
from p2pchat.safe_text import safe_line

_AT_ONCE = 0.01  # seconds: how it goes on, the endpoint's own line says


async def connect(here: Here, endpoint: str) -> Answer:
    """Dial a peer, and go on until it answers."""
    where = parse_endpoint(endpoint)
    here.calls(where)
    await here.whole_peer.connect(where, timeout=_AT_ONCE)
    return Answer([{"endpoint": where}], [f"-- calling {where}"])


async def forget(here: Here, peer: str) -> Answer:
    """Dial a peer no more: by the name of its user, its id, or an endpoint."""
    forgotten = await here.whole_peer.forget(peer)
    endpoints = ", ".join(safe_line(endpoint) for endpoint in forgotten.endpoints)
    told = f"{endpoints}: dialled no more" if endpoints else "no address of it was known"
    linked = "; the link that is up stays until it ends" if forgotten.linked else ""
    return Answer([{"endpoints": list(forgotten.endpoints), "linked": forgotten.linked}], [f"-- {told}{linked}"])


async def invite(here: Here) -> Answer:
    """Show what another machine needs to join."""
    row = invite_row(here.whole_peer)
    lines = invite_screen(row["invite"], qr=here.interactive).splitlines()
    if row["only_this_machine"]:
        lines += ["-- now only this machine reaches this peer: start it with --host 0.0.0.0 for others"]
    return Answer([row], lines)


def invite_row(peer: TCPPeer) -> Line:
    """Return the invite to a peer, and whether others can follow it."""
    told = [endpoint.rpartition(":")[0] for endpoint in endpoints_of(peer.invite)]
    only_here = is_loopback(peer.address) and all(map(is_loopback, told))  # --advertise may lead here all the same
    invite = beyond_loopback(peer.invite, peer.port)
    return {"invite": invite, "host": peer.address, "port": peer.port, "only_this_machine": only_here}
