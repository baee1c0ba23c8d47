"""Commands about groups: made, changed and left. Typed lines act on the group one is in; objects name it."""

from __future__ import annotations

from collections.abc import Sequence

from p2pchat import Conversation, Group, User
from p2pchat.apps.cli.chat.doing.here import Answer, Here
from p2pchat.apps.cli.exits import Usage
from p2pchat.apps.cli.output import Line
from p2pchat.apps.cli.plain import shown_name, shown_names


async def group_here(here: Here, name: str, *members: str) -> Answer:
    """Make a group, and go there."""
    made = await _made(here, name, members)
    await here.go(made)
    return _answer(here, made, f"-- #{shown_name(made.name)} is yours; {_with(made)}")


async def group(here: Here, name: str, members: Sequence[str] = ()) -> Answer:
    """Make a group."""
    return _answer(here, await _made(here, name, members), "")


async def _made(here: Here, name: str, members: Sequence[str]) -> Group:
    return await here.peer.create_group(name.removeprefix("#"), [await _whom(here, member) for member in members])


async def members_here(here: Here) -> Answer:
    """Who belongs to the group one is in."""
    there = _here(here)
    rows = [_member(there, user) for user in there.members]
    lines = [
        f"-- {shown_name(row['user'])}{' (owner)' if row['owner'] else ''}{' (you)' if row['me'] else ''}"
        for row in rows
    ]
    return Answer(rows, lines)


async def members(here: Here, to: str) -> Answer:
    """Who belongs to a group."""
    there = _group(await here.resolve(to))
    return Answer([_member(there, user) for user in there.members])


async def add_here(here: Here, *users: str) -> Answer:
    """Take people into the group one is in."""
    return await _add(here, _here(here), users)


async def add(here: Here, to: str, users: Sequence[str]) -> Answer:
    """Take people into a group."""
    return await _add(here, _group(await here.resolve(to)), users)


async def _add(here: Here, there: Group, users: Sequence[str]) -> Answer:
    who = [await _whom(here, user) for user in users]
    await there.add(*who)
    return _answer(here, there, f"-- {_named(here, who)} in #{shown_name(there.name)} now")


async def kick_here(here: Here, *users: str) -> Answer:
    """Remove people from the group one is in."""
    return await _kick(here, _here(here), users)


async def kick(here: Here, to: str, users: Sequence[str]) -> Answer:
    """Remove people from a group."""
    return await _kick(here, _group(await here.resolve(to)), users)


async def _kick(here: Here, there: Group, users: Sequence[str]) -> Answer:
    who = [await _whom(here, user) for user in users]
    await there.remove(*who)
    return _answer(here, there, f"-- {_named(here, who)} no longer in #{shown_name(there.name)}")


async def leave_here(here: Here) -> Answer:
    """Leave the group one is in, and go to the room."""
    there = _here(here)
    await there.leave()
    await here.go(here.peer.room)
    return _answer(here, there, f"-- you have left #{shown_name(there.name)}")


async def leave(here: Here, to: str) -> Answer:
    """Leave a group."""
    there = _group(await here.resolve(to))
    await there.leave()
    return _answer(here, there, "")


async def rename_here(here: Here, name: str) -> Answer:
    """Give the group one is in another name."""
    return await _rename(here, _here(here), name)


async def rename(here: Here, to: str, name: str) -> Answer:
    """Give a group another name."""
    return await _rename(here, _group(await here.resolve(to)), name)


async def _rename(here: Here, there: Group, name: str) -> Answer:
    await there.rename(name.removeprefix("#"))
    return _answer(here, there, f"-- this group is #{shown_name(there.name)} now")


async def owner_here(here: Here, user: str) -> Answer:
    """Hand the group one is in over."""
    return await _owner(here, _here(here), user)


async def owner(here: Here, to: str, user: str) -> Answer:
    """Hand a group over."""
    return await _owner(here, _group(await here.resolve(to)), user)


async def _owner(here: Here, there: Group, user: str) -> Answer:
    who = await _whom(here, user)
    await there.hand_over(who)
    return _answer(here, there, f"-- #{shown_name(there.name)} is {_named(here, [who]).removesuffix(' is')}'s now")


# ---- which group, which people


def _here(here: Here) -> Group:
    return _group(here.current)


def _group(conversation: Conversation) -> Group:
    if not isinstance(conversation, Group):
        raise Usage(f"{conversation.name} is no group: /go to one first, or make one with /group NAME MEMBER")
    return conversation


async def _whom(here: Here, user: str) -> User | str:
    """Return a user, waiting a moment for a name; whoever was never met is left to the full id."""
    return user if len(user) > MOST_NAME_CHARACTERS else await here.user(user)


MOST_NAME_CHARACTERS = 45  # a name of 32, # and a part of the id; a full id has 52


def _named(here: Here, who: Sequence[User | str]) -> str:
    names = [user.label if isinstance(user, User) else user[:8] for user in who]
    return f"{shown_names(names)} {'is' if len(names) == 1 else 'are'}"


def _with(there: Group) -> str:
    others = [user.label for user in there.members if not user.is_me]
    return f"with {shown_names(others)}" if others else "nobody else is in it yet: /add NAME"


def _answer(here: Here, there: Group, text: str) -> Answer:
    return Answer([_row(there)], [text] if text else [])


def _row(there: Group) -> Line:
    owner = there.owner
    return {
        "group": there.name,
        "conversation_id": there.id,
        "owner": None if owner is None else owner.label,
        "owner_id": None if owner is None else owner.id,
        "members": [user.label for user in there.members],
        "member_ids": [user.id for user in there.members],
    }


def _member(there: Group, user: User) -> Line:
    return {
        "user": user.label,
        "user_id": user.id,
        "owner": user == there.owner,
        "me": user.is_me,
        "status": user.status,
    }
