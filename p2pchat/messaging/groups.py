"""The class of groups: their members, and every change that its owner or a member may make.

A group has one state, which its owner sets (docs/protocol-groups.md). Every change is an entry in a conversation of
the group's own, so it is as durable as a message and reaches members who are offline.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from p2pchat.core.groups.group_replica import GroupView
from p2pchat.core.inputs import GroupChangeRequest, GroupLeaveRequest
from p2pchat.core.names import validate_name
from p2pchat.errors import DeliveryTimeout
from p2pchat.messaging.conversations import Conversation
from p2pchat.messaging.messages import Sent
from p2pchat.messaging.users import User, by_label
from p2pchat.protocol import ConversationId, UserId

LOOKED_AT = 500  # newest messages among which the last own one is looked for; a guess
LEAVE_WITHIN = 3.0  # seconds that members who are online have to take what a leaving user wrote; a guess

Who = User | str  # a user, a name as typed, or the full id of a user never met


class Group(Conversation):
    """A conversation with members. Its name and members are those of the present moment.

    Every method that changes the group raises P2PChatError when it cannot: the own user is not the owner, or the user
    is already a member. UnknownName and AmbiguousName concern a name; StorageError and PeerClosed are raised as by
    TCPPeer.send.
    """

    __slots__ = ()

    @property
    def group_key(self) -> ConversationId:
        """The id (hex) of the conversation that holds the group's operations; `key` is that of its messages."""
        return "" if self.naming is None or self.naming.talk is None else self.naming.talk

    @property
    def view(self) -> GroupView | None:
        """The state of the group in the core; None while nothing is known of it here."""
        return self._viewer._group_view(self.group_key)

    @property
    def owner(self) -> User | None:
        """The user who may change the group; None while the group is unknown here."""
        view = self.view
        return None if view is None else self._viewer.directory.user(view.owner)

    @property
    def members(self) -> list[User]:
        """The present members, sorted by label; [] while nothing is known of the group here."""
        view, people = self.view, self._viewer.directory
        return [] if view is None else list(by_label(map(people.user, view.members)))

    @property
    def is_member(self) -> bool:
        """True if the own user is a member."""
        view = self.view
        return view is not None and self._viewer.directory.me in view.members

    async def add(self, *who: Who) -> None:
        """Add members; they receive the whole history. Name a user who was never met by the full id."""
        await self._change(add=await self._keys_of(who))

    async def remove(self, *who: Who) -> None:
        """Remove members. A peer that knows of the removal does not show what they write after it."""
        await self._change(remove=await self._keys_of(who))

    async def rename(self, name: str) -> None:
        """Change the name; raises ValueError for an invalid one."""
        await self._change(name=name)

    async def hand_over(self, who: Who) -> None:
        """Make a member the owner."""
        [owner] = await self._keys_of((who,))
        await self._change(owner=owner)

    async def leave(self) -> None:
        """Leave the group. An owner hands it over first.

        What was written stays with those who have it. Nobody else is given it by one who left, so this waits up to 3 s
        until the members who are online have it; `Receipt.delivered_to` of the last message tells whether anybody has.
        """
        user, me, key = self._viewer._local_user, self._viewer.directory.me, self.group_key
        requests = user._require_running().requests
        if sent := [post for post in await user.history(self, limit=LOOKED_AT) if isinstance(post, Sent)]:
            last = await user.receipt(sent[-1].mended_id or sent[-1].id)
            online = [member for member in last.of if member.status in ("online", "idle")]
            waits = (last.delivered(by=member, timeout=LEAVE_WITHIN) for member in online)
            with suppress(DeliveryTimeout):
                await asyncio.gather(*waits)
        await requests.request(lambda ticket: GroupLeaveRequest(ticket, me, key))

    async def _change(
        self,
        *,
        add: tuple[UserId, ...] = (),
        remove: tuple[UserId, ...] = (),
        name: str | None = None,
        owner: UserId | None = None,
    ) -> None:
        user, me, key = self._viewer._local_user, self._viewer.directory.me, self.group_key
        requests = user._require_running().requests
        new_name = None if name is None else validate_name(name)
        await requests.request(lambda ticket: GroupChangeRequest(ticket, me, key, add, remove, new_name, owner))

    async def _keys_of(self, who: tuple[Who, ...]) -> tuple[UserId, ...]:
        user = self._viewer._local_user
        return tuple([(await user._resolve(one)).key for one in who])

    def __repr__(self) -> str:
        return f"<Group {self.name!a} of {len(self.members)}>"
