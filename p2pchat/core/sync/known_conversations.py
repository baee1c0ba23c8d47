"""Conversations: their ids, members and namings, which of them are kept, and which have a place in the inbox.

The room is everyone; a direct conversation (dm) is two users. A group is two conversations, one of facts and one
in which its members talk (group_sync.py). Until its first operation arrives, only the peers that named it are asked
about it.

Source: docs/protocol.md, "Conversations".
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import islice

from p2pchat.bounded import Counts, drop, remember
from p2pchat.core.contacts import Contacts
from p2pchat.core.effects import ConversationBegun
from p2pchat.core.groups.group_fact import talk_id
from p2pchat.core.groups.group_replica import NO_USERS, GroupReplica
from p2pchat.core.log import LogId
from p2pchat.core.members.member_directory import MemberDirectory
from p2pchat.core.node_context import HostedIdentities, NodeContext
from p2pchat.core.sync.conversation_state import ConversationState, LogState
from p2pchat.protocol import ConversationId, Naming, PeerId, UserId

DM_TAG = b"p2pchat/dm/2\0"
MAX_UNKNOWN = 1000  # groups named by peers of one member of which nothing arrived; 4 KiB each
MAX_ASKED_USERS = 16  # users by whom a peer is recognized for each group it names, out of perhaps thousands
DMS_CACHED = 1024  # pairs whose id is cached: a program that writes to a user needs it for every message


def dm_naming(one: UserId, other: UserId) -> Naming:
    """Return the naming of the direct conversation of two users. A user may write to itself."""
    first, second = sorted((one, other))
    return Naming(dm=(first, second))


@lru_cache(DMS_CACHED)
def dm_id(room: ConversationId, one: UserId, other: UserId) -> ConversationId:
    """Return the id of the direct conversation of two users in the network with this room."""
    return blake2b(DM_TAG + bytes.fromhex("".join((room, *sorted((one, other))))), digest_size=32).hexdigest()


class KnownConversations(dict[ConversationId, ConversationState]):
    """All conversations in memory, by id."""

    def __init__(self, room: ConversationId, unnamed: Container[UserId] = NO_USERS) -> None:
        super().__init__()
        self._unnamed = unnamed
        self.groups: dict[ConversationId, GroupReplica] = {}
        self._dms: dict[UserId, dict[ConversationId, None]] = {}  # by each of the two users
        self._in_groups: Counter[UserId] = Counter()  # how many groups name a user: asked for each that is announced
        self.provisional: set[ConversationId] = set()  # named by a link, and otherwise unknown
        self._kept: list[ConversationId] = []  # all others, in order
        self._unknown: dict[ConversationId, UserId] = {}  # groups of which nothing arrived, and where they count
        self._unknown_of: Counter[UserId] = Counter()  # how many of them count at a member
        self.room: ConversationId = room
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

    def open_provisional(self, id: ConversationId, naming: Naming) -> None:
        """Make a direct conversation that only a link or a file mentions.

        It is kept once an entry of it is stored or a program opens it. Until then it may be swept.
        """
        self._add(ConversationState(id, naming, frozenset(naming.dm or ())))
        self.provisional.add(id)

    def find(self, log: LogId) -> LogState | None:
        """Return a log; None if it is not here."""
        conversation = self.get(log.conversation)
        return None if conversation is None else conversation.log(log.user, log.run)

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
            found.members = (found.members or NO_USERS) | {*asked}
            found.allowed_writers = (found.allowed_writers or NO_USERS) | {owner}

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
        """Return the conversations that a user belongs to or did, without those of group facts."""
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
        if user in self._in_groups or user in self[self.room].writers:
            return True
        return any(id not in self.provisional for id in self._dms.get(user, ()))

    def visible(self) -> list[ConversationId]:
        """Return all conversations except those of group facts."""
        return [id for id, each in self.items() if not each.naming.group]

    def newest_first(self, these: Iterable[ConversationId]) -> list[ConversationId]:
        """Return these ids, those with the newest entries first.

        Making or changing a group counts as an entry. Empty conversations come last.
        """
        return sorted(these, key=lambda id: self._newest_c(self[id]), reverse=True)

    def _newest_c(self, conversation: ConversationState) -> int:
        facts = self.get(conversation.naming.talk) if conversation.naming.talk else None
        return max(conversation.newest_c, facts.newest_c if facts else 0)

    def _new(self, id: ConversationId, naming: Naming, members: frozenset[UserId] | None) -> ConversationState:
        conversation = ConversationState(id, naming, members)
        group = naming.group[0] if naming.group else naming.talk
        if group is not None:
            if group not in self.groups:
                self.groups[group] = GroupReplica(group, self.room, self._in_groups)
            conversation.group = self.groups[group]
            conversation.is_talk = naming.talk is not None
            conversation.has_facts = not conversation.is_talk
        return conversation

    def _add(self, conversation: ConversationState) -> ConversationState:
        self[conversation.id] = conversation
        conversation.unnamed = self._unnamed
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
            drop(self._dms, user, id)
        return conversation

    def identify(self, naming: Naming) -> tuple[ConversationId, frozenset[UserId] | None] | None:
        """Return (id, members) of a naming; members None is everyone. None for kinds unknown to this version."""
        if naming.room:
            return self.room, None
        if naming.dm:
            return dm_id(self.room, *naming.dm), frozenset(naming.dm)
        if naming.group:
            return naming.group[0], frozenset()
        if naming.talk is not None and naming.talk in self.groups:
            return self.groups[naming.talk].talk, frozenset()
        return None


# ---- the inbox: what somebody began who is no contact of the hosted user, and nobody here has answered
#
# The first message of one is told once (ConversationBegun). Few of them have a place: they count at their writer and at
# the member that answers for it (MemberDirectory.line). Of one without a place nothing is stored, its writer's peer is
# told `full`, and it is listed from memory. It is opened again when a peer mentions it while there is room, and at
# once when the hosted user writes to that person, who is a contact then (contacts.py): conversations of contacts need
# no places. docs/guarantees.md has the promise.


MAX_OF_MEMBER = 1024  # conversations of all users of one member; a guess: groups take 15 KiB each
MAX_LISTED = 256  # conversations without a place; a guess: more than anybody reads


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
        members: MemberDirectory,
    ) -> None:  # fmt: skip
        self._conversations = conversations
        self._hosted = hosted
        self._contacts = contacts
        self._members = members
        self._settings = ctx.settings
        self._places: dict[ConversationId, tuple[tuple[str, UserId], ...]] = {}  # where each counts
        self._taken: Counter[tuple[str, UserId]] = Counts()  # by a member, or a user and "dm" or "group"
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
        if group is None or not conversation.has_facts or group.state is None:
            return None
        talk = self._conversations.get(group.talk)
        hosts = [user for user in group.named if user in self._hosted]
        adder = group.adder(hosts)
        if self._is_answered(adder, hosts) or any(
            user in there.writers for there in (conversation, talk) if there is not None for user in hosts
        ):
            return None
        return Unanswered(group.talk, adder, tuple(hosts))

    def adder(self, group: GroupReplica) -> UserId:
        """Return who first added a user hosted here to a group; its creator if nobody did."""
        return group.adder(user for user in group.named if user in self._hosted)

    def _is_answered(self, adder: UserId, hosts: Iterable[UserId]) -> bool:
        """Return whether a group needs no place: this peer knows who added these members, or one of them does."""
        is_known_here = adder in self._hosted or adder in self._contacts
        return is_known_here or any(self._contacts.are_known(user, adder) for user in hosts)

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
        if naming.dm is None or (id := dm_id(self._conversations.room, *naming.dm)) in self._conversations:
            return True
        direct = None if is_file else self._direct(naming)
        if direct is not None and not self._take(id, "dm", direct[1], self._settings.max_unanswered):
            self._refuse(id, Unanswered(id, direct[1], direct[:1], has_place=False))
            return False
        self._conversations.open_provisional(id, naming)
        return True

    def admits(self, group: ConversationId, creator: UserId, name: str, named: Iterable[UserId]) -> bool:
        """Return whether a group that names these users may be stored."""
        hosts = [user for user in named if user in self._hosted]
        most = self._settings.max_unanswered_groups
        if self._is_answered(creator, hosts) or self._take(group, "group", creator, most):
            return True
        self._refuse(group, Unanswered(talk_id(group), creator, tuple(hosts), name, has_place=False))
        return False

    def _take(self, id: ConversationId, kind: str, user: UserId, most: int | None) -> bool:
        """Give a conversation a place if there is one, None: also beyond the limits. Return whether it has one."""
        line = self._members.line(user)
        of_user, of_member = (kind, line[-1]), ("member", line[0])
        has_room = most is None or (self._taken[of_user] < most and self._taken[of_member] < MAX_OF_MEMBER)
        if id not in self._places and has_room:
            self._places[id] = of_user, of_member
            self._taken.update(self._places[id])
        return id in self._places

    def _refuse(self, id: ConversationId, refused: Unanswered) -> None:
        remember(self._refused, id, refused, MAX_LISTED)

    def free(self, id: ConversationId) -> None:
        """Free the place of a conversation that was answered or forgotten."""
        for node in self._places.pop(id, ()):
            self._taken[node] -= 1

    def _update(self, conversation: ConversationState) -> None:
        """Count a conversation if it is stored and unanswered, also beyond the limits; else free its place."""
        found = self._stored(conversation)
        if found is None:
            self.free(conversation.id)
        else:
            self._take(conversation.id, "group" if conversation.has_facts else "dm", found.user, None)

    # ---- what happens

    def on_begun(
        self, conversation: ConversationState, named: Collection[UserId] | None = None
    ) -> list[ConversationBegun]:
        """Return what is told of a conversation whose first entry is stored, unless a file brought it.

        Args:
            named: Those whom an entry names now as members of a group.
        """
        self._refused.pop(conversation.id, None)
        had_place, found = conversation.id in self._places, self._stored(conversation)
        if had_place:
            self.free(conversation.id)
            self._update(conversation)  # it counts at who added somebody here
        if not had_place or found is None:
            return []
        hosts = found.hosts if named is None else [host for host in found.hosts if host in named]
        return [ConversationBegun(found.conversation, host, found.user) for host in hosts]

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
        groups = self._conversations.groups
        made = [id for id, group in groups.items() if id in self._places and self.adder(group) == user]
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
