"""Commands about the peer and its network: /connect, /forget, /invite, /allow. Hosted users cannot give them."""

from __future__ import annotations

from p2pchat import TCPPeer
from p2pchat.commands.context import CommandContext, CommandResult
from p2pchat.commands.endpoints import is_loopback, parse_endpoint
from p2pchat.commands.errors import UsageError
from p2pchat.commands.invites import beyond_loopback, endpoints_of, invite_screen
from p2pchat.commands.output import EventLine
from p2pchat.commands.people_commands import is_id
from p2pchat.commands.render import quote_name
from p2pchat.safe_text import safe_line

_DIAL_TIMEOUT = 0.01  # seconds: the outcome is reported later, by the line of the endpoint


async def connect(ctx: CommandContext, endpoint: str) -> CommandResult:
    """Dial a peer until it answers."""
    where = parse_endpoint(endpoint)
    ctx.on_dial(where)
    await ctx.tcp_peer.connect(where, timeout=_DIAL_TIMEOUT)
    return CommandResult([{"endpoint": where}], [f"-- connecting to {where}"])


async def forget(ctx: CommandContext, peer: str) -> CommandResult:
    """Stop dialling a peer, given by the name of its user, its id or an endpoint."""
    forgotten = await ctx.tcp_peer.forget(peer)
    endpoints = ", ".join(safe_line(endpoint) for endpoint in forgotten.endpoints)
    done = f"no longer dialling {endpoints}" if endpoints else "no address of that peer was known"
    linked = "; the current link stays until it ends" if forgotten.linked else ""
    return CommandResult(
        [{"endpoints": list(forgotten.endpoints), "linked": forgotten.linked}], [f"-- {done}{linked}"]
    )  # fmt: skip


async def invite(ctx: CommandContext) -> CommandResult:
    """Show what another machine needs to join."""
    row = invite_row(ctx.tcp_peer)
    lines = invite_screen(row["invite"], qr=ctx.interactive).splitlines()
    if row["only_this_machine"]:
        lines += ["-- only this computer can reach you at the moment; start with --host 0.0.0.0 to let others in"]
    return CommandResult([row], lines)


def invite_row(peer: TCPPeer) -> EventLine:
    """Return the invite to a peer, and whether other machines can use it."""
    hosts = [endpoint.rpartition(":")[0] for endpoint in endpoints_of(peer.invite)]
    only_here = is_loopback(peer.address) and all(map(is_loopback, hosts))  # --advertise may name a tunnel to here
    invite = beyond_loopback(peer.invite, peer.port)
    return {"invite": invite, "host": peer.address, "port": peer.port, "only_this_machine": only_here}


async def allow(ctx: CommandContext, user: str) -> CommandResult:
    """Exempt a user from the storage limit for good."""
    one = user if is_id(user) else await ctx.resolve_user(user)
    if one == ctx.peer.me:
        raise UsageError("that is you: your own messages have no limit here")
    found = await ctx.tcp_peer.allow(one)
    row = {"user": found.label, "user_id": found.id, "allowed": True}
    return CommandResult([row], [f"-- everything {quote_name(found.label)} writes is stored, without a limit"])
