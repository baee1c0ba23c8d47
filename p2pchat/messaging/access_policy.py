"""Access of local users to conversations, entries and events; and who may delete a history.

A peer that never hosted another user stores only what its own user may see, so that everything is visible. Where
several users are hosted, or were, each sees the conversations it belongs to, and of a group it has left, or was removed
from, the entries for which `may_read` in core/groups/group_replica.py returns true.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from p2pchat.core.groups.group_replica import may_read
from p2pchat.core.log import Entry, LogId
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.errors import P2PChatError
from p2pchat.protocol import ConversationId, Naming, UserId

Audience = Collection[UserId] | None  # the ids of the users concerned; None for everyone
Conversations = Callable[[], Mapping[ConversationId, ConversationState]]  # returns all that are stored, by id


class AccessPolicy:
    """The access rules of one user.

    Args:
        me: Returns the id (hex) of the user; that of the peer's own user is known when its key was read.
        is_alone: Returns whether no other user is hosted, or was.
    """

    __slots__ = ("_conversations", "_is_alone", "_me")

    def __init__(
        self, conversations: Conversations, me: Callable[[], UserId], is_alone: Callable[[], bool] = lambda: False
    ) -> None:
        self._conversations = conversations
        self._me = me
        self._is_alone = is_alone

    @property
    def is_all(self) -> bool:
        """True if everything stored is visible."""
        return self._is_alone()

    @property
    def mine(self) -> Collection[UserId]:
        """The ids of the users whose messages are Sent rather than Message."""
        return (self._me(),)

    def naming(self, conversation: ConversationId) -> Naming | None:
        """Return the name behind a conversation id; None for one that the user does not know."""
        state = self._state(conversation)
        return state.naming if state is not None and self.knows(conversation) else None

    def knows(self, conversation: ConversationId) -> bool:
        """Return whether the user belongs to a conversation, or did: also a group it has left or was removed from."""
        state = self._state(conversation)
        if state is None:
            return self.is_all
        if state.group is not None:
            return self.is_all or self._is_among(state.group.named)
        return self._is_among(state.members)

    def sees(self, log: LogId, entry: Entry) -> bool:
        """Return whether the user may read an entry."""
        if self.is_all:
            return True
        state, me = self._state(log.conversation), self._me()
        if state is not None and state.group is not None and state.is_talk:
            return may_read(state.group, me, entry)
        return state is not None and self.knows(log.conversation)

    def hears(self, audience: Audience) -> bool:
        """Return whether an event for these users is for this user."""
        return self._is_among(audience) or self.is_all

    def check_deletion(self, operator: UserId) -> None:
        """Raise P2PChatError unless the user is the operator of the peer: all of its users share what it stores."""
        if self._me() != operator:
            raise P2PChatError("all users of a peer share what it stores: only its operator can delete there")

    def _is_among(self, users: Audience) -> bool:
        return users is None or self._me() in users

    def _state(self, conversation: ConversationId) -> ConversationState | None:
        return self._conversations().get(conversation)


class AllUsersPolicy(AccessPolicy):
    """The access rules of all hosted users together; a gateway reads every event once for all of them.

    Attributes:
        hosted: The ids of the hosted users, without the peer's own; a live view.
    """

    __slots__ = ("hosted",)

    def __init__(self, conversations: Conversations, hosted: Collection[UserId]) -> None:
        super().__init__(conversations, lambda: "")
        self.hosted: Collection[UserId] = hosted

    @property
    def mine(self) -> Collection[UserId]:
        return self.hosted

    def sees(self, log: LogId, entry: Entry) -> bool:
        return self._is_among(audience_of(self._conversations(), log.conversation))

    def _is_among(self, users: Audience) -> bool:
        return users is None or any(user in self.hosted for user in users)

    def users_of(self, audience: Audience) -> tuple[UserId, ...] | None:
        """Return the hosted users among these, sorted; None for everyone."""
        if audience is None:
            return None
        return tuple(sorted({user for user in audience if user in self.hosted}))


def has_others(conversations: Mapping[ConversationId, ConversationState], me: UserId) -> bool:
    """Return whether a conversation of another user is stored: others are hosted here, or were."""
    return any(_is_of_others(me, state) for state in conversations.values())


def _is_of_others(me: UserId, state: ConversationState) -> bool:
    if state.group is not None:
        return state.group.state is not None and me not in state.group.named
    return state.naming.dm is not None and me not in state.naming.dm


def audience_of(conversations: Mapping[ConversationId, ConversationState], conversation: ConversationId) -> Audience:
    """Return the present members of a conversation; None for the room, () for one that is not known."""
    state = conversations.get(conversation)
    if state is None:
        return ()
    if state.group is not None:
        return state.group.state.present if state.group.state is not None else ()
    return state.members
