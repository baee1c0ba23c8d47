"""Commands about users (/who, /whois, /ignore, /unignore, /block, /unblock, /allow),
oneself (/nick, /about, /away, /back), and peers (/devices, /connect, /forget).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from p2pchat import Conversation, User
from p2pchat.addresses import parse_endpoint
from p2pchat.commands.command_context import CommandContext
from p2pchat.commands.command_table import ALL
from p2pchat.commands.display import CommandResult
from p2pchat.commands.event_text import (
    UNREACHABLE,
    EventLine,
    cut_by,
    excerpt,
    find_obstacle,
    format_device,
    format_user,
    format_whois,
    is_gateway,
    local_now,
    user_fields,
)
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.shell_command import command
from p2pchat.commands.standard_output import iso_or_none
from p2pchat.safe_text import quote_name, safe_line

MAX_STATUS_CHARACTERS = 512  # limit of the protocol
NOTHING = "-"  # typed to clear the /about text
MAX_LISTED = 40  # users or conversations listed for people, but all users who are online; a guess
Change = Callable[[User | str], Awaitable[User]]  # as TCPPeer.block
_STATUS_ORDER = ("online", "idle", UNREACHABLE, "offline", "unknown")


async def who(ctx: CommandContext) -> CommandResult:
    """List users, online ones first. Programs, and people with ALL, get everyone known.

    Otherwise people get who is here and with whom they have a direct conversation. The rest are programs that ran once,
    closed accounts, and people who wrote in the room alone.
    """
    users = sorted(ctx.peer.users(), key=lambda user: _STATUS_ORDER.index(user.status))
    known, now = len(users), local_now()
    if not ctx.shows_all:
        talking = {one.user for one in ctx.peer.recent_conversations()}
        users = [user for user in users if user in talking or is_present(_status_row(user))]
        users = users[: max(MAX_LISTED, len(ctx.peer.here()))]
    rows = [user_row(user) for user in users]
    others = [f"-- and {known - len(users)} more offline: /who {ALL} shows them too"] if known > len(users) else []
    return CommandResult(rows, [*(format_user(row, now) for row in rows), *others])


def _status_row(user: User) -> EventLine:
    return {"me": user.is_me, "status": user.status, "text": user.status_text}


def is_present(row: EventLine) -> bool:
    """Return whether a row of /who is of someone who is here, or elsewhere. It needs `me`, `status` and `text`."""
    return bool(row["me"]) or row["status"] in ("online", "idle", UNREACHABLE) or is_gateway(row)


async def whois(ctx: CommandContext, user: User | str) -> CommandResult:
    """Show everything known about a user."""
    known = await ctx.peer.whois(user)
    hosts = [
        {
            "peer_id": host.id,
            "this": host.is_this,
            "linked": host.linked,
            "address": host.address,
            "via": host.via,
            "endpoints": list(host.endpoints),
        }
        for host in known.hosts
    ]
    row = {
        **user_row(known.user),
        "known_since": iso_or_none(known.known_since),
        "allowed": known.allowed,
        "hosts": hosts,
        "linked": any(host.linked for host in known.hosts),
    }
    return CommandResult([row], format_whois(row, local_now()))


def user_row(user: User) -> EventLine:
    """Return one row of /who, or of `p2pchat users`."""
    row: EventLine = {
        **user_fields(user),
        "name": user.name,
        **_status_row(user),
        "since": iso_or_none(user.since),
        "via": user.via,
        "cut_by": cut_by(user.cause),
        "ignored": user.ignored,
        "blocked": user.blocked,
        "about": user.about,
        "names_before": list(user.names_before),
    }
    if user.expelled:
        row["expelled"] = True
    return row


async def nick(ctx: CommandContext, name: str) -> CommandResult:
    await ctx.peer.rename(name)
    me = ctx.peer.me
    ctx.display.me = me.label
    ctx.unread.name = me.name
    row = {**user_fields(me), "name": me.name}
    return CommandResult([row], [f"-- you are now {quote_name(me.label)}"])


async def about(ctx: CommandContext, text: str | None = None) -> CommandResult:
    """Set the own /about text; "" or - clears it, None shows it."""
    if text is not None:
        await ctx.peer.rename(ctx.peer.me.name, about="" if text == NOTHING else text)
    me = ctx.peer.me
    row = {**user_fields(me), "about": me.about}
    shown = f"about you: {excerpt(me.about, len(me.about))}" if me.about else "your about text is empty"
    return CommandResult([row], [f"-- {shown}"])


async def away(ctx: CommandContext, text: str = "") -> CommandResult:
    """Set the status to away with a text; without one, back to online."""
    if not text:
        return await back(ctx)
    if len(text) > MAX_STATUS_CHARACTERS:
        raise UsageError(f"a status has at most {MAX_STATUS_CHARACTERS} characters, this one has {len(text)}")
    ctx.activity.away(text)
    await _let_peer_apply()
    return CommandResult([{"status": "idle", "text": text}], ["-- others see that you are away; /back when you return"])


async def back(ctx: CommandContext) -> CommandResult:
    ctx.activity.back()
    await _let_peer_apply()
    return CommandResult([{"status": "online", "text": ""}], ["-- others see that you are back"])


async def _let_peer_apply() -> None:
    """Let the peer apply a new status in its next turn, so that a /who that follows shows it."""
    await asyncio.sleep(0)


async def typing(ctx: CommandContext, to: Conversation, on: bool = True) -> CommandResult:
    """Send a typing indicator, or its end; nothing where /set typing is off."""
    is_sent = ctx.settings.shows_typing(to.id)
    if is_sent:
        to.typing(on)
    return CommandResult([{"conversation": to.name, "conversation_id": to.id, "typing": on and is_sent}])


async def ignore(ctx: CommandContext, user: User | str | None = None) -> CommandResult:
    """Ignore a user; without one, list ignored users."""
    if user is None:
        return _hidden(ctx.peer.ignored(), "ignored", "/unignore shows them again")
    return await _hide(ctx, ctx.peer.ignore, user, "ignored", " from now on")


async def unignore(ctx: CommandContext, user: User | str) -> CommandResult:
    return await _unhide(ctx, ctx.peer.ignored(), ctx.peer.unignore, user, "ignored")


async def block(ctx: CommandContext, user: User | str | None = None) -> CommandResult:
    """Block a user; without one, list blocked users."""
    if user is None:
        return _hidden(ctx.peer.blocked(), "blocked", "/unblock lifts that")
    done = ": no link, nothing stored, nothing shown; nobody is told"
    return await _hide(ctx, ctx.peer.block, user, "blocked", done)


async def unblock(ctx: CommandContext, user: User | str) -> CommandResult:
    done = ": what was written meanwhile arrives"
    return await _unhide(ctx, ctx.peer.blocked(), ctx.peer.unblock, user, "blocked", done)


def _hidden(users: Sequence[User], how: str, hint: str) -> CommandResult:
    lines = [f"-- {quote_name(user.label)} is {how}: {hint}" for user in users]
    return CommandResult([_hidden_row(user, how) for user in users], lines or [f"-- nobody is {how}"])


async def _hide(ctx: CommandContext, change: Change, user: User | str, how: str, done: str) -> CommandResult:
    found = await change(user)
    ctx.unread.forget_sender(found.id)
    return CommandResult([_hidden_row(found, how)], [f"-- {quote_name(found.label)} is {how}{done}"])


async def _unhide(
    ctx: CommandContext, hidden: Sequence[User], change: Change, user: User | str, how: str, done: str = ""
) -> CommandResult:
    if not any(user in (one, one.id) for one in hidden):
        raise UsageError(f"{quote_name(user if isinstance(user, str) else user.label)} is not {how}")
    found = await change(user)
    await ctx.recount_unread()
    return CommandResult([_hidden_row(found, how)], [f"-- {quote_name(found.label)} is no longer {how}{done}"])


def _hidden_row(user: User, how: str) -> EventLine:
    return {**user_fields(user), how: getattr(user, how)}


# ---- peers: hosted users cannot give these commands, nor /allow


_DIAL_TIMEOUT = 0.01  # seconds: the outcome is reported later, by the line of the endpoint


async def devices(ctx: CommandContext) -> CommandResult:
    """List the machines of the own user, and say how another one is added."""
    rows = [
        {
            "peer_id": one.peer_id,
            "name": one.name,
            "since": iso_or_none(one.since),
            "this": one.is_this,
            "linked": one.linked,
            "last_seen": iso_or_none(one.last_seen),
        }
        for one in ctx.tcp_peer.devices()
    ]
    now = local_now()
    lines = [format_device(row, now) for row in rows]
    hint = find_obstacle(ctx.tcp_peer, ()) or f"to add one, in a shell: {command('device', 'add')}"
    return CommandResult(rows, [*lines, f"-- {hint}"])


async def revoke_device(ctx: CommandContext, machine: str) -> CommandResult:
    """Shut out a machine of the own user. Who types that is asked first."""
    found = ctx.tcp_peer.people.device(machine)
    shown = f"{safe_line(found.name)} {found.peer_id[:8]}".strip()  # a machine says itself what it is called
    if not await ctx.confirm(f"{shown} can never come back: shut it out?"):
        return CommandResult(lines=["-- nothing was changed"])
    await ctx.tcp_peer.people.revoke_device(found.peer_id)
    return CommandResult([{"peer_id": found.peer_id, "revoked": True}])


async def rename_device(ctx: CommandContext, machine: str, name: str) -> CommandResult:
    """Call a machine of the own user otherwise."""
    renamed = await ctx.tcp_peer.people.rename_device(machine, name)
    row = {"peer_id": renamed.peer_id, "name": renamed.name}
    return CommandResult([row], [f"-- that machine is now your {quote_name(renamed.name)}"])


async def connect(ctx: CommandContext, endpoint: str) -> CommandResult:
    """Dial a peer until it answers; the chat reports on the endpoint."""
    where = parse_endpoint(endpoint)
    ctx.on_dial(where)
    await ctx.tcp_peer.connect(where, timeout=_DIAL_TIMEOUT)
    return CommandResult([{"endpoint": where}])


async def forget(ctx: CommandContext, peer: str) -> CommandResult:
    """Stop dialling a peer, given by the name of its user, its id or an endpoint."""
    forgotten = await ctx.tcp_peer.forget(peer)
    endpoints = ", ".join(safe_line(endpoint) for endpoint in forgotten.endpoints)
    done = f"no longer dialling {endpoints}" if endpoints else "no address of that peer was known"
    linked = "; the current link stays until it ends" if forgotten.linked else ""
    return CommandResult(
        [{"endpoints": list(forgotten.endpoints), "linked": forgotten.linked}], [f"-- {done}{linked}"]
    )  # fmt: skip


async def allow(ctx: CommandContext, user: User | str) -> CommandResult:
    """Exempt a user from the storage limit for good."""
    if user == ctx.peer.me:
        raise UsageError("that is you: your own messages have no limit here")
    found = await ctx.tcp_peer.allow(user)
    row = {**user_fields(found), "allowed": True}
    return CommandResult([row], [f"-- everything {quote_name(found.label)} writes is stored, without a limit"])
