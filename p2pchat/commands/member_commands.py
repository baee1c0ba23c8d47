"""Commands about the network and its members: /members, /invite, /invites, /revoke, /expel, /pardon, /admin, /unadmin.

A terminal shows the event of a change of a member, by whomever; programs get who was changed as the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from p2pchat import Conversation, Group, MadeInvite, Member, TCPPeer, User
from p2pchat.commands.command_context import CommandContext
from p2pchat.commands.command_table import ALL
from p2pchat.commands.conversation_commands import group_members, make_group_admin
from p2pchat.commands.display import CommandResult
from p2pchat.commands.event_text import EventLine, format_invite, format_member, local_now, user_fields, users_fields
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.invite_screen import invite_screen, names_loopback, terms_of
from p2pchat.commands.people_commands import MAX_LISTED
from p2pchat.commands.standard_output import iso, iso_or_none
from p2pchat.safe_text import MAX_NAMES, quote_name, quote_names

INVITE_DAYS = 7.0  # for which an invite is good, as TCPPeer.make_invite says
AT_ONCE = 50  # rows that are made in one step of the loop: about 2 ms


async def members(ctx: CommandContext, to: Conversation | None = None) -> CommandResult:
    """List the members of a group, or of the network: without a group, and in a line that says so with ALL."""
    if isinstance(to, Group):
        return group_members(ctx, to)
    if to is not None and to.kind != "room" and ctx.line is None:
        raise UsageError(f"{to.name!r} is not a group: write #NAME, or leave `to` out for the members of this network")
    return await list_members(ctx, ctx.tcp_peer)


async def list_members(ctx: CommandContext, peer: TCPPeer) -> CommandResult:
    """Return the members of a peer's network, with the names that the user of the session knows.

    People who do not ask for ALL get the first ones, and how many were expelled.
    """
    rows = list[EventLine]()
    for member in await peer.people.list_members():
        rows.append(member_row(ctx, peer, member))
        if len(rows) % AT_ONCE == 0:
            await asyncio.sleep(0)
    if not ctx.for_people:
        return CommandResult(rows)
    now = local_now()
    listed = [row for row in rows if ctx.shows_all or row["role"] != "expelled"]
    shown = listed if ctx.shows_all else listed[:MAX_LISTED]
    more, out = len(listed) - len(shown), len(rows) - len(listed)
    others = [f"-- and {more} more: /members {ALL} shows them too"] if more else []
    others += [f"-- {out} {'was' if out == 1 else 'were'} expelled: /members {ALL} shows them too"] if out else []
    return CommandResult(rows, [*(format_member(row, now) for row in shown), *others])


def member_row(ctx: CommandContext, peer: TCPPeer, member: Member) -> EventLine:
    """Return a member for programs: `user` stands for it, `users` are some of the `count` for whom it answers."""
    of = ctx.peer.directory
    users = [of.user(user.key) for user in member.users]
    stands = of.user(peer.people.speaker(member.key).key)
    by = None if member.by is None else of.user(member.by.key)
    me = any(user.is_me for user in users)
    return {
        **user_fields(stands),
        **users_fields("users", users),
        "count": member.count,
        "role": member.role,
        "since": iso_or_none(member.since),
        **user_fields(by, "by"),
        "invite": member.invite or None,
        "online": member.role != "expelled" and member.online,
        "me": me,
        "decides": me and peer.people.decides,
    }


# ---- invites


async def invite(ctx: CommandContext, uses: int = 1, days: float = INVITE_DAYS) -> CommandResult:
    """Make an invite, and show what another machine needs to join."""
    row = await invite_row(ctx.tcp_peer, uses, days)
    screen = invite_screen(row["invite"], only_here=row["only_this_machine"])
    return CommandResult([row], screen.splitlines())


async def invite_row(peer: TCPPeer, uses: int = 1, days: float = INVITE_DAYS) -> EventLine:
    """Return a new invite by a peer, whom it admits, and whether other machines can use it."""
    made = await peer.make_invite(uses=uses, days=days)
    return {
        "invite": made,
        **terms_of(made),
        "host": peer.address,
        "port": peer.port,
        "only_this_machine": names_loopback(made, peer.address, peer.port),
    }


async def invites(ctx: CommandContext) -> CommandResult:
    """List the invites that this peer made, the newest first."""
    rows = [_made_row(ctx.tcp_peer, one) for one in ctx.tcp_peer.people.invites()]
    now = local_now()
    return CommandResult(rows, [format_invite(row, now) for row in rows] or ["-- this peer made no invite so far"])


async def revoke(ctx: CommandContext, invite: str) -> CommandResult:
    people = ctx.tcp_peer.people
    await people.revoke(invite)
    row = next(_made_row(ctx.tcp_peer, one) for one in people.invites() if one.id == invite)
    return CommandResult([row], [f"-- nobody comes by the invite {invite} any more"])


def _made_row(peer: TCPPeer, made: MadeInvite) -> EventLine:
    return {
        "invite": made.id,
        "uses": made.uses,
        "made_at": _moment(made.made_at),
        "until": _moment(made.until),
        "revoked_at": _moment(made.revoked_at) if made.revoked_at else None,
        **users_fields("used_by", map(peer.people.speaker, made.used_by)),
        "expelled": [peer.people.speaker(member).label for member in made.expelled],
    }


def _moment(seconds: int) -> str:
    return iso(datetime.fromtimestamp(seconds, UTC))


# ---- what the founder and the admins decide


async def expel(
    ctx: CommandContext, user: User | str | None = None, invite: str | None = None, only: bool = False,
    hide: bool = False, with_admitted: bool = False, since: datetime | None = None, plan: bool = False,
) -> CommandResult:  # fmt: skip
    """Expel a person, or everybody who came by an invite. Who types it is asked first.

    Args:
        plan: Return what would happen instead: one row, of which a question is made.
    """
    people = ctx.tcp_peer.people
    if (user is None) == (invite is None):
        raise UsageError("name a user or an invite: whom to expel")
    goes = with_admitted or since is not None
    if invite is not None:
        if only or goes:
            raise UsageError("`only`, `with_admitted` and `since` belong to a user: by an invite whole members come")
        out = [user for one in people.invited(invite) for user in _users(ctx, one)]
        if plan:
            return CommandResult([{"invite": invite, "users": [one.label for one in out]}])
        rows = [{**user_fields(one), "expelled": True} for one in out]  # as they are called before
        await people.expel_invited(invite, hide=hide)
        line = f"-- nobody came by the invite {invite}; it admits nobody any more"
        return CommandResult(rows, [] if rows else [line])
    assert user is not None
    out = people.would_expel(user, only=only, hide=hide)
    going = await people.admitted(user, since)
    found = people.find(user)
    row = {
        **user_fields(out[0]),
        "users": [one.label for one in found.users],
        "alone": len(out) == 1,
        "count": found.count,
        "admitted": len(going),
        "newest": [_users(ctx, one)[0].label for one in going[:MAX_NAMES]],
    }
    if plan:
        return CommandResult([row])
    if not await ctx.confirm(f"{expel_question(row, hide=hide, with_admitted=goes)} Expel?", row["user_id"]):
        return CommandResult(lines=["-- nobody was expelled"])
    out += [_users(ctx, one)[0] for one in going if goes]
    rows = [{**user_fields(one), "expelled": True} for one in out]
    await people.expel(user, only=only, hide=hide, with_admitted=goes, since=since)
    return CommandResult(rows)


def expel_question(row: EventLine, *, hide: bool, with_admitted: bool) -> str:
    """Return what a plan expels, and what becomes of what they wrote, as sentences."""
    if "invite" in row:
        who = quote_names(row["users"]) if row["users"] else "nobody so far"
        said = f"Everybody who came by the invite {row['invite']} will be expelled: {who}. It admits nobody any more."
    else:
        said = _expelled_member(row, with_admitted=with_admitted)
    if hide:
        return f"{said} What they wrote is shown to nobody any more, and stays on the disks of those who have it."
    return f"{said} What they wrote stays, and they keep what they have received; --hide shows nothing of it any more."


def _expelled_member(row: EventLine, *, with_admitted: bool) -> str:
    label, others = quote_name(row["user"]), [one for one in row["users"] if one != row["user"]]
    more = quote_names(others, row["count"] - 1)
    if not others:
        said = f"{label} will be expelled."
    elif row["alone"]:
        said = f"{label} alone will be expelled, and not {more}, who belong to the same member."
    else:
        said = f"{label} will be expelled, and with it all users of the same member: {more}."
    if not row["admitted"]:
        return said
    fate = "they are expelled too" if with_admitted else "they stay, unless --with-admitted expels them too"
    return f"{said} {label} admitted {row['admitted']}, last {quote_names(row['newest'], row['admitted'])}: {fate}."


async def pardon(ctx: CommandContext, user: User | str) -> CommandResult:
    """Take back that somebody was expelled."""
    found = await ctx.tcp_peer.people.pardon(user)
    return CommandResult([{**user_fields(one), "expelled": False} for one in _users(ctx, found)])


async def admin(ctx: CommandContext, user: User | str, to: Conversation | None = None) -> CommandResult:
    """Make a member an admin: of the group that is open, else of the network."""
    if isinstance(to, Group):
        return await make_group_admin(ctx, to, user, on=True)
    found = await ctx.tcp_peer.people.make_admin(user)
    who = _users(ctx, found)[0]
    line = f"-- {quote_name(who.label)} may invite and expel already"
    row = {**user_fields(who), "admin": True}
    return CommandResult([row], [line] if found.role != "member" else [])


async def unadmin(ctx: CommandContext, user: User | str, to: Conversation | None = None) -> CommandResult:
    """Make an admin a plain member: of the group that is open, else of the network. Who types that is asked first."""
    if isinstance(to, Group):
        return await make_group_admin(ctx, to, user, on=False)
    people = ctx.tcp_peer.people
    found = people.find(user)
    who = _users(ctx, found)[0]
    if found.role == "admin":  # what else is wrong is said without a question
        name = quote_name(who.label)
        if not await ctx.confirm(f"{name} can never be an admin again: make {name} a plain member?", who.id):
            return CommandResult(lines=["-- nothing was changed"])
    await people.make_admin(user, on=False)
    return CommandResult([{**user_fields(who), "admin": False}])


def _users(ctx: CommandContext, member: Member) -> Sequence[User]:
    return member.users or (ctx.tcp_peer.directory.user(member.key),)
