"""Who of a peer's users sees what: conversations one belongs to, and of a group one left what was said before.

A peer that never hosted anybody else keeps only what its own user may see, so that everything is seen there. Where
several users are hosted, or were, what is kept for one is not for the others, the peer's own user among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from p2pchat.core.groups.group import GroupReplica
from p2pchat.core.log import Entry, LogId
from p2pchat.core.sync.log_index import ConversationState
from p2pchat.protocol import ConversationId, Naming, UserId

if TYPE_CHECKING:
    from p2pchat.core.node import Node

Audience = Collection[UserId] | None  # whom something concerns; None: everybody


class AccessPolicy:
    """What one user sees.

    Args:
        node: Returns the core; None before it runs.
        me: Returns the user: the peer's own is known when its key is read.
        had_guests: Whether anybody else was ever hosted: what concerned them stays.
    """

    __slots__ = ("_had_guests", "_me", "_node")

    def __init__(
        self, node: Callable[[], Node | None], me: Callable[[], UserId], had_guests: Callable[[], bool] = lambda: True
    ) -> None:
        self._node = node
        self._me = me
        self._had_guests = had_guests

    @property
    def is_all(self) -> bool:
        """Whether nobody else is hosted, nor was: then everything that is here is seen."""
        return self._node() is None or not self._had_guests()

    @property
    def mine(self) -> Collection[UserId]:
        """Whose messages are one's own."""
        return (self._me(),)

    def knows(self, conversation: ConversationId) -> bool:
        """Whether a conversation is one's own: also a group that one was removed from, or has left."""
        node, me = self._node(), self._me()
        there = None if node is None else node.sync.conversations.by_id.get(conversation)
        if there is None:
            return self.is_all
        if there.group is not None:
            return self.is_all or me in there.group.named
        return there.members is None or me in there.members

    def sees(self, log: LogId, entry: Entry) -> bool:
        """Whether an entry may be read."""
        node, me = self._node(), self._me()
        there = None if node is None else node.sync.conversations.by_id.get(log.conversation)
        return self.is_all or (there is not None and may_read(there, me, entry))

    def hears(self, audience: Audience) -> bool:
        """Whether something that concerns these is for this user."""
        return audience is None or self._me() in audience or self.is_all


class AllUsersPolicy(AccessPolicy):
    """What all hosted users see together: a gateway reads everything once, for all of them.

    Attributes:
        hosted: The users of this gateway, without the peer's own; a live view.
    """

    __slots__ = ("hosted",)

    def __init__(self, node: Callable[[], Node | None], hosted: Collection[UserId]) -> None:
        super().__init__(node, lambda: "")
        self.hosted = hosted

    @property
    def is_all(self) -> bool:
        return False

    @property
    def mine(self) -> Collection[UserId]:
        return self.hosted

    def knows(self, conversation: ConversationId) -> bool:
        node = self._node()
        there = None if node is None else node.sync.conversations.by_id.get(conversation)
        if there is None:
            return False
        belonging = there.members if there.group is None else there.group.named
        return self.users_of(belonging) != ()

    def sees(self, log: LogId, entry: Entry) -> bool:
        return self.users_of(audience_of(self._node(), log.conversation)) != ()

    def hears(self, audience: Audience) -> bool:
        return self.users_of(audience) != ()

    def users_of(self, audience: Audience) -> tuple[UserId, ...] | None:
        """Return the hosted users among these, sorted; None for everybody."""
        if audience is None:
            return None
        return tuple(sorted({user for user in audience if user in self.hosted}))


class OfflineAccessPolicy(AccessPolicy):
    """What the own user sees of what a peer has stored, while the peer need not run.

    Args:
        talks: What each conversation is.
        groups: Everything known of groups, by id.
        has_guests: Others are hosted there.
    """

    __slots__ = ("_all", "_groups", "_talks")

    def __init__(
        self,
        me: UserId,
        talks: Mapping[ConversationId, Naming],
        groups: Mapping[ConversationId, GroupReplica],
        has_guests: bool,
    ) -> None:
        super().__init__(lambda: None, lambda: me)
        self._talks = talks
        self._groups = groups
        self._all = not has_guests and not any(is_of_others(me, *self._find(key)) for key in talks)

    @property
    def is_all(self) -> bool:
        return self._all

    def knows(self, conversation: ConversationId) -> bool:
        naming, group = self._find(conversation)
        if self._all or naming is None or group is None:
            return self._all or (naming is not None and (naming.room or self._me() in (naming.dm or ())))
        return self._me() in group.named

    def sees(self, log: LogId, entry: Entry) -> bool:
        naming, group = self._find(log.conversation)
        if self._all or group is None or naming is None or naming.group:
            return self.knows(log.conversation)
        return group.is_present(self._me()) or _was_there(group, self._me(), entry)

    def _find(self, conversation: ConversationId) -> tuple[Naming | None, GroupReplica | None]:
        naming = self._talks.get(conversation)
        if naming is None:
            return None, None
        return naming, self._groups.get(naming.talk or (naming.group[0] if naming.group else ""))


def has_others(node: Node, me: UserId) -> bool:
    """Whether a conversation that is stored is not this user's: others were hosted here once."""
    return any(is_of_others(me, one.naming, one.group) for one in node.sync.conversations.by_id.values())


def is_of_others(me: UserId, naming: Naming | None, group: GroupReplica | None) -> bool:
    if group is not None:
        return group.state is not None and me not in group.named
    return naming is not None and naming.dm is not None and me not in naming.dm


def audience_of(node: Node | None, conversation: ConversationId) -> Audience:
    """Return who belongs to a conversation now; None for the room, () for one that is not known."""
    there = None if node is None else node.sync.conversations.by_id.get(conversation)
    if there is None:
        return ()
    if there.group is not None:
        return there.group.state.present if there.group.state is not None else ()
    return there.members


def may_read(there: ConversationState, me: UserId, entry: Entry) -> bool:
    """Say whether a user may read an entry of a conversation: of a group that it was removed from, or has left, what
    was written by those who did not know of that."""
    if there.group is None:
        return there.members is None or me in there.members
    if not there.is_talk:
        return me in there.group.named
    return there.group.is_present(me) or _was_there(there.group, me, entry)


def _was_there(group: GroupReplica, me: UserId, entry: Entry) -> bool:
    if entry.g is None or group.state is None or me not in group.members_at(entry.g[0]):
        return False
    left = [leave.c for leave in group.state.leaves.get(me, ()) if leave.gen <= entry.g[0]]
    return not left or entry.c <= max(left)
