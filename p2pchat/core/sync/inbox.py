"""Inbox: conversations that somebody began who is no contact of the hosted user, and that nobody here has answered.

The first message of one is told once (ConversationBegun). Few of them have a place: they count at their writer and at
the member that answers for it (UserMembers.line). Of one without a place nothing is stored, its writer's peer is told
`full`, and it is listed from memory. It is opened again when a peer mentions it while there is room, and at once when
the hosted user writes to that person, who is a contact then (contacts.py): conversations of contacts need no places.

Source: docs/protocol.md, "Limits"; docs/guarantees.md has the promise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from p2pchat.core.contacts import Contacts
from p2pchat.core.effects import ConversationBegun
from p2pchat.core.groups.group_state import talk_id
from p2pchat.core.members.user_members import UserMembers
from p2pchat.core.node_context import HostedIdentities, NodeContext
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.core.sync.known_conversations import KnownConversations, dm_id
from p2pchat.protocol import ConversationId, Naming, UserId

MAX_OF_MEMBER = 1024  # conversations of all users of one member; a guess: groups take 15 KiB each
MAX_LISTED = 256  # conversations without a place; a guess: more than anybody reads
NO_LIMIT = 1 << 53


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A conversation that nobody here has answered.

    Attributes:
        conversation: Its id; of a group its talk.
        user: Who began it.
        hosts: The users hosted here to whom it goes.
        group: The name of a group that has no place.
        has_place: It is stored here, as everything that comes of it.
    """

    conversation: ConversationId
    user: UserId
    hosts: tuple[UserId, ...]
    group: str = field(default="", repr=False)
    has_place: bool = True


class Inbox:
    """The unanswered conversations of all hosted users, and their places."""

    def __init__(
        self, ctx: NodeContext, conversations: KnownConversations, hosted: HostedIdentities, contacts: Contacts,
        members: UserMembers,
    ) -> None:  # fmt: skip
        self._conversations = conversations
        self._hosted = hosted
        self._contacts = contacts
        self._members = members
        self._settings = ctx.settings
        self._places: dict[ConversationId, tuple[tuple[str, UserId], ...]] = {}  # where each counts
        self._taken: Counter[tuple[str, UserId]] = Counter()  # by a member, or a user and "dm" or "group"
        self._refused: dict[ConversationId, Unanswered] = {}  # the newest last

    def start(self) -> None:
        """Count what is stored, also more than there are places for, once members are known."""
        for conversation in self._conversations.values():
            self._update(conversation)

    def is_known(self, user: UserId) -> bool:
        """Return whether a user is hosted here, or known to anybody here."""
        return user in self._hosted or self._contacts.has_any(user)

    # ---- what is unanswered

    def _direct(self, naming: Naming) -> tuple[UserId, UserId] | None:
        """Return a hosted user and the one whom it does not know, of their direct conversation; else None."""
        here = [user for user in naming.dm or () if user in self._hosted]
        others = [user for user in naming.dm or () if user not in self._hosted]
        is_new = len(here) == len(others) == 1 and not self._contacts.are_known(here[0], others[0])
        return (here[0], others[0]) if is_new else None

    def _stored(self, conversation: ConversationState) -> Unanswered | None:
        """Return a stored conversation if it is unanswered. Once a member of a group wrote there, it is answered."""
        if not conversation.is_stored:
            return None
        if (direct := self._direct(conversation.naming)) is not None:
            return Unanswered(conversation.id, direct[1], direct[:1])
        group = conversation.group
        if group is None or not conversation.is_operations or group.state is None:
            return None
        talk = self._conversations.get(group.talk)
        hosts = [user for user in group.named if user in self._hosted]
        if self._is_answered(group.creator, hosts) or any(
            user in there.writers for there in (conversation, talk) if there is not None for user in hosts
        ):
            return None
        return Unanswered(group.talk, group.creator, tuple(hosts))

    def _is_answered(self, creator: UserId, hosts: Iterable[UserId]) -> bool:
        """Return whether a group of a creator needs no place: this peer knows it, or one of these hosted members."""
        is_known_here = creator in self._hosted or creator in self._contacts
        return is_known_here or any(self._contacts.are_known(user, creator) for user in hosts)

    def of(self, user: UserId) -> Iterator[Unanswered]:
        """Yield the unanswered conversations of a hosted user, and those that have no place."""
        for id in (*self._conversations.direct(user), *self._conversations.groups):
            found = self._stored(self._conversations[id])
            if found is not None and user in found.hosts:
                yield found
        yield from (refused for refused in self._refused.values() if user in refused.hosts)

    # ---- places

    def open(self, naming: Naming, *, is_file: bool = False) -> bool:
        """Make a direct conversation that a link or a file mentions. Return False if there is no place.

        Conversations of contacts need none, nor do those that a file brings.
        """
        if naming.dm is None or (id := dm_id(*naming.dm)) in self._conversations:
            return True
        direct = None if is_file else self._direct(naming)
        if direct is not None and not self._take(id, "dm", direct[1], self._settings.max_unanswered):
            self._refuse(id, Unanswered(id, direct[1], direct[:1], has_place=False))
            return False
        self._conversations.open_provisional(naming)
        return True

    def admits(self, group: ConversationId, creator: UserId, name: str, named: Iterable[UserId]) -> bool:
        """Return whether a group that names these users may be stored."""
        hosts = [user for user in named if user in self._hosted]
        most = self._settings.max_unanswered_groups
        if self._is_answered(creator, hosts) or self._take(group, "group", creator, most):
            return True
        self._refuse(group, Unanswered(talk_id(group), creator, tuple(hosts), name, has_place=False))
        return False

    def _take(self, id: ConversationId, kind: str, user: UserId, most: int) -> bool:
        """Give a conversation a place if there is one. Return whether it has one."""
        line = self._members.line(user)
        of_user, of_member = (kind, line[-1]), ("member", line[0])
        has_room = self._taken[of_user] < most and (self._taken[of_member] < MAX_OF_MEMBER or most == NO_LIMIT)
        if id not in self._places and has_room:
            self._places[id] = of_user, of_member
            self._taken.update(self._places[id])
        return id in self._places

    def _refuse(self, id: ConversationId, refused: Unanswered) -> None:
        self._refused[id] = refused
        if len(self._refused) > MAX_LISTED:
            del self._refused[next(iter(self._refused))]

    def free(self, id: ConversationId) -> None:
        """Free the place of a conversation that was answered or forgotten."""
        for node in self._places.pop(id, ()):
            self._taken[node] -= 1
            if not self._taken[node]:
                del self._taken[node]

    def _update(self, conversation: ConversationState) -> None:
        """Count a conversation if it is stored and unanswered, also beyond the limits; else free its place."""
        found = self._stored(conversation)
        if found is None:
            self.free(conversation.id)
        else:
            self._take(conversation.id, "group" if conversation.is_operations else "dm", found.user, NO_LIMIT)

    # ---- what happens

    def on_begun(self, conversation: ConversationState) -> list[ConversationBegun]:
        """Return what is told of a conversation whose first entry is stored, unless a file brought it."""
        self._refused.pop(conversation.id, None)
        found = self._stored(conversation) if conversation.id in self._places else None
        return [ConversationBegun(found.conversation, host, found.user) for host in found.hosts] if found else []

    def on_answered(self, conversation: ConversationState, by: UserId) -> None:
        """Make the other user of a direct conversation, or the owner of a group, a contact of who writes there.

        Who leaves a group knows nobody by that.
        """
        group = conversation.group
        if group is None:
            self._contacts.add(conversation.naming.dm or (), by)
            return
        self.free(group.id)
        if conversation.is_talk and group.state is not None and group.state.owner not in self._hosted:
            self._contacts.keep([group.state.owner], by)

    def on_contact(self, user: UserId) -> bool:
        """Free the places of a user who is a contact of a hosted user now. Return whether any had been refused."""
        made = [id for id, group in self._conversations.groups.items() if id in self._places and group.creator == user]
        for id in (*self._conversations.direct(user), *made):
            self._update(self._conversations[id])
        refused = [id for id, one in self._refused.items() if one.user == user]
        for id in refused:
            del self._refused[id]
        return bool(refused)

    def on_hosts_changed(self, user: UserId) -> None:
        """Update the conversations of a user who is hosted from now on, or is not any more. With other users of this
        peer it has none that count.
        """
        groups = [id for id, group in self._conversations.groups.items() if user in group.named]
        for id in (*self._conversations.direct(user), *groups):
            self._update(self._conversations[id])
