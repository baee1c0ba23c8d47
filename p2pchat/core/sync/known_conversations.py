"""Conversations: their ids, members and namings, and which of them are kept.

The room is everyone; a direct conversation (dm) is two users. A group is two conversations, one of operations and one
in which its members talk (group_sync.py). Until its first operation arrives, only the peers that named it are asked
about it.

Source: docs/protocol.md, "Conversations".
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import islice

from p2pchat.core.groups.group_replica import NO_USERS, GroupReplica
from p2pchat.core.members.statement import room_id
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.protocol import ConversationId, Naming, PeerId, UserId

DM_TAG = b"p2pchat/dm/1\0"
MAX_UNKNOWN = 1000  # groups named by peers of one member of which nothing arrived; 4 KiB each
MAX_ASKED_USERS = 16  # users by whom a peer is recognized for each group it names, out of perhaps thousands
DMS_CACHED = 1024  # pairs whose id is cached: a program that writes to a user needs it for every message


def dm_naming(one: UserId, other: UserId) -> Naming:
    """Return the naming of the direct conversation of two users. A user may write to itself."""
    first, second = sorted((one, other))
    return Naming(dm=(first, second))


@lru_cache(DMS_CACHED)
def dm_id(one: UserId, other: UserId) -> ConversationId:
    """Return the id of the direct conversation of two users."""
    return blake2b(DM_TAG + bytes.fromhex("".join(sorted((one, other)))), digest_size=32).hexdigest()


class KnownConversations(dict[ConversationId, ConversationState]):
    """All conversations in memory, by id."""

    def __init__(self, network: str) -> None:
        super().__init__()
        self.groups: dict[ConversationId, GroupReplica] = {}
        self._dms: dict[UserId, dict[ConversationId, None]] = {}  # by each of the two users
        self._in_groups: Counter[UserId] = Counter()  # how many groups name a user: asked for each that is announced
        self.provisional: set[ConversationId] = set()  # named by a link, and otherwise unknown
        self._kept: list[ConversationId] = []  # all others, in order
        self._unknown: dict[ConversationId, UserId] = {}  # groups of which nothing arrived, and where they count
        self._unknown_of: Counter[UserId] = Counter()  # how many of them count at a member
        self.room: ConversationId = room_id(network)
        self.open(Naming(room=True))

    def open(self, naming: Naming) -> ConversationState | None:
        """Return the conversation of a naming, made if need be; None for kinds unknown to this version."""
        named = self.identify(naming)
        if named is None:
            return None
        conversation, members = named
        found = self.get(conversation) or self._add(self._new(conversation, naming, members))
        self.keep(conversation)
        return found

    def open_provisional(self, naming: Naming) -> None:
        """Make a conversation that only a link or a file mentions.

        It is kept once an entry of it is stored or a program opens it. Until then it may be swept.
        """
        named = self.identify(naming)
        if named is None or named[0] in self or naming.group or naming.talk:
            return
        self._add(ConversationState(named[0], naming, named[1]))
        self.provisional.add(named[0])

    def direct(self, user: UserId) -> list[ConversationId]:
        """Return the direct conversations of a user."""
        return [*self._dms.get(user, ())]

    def may_have_entries_of(self, user: UserId) -> list[ConversationState]:
        """Return the conversations in which a user may have written: the room, its direct ones, and all groups."""
        groups = (id for group in self.groups.values() for id in (group.id, group.talk))
        return [self[id] for id in (self.room, *self._dms.get(user, ()), *groups) if id in self]

    def open_group(self, naming: Naming, users: Collection[UserId], teller: PeerId, share: UserId) -> None:
        """Note a group that a peer names. While nothing of it is known here, peers that host these users may be asked.

        `teller` is that peer, "" for a file, and it counts at `share`. Each member may name a limited number of
        groups of which nothing arrives.
        """
        assert naming.group is not None
        id, owner, _ = naming.group
        found = self.get(id)
        if found is None:
            if self._unknown_of[share] >= MAX_UNKNOWN:
                return
            found = self._add(self._new(id, naming, frozenset()))
            self.provisional.add(id)
            self._unknown[id] = share
            self._unknown_of[share] += 1
        if found.group is not None and found.group.state is None:
            asked = [teller] if teller in users else [*islice(users, MAX_ASKED_USERS)]
            found.members = (found.members or NO_USERS).union(asked)
            found.allow_writers((found.allowed_writers or NO_USERS) | {owner})

    def written_to_by(self, user: UserId) -> Iterator[UserId]:
        """Yield the users to whom this user ever wrote directly."""
        for id in self._dms.get(user, ()):
            conversation = self[id]
            if user in conversation.writers:
                yield from conversation.naming.dm or ()

    def keep(self, id: ConversationId) -> None:
        """Keep a conversation: an entry of it arrived, or a program opened it."""
        self._end_provisional(id)
        at = bisect_left(self._kept, id)
        if id in self and self._kept[at : at + 1] != [id]:
            insort(self._kept, id)

    def kept(self, span: tuple[ConversationId, ConversationId] | None = None) -> Iterator[ConversationState]:
        """Yield the conversations that are kept, by id in order: all, or those within a span of ids."""
        ids = self._kept
        if span is not None:
            ids = ids[bisect_left(ids, span[0]) : bisect_right(ids, span[1])]
        return map(self.__getitem__, ids)

    def _end_provisional(self, id: ConversationId) -> None:
        if id in self._unknown:
            self._unknown_of[self._unknown.pop(id)] -= 1
        self.provisional.discard(id)

    def of_user(self, user: UserId) -> list[ConversationId]:
        """Return the conversations that a user belongs to or did, without those of group operations."""
        talks = [group.talk for group in self.groups.values() if user in group.named and group.talk in self]
        return [self.room, *self._dms.get(user, ()), *talks]

    def update_concern(self, user: UserId, hosted: Container[UserId]) -> None:
        """Update which direct conversations concern hosted users, after this user was hosted or unhosted."""
        for id in self._dms.get(user, ()):
            conversation = self[id]
            conversation.concerns_us = any(member in hosted for member in conversation.members or ())

    def has_any_of(self, user: UserId) -> bool:
        """Return whether this user has a conversation besides the room."""
        return user in self._dms or user in self._in_groups

    def has_entries_of(self, user: UserId) -> bool:
        """Return whether this user wrote in the room, or has a direct conversation that is kept, or a group."""
        room = self.get(self.room)
        if user in self._in_groups or (room is not None and user in room.writers):
            return True
        return any(id not in self.provisional for id in self._dms.get(user, ()))

    def visible(self) -> list[ConversationId]:
        """Return all conversations except those of group operations."""
        return [id for id, each in self.items() if not each.naming.group]

    def newest_first(self, these: Iterable[ConversationId]) -> list[ConversationId]:
        """Return these ids, those with the newest entries first.

        Making or changing a group counts as an entry. Empty conversations come last.
        """
        return sorted(these, key=lambda id: self._newest_c(self[id]), reverse=True)

    def _newest_c(self, conversation: ConversationState) -> int:
        operations = self.get(conversation.naming.talk) if conversation.naming.talk else None
        return max(conversation.newest_c, operations.newest_c if operations else 0)

    def _new(self, id: ConversationId, naming: Naming, members: frozenset[UserId] | None) -> ConversationState:
        conversation = ConversationState(id, naming, members)
        group = naming.group[0] if naming.group else naming.talk
        if group is not None:
            if group not in self.groups:
                self.groups[group] = GroupReplica(group, self._in_groups)
            conversation.group = self.groups[group]
            conversation.is_talk = naming.talk is not None
        return conversation

    def _add(self, conversation: ConversationState) -> ConversationState:
        self[conversation.id] = conversation
        for user in conversation.naming.dm or ():
            self._dms.setdefault(user, {})[conversation.id] = None
        return conversation

    def sweep(self, is_shared: Callable[[ConversationState], bool]) -> list[ConversationState]:
        """Forget conversations without stored entries that no link may mention any more. Return them."""
        unshared = [id for id in self.provisional if not is_shared(self[id])]
        return [found for id in unshared if (found := self.forget(id)) is not None]

    def forget(self, id: ConversationId) -> ConversationState | None:
        """Forget and return a conversation that only links mention; None for any other."""
        if id not in self.provisional or self[id].is_stored:
            return None
        self._end_provisional(id)
        conversation = self.pop(id)
        self.groups.pop(id, None)
        for user in {*(conversation.naming.dm or ())}:
            del self._dms[user][id]
            if not self._dms[user]:
                del self._dms[user]
        return conversation

    def identify(self, naming: Naming) -> tuple[ConversationId, frozenset[UserId] | None] | None:
        """Return (id, members) of a naming; members None is everyone. None for kinds unknown to this version."""
        if naming.room:
            return self.room, None
        if naming.dm:
            return dm_id(*naming.dm), frozenset(naming.dm)
        if naming.group:
            return naming.group[0], frozenset()
        if naming.talk is not None and naming.talk in self.groups:
            return self.groups[naming.talk].talk, frozenset()
        return None
