"""Access of local users to conversations, entries and events.

A peer that never hosted another user stores only what its own user may see, so that everything is visible. Where
several users are hosted, or were, each sees the conversations it belongs to, and of a group it has left, or was removed
from, what was written by those who did not know that yet.
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

Audience = Collection[UserId] | None  # the ids of the users concerned; None for everyone


class AccessPolicy:
    """The access rules of one user.

    Args:
        node: Returns the core; None before there is one.
        me: Returns the id (hex) of the user; that of the peer's own user is known when its key was read.
        hosted_others: Returns whether other users are hosted, or were: their entries stay in storage.
    """

    __slots__ = ("_hosted_others", "_me", "_node")

    def __init__(
        self,
        node: Callable[[], Node | None],
        me: Callable[[], UserId],
        hosted_others: Callable[[], bool] = lambda: True,
    ) -> None:
        self._node = node
        self._me = me
        self._hosted_others = hosted_others

    @property
    def is_all(self) -> bool:
        """Whether everything stored is visible, since no other user is hosted, or was."""
        return self._node() is None or not self._hosted_others()

    @property
    def mine(self) -> Collection[UserId]:
        """The ids of the users whose messages are Sent rather than Message."""
        return (self._me(),)

    def knows(self, conversation: ConversationId) -> bool:
        """Return whether the user belongs to a conversation, or did: also a group it has left or was removed from."""
        state, me = self._state(conversation), self._me()
        if state is None:
            return self.is_all
        if state.group is not None:
            return self.is_all or me in state.group.named
        return state.members is None or me in state.members

    def sees(self, log: LogId, entry: Entry) -> bool:
        """Return whether the user may read an entry."""
        state = self._state(log.conversation)
        return self.is_all or (state is not None and _may_read(state, self._me(), entry))

    def hears(self, audience: Audience) -> bool:
        """Return whether an event for these users is for this user."""
        return audience is None or self._me() in audience or self.is_all

    def _state(self, conversation: ConversationId) -> ConversationState | None:
        return _state_of(self._node(), conversation)


class AllUsersPolicy(AccessPolicy):
    """The access rules of all hosted users together; a gateway reads every event once for all of them.

    Attributes:
        hosted: The ids of the hosted users, without the peer's own; a live view.
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
        state = self._state(conversation)
        if state is None:
            return False
        belonging = state.members if state.group is None else state.group.named
        return self.users_of(belonging) != ()

    def sees(self, log: LogId, entry: Entry) -> bool:
        return self.users_of(audience_of(self._node(), log.conversation)) != ()

    def hears(self, audience: Audience) -> bool:
        return self.users_of(audience) != ()

    def users_of(self, audience: Audience) -> tuple[UserId, ...] | None:
        """Return the hosted users among these, sorted; None for everyone."""
        if audience is None:
            return None
        return tuple(sorted({user for user in audience if user in self.hosted}))


class OfflineAccessPolicy(AccessPolicy):
    """The access rules of the own user in the storage of a peer that need not run.

    Args:
        talks: What each conversation is.
        groups: The stored groups, by id.
        hosts_others: Other users are hosted state.
    """

    __slots__ = ("_all", "_groups", "_talks")

    def __init__(
        self,
        me: UserId,
        talks: Mapping[ConversationId, Naming],
        groups: Mapping[ConversationId, GroupReplica],
        hosts_others: bool,
    ) -> None:
        super().__init__(lambda: None, lambda: me)
        self._talks = talks
        self._groups = groups
        self._all = not hosts_others and not any(is_of_others(me, *self._find(key)) for key in talks)

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
    """Return whether a conversation of another user is stored: others are hosted here, or were."""
    return any(is_of_others(me, one.naming, one.group) for one in node.sync.conversations.by_id.values())


def is_of_others(me: UserId, naming: Naming | None, group: GroupReplica | None) -> bool:
    if group is not None:
        return group.state is not None and me not in group.named
    return naming is not None and naming.dm is not None and me not in naming.dm


def audience_of(node: Node | None, conversation: ConversationId) -> Audience:
    """Return the present members of a conversation; None for the room, () for one that is not known."""
    state = _state_of(node, conversation)
    if state is None:
        return ()
    if state.group is not None:
        return state.group.state.present if state.group.state is not None else ()
    return state.members


def _state_of(node: Node | None, conversation: ConversationId) -> ConversationState | None:
    return None if node is None else node.sync.conversations.by_id.get(conversation)


def _may_read(state: ConversationState, me: UserId, entry: Entry) -> bool:
    """Return whether a user may read an entry of a conversation.

    A user who left a group, or was removed, may read what was written by those who did not know that yet.
    """
    if state.group is None:
        return state.members is None or me in state.members
    if not state.is_talk:
        return me in state.group.named
    return state.group.is_present(me) or _was_there(state.group, me, entry)


def _was_there(group: GroupReplica, me: UserId, entry: Entry) -> bool:
    if entry.g is None or group.state is None or me not in group.members_at(entry.g[0]):
        return False
    left = [leave.c for leave in group.state.leaves.get(me, ()) if leave.gen <= entry.g[0]]
    return not left or entry.c <= max(left)
