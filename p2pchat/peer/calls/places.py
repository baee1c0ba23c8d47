"""Where the messages of one user may go: its conversations and groups, and what an address as typed means.

What is written there and read is local_user.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pchat.core.groups.view import GroupView
from p2pchat.core.inputs import Opened
from p2pchat.core.sync.conversations import dm_id, dm_naming
from p2pchat.errors import UnknownName
from p2pchat.messaging.groups import Group, Who, whom
from p2pchat.messaging.users import User, id_of
from p2pchat.peer.calls.being import Being
from p2pchat.peer.groups.grouping import change_group, leave_group, make_group
from p2pchat.peer.messages.conversation import Conversation, Desk
from p2pchat.protocol import ConversationId, Naming, UserId

To = User | Conversation | str


class Places(Being):
    """The conversations of one user."""

    __slots__ = ()

    _conversations: dict[ConversationId, Conversation]

    @property
    def _desk(self) -> Desk:
        """Who does what is asked of conversations: the user itself."""
        raise NotImplementedError

    # ------------------------------------------------------------------ conversations

    @property
    def room(self) -> Conversation:
        """The conversation of everyone; UnknownName in an open network that has met nobody yet."""
        key = self._begun.node.room
        if not key:
            text = "there is no room yet: this open network is known when the first peer has been met"
            raise UnknownName("room", text=text)
        return self.conversation(key)

    def conversations(self) -> list[Conversation]:
        """Return all conversations known here, the room first, then by name."""
        known = map(self.conversation, self._begun.node.talks_of(self.people.me))
        return sorted(known, key=lambda one: (one.kind != "room", one.name.casefold()))

    def recent_conversations(self) -> list[Conversation]:
        """Return all conversations known here, the one first in which something was written last."""
        return list(map(self.conversation, self._begun.node.newest_talks(self.people.me)))

    def conversation(self, key: ConversationId) -> Conversation:
        """Return the one handle of a conversation, by its inner id (hex)."""
        found = self._conversations.get(key)
        if found is None or found.naming is None:
            naming = self._naming(key)
            kind = Group if naming is not None and naming.talk else Conversation
            found = self._conversations[key] = kind(self._desk, key, naming)
        return found

    def _naming(self, key: ConversationId) -> Naming | None:
        node = self._core
        known = None if node is None else node.sync.conversations.by_id.get(key)
        return known.naming if known is not None and self._sight.knows(key) else None

    def find(self, to: To) -> Conversation:
        """Return the conversation an address names: `room`, `bob`, `@bob`, `bob#K7QF2M3P`, `#ops`, a full id.

        Raises:
            UnknownName: Nobody and nothing is called so.
            AmbiguousName: Several are; `.candidates` are labels that tell them apart.
        """
        if isinstance(to, Conversation):
            return to if to.desk is self._desk else self.conversation(to.key)
        if isinstance(to, User):
            return self._dm(to)
        if not isinstance(to, str):
            raise TypeError(f"a message goes to a name, a User or a Conversation, not {type(to).__name__}")
        text = to.strip()
        if text.lower() in ("room", "#room"):
            return self.room
        if text.startswith("#"):
            return self.group(text)
        key = id_of(text)
        self._started()
        if key and (self._naming(key) is not None or key in self._conversations):
            return self.conversation(key)
        try:
            return self._dm(self.people.find(text))
        except UnknownName:
            if not (hint := self._groups.hint(text)):
                raise
        raise UnknownName(text, hint)

    def _dm(self, user: User) -> Conversation:
        owner = self._begun
        key = dm_id(self.people.me, user.key)
        found = self._conversations.get(key)
        if found is None or found.naming is None:
            naming = dm_naming(self.people.me, user.key)
            if self._naming(key) is None and not self._is_closed:
                owner.put(Opened(naming))
            found = self._conversations[key] = Conversation(self._desk, key, naming)
        return found

    # ------------------------------------------------------------------ groups

    async def create_group(self, name: str, members: Sequence[Who] = ()) -> Group:
        """Make a group, whose owner is the own user; returns when it is accepted.

        Args:
            name: What it is called; other groups may be called so too.
            members: Users or names as typed, also of who is away; who was never met is named by the full id.
        Raises:
            UnknownName, AmbiguousName: A member is nobody, or several. ValueError: That is no name.
            P2PChatError: Too many members. StorageError, PeerClosed: As send.
        """
        owner, me = self._running, self.people.me
        if isinstance(members, str | User):
            raise TypeError("members is a list of users or names, not one of them")
        talk = await make_group(owner, me, name, [whom(self.people, member) for member in members])
        return self._handle(talk)

    def groups(self) -> list[Group]:
        """Return the groups known here, by name: also those one was removed from or has left (see is_member)."""
        talks = [view.talk for view in self._begun.node.groups.values() if self._sight.knows(view.talk)]
        known = map(self._handle, talks)
        return sorted(known, key=lambda group: (group.name.casefold(), group.key))

    def group(self, address: str) -> Group:
        """Return the group an address names: `#ops`, `ops`, `#ops#K7QF2M3P`.

        Raises:
            UnknownName, AmbiguousName: No group here is called so, or several.
        """
        self._started()
        return self._handle(self._groups.find(address))

    def _handle(self, talk: ConversationId) -> Group:
        group = self.conversation(talk)
        assert isinstance(group, Group)
        return group

    def group_view(self, group: ConversationId) -> GroupView | None:
        return None if self._core is None else self._groups.view(group)

    def same_name(self, conversation: Conversation) -> bool:
        return self._groups.same_name(conversation.key)

    async def change_group(
        self,
        group: Conversation,
        *,
        add: tuple[UserId, ...] = (),
        remove: tuple[UserId, ...] = (),
        name: str | None = None,
        owner: UserId | None = None,
    ) -> None:
        """What Group.add and its neighbours do."""
        await change_group(self._running, self.people.me, _operations(group), add, remove, name, owner)

    async def leave_group(self, group: Conversation) -> None:
        """What Group.leave does."""
        await leave_group(self._running, self.people.me, _operations(group))


def _operations(group: Conversation) -> ConversationId:
    assert isinstance(group, Group)
    return group.group_key
