"""Asking the core to make, change or leave a group; each returns when that is accepted: on this disk."""

from __future__ import annotations

from collections.abc import Sequence

from p2pchat.core.groups.operations import talk_id
from p2pchat.core.inputs import GroupChanging, GroupLeaving, GroupMade
from p2pchat.identity.names import validate_name
from p2pchat.protocol import ConversationId, UserId
from p2pchat.runtime.driver import Owner


async def make_group(owner: Owner, me: UserId, name: str, members: Sequence[UserId]) -> ConversationId:
    """Make a group and return the id of its talk. Raises ValueError for a name that is none, and as Programs.ask."""
    name = validate_name(name)
    others = tuple(dict.fromkeys(member for member in members if member != me))
    return talk_id(await owner.programs.ask(lambda ticket: GroupMade(ticket, me, name, others)))


async def change_group(
    owner: Owner, me: UserId, group: ConversationId, add: tuple[UserId, ...], remove: tuple[UserId, ...],
    name: str | None, new_owner: UserId | None,
) -> None:  # fmt: skip
    """Change a group; what is () or None stays. Raises ValueError for a name that is none, and as Programs.ask."""
    name = None if name is None else validate_name(name)
    await owner.programs.ask(lambda ticket: GroupChanging(ticket, me, group, add, remove, name, new_owner))


async def leave_group(owner: Owner, me: UserId, group: ConversationId) -> None:
    await owner.programs.ask(lambda ticket: GroupLeaving(ticket, me, group))
