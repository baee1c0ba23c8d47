"""Commands about conversations: /list, /go, and groups: /group, /add, /kick, /leave, /rename, /owner.

A terminal shows the event of a change of a group, by any member; programs get the changed group as the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from p2pchat import (
    AmbiguousName,
    Conversation,
    DeletedHistory,
    Group,
    HostedUser,
    Sent,
    TCPPeer,
    UnansweredConversation,
    UnknownName,
    User,
)
from p2pchat.commands.command_context import CommandContext
from p2pchat.commands.command_table import ALL
from p2pchat.commands.display import CommandResult
from p2pchat.commands.event_text import (
    EventLine,
    excerpt,
    format_conversation,
    format_deletion,
    format_user,
    local_now,
    said,
    user_fields,
    users_fields,
)
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.people_commands import MAX_LISTED, user_row
from p2pchat.commands.unread_counter import UnreadCounter
from p2pchat.safe_text import quote_conversation, quote_name, quote_place

UserOrId = User | str  # a user, or the full id of a user who may never have been met


# ---- conversations


async def go(ctx: CommandContext, to: str = "room") -> CommandResult:
    """Switch to a conversation; the display shows people where they are."""
    there = await ctx.wait_for_name(lambda: _find_user_or_group(ctx, to))
    await ctx.switch_to(there)
    return CommandResult([{"conversation": there.name, "conversation_id": there.id, "kind": there.kind}])


def _find_user_or_group(ctx: CommandContext, to: str) -> Conversation:
    """Return the conversation of an address; a bare name may be a user or a group.

    Raises:
        UnknownName: Neither has this name. AmbiguousName: Both have it, or several.
    """
    found: list[Conversation] = []
    several: list[str] = []
    try:
        found.append(ctx.peer.find(to))
    except AmbiguousName as error:
        several += error.candidates
    except UnknownName as error:
        unknown = error
    if to.lstrip()[:1] not in ("#", "@"):
        try:
            found.append(ctx.peer.group(to))
        except AmbiguousName as error:
            several += error.candidates
        except UnknownName:
            pass
    if several or len(found) > 1:
        raise AmbiguousName(to, [*(one.address for one in found), *several])
    if not found:
        raise unknown
    return found[0]


async def list_(ctx: CommandContext) -> CommandResult:
    """List conversations: for people the most relevant, with ALL and for programs every one.

    Those that nobody here has answered say who began them; behind them come those that have no place here. People are
    told too how many people are blocked, where there are some.
    """
    shown, more = (ctx.peer.conversations(), 0) if ctx.shows_all else listed(ctx.peer, ctx.unread)
    unanswered = {one.conversation.id: one for one in ctx.peer.unanswered()}
    notify = ctx.settings.exceptions("notify")
    rows = [_list_row(ctx, one, unanswered.get(one.id)) | {"muted": notify.get(one.id) == "none"} for one in shown]
    rows += [_unplaced_row(one) for one in unanswered.values() if not one.has_place]
    others = [f"-- and {more} more: /list {ALL} shows them too"] if more else []
    if blocked := len(ctx.peer.blocked()):
        others.append(f"-- {blocked} {'person is' if blocked == 1 else 'people are'} blocked: /block")
    return CommandResult(rows, [*(format_conversation(row) for row in rows), *others])


def listed(peer: TCPPeer | HostedUser, unread: UnreadCounter) -> tuple[list[Conversation], int]:
    """Return the conversations to list for people, and how many more there are.

    All of them, the room first, then by name. Above MAX_LISTED: the room, those with unread messages, and those with
    the newest messages.
    """
    known = peer.recent_conversations()
    if len(known) <= MAX_LISTED:
        return peer.conversations(), 0
    room = [one for one in known if one.kind == "room"]
    chosen = dict.fromkeys([*room, *(peer.find(id) for id in unread.ids), *known[:MAX_LISTED]])
    return list(chosen)[:MAX_LISTED], len(known) - MAX_LISTED


def conversation_row(conversation: Conversation) -> EventLine:
    """Return a conversation for programs: with the other user of a direct one, the members of a group."""
    row: EventLine = {
        "conversation": conversation.name, "conversation_id": conversation.id, "kind": conversation.kind,
    }  # fmt: skip
    if conversation.user is not None:
        row |= user_fields(conversation.user)
    if isinstance(conversation, Group):
        row |= {"members": len(conversation.members), "member": conversation.is_member}
    return row


async def find(ctx: CommandContext, to: Conversation) -> CommandResult:
    """Return which conversation an address means."""
    return CommandResult([conversation_row(to)])


def _list_row(ctx: CommandContext, conversation: Conversation, begun: UnansweredConversation | None) -> EventLine:
    return {
        **conversation_row(conversation),
        "unread": ctx.unread.count(conversation.id),
        "mentions": ctx.unread.mentions(conversation.id),
        "current": ctx.is_current(conversation),
        **({} if begun is None else _begun_fields(begun)),
    }


def _begun_fields(begun: UnansweredConversation) -> EventLine:
    by = {} if begun.admitted_by is None else {"admitted_by": begun.admitted_by.label}
    return {**user_fields(begun.user, "begun_by"), "new": begun.is_new, **by}


def _unplaced_row(begun: UnansweredConversation) -> EventLine:
    there = {"conversation": begun.group or begun.user.label, "kind": "group" if begun.group else "dm"}
    return {**there, "conversation_id": begun.conversation.id, "has_place": False, **_begun_fields(begun)}


# ---- deletion


async def delete_history(
    ctx: CommandContext, to: Conversation, sender: User | str | None = None, before: datetime | None = None
) -> CommandResult:
    """Delete what is stored here of a conversation. Who types it is asked first."""
    peer = ctx.tcp_peer  # refuses others before it asks
    if not await ctx.confirm(f"delete everything stored here of {quote_place(to)}, which the others keep?"):
        return CommandResult(lines=["-- nothing was deleted"])
    return await _delete(ctx, await peer.delete_history(to.id, sender=sender, before=before), to)


async def _delete(ctx: CommandContext, deleted: DeletedHistory, there: Conversation) -> CommandResult:
    await ctx.recount_unread()
    row: EventLine = {
        "conversation": there.name, "conversation_id": there.id, "messages": deleted.messages,
        "size_bytes": deleted.size_bytes, "kept": deleted.kept, "is_gone": deleted.is_gone,
    }  # fmt: skip
    return CommandResult([row], [f"-- {line}" for line in format_deletion(row)])


# ---- groups


async def group(ctx: CommandContext, name: str, members: Sequence[UserOrId] = ()) -> CommandResult:
    """Create a group; a typed line goes there."""
    name = name.removeprefix("#")
    if ctx.line is not None:
        _refuse_known_name(ctx, name)
    created = await ctx.peer.create_group(name, members)
    if ctx.line is not None:
        await ctx.switch_to(created)
    return _group_result(created)


async def add(ctx: CommandContext, to: Group, users: Sequence[UserOrId]) -> CommandResult:
    _require_manager(to)
    if users and all(_is_member(to, one) for one in users):
        raise UsageError(f"{_names_are(users)} already in {_shown(to)}")
    await to.add(*users)
    return _group_result(to)


async def kick(ctx: CommandContext, to: Group, users: Sequence[UserOrId]) -> CommandResult:
    _require_manager(to)
    if ctx.peer.me in users:
        first = f"hand the group over first{_typed(ctx, ': /owner NAME, then /leave')}" if _is_owner(to) else "/leave"
        raise UsageError(f"to leave yourself, {first}")
    if strangers := [one for one in users if not _is_member(to, one)]:
        hint = _typed(ctx, ": /members lists the members")
        raise UsageError(f"{_names_are(strangers)} not in {_shown(to)}{hint}")
    await to.remove(*users)
    return _group_result(to)


async def leave(ctx: CommandContext, to: Group) -> CommandResult:
    """Leave a group; when typed, switch to the room, and say so where only the prompt would show it."""
    if not to.is_member:
        raise UsageError(f"you are no longer in {_shown(to)}{_typed(ctx, ': /go switches to another conversation')}")
    if _is_owner(to) and len(to.members) > 1:
        raise UsageError(f"you own {_shown(to)}: hand it over first{_typed(ctx, ', /owner NAME')}")
    is_asked = ctx.line is not None and set(_others(to)).isdisjoint(ctx.peer.here())
    if is_asked and (lost := await _known_to_nobody(ctx, to)):
        if not await ctx.confirm(f"nobody in {_shown(to)} has {lost}, and nobody gets it once you left: leave?", to.id):
            return CommandResult(lines=[f"-- you are still in {_shown(to)}"])
    await to.leave()
    result = _group_result(to)
    if ctx.line is None:
        return result
    lost = await _known_to_nobody(ctx, to)
    await ctx.switch_to(ctx.peer.room)
    lines = [f"-- nobody in {_shown(to)} has {lost}, and nobody gets it now"] if lost else []
    return result._replace(lines=lines + ["-- what you type goes to the room now"] * ctx.display.has_prompt)


def _others(there: Group) -> list[User]:
    return [user for user in there.members if not user.is_me]


async def _known_to_nobody(ctx: CommandContext, there: Group) -> str:
    """Return the beginning of the last own message in a group if no other member has it; "" otherwise."""
    sent = [post for post in await ctx.peer.history(there) if isinstance(post, Sent) and not post.deleted]
    if not sent or not _others(there) or (await ctx.peer.receipt(sent[-1].mended_id or sent[-1].id)).delivered_to:
        return ""
    return excerpt(said(sent[-1].to_dict()))


async def rename(ctx: CommandContext, to: Group, name: str) -> CommandResult:
    _require_owner(to)
    name = name.removeprefix("#")
    if name == to.plain_name:
        raise UsageError(f"it is already called {_shown(to)}")
    await to.rename(name)
    return _group_result(to)


async def owner(ctx: CommandContext, to: Group, user: UserOrId) -> CommandResult:
    _require_owner(to)
    if user == to.owner:
        raise UsageError(f"you own {_shown(to)} already")
    if not _is_member(to, user):
        raise UsageError(f"{_names_are([user])} not in {_shown(to)}{_typed(ctx, ': /add first')}")
    await to.hand_over(user)
    return _group_result(to)


async def make_group_admin(ctx: CommandContext, to: Group, user: UserOrId, *, on: bool) -> CommandResult:
    """Make a member of a group an admin of it, or a plain member again."""
    _require_owner(to)
    if (user in to.admins) == on or user == to.owner:
        raise UsageError(f"{_names_are([user])} {'already an' if on else 'no'} admin of {_shown(to)}")
    if on and not _is_member(to, user):
        raise UsageError(f"{_names_are([user])} not in {_shown(to)}{_typed(ctx, ': /add first')}")
    await to.make_admin(user, on=on)
    return _group_result(to)


def group_members(ctx: CommandContext, to: Group) -> CommandResult:
    """Return the answer to /members in a group."""
    admins = to.admins
    rows = [{**user_row(user), "owner": user == to.owner, "admin": user in admins} for user in to.members]
    now = local_now()
    return CommandResult(rows, [format_user(row, now) for row in rows] or [f"-- {_shown(to)} has no members"])


def _refuse_known_name(ctx: CommandContext, name: str) -> None:
    """Refuse the name of a group of the user: `/group ops` most likely means /go #ops."""
    wanted = name.casefold()
    if any(one.is_member and one.plain_name.casefold() == wanted for one in ctx.peer.groups()):
        raise UsageError(f"this group exists already: /go {quote_conversation(name, 'group')}")


def _typed(ctx: CommandContext, hint: str) -> str:
    """Return what to type next; "" for a JSON command, whose client has no typed commands."""
    return "" if ctx.line is None else hint


def _is_member(there: Group, one: UserOrId) -> bool:
    return any(one in (user, user.id) for user in there.members)


def _is_owner(there: Group) -> bool:
    return there.owner is not None and there.owner.is_me


def _require_owner(there: Group) -> None:
    if not _is_owner(there):
        owner = "" if there.owner is None else f"{quote_name(there.owner.label)}, "
        raise UsageError(f"only {owner}the owner of {_shown(there)}, can do that")


def _require_manager(there: Group) -> None:
    if not any(user.is_me for user in there.admins):
        _require_owner(there)


def _shown(there: Group) -> str:
    return quote_conversation(there.name, "group")


def _names_are(users: Sequence[UserOrId]) -> str:
    names = [quote_name(one.label if isinstance(one, User) else one[:8]) for one in users]
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _group_result(there: Group) -> CommandResult:
    row: EventLine = {
        "group": there.name,
        "conversation_id": there.id,
        **user_fields(there.owner, "owner"),
        **users_fields("members", there.members),
    }
    return CommandResult([row])
