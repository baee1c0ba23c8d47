"""Commands about the people of the network: invites, who is a member, and what the founder and the admins decide."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from p2pchat import MadeInvite, Member, TCPPeer, User
from p2pchat.commands.command_context import CommandContext
from p2pchat.commands.display import CommandResult
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.standard_output import iso
from p2pchat.safe_text import quote_name, quote_names


def network_members(peer: TCPPeer) -> CommandResult:
    """Return who is a member of the network, and who was expelled."""
    rows = [member_row(peer, member) for member in peer.people.members()]
    return CommandResult(rows, [f"-- {member_text(row)}" for row in rows])


def member_row(peer: TCPPeer, member: Member) -> EventLine:
    """Return a member for programs. `user` is the first of its users; the key of the member where none is known."""
    shown = member.users[0] if member.users else peer.user(member.key)
    return {
        "user": shown.label,
        "user_id": shown.id,
        "users": [user.label for user in member.users],
        "user_ids": [user.id for user in member.users],
        "role": member.role,
        "since": None if member.since is None else iso(member.since),
        "by": None if member.by is None else member.by.label,
        "by_id": None if member.by is None else member.by.id,
        "invite": member.invite,
        "online": member.online,
        "me": member.is_me,
    }


def member_text(row: EventLine) -> str:
    """Return a row of `members` for people."""
    names = quote_names(row["users"]) or quote_name(row["user"])
    role = "" if row["role"] == "member" else f" ({row['role']})"
    online = ", online" if row["online"] and row["role"] != "expelled" else ""
    how = ""
    if row["since"] is not None:
        day = datetime.fromisoformat(row["since"]).astimezone().strftime("%d %b %Y")
        did = "expelled" if row["role"] == "expelled" else "admitted"
        how = f", {did} by {quote_name(row['by'])} on {day}" if row["by"] else f", {did} on {day}"
    invite = f", invite {row['invite']}" if row["invite"] else ""
    return f"{names}{role}{' (you)' if row['me'] else ''}{online}{how}{invite}"


async def invites(ctx: CommandContext) -> CommandResult:
    """List the invites that this peer made."""
    peer = ctx.tcp_peer
    rows = [invite_terms_row(peer, made) for made in peer.people.invites()]
    return CommandResult(rows, [f"-- {invite_text(row)}" for row in rows] or ["-- this peer has made no invite"])


def invite_terms_row(peer: TCPPeer, made: MadeInvite) -> EventLine:
    """Return an invite that this peer made, for programs."""
    came = [peer.people.speaker(key) for key in made.used_by]
    return {
        "id": made.id,
        "uses": made.uses,
        "uses_left": max(0, made.uses - len(made.used_by)),
        "until": iso(_time(made.until)),
        "made_at": iso(_time(made.made_at)),
        "revoked_at": iso(_time(made.revoked_at)) if made.revoked_at else None,
        "used_by": [user.label for user in came],
        "used_by_ids": [user.id for user in came],
    }


def invite_text(row: EventLine) -> str:
    """Return a row of `invites` for people."""
    until = datetime.fromisoformat(row["until"]).astimezone()
    state = f"until {until:%d %b %Y %H:%M}" if until > _now() else f"ended {until:%d %b %Y %H:%M}"
    if row["revoked_at"]:
        state = "revoked"
    came = f", came by it: {quote_names(row['used_by'])}" if row["used_by"] else ""
    return f"{row['id']}  {row['uses_left']} of {row['uses']} uses left, {state}{came}"


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds).astimezone()


def _now() -> datetime:
    return datetime.now().astimezone()


async def revoke(ctx: CommandContext, message: str) -> CommandResult:
    """Admit nobody any more by an invite that this peer made. The field `id` of every command comes as `message`."""
    await ctx.tcp_peer.people.revoke(message)
    return CommandResult([{"id": message, "revoked": True}], [f"-- the invite {message} admits nobody any more"])


async def expel(
    ctx: CommandContext, user: User | str = "", only: bool = False, hide: bool = False, invite: str = ""
) -> CommandResult:
    """Expel a person, or everybody who came by an invite."""
    peer = ctx.tcp_peer
    if bool(user) == bool(invite):
        raise UsageError("expel one: a person, or those who came by an invite")
    if invite:
        found = await peer.people.expel_invited(invite, hide=hide)
    else:
        found = [await peer.people.expel(user, only=only, hide=hide)]
    return _decided(peer, found, "expelled")


async def pardon(ctx: CommandContext, user: User | str) -> CommandResult:
    """Take back that somebody was expelled."""
    return _decided(ctx.tcp_peer, [await ctx.tcp_peer.people.pardon(user)], "a member again")


async def admin(ctx: CommandContext, user: User | str) -> CommandResult:
    """Make a member an admin."""
    return _decided(ctx.tcp_peer, [await ctx.tcp_peer.people.make_admin(user)], "an admin now")


async def unadmin(ctx: CommandContext, user: User | str) -> CommandResult:
    """Make an admin a plain member again."""
    return _decided(ctx.tcp_peer, [await ctx.tcp_peer.people.make_admin(user, on=False)], "a plain member again")


def _decided(peer: TCPPeer, found: Iterable[Member], what: str) -> CommandResult:
    rows = [member_row(peer, member) for member in found]
    return CommandResult(rows, [f"-- {quote_names(row['users']) or quote_name(row['user'])}: {what}" for row in rows])
