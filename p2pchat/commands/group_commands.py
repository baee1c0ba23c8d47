"""Commands about groups: made, changed and left. Typed lines act on the group one is in; objects name it.

What became of it people are told by the event that follows, wherever it was done; programs have the group as it is
now besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from p2pchat import Group, User
from p2pchat.commands.context import Answer, Here
from p2pchat.commands.errors import Usage
from p2pchat.commands.format import plain_user, shown_name, shown_place
from p2pchat.commands.output import Line
from p2pchat.commands.people_commands import is_id, user_row

Who = User | str  # a user, or the full id of somebody who may never have been met


# As typed: of the group one is in


async def group_here(here: Here, name: str, *members: str) -> Answer:
    """Make a group, and go there."""
    if not members:
        _refuse_second(here, name)
    made = await _made(here, name, members)
    await here.go(made)
    return _answer(made)


async def add_here(here: Here, *users: str) -> Answer:
    return await _add(here, _here(here, "add"), users)


async def kick_here(here: Here, *users: str) -> Answer:
    return await _kick(here, _here(here, "kick"), users)


async def leave_here(here: Here) -> Answer:
    """Leave the group one is in, and go to the room."""
    there = _here(here, "leave")
    answer = await _leave(there)
    await here.go(here.peer.room)
    return answer


async def rename_here(here: Here, name: str) -> Answer:
    return await _rename(_here(here, "rename"), name)


async def owner_here(here: Here, user: str) -> Answer:
    return await _owner(here, _here(here, "owner"), user)


async def members_here(here: Here) -> Answer:
    return _members(here, _here(here, "members"))


# As command objects


async def group(here: Here, name: str, members: Sequence[str] = ()) -> Answer:
    return _answer(await _made(here, name, members))


async def add(here: Here, to: str, users: Sequence[str]) -> Answer:
    return await _add(here, await _named(here, to), users)


async def kick(here: Here, to: str, users: Sequence[str]) -> Answer:
    return await _kick(here, await _named(here, to), users)


async def leave(here: Here, to: str) -> Answer:
    return await _leave(await _named(here, to))


async def rename(here: Here, to: str, name: str) -> Answer:
    return await _rename(await _named(here, to), name)


async def owner(here: Here, to: str, user: str) -> Answer:
    return await _owner(here, await _named(here, to), user)


async def members(here: Here, to: str) -> Answer:
    return _members(here, await _named(here, to))


# What both do


async def _made(here: Here, name: str, members: Sequence[str]) -> Group:
    return await here.peer.create_group(name.removeprefix("#"), [await _whom(here, member) for member in members])


async def _add(here: Here, there: Group, users: Sequence[str]) -> Answer:
    who = [await _whom(here, user) for user in users]
    _need_owner(there)
    if who and all(_is_in(there, one) for one in who):
        raise Usage(f"{_listed(who)} in {_shown(there)} already")
    await there.add(*who)
    return _answer(there)


async def _kick(here: Here, there: Group, users: Sequence[str]) -> Answer:
    who = [await _whom(here, user) for user in users]
    _need_owner(there)
    if here.peer.me in who:
        raise Usage("to go yourself, hand the group over and leave it: /owner NAME, then /leave")
    if strangers := [one for one in who if not _is_in(there, one)]:
        raise Usage(f"{_listed(strangers)} not in {_shown(there)}: /members says who is")
    await there.remove(*who)
    return _answer(there)


async def _leave(there: Group) -> Answer:
    if not there.is_member:
        raise Usage(f"you are not in {_shown(there)} any more: /go leads elsewhere")
    if _is_owner(there) and len(there.members) > 1:
        raise Usage(f"{_shown(there)} is yours: hand it over first, /owner NAME")
    await there.leave()
    return _answer(there)


async def _rename(there: Group, name: str) -> Answer:
    _need_owner(there)
    name = name.removeprefix("#")
    if name == there.plain_name:
        raise Usage(f"it is {_shown(there)} already")
    await there.rename(name)
    return _answer(there)


async def _owner(here: Here, there: Group, user: str) -> Answer:
    who = await _whom(here, user)
    _need_owner(there)
    if who == there.owner:
        raise Usage(f"{_shown(there)} is yours already")
    if not _is_in(there, who):
        raise Usage(f"{_listed([who])} not in {_shown(there)}: /add first")
    await there.hand_over(who)
    return _answer(there)


def _members(here: Here, there: Group) -> Answer:
    rows = [{**user_row(here, user), "owner": user == there.owner} for user in there.members]
    now = datetime.now().astimezone()
    return Answer(rows, [plain_user(row, now) for row in rows] or [f"-- nobody is in {_shown(there)}"])


# Which group, which people


def _here(here: Here, command: str) -> Group:
    if isinstance(here.current, Group):
        return here.current
    where = "the room is" if here.current.kind == "room" else f"{shown_name(here.current.name)} is"
    raise Usage(f"/{command} is for a group, and {where} none: /go #NAME first, or make one: /group NAME MEMBER")


async def _named(here: Here, to: str) -> Group:
    found = await here.resolve(to)
    if not isinstance(found, Group):
        raise Usage(f"{to!a} is no group: a group is #NAME")
    return found


async def _whom(here: Here, user: str) -> Who:
    """Return a user, waiting a moment for a name; a full id may be of somebody never met."""
    return user.removeprefix("@").upper() if is_id(user) else await here.user(user)


def _is_in(there: Group, who: Who) -> bool:
    return any(who in (user, user.id) for user in there.members)


def _refuse_second(here: Here, name: str) -> None:
    """Who types the name of a group and no members, means that group."""
    wanted = name.removeprefix("#").casefold()
    if any(one.is_member and one.plain_name.casefold() == wanted for one in here.peer.groups()):
        raise Usage(f"there is a group of that name: /go {shown_place(name.removeprefix('#'), 'group')}")


def _is_owner(there: Group) -> bool:
    return there.owner is not None and there.owner.is_me


def _need_owner(there: Group) -> None:
    if not _is_owner(there):
        who = "" if there.owner is None else f"{shown_name(there.owner.label)}, "
        raise Usage(f"only {who}the owner of {_shown(there)}, can do that")


def _shown(there: Group) -> str:
    return shown_place(there.name, "group")


def _listed(who: Sequence[Who]) -> str:
    names = [shown_name(one.label if isinstance(one, User) else one[:8]) for one in who]
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _answer(there: Group) -> Answer:
    owner = there.owner
    row: Line = {
        "group": there.name,
        "conversation_id": there.id,
        "owner": None if owner is None else owner.label,
        "owner_id": None if owner is None else owner.id,
        "members": [user.label for user in there.members],
        "member_ids": [user.id for user in there.members],
    }
    return Answer([row])
