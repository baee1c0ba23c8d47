"""Commands about groups: made, changed and left. Typed lines act on the group one is in; objects name it.

What became of it people are told by the event that follows, wherever it was done; programs have the group as it is
now besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from p2pchat import Group, User
from p2pchat.commands.context import CommandContext, CommandResult
from p2pchat.commands.errors import UsageError
from p2pchat.commands.output import EventLine
from p2pchat.commands.people_commands import is_id, user_row
from p2pchat.commands.render import format_user, quote_conversation, quote_name

Who = User | str  # a user, or the full id of somebody who may never have been met


# As typed: of the group one is in


async def group_here(here: CommandContext, name: str, *members: str) -> CommandResult:
    """Make a group, and go there."""
    if not members:
        _refuse_second(here, name)
    made = await _made(here, name, members)
    await here.go(made)
    return _answer(made)


async def add_here(here: CommandContext, *users: str) -> CommandResult:
    return await _add(here, _here(here, "add"), users)


async def kick_here(here: CommandContext, *users: str) -> CommandResult:
    return await _kick(here, _here(here, "kick"), users)


async def leave_here(here: CommandContext) -> CommandResult:
    """Leave the group one is in, and go to the room."""
    there = _here(here, "leave")
    answer = await _leave(there)
    await here.go(here.peer.room)
    return answer


async def rename_here(here: CommandContext, name: str) -> CommandResult:
    return await _rename(_here(here, "rename"), name)


async def owner_here(here: CommandContext, user: str) -> CommandResult:
    return await _owner(here, _here(here, "owner"), user)


async def members_here(here: CommandContext) -> CommandResult:
    return _members(here, _here(here, "members"))


# As command objects


async def group(here: CommandContext, name: str, members: Sequence[str] = ()) -> CommandResult:
    return _answer(await _made(here, name, members))


async def add(here: CommandContext, to: str, users: Sequence[str]) -> CommandResult:
    return await _add(here, await _named(here, to), users)


async def kick(here: CommandContext, to: str, users: Sequence[str]) -> CommandResult:
    return await _kick(here, await _named(here, to), users)


async def leave(here: CommandContext, to: str) -> CommandResult:
    return await _leave(await _named(here, to))


async def rename(here: CommandContext, to: str, name: str) -> CommandResult:
    return await _rename(await _named(here, to), name)


async def owner(here: CommandContext, to: str, user: str) -> CommandResult:
    return await _owner(here, await _named(here, to), user)


async def members(here: CommandContext, to: str) -> CommandResult:
    return _members(here, await _named(here, to))


# What both do


async def _made(here: CommandContext, name: str, members: Sequence[str]) -> Group:
    return await here.peer.create_group(name.removeprefix("#"), [await _whom(here, member) for member in members])


async def _add(here: CommandContext, there: Group, users: Sequence[str]) -> CommandResult:
    who = [await _whom(here, user) for user in users]
    _need_owner(there)
    if who and all(_is_in(there, one) for one in who):
        raise UsageError(f"{_listed(who)} in {_shown(there)} already")
    await there.add(*who)
    return _answer(there)


async def _kick(here: CommandContext, there: Group, users: Sequence[str]) -> CommandResult:
    who = [await _whom(here, user) for user in users]
    _need_owner(there)
    if here.peer.me in who:
        raise UsageError("to go yourself, hand the group over and leave it: /owner NAME, then /leave")
    if strangers := [one for one in who if not _is_in(there, one)]:
        raise UsageError(f"{_listed(strangers)} not in {_shown(there)}: /members says who is")
    await there.remove(*who)
    return _answer(there)


async def _leave(there: Group) -> CommandResult:
    if not there.is_member:
        raise UsageError(f"you are not in {_shown(there)} any more: /go leads elsewhere")
    if _is_owner(there) and len(there.members) > 1:
        raise UsageError(f"{_shown(there)} is yours: hand it over first, /owner NAME")
    await there.leave()
    return _answer(there)


async def _rename(there: Group, name: str) -> CommandResult:
    _need_owner(there)
    name = name.removeprefix("#")
    if name == there.plain_name:
        raise UsageError(f"it is {_shown(there)} already")
    await there.rename(name)
    return _answer(there)


async def _owner(here: CommandContext, there: Group, user: str) -> CommandResult:
    who = await _whom(here, user)
    _need_owner(there)
    if who == there.owner:
        raise UsageError(f"{_shown(there)} is yours already")
    if not _is_in(there, who):
        raise UsageError(f"{_listed([who])} not in {_shown(there)}: /add first")
    await there.hand_over(who)
    return _answer(there)


def _members(here: CommandContext, there: Group) -> CommandResult:
    rows = [{**user_row(here, user), "owner": user == there.owner} for user in there.members]
    now = datetime.now().astimezone()
    return CommandResult(rows, [format_user(row, now) for row in rows] or [f"-- nobody is in {_shown(there)}"])


# Which group, which people


def _here(here: CommandContext, command: str) -> Group:
    if isinstance(here.current, Group):
        return here.current
    where = "the room is" if here.current.kind == "room" else f"{quote_name(here.current.name)} is"
    raise UsageError(f"/{command} is for a group, and {where} none: /go #NAME first, or make one: /group NAME MEMBER")


async def _named(here: CommandContext, to: str) -> Group:
    found = await here.resolve(to)
    if not isinstance(found, Group):
        raise UsageError(f"{to!a} is no group: a group is #NAME")
    return found


async def _whom(here: CommandContext, user: str) -> Who:
    """Return a user, waiting a moment for a name; a full id may be of somebody never met."""
    return user.removeprefix("@").upper() if is_id(user) else await here.user(user)


def _is_in(there: Group, who: Who) -> bool:
    return any(who in (user, user.id) for user in there.members)


def _refuse_second(here: CommandContext, name: str) -> None:
    """Who types the name of a group and no members, means that group."""
    wanted = name.removeprefix("#").casefold()
    if any(one.is_member and one.plain_name.casefold() == wanted for one in here.peer.groups()):
        raise UsageError(f"there is a group of that name: /go {quote_conversation(name.removeprefix('#'), 'group')}")


def _is_owner(there: Group) -> bool:
    return there.owner is not None and there.owner.is_me


def _need_owner(there: Group) -> None:
    if not _is_owner(there):
        who = "" if there.owner is None else f"{quote_name(there.owner.label)}, "
        raise UsageError(f"only {who}the owner of {_shown(there)}, can do that")


def _shown(there: Group) -> str:
    return quote_conversation(there.name, "group")


def _listed(who: Sequence[Who]) -> str:
    names = [quote_name(one.label if isinstance(one, User) else one[:8]) for one in who]
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _answer(there: Group) -> CommandResult:
    owner = there.owner
    row: EventLine = {
        "group": there.name,
        "conversation_id": there.id,
        "owner": None if owner is None else owner.label,
        "owner_id": None if owner is None else owner.id,
        "members": [user.label for user in there.members],
        "member_ids": [user.id for user in there.members],
    }
    return CommandResult([row])
