"""Access of local users to conversations, entries and events; whom they block; and who may delete a history.

A peer that never hosted another user stores only what its own user may see, so that everything is visible. Where
several users are hosted, or were, each sees the conversations it belongs to, and of a group it has left, or was removed
from, the entries for which `may_read` in core/groups/group_replica.py returns true.

A hosted user blocks for itself, while other users of the peer read on: nothing is shown to it of what the blocked one
wrote, whenever that was, and each of the two seems to be away to the other. Everything that shows something asks here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from p2pchat.core.log import Entry, LogId
from p2pchat.core.mesh.presence_tracker import AWAY
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.errors import P2PChatError
from p2pchat.messaging.events import (
    Event,
    FileArrived,
    FileProgress,
    GroupChanged,
    Joined,
    Left,
    NewConversation,
    Presence,
    Renamed,
    Typing,
)
from p2pchat.messaging.messages import DurableEvent, MessageChange
from p2pchat.protocol import ConversationId, Naming, UserId

Audience = Collection[UserId] | None  # the ids of the users concerned; None for everyone
Conversations = Callable[[], Mapping[ConversationId, ConversationState]]  # returns all that are stored, by id


class AccessPolicy:
    """The access rules of one user.

    Args:
        me: Returns the id (hex) of the user; that of the peer's own user is known when its key was read.
        is_alone: Returns whether no other user is hosted, or was.
        blocks: Returns whether the first user blocks the second one. Of whom the peer's own user blocks nothing comes
            here, and what is stored is for programs to hide (User.ignored).
        has_read: Returns whether the user marked anything in a conversation as read.
    """

    __slots__ = ("_blocks", "_conversations", "_has_read", "_is_alone", "_me")

    def __init__(
        self, conversations: Conversations, me: Callable[[], UserId], is_alone: Callable[[], bool] = lambda: False,
        blocks: Callable[[UserId, UserId], bool] = lambda by, user: False,
        has_read: Callable[[ConversationId], bool] = lambda key: True,
    ) -> None:  # fmt: skip
        self._conversations = conversations
        self._me = me
        self._is_alone = is_alone
        self._blocks = blocks
        self._has_read = has_read

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
        """Return whether the user belongs to a conversation, or did: also a group it has left or was removed from.

        One that somebody began whom it blocks is not known, unless it has written or read there.
        """
        state = self._state(conversation)
        if state is None or (self.is_all and state.group is not None):
            return self.is_all
        users = state.members if state.group is None else state.group.named
        return self._is_among(users) and not self._is_refused(state)

    def sees(self, log: LogId, entry: Entry) -> bool:
        """Return whether the user may read an entry."""
        if self.is_all:
            return True
        state = self._state(log.conversation)
        if state is None or self.refuses(log.user) or not self.knows(log.conversation):
            return False
        return state.group is None or not state.is_talk or state.group.may_read(self._me(), entry)

    def hears(self, audience: Audience) -> bool:
        """Return whether an event for these users is for this user."""
        return self._is_among(audience) or self.is_all

    def refuses(self, user: UserId) -> bool:
        """Return whether the user blocks another one: then nothing is shown of that one."""
        return self._blocks(self._me(), user)

    def shows(self, event: Event | DurableEvent) -> bool:
        """Return whether an event that is for the user is shown to it, by whom it blocks and who blocks it."""
        if isinstance(event, DurableEvent):
            writer = (event.message if isinstance(event, MessageChange) else event).log.user
            return not (self.refuses(event.log.user) or self.refuses(writer)) and self.knows(event.log.conversation)
        if isinstance(event, Presence | Joined | Left | Typing):
            is_away = isinstance(event, Presence) and (event.status, event.since) == (AWAY[0], None)
            me, user = self._me(), event.user.key  # where one blocks the other, each seems to be away to the other
            return is_away or not (self._blocks(me, user) or self._blocks(user, me))
        if isinstance(event, GroupChanged | NewConversation):
            return self.knows((event.group if isinstance(event, GroupChanged) else event.conversation).key)
        if isinstance(event, Renamed):
            return not self.refuses(event.user.key)
        return not (isinstance(event, FileProgress | FileArrived) and self.refuses(event.log.user))

    def check_deletion(self, operator: UserId) -> None:
        """Raise P2PChatError unless the user is the operator of the peer: all of its users share what it stores."""
        if self._me() != operator:
            raise P2PChatError("all users of a peer share what it stores: only its operator can delete there")

    def _is_among(self, users: Audience) -> bool:
        return users is None or self._me() in users

    def _is_refused(self, state: ConversationState) -> bool:
        """Return whether the user blocks who began a conversation, and did nothing in it."""
        group = state.group
        if not any(map(self.refuses, state.members or () if group is None else [group.adder([self._me()])])):
            return False
        key = state.id if group is None else group.talk
        talk = self._state(key)
        return not (talk is not None and self._me() in talk.writers) and not self._has_read(key)

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
        return state.group.state.members if state.group.state is not None else ()
    return state.members
