"""Requests of groups: groups that unknown users begin with users hosted here.

A group takes a place at each hosted user that it names, unless one of them knows its owner. The first few of each peer
are stored, and count until a user here answers them, or for long enough. A further one *waits*: nothing is stored of it
but its name and owner, in places that it may lose as a conversation does. It is fetched once somebody whom it names
knows its owner, or once there is room when a peer brings it. An owner who is not that peer's own user has a part of
what the peer has left, so that one account of a gateway never shuts the others out. A direct conversation needs no
such rule: each account has one with a hosted user.

Source: docs/protocol.md, "Limits"; docs/guarantees.md has the promise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from p2pchat.config import Settings
from p2pchat.core.contacts import Contacts
from p2pchat.core.groups.group_replica import GroupReplica
from p2pchat.core.groups.group_state import GroupOperation
from p2pchat.core.inputs import RequestLeft
from p2pchat.core.limits_by_origin import Line, OriginShares
from p2pchat.core.node_context import NodeContext
from p2pchat.core.sync.known_conversations import Conversations
from p2pchat.core.sync.log_index import ConversationState
from p2pchat.protocol import ConversationId, PeerId, UserId

GROUP_REQUEST = "group_request:"  # in meta, before a group: a GroupRequest, or LEFT and who left
LEFT = "left"  # all hosted users that it names left it while it waited


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """A group by an unknown owner.

    Attributes:
        peer: The peer that brought it.
        since: When it came, UTC microseconds.
        owner, name: As its first operation says; "" if it is stored.
        users: The users hosted here that it names; none if it is stored.
        left: Those of them who left it.
        network: From where it was brought; "" when an earlier version stored it.
    """

    peer: PeerId
    since: int
    owner: UserId = ""
    name: str = field(default="", repr=False)
    users: tuple[UserId, ...] = ()
    left: tuple[UserId, ...] = ()
    network: str = ""

    @property
    def waits(self) -> bool:
        """True if nothing else is kept of it."""
        return bool(self.owner)

    def __str__(self) -> str:
        named = (*self.users, *(f"-{user}" for user in self.left))
        rest = (self.owner, ",".join(named), self.name) if self.waits else ()
        return " ".join((source_line(self.peer, self.network), str(self.since), *rest))

    @classmethod
    def parse(cls, line: str) -> GroupRequest:
        """Restore a request from `str` of another."""
        source, since, *rest = line.split(" ", 4)
        peer, _, network = source.partition("@")
        owner, named, name = rest or ("", "", "")
        users = tuple(user for user in named.split(",") if user and user[0] != "-")
        left = tuple(user[1:] for user in named.split(",") if user[:1] == "-")
        return cls(peer, int(since), owner, name, users, left, network)


def stored_group_requests(meta: Mapping[str, str]) -> dict[ConversationId, GroupRequest]:
    """Return the groups by unknown owners that storage holds or knows of, by id."""
    lines = ((name.removeprefix(GROUP_REQUEST), line) for name, line in meta.items() if name.startswith(GROUP_REQUEST))
    return {id: GroupRequest.parse(line) for id, line in lines if line and line.split(" ")[0] != LEFT}


class GroupRequests:
    """The groups by unknown owners.

    Args:
        hosted, contacts: Live views of the hosted users and of the contacts.
        linked: Returns the peers with a link that is up.
        meta: What storage holds.
        choice: Returns which requests of a hosted user wait: one of CHOICES.

    Attributes:
        by_id: All of them, stored or waiting.
    """

    def __init__(
        self, ctx: NodeContext, conversations: Conversations, hosted: Collection[UserId], contacts: Contacts,
        linked: Callable[[], Collection[PeerId]], meta: Mapping[str, str], choice: Callable[[UserId], str],
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self._conversations = conversations
        self._hosted = hosted
        self._contacts = contacts
        self._linked = linked
        self._choice = choice
        self._stored = GroupPlaces(ctx.settings)  # kept until a user here answers
        self._waiting = GroupPlaces(ctx.settings)  # which others may take
        self.by_id: dict[ConversationId, GroupRequest] = stored_group_requests(meta)
        self._left = {  # by group: who left it, of whom nobody was left
            name.removeprefix(GROUP_REQUEST): frozenset(line.split(" ")[1].split(","))
            for name, line in meta.items()
            if name.startswith(GROUP_REQUEST) and line.startswith(f"{LEFT} ")
        }

    def __contains__(self, id: object) -> bool:
        """Return whether a group is stored and has places."""
        return id in self._stored

    def load(self) -> None:
        """Give all groups their places again, also more than there are."""
        for id, request in list(self.by_id.items()):
            if request.waits or id in self._conversations.groups:
                self._place(id, request, self._users(id, request))
            else:
                self.release(id)  # it was not stored after all

    def on_user_hosted(self, user: UserId) -> None:
        """Give the groups that name a user their places there."""
        for id, request in self.by_id.items():
            if user in self._users(id, request):
                self._place(id, request, [user])

    def on_user_unhosted(self, user: UserId) -> None:
        self._stored.drop(user)
        self._waiting.drop(user)

    def _users(self, id: ConversationId, request: GroupRequest) -> list[UserId]:
        group = self._conversations.groups.get(id)
        if request.waits:
            return self._hosts_of(request.users, request.owner)
        return self._hosts_of(group.named, group.creator) if group is not None else [NODE]

    def _hosts_of(self, users: Iterable[UserId], creator: UserId) -> list[UserId]:
        """Return where a group that names these users takes places: at those here who do not know its creator."""
        here = (user for user in users if user in self._hosted and not self._contacts.are_known(user, creator))
        return [NODE, *sorted(here)]

    def _place(self, id: ConversationId, request: GroupRequest, users: list[UserId]) -> None:
        group = self._conversations.groups.get(id)
        owner = request.owner if group is None else group.creator
        (self._waiting if request.waits else self._stored).take(id, users, request.peer, owner)

    def waiting(self, user: UserId) -> dict[ConversationId, GroupRequest]:
        """Return the groups that wait and name a hosted user."""
        return {id: request for id, request in self.by_id.items() if user in request.users}

    # ---- places

    def needs_places(self, group: ConversationState, creator: UserId) -> bool:
        """Return whether a group takes places: its creator is unknown, and nobody here has answered it.

        One that was left while it waited is not stored without a place either, whoever knows its creator now.
        """
        if group.id in self._left and not group.is_stored:
            return creator not in self._hosted
        return not (creator in self._hosted or creator in self._contacts or (group.is_stored and group.id not in self))

    def admits(
        self, group: ConversationState, creator: UserId, operations: list[GroupOperation], peer: PeerId, network: str
    ) -> bool:
        """Return whether these proven operations of a group that needs places, brought by a peer, are stored.

        If they begin a group for which there is no room, it waits. It needs none if one whom it names knows the
        creator.
        """
        named = {user for operation in operations for user in operation.members if user in self._hosted}
        if not group.is_stored and group.id in self._left:
            named -= self._left[group.id]
            if not named:
                return False
        if any(self._contacts.are_known(user, creator) for user in named):
            return True
        users = self._hosts_of(named, creator)
        missing = self._stored.missing(group.id, users)
        if all(self._is_straight(user, peer, creator) for user in missing):
            self._stored.take(group.id, missing, peer, creator)
            if not group.is_stored:
                self._waiting.free(group.id)
                self._save(group.id, GroupRequest(peer, self._ctx.now.utc, network=network))
            return True
        is_new = not (group.is_stored or group.id in self.by_id)
        if is_new and named and all(self._make_room(user, peer, creator, network) for user in users):
            name = operations[0].name
            left = tuple(sorted(self._left.pop(group.id, ())))
            users_named = tuple(sorted(named))
            request = GroupRequest(peer, self._ctx.now.utc, creator, name, users_named, left, network)
            self._save(group.id, request)
            self._waiting.take(group.id, users, peer, creator)
        return False

    def _is_straight(self, user: UserId, peer: PeerId, owner: UserId) -> bool:
        """Return whether one more group of an owner, brought by a peer, is stored that names a hosted user."""
        settings, places = self._ctx.settings, self._stored.at(user)
        choice = ALL if user == NODE else self._choice(user)
        if choice == KNOWN or (choice == FEW and places.taken[()] >= settings.straight_requests):
            return False
        most = settings.straight_requests_a_peer if choice == FEW else None
        return places.has_room((peer,)) and self._stored.has_part(user, peer, owner, most)

    def _make_room(self, user: UserId, peer: PeerId, owner: UserId, network: str) -> bool:
        if not self._waiting.has_part(user, peer, owner):
            return False
        places = self._waiting.at(user)
        return make_room(places, (peer,), network, self.release, self._linked, lambda id: self.by_id[id].network)

    def _save(self, id: ConversationId, request: GroupRequest) -> None:
        self.by_id[id] = request
        self._ctx.change.meta[GROUP_REQUEST + id] = str(request)

    # ---- ends

    def release(self, id: ConversationId, line: str | None = None) -> None:
        """Free the places of a group, which needs none any more or lost them. `line` is kept instead of it."""
        self._stored.free(id)
        self._waiting.free(id)
        if self.by_id.pop(id, None) is not None:
            self._ctx.change.meta[GROUP_REQUEST + id] = line

    def on_forgotten(self, id: ConversationId) -> None:
        """Free the places of a group that was admitted, and of which nothing was stored."""
        if id in self._stored:
            self.release(id)

    def on_answered(self, group: GroupReplica, by: UserId, *, is_talk: bool) -> None:
        """Free the places of a group in which a hosted user writes.

        A user who writes in the talk knows the owner from then on; a user who leaves does not.
        """
        self.release(group.id)
        if is_talk and group.state is not None and group.state.owner not in self._hosted:
            self._contacts.keep([group.state.owner], by)

    def on_contact(self, user: UserId, by: UserId) -> bool:
        """Free the places of the groups of a user who is a contact now. Return whether any of them waited.

        A contact of this peer's own user is known to all hosted users, one of another user to that user alone.
        """
        made = {id for id, group in self._conversations.groups.items() if group.creator == user and id in self.by_id}
        waiting = {id for id, request in self.by_id.items() if request.owner == user}
        if by != self._ctx.me:
            waiting = {id for id in waiting if by in self.by_id[id].users}
            for id in made:
                self._stored.free_at(by, id)
            made = set()
        for id in sorted(made | waiting):
            self.release(id)
        return bool(waiting)

    def leave(self, left: RequestLeft) -> None:
        """Let a hosted user leave a group that waits. Once all did whom it names, it is not asked for again."""
        request = self.by_id.get(left.group)
        if request is not None and left.user in request.users:
            users, gone = tuple(user for user in request.users if user != left.user), (*request.left, left.user)
            if users:
                self._save(left.group, replace(request, users=users, left=gone))
            else:
                self.release(left.group, f"{LEFT} {','.join(gone)}")
                self._left[left.group] = frozenset(gone)

    def expire(self, oldest: int) -> None:
        """Forget what has waited for long, and count no longer as new what was stored as long ago."""
        for id in [id for id, request in self.by_id.items() if request.since < oldest]:
            self.release(id)


# ---- places of requests
#
# Each hosted user has few, shared by the peers that bring requests. The same rules hold for direct conversations
# (message_requests.py).

FEW, ALL, KNOWN = "few", "all", "known"
CHOICES = (FEW, ALL, KNOWN)
NODE = ""  # in place of a hosted user: the places of the groups of all of them
NODE_FACTOR = 16  # so many times the places of one user; a guess: 4,096 groups take 60 MiB


def source_line(peer: PeerId, network: str) -> str:
    """Return from where a request was brought, as its line in storage says it."""
    return f"{peer}@{network}" if network else peer


def make_room(
    places: OriginShares[ConversationId], line: Line, network: str, evict: Callable[[ConversationId], None],
    linked: Callable[[], Collection[PeerId]], network_of: Callable[[ConversationId], str],
) -> bool:  # fmt: skip
    """Return whether there is room for one more of a peer that has room for itself, after others gave way if need be.

    If no other rule makes room, a peer that has nothing here yet takes the oldest place whose peer is not linked any
    more. Otherwise somebody with enough keys could fill all places for good. The place is taken from the network that
    has most of them, the newcomer's counted in. Otherwise one network with enough keys could have all others deleted.
    """
    while not places.make_room(line, evict):
        if places.taken[line[:1]]:
            return False
        here = linked()
        gone = [id for id in places if places.line(id)[0] not in here]
        if not gone:
            return False
        networks = Counter([network, *map(network_of, gone)])
        evict(max(gone, key=lambda id: networks[network_of(id)]))  # of equal ones the oldest
    return True


class GroupPlaces:
    """Places of groups at the hosted users that they name, shared by the peers that bring them, there by owner."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shares: dict[UserId, OriginShares[ConversationId]] = {}  # by the hosted user, or NODE
        self._users: dict[ConversationId, list[UserId]] = {}  # where a group has places

    def __contains__(self, id: object) -> bool:
        return id in self._users

    def at(self, user: UserId) -> OriginShares[ConversationId]:
        """Return the places at one user."""
        if user not in self._shares:
            most, factor = self._settings.max_requests, NODE_FACTOR if user == NODE else 1
            self._shares[user] = OriginShares(most * factor, self._settings.max_requests_a_peer * factor)
        return self._shares[user]

    def has_part(self, user: UserId, peer: PeerId, owner: UserId, most: int | None = None) -> bool:
        """Return whether one more of an owner may take one of the places of a peer, `most` by default.

        An owner who is not the peer's own user may have one, or a part of what is left.
        """
        taken, factor = self.at(user).taken, NODE_FACTOR if user == NODE else 1
        left = (self._settings.max_requests_a_peer * factor if most is None else most) - taken[peer,]
        part = max(1, left // self._settings.user_part)
        return left > 0 and (owner == peer or taken[peer, owner] < part)

    def missing(self, id: ConversationId, users: Iterable[UserId]) -> list[UserId]:
        """Return those of these users at whom a group has no place."""
        return [user for user in users if id not in self.at(user)]

    def take(self, id: ConversationId, users: Iterable[UserId], peer: PeerId, owner: UserId) -> None:
        """Give a group a place at each of these users."""
        missing = self.missing(id, users)
        self._users.setdefault(id, []).extend(missing)
        for user in missing:
            self.at(user).add(id, (peer, owner))

    def free(self, id: ConversationId) -> None:
        """Free all places of a group."""
        for user in self._users.pop(id, ()):
            self.free_at(user, id)

    def free_at(self, user: UserId, id: ConversationId) -> None:
        """Free the place of a group at one user."""
        if user in self._shares:
            self._shares[user].remove(id)

    def drop(self, user: UserId) -> None:
        """Forget the places at a user that is not hosted any more."""
        self._shares.pop(user, None)
